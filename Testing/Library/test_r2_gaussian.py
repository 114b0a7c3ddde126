"""R2-Gaussian as a user meets it: near the volume that it starts from, better than FDK, resumable, bounded."""

from itertools import islice

import numpy as np
import pytest
from small_scans import psnr

from SparseCTReconLib import methods, reconstruct
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.gaussians.training import CloudTraining
from SparseCTReconLib.methods.reconstruct import prepare

SHORT = {"gaussians": 300, "fit_steps": 20, "iterations": 20}


@pytest.mark.slow
def test_it_ends_near_the_volume_that_it_starts_from_and_far_above_fdk(head):
    scan, grid, truth = head
    fdk, tv = (psnr(reconstruct(scan, name, grid).array, truth) for name in ("fdk", "admm-tv"))
    ours = psnr(reconstruct(scan, "r2-gaussian", grid, gaussians=4000, iterations=50).array, truth)
    assert ours > fdk + 3 and ours > tv - 1.5


def test_from_fdk_it_comes_nearer_to_the_projections_step_by_step(tiny):
    options = {"preset": "paper", "iterations": 200, "gaussians": 500, "most": 0}
    _, *states = prepare(*tiny[:1], "r2-gaussian", tiny[1], options=options).states()
    losses = [state.metrics["loss"] for state in states]
    assert np.mean(losses[-5:]) < 0.92 * np.mean(losses[5:10]) < 0.92 * losses[0]


@pytest.mark.parametrize("preset", ["recommended", "paper"])
def test_a_resumed_run_ends_as_one_that_went_through(tiny, preset):
    scan, grid = tiny
    options = {**SHORT, "preset": preset, "gaussians": 100}
    *_, whole = prepare(scan, "r2-gaussian", grid, options=options).states()
    for stopped in sorted({max(1, whole.step - 5), whole.step - 1}):
        *_, state = islice(prepare(scan, "r2-gaussian", grid, options=options).states(), stopped)
        if state.checkpoint is None:
            continue
        *_, again = prepare(scan, "r2-gaussian", grid, options=options).states(resume=state.checkpoint())
        assert again.step == whole.step
        np.testing.assert_allclose(again.volume(), whole.volume(), atol=1e-6)


def test_the_number_of_gaussians_grows_where_it_may_and_never_beyond(tiny):
    scan, grid = tiny
    options = {"preset": "paper", "iterations": 120, "gaussians": 100, "most": 130}
    *_, state = prepare(scan, "r2-gaussian", grid, options=options).states()
    assert 100 < state.metrics["gaussians"] <= 130


def test_the_same_seed_gives_the_same_volume_and_another_seed_another(tiny):
    scan, grid = tiny
    one, same, other = (reconstruct(scan, "r2-gaussian", grid, **SHORT, seed=seed).array for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_more_gaussians_take_more_memory(tiny):
    method, (scan, grid) = methods.get("r2-gaussian"), tiny
    few, many = (method.memory_bytes(grid, scan, method.Options(gaussians=n)) for n in (10_000, 1_000_000))
    assert many - few > 1e9


@pytest.mark.parametrize("options", [{"gaussians": 3}, {"loss": "l2"}, {"start": "naf"}, {"fit_steps": 5}, {"most": -1}])
def test_options_out_of_bounds_are_refused(options):
    with pytest.raises(InputError):
        methods.parse_options(methods.get("r2-gaussian"), options)


def test_when_all_gaussians_die_the_volume_from_before_is_kept_and_it_is_said(tiny, monkeypatch):
    step = CloudTraining.step

    def dying(self, *arguments):
        self.deaths = getattr(self, "deaths", 0) + 1
        if self.deaths > 10:
            self.optimiser.cloud.raw_density.fill_(-50.0)
        return step(self, *arguments)

    monkeypatch.setattr(CloudTraining, "step", dying)
    seen = []
    volume = reconstruct(*tiny[:1], "r2-gaussian", tiny[1], progress=lambda state: seen.append(state.volume()), **SHORT)
    assert "all Gaussians have lost their density" in volume.attributes["SparseCTRecon.warnings"]
    assert np.isfinite(volume.array).all() and volume.array.max() > -900
