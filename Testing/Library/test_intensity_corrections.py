"""What is corrected of intensities: each fault is put there by a model of its own, and most of it goes away."""

import numpy as np
import pytest
from degraded_scans import WIDE, clean, error, scan_of

from SparseCTReconLib import InputError
from SparseCTReconLib.corrections.chain import HISTORY, correct, parse
from SparseCTReconLib.corrections.intensities import Intensities

SHAPE = WIDE.detector_shape
TRUTH = -np.log(clean())


def found(scan):
    return scan.provenance[HISTORY][-1]["found"]


def test_dark_and_flat_field_undo_offset_and_gain_of_each_pixel():
    rng = np.random.default_rng(0)
    dark, gain = rng.uniform(90, 110, SHAPE), rng.uniform(4000, 6000, SHAPE)
    counts = dark + gain * clean()
    uncorrected = -np.log(counts / counts.max())
    frames = (dark + gain) + rng.normal(0, 5, (20, *SHAPE))
    out = correct(Intensities(counts, WIDE), parse({"dark-flat": {"dark": dark, "flat": frames}}))
    assert error(out.projections, TRUTH) < 0.005 < error(uncorrected, TRUTH) / 20


def test_a_dark_field_alone_leaves_i0_as_the_beam_above_it():
    out = correct(Intensities(100 + 5000 * clean(), WIDE, i0=5100.0), parse({"dark-flat": {"dark": np.full(SHAPE, 100.0)}}))
    np.testing.assert_allclose(out.projections, TRUTH, atol=1e-4)


def test_fields_that_cannot_be_right_are_refused():
    raw = Intensities(100 + 5000 * clean(), WIDE)
    dark, flat = np.full(SHAPE, 100.0), np.full(SHAPE, 5100.0)
    for given, said in (
        ({"dark": flat, "flat": dark}, "exchanged"),
        ({"flat": flat[:-1]}, r"the detector \(24, 64\)"),
        ({"flat": flat * np.nan}, "not finite"),
        ({}, "neither a dark nor a flat"),
        ({"dark": "/nowhere/dark.mha"}, "is missing"),
        ({"mode": "measured"}, "dark-flat cannot be measured"),
    ):
        with pytest.raises(InputError, match=said):
            correct(raw, parse({"dark-flat": given}))


@pytest.mark.parametrize("source", ["air", "percentile"])
def test_a_tube_that_flickers_is_steadied_by_the_air_in_each_view(source):
    rng = np.random.default_rng(1)
    beam = rng.uniform(0.8, 1.2, (WIDE.views, 1, 1))
    counts = rng.poisson(1e4 * beam * clean())
    out = correct(scan_of(counts / 1e4), parse({"i0": "measured", "i0.source": source}))
    before = error(-np.log(np.maximum(counts, 1) / 1e4), TRUTH)
    assert error(out.projections, TRUTH) < before / (4 if source == "air" else 3)  # noise lifts a high percentile
    air = TRUTH == 0
    assert abs(out.projections[air].mean()) < (0.002 if source == "air" else 0.03)


def test_one_i0_for_all_views_is_measured_or_given():
    raw = Intensities(4321 * clean(), WIDE)
    assert found(correct(raw, parse({"i0": "measured", "i0.each_view": "false"})))["i0_mean"] == pytest.approx(4321, rel=0.002)
    np.testing.assert_allclose(correct(raw, parse({"i0.value": "4321"})).projections, TRUTH, atol=1e-4)


def test_i0_is_refused_where_there_is_no_air_or_no_beam():
    shadow = np.exp(-np.random.default_rng(0).uniform(1, 3, TRUTH.shape))
    with pytest.raises(InputError, match="show no air"):
        correct(scan_of(shadow), parse({"i0": "measured"}))
    with pytest.raises(InputError, match="show no air|dark everywhere"):
        correct(Intensities(np.zeros(TRUTH.shape), WIDE), parse({"i0": "measured"}))
    with pytest.raises(InputError, match="without a value"):
        correct(scan_of(shadow), parse({"i0": "on"}))


def test_the_logarithms_floor_stops_a_ray_without_a_photon():
    starved = clean()
    starved[:, 10:14, 30:34] = 0
    out = correct(Intensities(1000 * starved, WIDE, i0=1000.0), parse({"logarithm.floor": "0.001"}))
    assert out.projections.max() == pytest.approx(-np.log(0.001)) and found(out)["at_the_floor"] >= 16 / (24 * 64)
    measured = correct(Intensities(1000 * starved, WIDE, i0=1000.0), parse({"logarithm": "measured"}))
    # As far as one pixel in a thousand of those that saw anything.
    assert np.percentile(TRUTH, 99) < measured.projections.max() < TRUTH.max() + 0.1
    with pytest.raises(InputError, match="no pixel is above 0"):
        correct(Intensities(0 * starved, WIDE, i0=1.0), parse({"logarithm": "measured"}))


def with_dead_pixels(rng):
    """Counts with dead, hot, stuck and flickering pixels, a column among them, and the map of these."""
    counts = rng.poisson(2e4 * clean()).astype(float)
    dead = np.zeros(SHAPE, bool)
    for v, u, kind in ((5, 9, 0), (8, 40, 0), (12, 31, 5e4), (3, 33, 9e3), (20, 50, None), (16, 20, 0), (16, 21, 0)):
        dead[v, u] = True
        counts[:, v, u] = rng.uniform(0, 3e4, len(counts)) if kind is None else kind
    dead[:, 58] = True
    counts[:, :, 58] *= 0.3
    return counts, dead


def test_dead_pixels_are_found_and_filled_from_their_neighbours():
    counts, dead = with_dead_pixels(np.random.default_rng(2))
    scan = Intensities(counts, WIDE, i0=2e4)
    out = correct(scan, parse({"dead-pixels": "measured"}))
    assert dead.sum() <= found(out)["dead_pixels"] < dead.sum() + 0.01 * dead.size
    before = error(-np.log(np.maximum(counts, 1)[:, dead] / 2e4), TRUTH[:, dead])
    assert error(out.projections[:, dead], TRUTH[:, dead]) < before / 8
    given = correct(scan, parse({"dead-pixels": {"map": dead.astype(np.uint8)}}))
    np.testing.assert_allclose(given.projections[:, dead], out.projections[:, dead], atol=0.2)


def test_a_good_detector_has_no_dead_pixels():
    counts = np.random.default_rng(3).poisson(2e4 * clean())
    assert (
        found(correct(Intensities(counts, WIDE, i0=2e4), parse({"dead-pixels": "measured"})))["dead_pixels"]
        < 0.005 * WIDE.detector_shape[0] * 64
    )


def test_a_map_that_spares_hardly_a_pixel_is_refused():
    with pytest.raises(InputError, match="100 % of the detector's pixels are dead"):
        correct(scan_of(clean()), parse({"dead-pixels": {"map": np.ones(SHAPE)}}))
    with pytest.raises(InputError, match="without a map"):
        correct(scan_of(clean()), parse({"dead-pixels": "on"}))


RATES, SHARES = (0.9, 0.12), (0.05, 0.01)


def lagging(frames):
    """Each frame and the decaying rest of all before it, summed as the definition has it."""
    out = np.zeros_like(frames)
    for k in range(len(frames)):
        for j in range(k + 1):
            share = sum(b * np.exp(-a * (k - j)) for a, b in zip(RATES, SHARES))
            out[k] += frames[j] * (share if j < k else 1.0)
    return out


def test_lag_is_undone_frame_by_frame():
    frames = clean()
    out = correct(scan_of(lagging(frames)), parse({"lag": {"rates": RATES, "shares": SHARES}}))
    assert error(np.exp(-out.projections), frames) < 1e-5
    # A detector whose decays are known to a tenth leaves a tenth of its lag.
    roughly = correct(scan_of(lagging(frames)), parse({"lag": {"rates": RATES, "shares": tuple(0.9 * b for b in SHARES)}}))
    assert error(np.exp(-roughly.projections), frames) < error(lagging(frames), frames) / 7


def test_lag_refuses_views_that_were_shuffled_and_decays_that_explode():
    scan = scan_of(clean())
    with pytest.raises(InputError, match="not in the order in which the gantry turned"):
        correct(scan.subset(np.random.default_rng(0).permutation(scan.views)), parse({"lag": "on"}))
    for values, said in (
        ({"rates": (1.0,)}, "1 rates and 4 shares"),
        ({"rates": (-1.0,), "shares": (0.1,)}, "rates must be above 0"),
        ({"rates": (1.0,), "shares": (0.6,)}, "together below .5"),
        ({"mode": "measured"}, "lag cannot be measured"),
    ):
        with pytest.raises(InputError, match=said):
            correct(scan, parse({"lag": values}))


def with_constant_scatter(primary, share):
    """As much in each view as makes it this share of what arrives where the beam is weakened to nine tenths and less."""
    out = primary.copy()
    for image in out:
        level = 0.0
        for _ in range(100):
            shadow = (image + level) < 0.9
            level = share * (image[shadow] + level).mean()
        image += level
    return out


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_a_known_share_of_constant_scatter_is_taken_away(share):
    degraded = with_constant_scatter(clean(), share)
    out = correct(scan_of(degraded), parse({"scatter.fraction": share}))
    assert error(out.projections, TRUTH) < error(-np.log(degraded), TRUTH) / 10


def with_kernel_scatter(primary, amplitude, sigma_mm):
    """Each pixel scatters p exp(-p) in a Gaussian of the detector's plane, summed over all pairs of rows and of columns."""
    rows, columns = WIDE.pixel_offsets_mm()
    spread = []
    for places in (rows, columns):
        g = np.exp(-((places[:, None] - places) ** 2) / (2 * sigma_mm**2))
        spread.append(g * (places[1] - places[0]) / (sigma_mm * np.sqrt(2 * np.pi)))
    source = -primary * np.log(primary)
    return primary + amplitude * np.einsum("ij,ajk,lk->ail", spread[0], source, spread[1])


def test_scatter_that_spreads_from_where_it_arises_is_taken_away():
    degraded = with_kernel_scatter(clean(), 0.4, 40.0)
    out = correct(scan_of(degraded), parse({"scatter": {"model": "kernel", "amplitude": 0.4, "width_mm": 40.0}}))
    assert error(out.projections, TRUTH) < error(-np.log(degraded), TRUTH) / 10
    half = correct(scan_of(degraded), parse({"scatter": {"model": "kernel", "amplitude": 0.2, "width_mm": 40.0}}))
    assert error(out.projections, TRUTH) < error(half.projections, TRUTH)


@pytest.mark.parametrize("axis", ["rows", "columns"])
def test_scatter_is_measured_behind_the_collimator(axis):
    primary = clean()
    if axis == "rows":
        primary[:, :4] = primary[:, -3:] = 1e-4
    else:
        primary[:, :, :4] = primary[:, :, -3:] = 1e-4
    lit = primary > 1e-3
    level = 0.08
    out = correct(scan_of(primary + level), parse({"scatter": "measured"}))
    assert error(out.projections[lit], -np.log(primary[lit])) < error(-np.log((primary + level)[lit]), -np.log(primary[lit])) / 5


def test_scatter_without_a_collimators_shadow_cannot_be_measured():
    with pytest.raises(InputError, match="give scatter.fraction"):
        correct(scan_of(clean()), parse({"scatter": "measured"}))
    with pytest.raises(InputError, match="let i0 be measured before"):
        correct(Intensities(1000 * clean(), WIDE), parse({"scatter": "on"}))


def test_too_much_scatter_leaves_a_primary():
    out = correct(scan_of(clean()), parse({"scatter.fraction": 0.99}))
    assert np.isfinite(out.projections).all() and out.projections.max() < TRUTH.max() + 3.1
