"""DiffNR: when it repairs, what the run is drawn to, what stays of it."""

import logging

import numpy as np
import pytest
import torch
from phantoms import Phantom
from small_scanners import circular
from small_scans import scan_of

from SparseCTReconLib import methods
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.methods import diffnr
from SparseCTReconLib.methods.reconstruct import prepare, residual
from SparseCTReconLib.networks import compact_fixer, restoration

BOTH = ("diffnr-naf", "diffnr-gaussian")
SHORT = {"diffnr-naf": {"start": "nothing"}, "diffnr-gaussian": {"start": "fdk", "gaussians": 300}}


@pytest.fixture(scope="module")
def fixer(tmp_path_factory):
    """Weights of a small network that brightens whatever it sees."""
    torch.manual_seed(0)
    network = compact_fixer.CompactNetwork((8, 8, 8, 8))
    with torch.no_grad():
        network.last.bias += 0.1
    path = tmp_path_factory.mktemp("weights") / "brighter.safetensors"
    compact_fixer.save(network, path, {"anatomies": ["limb", "head"]})
    return path


def states(tiny, name, fixer, resume=None, **options):
    method = methods.get(name)
    values = {"iterations": 40, "organ": "limb", "fixer": str(fixer), **SHORT[name], **options}
    return method.run(*tiny, methods.parse_options(method, values), "cpu", resume)


def names(state):
    return sorted(state.others)


@pytest.mark.parametrize("name", BOTH)
def test_the_volume_is_repaired_after_every_share_of_the_steps_and_shown_beside_the_run(tiny, fixer, name):
    found = []
    for state in states(tiny, name, fixer, interval=0.5):
        found.append(state)
        if state.others and not found[-2].others:
            repaired = state.others["pseudo-reference"]()
            assert repaired.shape == tiny[1].shape and repaired.min() >= 0
            assert np.median(repaired - state.volume()) == pytest.approx(0.1 * tiny[0].mu_water, rel=0.01)
    learnt = [state for state in found if "loss" in state.metrics]
    assert [names(state) for state in learnt] == [[], ["pseudo-reference"], ["pseudo-reference"], ["pseudo-reference"]]
    assert "weights" not in learnt[0].facts and learnt[1].facts["weights"].startswith("brighter (sha256 ")
    more = [state for state in states(tiny, name, fixer, interval=0.25) if state.others]
    assert len({id(state.others["pseudo-reference"]) for state in more}) == 3


@pytest.mark.parametrize("likeness", ["ssim", "l1"])
@pytest.mark.parametrize("name", BOTH)
def test_the_run_is_drawn_to_what_was_repaired(tiny, fixer, name, likeness):
    def distance(strength):
        *_, last = states(tiny, name, fixer, strength=strength, interval=0.5, likeness=likeness)
        reference = last.others["pseudo-reference"]()
        return np.abs(last.volume() - reference).mean()

    assert distance(100.0) < 0.8 * distance(0.0)


@pytest.mark.parametrize("name", BOTH)
def test_it_goes_on_exactly_from_any_checkpoint(tiny, fixer, name):
    whole = list(states(tiny, name, fixer, interval=0.5, every=3))
    kept = [{k: np.array(v) for k, v in s.checkpoint().items()} for s in states(tiny, name, fixer, interval=0.5, every=3) if s.checkpoint]
    for arrays in kept[:-1]:
        *_, last = states(tiny, name, fixer, resume=arrays, interval=0.5, every=3)
        np.testing.assert_array_equal(last.volume(), whole[-1].volume())
        assert last.step == whole[-1].step


@pytest.mark.parametrize("name", BOTH)
def test_without_strength_it_is_its_backbone(tiny, fixer, name):
    method = methods.get(name)
    options = methods.parse_options(method, {"iterations": 40, "organ": "limb", "fixer": str(fixer), **SHORT[name], "strength": 0})
    backbone = methods.get({"diffnr-naf": "naf", "diffnr-gaussian": "r2-gaussian"}[name])
    *_, plain = backbone.run(*tiny, method.backbone(options))
    *_, alone = states(tiny, name, fixer, only_repair=True)
    *_, before, _ = states(tiny, name, fixer, only_repair=True)
    np.testing.assert_array_equal(before.volume(), plain.volume())
    assert alone.step == alone.steps == plain.steps + 1 == before.steps
    assert "comparison only" in alone.stage and "comparison only" in alone.facts["post_processing"]
    assert alone.volume().mean() > before.volume().mean()


@pytest.mark.parametrize("name", BOTH)
def test_from_admm_tv_the_start_is_mended_and_the_data_fitted_again(tiny, fixer, name):
    tiny = scan_of(Phantom(11.0), circular(views=3)), tiny[1]
    found = list(states(tiny, name, fixer, start="admm-tv", iterations=20, strength=0.1))
    first = next(number for number, state in enumerate(found) if state.others)
    assert found[first - 1].stage == "iterating" and "loss" not in found[first].metrics
    A = prepare(tiny[0], "fdk", tiny[1], "cpu", {}).projector
    before, after = (residual(A, mu(), tiny[0].projections) for mu in (found[first].others["pseudo-reference"], found[-1].volume))
    assert after < 0.8 * before


@pytest.mark.parametrize("name", BOTH)
def test_where_views_are_many_admm_tv_s_volume_is_left_as_it_is_and_it_is_said(tiny, fixer, name, caplog):
    with caplog.at_level(logging.INFO, "SparseCTReconLib"):
        found = list(states(tiny, name, fixer, start="admm-tv", iterations=20))
    assert "with 5 views on this grid ADMM-TV's volumes are better" in caplog.text
    assert not any(state.others or "weights" in state.facts for state in found)


def test_pieces_that_are_not_cubic_are_repaired(fixer):
    from SparseCTReconLib.grid import Grid

    grid = Grid.centred((20, 17, 9), (2.0, 2.5, 3.0))
    tiny = scan_of(Phantom(11.0), circular(views=6)), grid
    for name in BOTH:
        *_, last = states(tiny, name, fixer, iterations=20)
        assert last.volume().shape == (9, 17, 20) and last.others


def test_too_few_views_another_anatomy_and_wrong_weights_are_said(tiny, fixer, tmp_path, caplog):
    few = scan_of(Phantom(11.0), circular(views=2)), tiny[1]
    with pytest.raises(InputError, match="needs 3 views or more, the scan has 2"):
        next(states(few, "diffnr-naf", fixer))
    with caplog.at_level(logging.WARNING):
        next(states(tiny, "diffnr-gaussian", fixer, organ="chest"))
    assert "learnt from limb, head, and this seems to be chest" in caplog.text
    other = tmp_path / "other.safetensors"
    restoration.save(restoration.RestorationNetwork((8, 8, 8)), other, {})
    with pytest.raises(InputError, match="holds no weights of a SliceFixer"):
        next(states(tiny, "diffnr-naf", other))
    broken = tmp_path / "broken.safetensors"
    content = bytearray(fixer.read_bytes())
    content[-1] ^= 1
    broken.write_bytes(content)
    with pytest.raises(InputError, match="checksum is wrong"):
        next(states(tiny, "diffnr-naf", broken))


def test_the_paper_s_schedule_can_be_asked_for():
    options = methods.parse_options(methods.get("diffnr-gaussian"), {"interval": 10_000 / 13_500, "every": 10, "strength": 0.5})
    assert isinstance(options, diffnr.DiffNRGaussianOptions)
