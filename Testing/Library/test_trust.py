"""Trust: planted detail is flagged, what the views determine follows from the algebra, others' disagreement is measured."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from phantoms import Phantom
from small_scanners import as_matrix, circular, overdetermined

from SparseCTReconLib import reconstruct
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.evaluation.report_trust import write_trust_report
from SparseCTReconLib.evaluation.trust import Asked, counted_voxels, examine, with_predictions, with_spread
from SparseCTReconLib.evaluation.trust_balls import ball, ball_kernel, ball_means, region_of
from SparseCTReconLib.evaluation.trust_contradiction import Contradiction, contradiction, prior_weight, spots, usual_size, weighted
from SparseCTReconLib.evaluation.trust_determined import Resolution, share_of_variance
from SparseCTReconLib.evaluation.trust_reruns import Maker, held_back
from SparseCTReconLib.evaluation.trust_residual import residual_of, samples_of
from SparseCTReconLib.evaluation.trust_spread import Spread, groups_of, spread_of
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid, Volume
from SparseCTReconLib.operators import projector
from SparseCTReconLib.operators.averaging import voxel_means
from SparseCTReconLib.scan import Scan
from SparseCTReconLib.units import hu_to_mu

GRID = Grid.centred((36, 36, 30), (5.0,) * 3)
SIZE_MM = 16.0
PLACES = np.array([(0.0, -20.0, 0.0), (30.0, 28.0, 10.0), (-32.0, 25.0, -20.0), (5.0, 35.0, 25.0)])
PHOTONS = 2e4


@pytest.fixture(scope="module")
def head():
    """A noisy scan of 24 views, and what ADMM-TV made of it."""
    geometry = Geometry.preset("linac", 24, detector_shape=(48, 60), pixel_mm=(6.0, 6.0))
    counts = np.random.default_rng(1).poisson(PHOTONS * np.exp(-Phantom(80.0).line_integrals(geometry, finer=2)))
    scan = Scan(-np.log(np.maximum(counts, 1) / PHOTONS), geometry, PHOTONS, provenance={"electronic_noise": 0.0})
    return scan, reconstruct(scan, "admm-tv", GRID, device="cpu")


@pytest.fixture(scope="module")
def examined(head):
    scan, volume = head
    return examine(volume, scan, Asked(SIZE_MM))


def planted(volume, hu, places=PLACES):
    return replace(volume, array=volume.array + hu * sum(ball(volume.grid, place, SIZE_MM) for place in places).astype(np.float32))


def at(values, grid, position):
    return values[tuple(np.round((grid.world_to_index @ [*position, 1.0])[:3]).astype(int)[::-1])]


@pytest.mark.parametrize("hu", [150.0, -150.0])
def test_detail_that_was_painted_into_a_result_or_removed_from_it_stands_out_where_it_is(head, examined, hu):
    scan, volume = head
    found = examine(planted(volume, hu), scan, Asked(SIZE_MM))
    for place in PLACES:
        before, after = (at(each.maps["contradiction"].array, GRID, place) for each in (examined, found))
        assert after * -np.sign(hu) > 3, "the sign says whether there is too much or too little"
        assert abs(after) > abs(before) + 1.5
        assert np.sign(at(found.maps["asked"].array, GRID, place)) == -np.sign(hu)
    listed = [np.array(spot["position_mm"]) for spot in found.figures["stand_out"]]
    assert sum(min(np.linalg.norm(place - spot) for spot in listed) < SIZE_MM for place in PLACES) >= 2


def test_detail_that_was_painted_into_the_air_beside_a_body_stands_out_after_the_body_s_own(head, examined):
    scan, volume = head
    air = (70.0, -30.0, 5.0)
    false = planted(planted(volume, 400.0, [air]), 150.0)
    found = examine(false, scan, Asked(SIZE_MM))
    assert at(found.maps["contradiction"].array, GRID, air) < -4.5 < at(examined.maps["contradiction"].array, GRID, air)
    listed = found.figures["stand_out"]
    (beside,) = (spot for spot in listed if np.linalg.norm(np.subtract(spot["position_mm"], air)) < SIZE_MM)
    assert beside["where"] == "beside" and listed[0]["where"] == "body"
    assert [spot["where"] for spot in listed] == sorted((spot["where"] for spot in listed), reverse=True)
    assert not any(spot["where"] == "beside" for spot in examined.figures["stand_out"])


def test_what_is_determined_is_said_of_the_body_alone(head, examined):
    scan, volume = head
    body = counted_voxels(volume, scan.geometry)
    determined = examined.maps["determined"].array
    assert (determined[~body] == -1).all() and (determined[body] >= 0).all()
    assert not examined.maps["prior"].array[~body].any()
    assert examined.figures["determined_percent"] == pytest.approx(determined[body].mean(), abs=0.06)
    assert examined.figures["examined_percent"] == pytest.approx(100 * body.mean(), abs=0.06)


def test_the_change_that_is_asked_for_has_no_other_cause_than_the_plant(head, examined):
    scan, volume = head
    found = examine(planted(volume, 150.0, PLACES[:1]), scan, Asked(SIZE_MM))
    changed = found.maps["asked"].array - examined.maps["asked"].array
    strongest = np.unravel_index(np.abs(changed).argmax(), changed.shape)
    position = (GRID.index_to_world @ [*strongest[::-1], 1.0])[:3]
    assert np.linalg.norm(position - PLACES[0]) < SIZE_MM / 2


def test_the_residual_of_the_true_projections_is_the_noise(head):
    scan, _ = head
    A = projector(scan.geometry, GRID)
    truth = np.asarray(hu_to_mu(Phantom(80.0).volume(GRID) * 50_000 - 1000))
    exact = A(A.volume(truth)).numpy()
    counts = np.random.default_rng(5).poisson(PHOTONS * np.exp(-exact.astype(float)))
    noisy = Scan(-np.log(counts / PHOTONS), scan.geometry, PHOTONS, provenance={"electronic_noise": 0.0})
    found = residual_of(Volume(truth * 50_000 - 1000, GRID), noisy)
    figures = found.figures()
    assert found.sharpened == 0
    assert figures["noise_ratio"] == pytest.approx(1, abs=0.03)
    assert figures["allowed_ratio"] == pytest.approx(1, abs=0.06)
    assert figures["beyond_percent"] < 0.6
    assert len(found.by_view()) == scan.views


def test_averaging_over_voxels_is_found_and_undone(head):
    scan, _ = head
    A = projector(scan.geometry, GRID)
    samples = np.asarray(hu_to_mu(Phantom(80.0).volume(GRID) * 50_000 - 1000))
    averaged = voxel_means(samples, 0.06)
    assert np.abs(samples_of(averaged, 0.06) - samples).max() < 0.15 * np.abs(averaged - samples).max()
    exact = Scan(A(A.volume(samples)).numpy(), scan.geometry, PHOTONS)
    assert residual_of(Volume(averaged * 50_000 - 1000, GRID), exact).sharpened == 0.06


def test_the_split_is_the_model_resolution_of_linear_algebra():
    A = overdetermined()
    part = A[:3]
    matrix = as_matrix(part)
    x = np.random.default_rng(0).random(part.volume_shape).astype(np.float32)
    damping, sigma = 40.0, 0.7
    hessian = matrix.T @ matrix / sigma**2
    expected = np.linalg.solve(hessian + damping * np.eye(len(hessian)), hessian @ x.ravel())
    resolve = Resolution(weighted(part, np.full(part.projection_shape, sigma**2, np.float32)), damping, part.grid)
    assert np.abs(resolve(x).ravel() - expected).max() < 0.02
    place, size = part.grid.index_to_world[:3, :3] @ (3, 2, 2) + part.grid.origin_mm, 9.0
    probe = ball(part.grid, place, size).ravel()
    share = probe @ np.linalg.solve(hessian + damping * np.eye(len(hessian)), hessian @ probe) / (probe @ probe)
    assert resolve.of_ball(place, size) == pytest.approx(share, abs=0.02)


def test_what_few_views_or_few_photons_show_is_determined_less(head):
    scan, volume = head
    residual = residual_of(volume, scan)
    shares = []
    for views, photons in ((slice(None), 1.0), (slice(None, None, 4), 1.0), (slice(None), 100.0)):
        A = weighted(residual.A[views], residual.expected.variance[views] * photons)
        resolve = Resolution(A, prior_weight(GRID, SIZE_MM, scan.mu_water), GRID)
        shares.append(resolve.of_ball((0, 0, 0), SIZE_MM))
    assert shares[0] > shares[1] + 0.1
    assert shares[0] > shares[2] + 0.1


def test_the_map_of_what_is_determined_agrees_with_single_balls(head, examined):
    scan, volume = head
    residual = residual_of(volume, scan)
    resolve = Resolution(weighted(residual.A, residual.expected.variance), prior_weight(GRID, SIZE_MM, scan.mu_water), GRID)
    for place in PLACES:
        assert at(examined.maps["determined"].array, GRID, place) / 100 == pytest.approx(resolve.of_ball(place, SIZE_MM), abs=0.15)


def test_a_chequerboard_that_no_view_sees_is_left_to_the_prior(head):
    scan, volume = head
    hidden = 200 * (np.indices(GRID.shape).sum(axis=0) % 2 * 2 - 1) * ball(GRID, (0, -10, 0), 60)
    plain = examine(volume, scan, Asked(SIZE_MM, (0, -10, 0, 20)))
    found = examine(replace(volume, array=volume.array + hidden.astype(np.float32)), scan, Asked(SIZE_MM, (0, -10, 0, 20)))
    assert found.figures["region"]["prior_hu"] > plain.figures["region"]["prior_hu"] + 60
    assert found.figures["region"]["split_percent"] < plain.figures["region"]["split_percent"]
    assert found.figures["region"]["determined_percent"] == pytest.approx(plain.figures["region"]["determined_percent"], abs=3)


def test_disagreement_is_the_spread_of_the_others_and_how_far_the_volume_is_from_them(head, examined):
    scan, volume = head
    rng = np.random.default_rng(0)
    others = [replace(volume, array=volume.array + rng.normal(0, 20, GRID.shape).astype(np.float32)) for _ in range(12)]
    false = planted(volume, 150.0, PLACES[:1])
    found = spread_of(false, others)
    arrays = np.stack([other.array for other in others])
    np.testing.assert_allclose(found.spread, arrays.std(axis=0, ddof=1), rtol=1e-4)
    assert np.abs(at(found.z, GRID, PLACES[0])) > 4
    assert np.abs(found.z).mean() < 1
    jackknifed = spread_of(false, others, jackknife=True)
    np.testing.assert_allclose(jackknifed.spread, arrays.std(axis=0) * np.sqrt(11), rtol=1e-4)
    told = with_spread(examined, false, found, ["a", "b"], Asked(SIZE_MM))
    assert told.figures["disagreement"]["spread_hu"] == pytest.approx(20, rel=0.1)
    assert {"spread", "apart"} <= set(told.maps)


def test_disagreement_counts_most_where_the_views_determine_nothing(head, examined):
    _, volume = head
    counted = examined.maps["determined"].array >= 0
    unseen = counted & (np.indices(GRID.shape)[2] < 18)
    blind = replace(examined.maps["determined"], array=np.where(unseen, 0, examined.maps["determined"].array))
    found = Spread(np.where(unseen, 100, 0).astype(np.float32), np.zeros(GRID.shape, np.float32))
    told = with_spread(replace(examined, maps=examined.maps | {"determined": blind}), volume, found, ["a", "b"], Asked(SIZE_MM))
    assert told.figures["disagreement"]["spread_hu"] == pytest.approx(100 * unseen.sum() / counted.sum(), rel=0.02)


def test_a_scan_whose_rows_are_weighed_is_not_blamed_on_the_volume(head):
    scan, volume = head
    weighed = replace(scan, provenance={"corrections": [{"name": "parker", "found": {"redundancy_weights": True}}]})
    with pytest.raises(InputError, match="weighed for another program's filter: give the scan from before"):
        residual_of(volume, weighed)


def test_places_of_a_large_volume_are_listed_without_its_coordinates():
    grid = Grid.centred((160, 160, 80), (1.0,) * 3)
    z = np.zeros(grid.shape, np.float32)
    z[40, 80, 80] = 7
    tracemalloc.start()
    try:
        assert [spot["z"] for spot in spots(Contradiction(z, z), grid, 12.0, least=5.0)] == [7]
        assert tracemalloc.get_traced_memory()[1] < 5 * z.nbytes
    finally:
        tracemalloc.stop()


def test_views_are_held_back_each_once_and_predicted(head, examined, tmp_path):
    scan, volume = head
    quick = replace(volume, attributes=volume.attributes | {"SparseCTRecon.method": "cgls", "SparseCTRecon.options": '{"iterations": 4}'})
    made = list(held_back(quick, scan, 3, device="cpu"))
    assert np.sum([each.views for each in made], axis=0).tolist() == [1] * scan.views
    told = with_predictions(examined, made).figures["held_back"]
    assert told["predicted"] > told["seen"] > 0
    assert [view["view"] for view in told["views"]] == list(range(scan.views))
    assert made[0].views[0] and not made[0].views[1]
    spread = spread_of(volume, [each.volume for each in made], jackknife=True)
    trust = with_spread(with_predictions(examined, made), volume, spread, ["1", "2", "3"], Asked(SIZE_MM))
    write_trust_report(trust, volume, tmp_path / "trust.html")
    page = (tmp_path / "trust.html").read_text()
    assert "predicted, held back" in page and "disagreement, HU" in page and "http" not in page
    assert "not what is true" in page.replace("\n", " ")


def test_a_scan_without_photons_is_judged_by_the_noise_of_its_neighbours(head):
    scan, volume = head
    unknown = Scan(scan.projections, scan.geometry, None)
    known, estimated = (residual_of(volume, each).expected for each in (scan, unknown))
    assert "estimated" in estimated.source and "estimated" not in known.source
    met = scan.projections > 0.5
    assert np.median(estimated.noise[met] / known.noise[met]) == pytest.approx(1, abs=0.5)
    warned = examine(volume, unknown, Asked(SIZE_MM)).figures["warnings"]
    assert any("does not say its photons" in sentence for sentence in warned)
    silent = Scan(scan.projections, scan.geometry, PHOTONS)
    assert "readout noise is unknown" in residual_of(volume, silent).expected.source


def test_volumes_in_hu_and_in_attenuation_are_the_same_to_it(head):
    scan, volume = head
    mu = Volume(hu_to_mu(volume.array), volume.grid, volume.attributes, "1/mm")
    in_hu, in_mu = residual_of(volume, scan), residual_of(mu, scan)
    assert np.abs(in_hu.left - in_mu.left).max() < 1e-4
    with pytest.raises(InputError, match="no Hounsfield units.*unit = 1/mm"):
        residual_of(Volume(hu_to_mu(volume.array), volume.grid), scan)


def test_a_volume_of_another_place_or_object_is_refused(head):
    scan, volume = head
    away = Volume(volume.array, Grid(GRID.size, GRID.spacing_mm, tuple(np.add(GRID.origin_mm, (0, 0, 900)))))
    with pytest.raises(InputError, match="no ray of the scan meets the volume") as error:
        residual_of(away, scan)
    assert error.value.code == "grid-missed"
    shifted = Volume(volume.array, Grid(GRID.size, GRID.spacing_mm, tuple(np.add(GRID.origin_mm, (90, 0, 0)))))
    with pytest.raises(InputError, match="give the volume that was made from this scan") as error:
        residual_of(shifted, scan)
    assert error.value.code == "not-this-scan"
    broken = replace(volume, array=np.full(GRID.shape, np.nan, np.float32))
    with pytest.raises(InputError, match="not finite"):
        residual_of(broken, scan)


def test_a_region_outside_and_a_detail_that_voxels_cannot_show_are_refused(head):
    scan, volume = head
    with pytest.raises(InputError, match="holds no voxel of the volume") as error:
        examine(volume, scan, Asked(SIZE_MM, (500, 0, 0, 10)))
    assert error.value.code == "region-outside"
    with pytest.raises(InputError, match="radius"):
        region_of(GRID, (0, 0, 0, -1))
    for size in (6.0, 1000.0, float("nan")):
        with pytest.raises(InputError, match="give at least 10 mm"):
            examine(volume, scan, Asked(size))


def test_what_does_not_say_how_it_was_made_is_not_made_again(head):
    scan, volume = head
    with pytest.raises(InputError, match="does not say by which method"):
        next(held_back(replace(volume, attributes={}), scan, 3))
    with pytest.raises(InputError, match="has no seed"):
        Maker.of(volume).with_seed(3)
    assert Maker("naf", {"seed": 1}).with_seed(4).options == {"seed": 4}
    with pytest.raises(InputError, match="give 2 to 12"):
        groups_of(24, 13)
    with pytest.raises(InputError, match="cannot be held back"):
        groups_of(3, 2)
    with pytest.raises(InputError, match="two or more"):
        spread_of(volume, [volume])


def test_balls_hold_their_volume_and_means_over_them_are_means():
    grid = Grid.centred((20, 21, 22), (2.0, 2.5, 3.0))
    shares = ball(grid, (1.0, -2.0, 3.0), 16.0)
    assert shares.sum() * 15 == pytest.approx(np.pi / 6 * 16**3, rel=0.01)
    assert ball(grid, (500, 0, 0), 16.0).sum() == 0
    kernel = ball_kernel(grid, 16.0)
    assert kernel.sum() == pytest.approx(1)
    ramp = np.indices(grid.shape)[2].astype(np.float32)
    inner = (slice(6, -6),) * 3
    np.testing.assert_allclose(ball_means(ramp, kernel)[inner], ramp[inner], atol=1e-3)


def test_the_usual_size_is_that_of_the_surroundings_and_no_outliers():
    grid, rng = Grid.centred((40, 40, 40), (5.0,) * 3), np.random.default_rng(0)
    values = rng.normal(0, 3, grid.shape).astype(np.float32)
    everywhere = np.ones(grid.shape, bool)
    before = usual_size(values, grid, 10.0, everywhere)
    assert np.median(before) == pytest.approx(3, rel=0.1)
    values[20, 20, 20] = 1000
    assert usual_size(values, grid, 10.0, everywhere)[20, 20, 20] < 1.1 * before[20, 20, 20]
    half = np.indices(grid.shape)[2] < 20
    assert not usual_size(values, grid, 10.0, half)[~half].any()
    assert contradiction(values, grid, 12.0, np.zeros(grid.shape, bool)).z.max() == 0
    alone, both = (contradiction(values, grid, 12.0, half, beside) for beside in (None, ~half))
    np.testing.assert_array_equal(alone.z[half], both.z[half])
    assert not alone.z[~half].any() and np.median(np.abs(both.z[~half])) == pytest.approx(0.6745 / 2, rel=0.2), (
        "half of what it would be in the body"
    )


def test_places_that_stand_out_are_listed_by_height_and_apart():
    grid = Grid.centred((30, 30, 30), (5.0,) * 3)
    z = np.zeros(grid.shape, np.float32)
    z[15, 15, 15], z[15, 15, 16], z[5, 6, 7] = -9, -8, 6
    found = spots(Contradiction(z * 10, z), grid, 12.0, least=5.0)
    assert [spot["z"] for spot in found] == [-9, 6]
    assert found[1]["position_mm"] == [round(float(value), 1) for value in (grid.index_to_world @ [7, 6, 5, 1.0])[:3]]
    assert spots(Contradiction(z, z), grid, 12.0, least=10.0) == []
    (body, beside) = spots(Contradiction(z, z), grid, 12.0, least=5.0, beside=z != -8)
    assert (body["where"], body["z"], beside["where"], beside["z"]) == ("body", -8, "beside", 6)
    assert share_of_variance(z, z, z > 100) is None
    assert share_of_variance(z, 0 * z, z == z) == 1


def test_work_ends_when_who_is_told_says_so():
    class Stop(Exception):
        pass

    told = []

    def listen(stage, step, steps):
        told.append((stage, step, steps))
        if len(told) > 5:
            raise Stop

    grid, geometry = Grid.centred((12, 13, 11), (2.0,) * 3), circular()
    volume = Volume(Phantom(11.0).volume(grid) * 50_000 - 1000, grid)
    scan = Scan(projector(geometry, grid)(torch.from_numpy(hu_to_mu(volume.array))).numpy(), geometry, 1e4)
    with pytest.raises(Stop):
        examine(volume, scan, Asked(6.0), listen)
    assert [step for _, step, _ in told] == list(range(6))
    assert told[-1][2] == 130 - 20
