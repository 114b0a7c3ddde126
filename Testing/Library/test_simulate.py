"""A simulated scan: line integrals of the right thing in the right place, with the noise of a real detector."""

import json
import sys

import numpy as np
import pytest
from poses import hit_mm, random_geometry, rotation

from SparseCTReconLib import InputError, simulate
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid, Volume
from SparseCTReconLib.operators import projector
from SparseCTReconLib.simulate import refine
from SparseCTReconLib.units import hu_to_mu

DETECTOR = {"detector_shape": (16, 20), "pixel_mm": (6.0, 6.0)}
AIR = -1000.0


def block(hu=0.0, size=(20, 24, 16), spacing=(2.0, 2.0, 3.0), centre=(10.0, -20.0, 300.0)):
    """A CT that is `hu` everywhere."""
    grid = Grid.centred(size, spacing, centre)
    return Volume(np.full(grid.shape, hu, np.float32), grid)


def ball(radius_mm=16.0):
    ct = block(AIR, size=(24, 24, 24), spacing=(2.0, 2.0, 2.0))
    z, y, x = np.indices(ct.grid.shape) - 11.5
    ct.array[x**2 + y**2 + z**2 < (radius_mm / 2) ** 2] = 50
    return ct


def test_water_attenuates_as_much_as_its_thickness():
    scan = simulate(block(0.0), 4, photons=None, mu_water=0.025, detector_shape=(5, 5), pixel_mm=(2.0, 2.0))
    np.testing.assert_allclose(scan.projections[[0, 2]], 0.025 * 48, rtol=1e-4)
    np.testing.assert_allclose(scan.projections[[1, 3]], 0.025 * 40, rtol=1e-4)
    assert scan.mu_water == 0.025 and scan.photons is None


def test_air_attenuates_nothing():
    assert np.abs(simulate(block(AIR), 2, photons=None, **DETECTOR).projections).max() < 1e-6


def test_bone_attenuates_in_the_ratio_of_its_hounsfield_units():
    water, bone = (simulate(block(hu), 2, photons=None, **DETECTOR).projections.max() for hu in (0, 1000))
    assert bone == pytest.approx(2 * water, rel=1e-4)


def test_metal_that_lets_nothing_through_is_a_finite_number():
    scan = simulate(block(30000.0, size=(150, 150, 8)), 1, photons=None, **DETECTOR)
    assert np.isfinite(scan.projections).all() and scan.projections.max() > 50


@pytest.mark.parametrize("irregular", [False, True])
def test_a_marker_is_seen_where_it_is(irregular):
    grid = Grid((24, 20, 16), (1.2, 1.5, 2.0), (30.0, -66.0, 104.0), rotation((1, -2, 0.5), 0.4))
    ct = Volume(np.full(grid.shape, AIR, np.float32), grid)
    ct.array[4, 13, 18] = 3000
    lps = (grid.index_to_world @ [18, 13, 4, 1])[:3]
    detector = {"detector_shape": (260, 300), "pixel_mm": (1.5, 1.6)}
    poses = random_geometry(3, views=4, isocentre_mm=grid.centre_mm)
    geometry = Geometry(poses.source, poses.detector, poses.u, poses.v, *detector.values(), tuple(grid.centre_mm)) if irregular else None
    scan = simulate(ct, 4, photons=None, geometry=geometry, **({} if irregular else detector))
    np.testing.assert_allclose(scan.geometry.isocentre_mm, grid.centre_mm)
    v, u = np.meshgrid(*scan.geometry.pixel_offsets_mm(), indexing="ij")
    weight = scan.projections.sum(axis=(1, 2))
    found = np.stack([(scan.projections * at).sum(axis=(1, 2)) / weight for at in (u, v)], axis=1)
    np.testing.assert_allclose(found, hit_mm(scan.geometry, lps), atol=0.5)


def test_a_given_isocentre_and_geometry_are_used():
    scan = simulate(block(), 3, photons=None, isocentre_mm=(1, 2, 303), **DETECTOR)
    assert scan.geometry.isocentre_mm == (1, 2, 303)
    geometry = Geometry.circular(5, isocentre_mm=(10, -20, 300), **DETECTOR)
    scan = simulate(block(), 99, geometry=geometry, photons=None)
    assert scan.geometry is geometry and scan.projections.shape == (5, 16, 20)
    assert scan.provenance["preset"] is None


def test_the_object_is_finer_than_any_grid_it_is_reconstructed_on():
    ct = ball()
    values, grid = refine(ct, 0.7)
    assert max(grid.spacing_mm) <= 0.7 and values.shape == grid.shape
    np.testing.assert_allclose(grid.centre_mm, ct.grid.centre_mm)
    np.testing.assert_allclose(grid.extent_mm, ct.grid.extent_mm)
    assert values.mean() == pytest.approx(ct.array.mean(), rel=1e-3)
    np.testing.assert_allclose(values.reshape(24, 3, 24, 3, 24, 3)[:, 1, :, 1, :, 1], ct.array, atol=1e-3)


def test_a_fine_ct_is_taken_as_it_is():
    ct = ball()
    values, grid = refine(ct, 2.0)
    assert grid is ct.grid and np.array_equal(values, ct.array)


def test_refining_stops_where_the_memory_would(monkeypatch, caplog):
    monkeypatch.setattr(sys.modules[simulate.__module__], "available_memory_bytes", lambda: 24**3 * 4 * 24)
    values, grid = refine(ball(), 0.1)
    assert 24**3 < values.size <= 24**3 * 4 and values.shape == grid.shape
    assert "memory" in caplog.text


def test_no_reconstruction_inverts_the_model_that_made_the_data():
    ct = ball()
    scan = simulate(ct, 3, photons=None, **DETECTOR)
    A = projector(scan.geometry, ct.grid)
    same_model = A(A.volume(hu_to_mu(ct.array))).numpy()
    difference = np.linalg.norm(scan.projections - same_model) / np.linalg.norm(same_model)
    assert 1e-3 < difference < 0.2


def test_a_pixel_measures_the_mean_intensity_not_the_mean_thickness():
    ct = block(AIR, size=(80, 80, 8), spacing=(0.5, 0.5, 4.0), centre=(0, 0, 0))
    ct.array[:, :, 40:] = 3000
    scan = simulate(ct, 1, photons=None, detector_shape=(3, 5), pixel_mm=(6.0, 6.0))
    covered = 0.08 * 40
    assert scan.projections[0, 1, 2] == pytest.approx(-np.log((1 + np.exp(-covered)) / 2), rel=0.05)


def test_the_same_seed_gives_the_same_scan_and_another_does_not():
    first, again, other = (simulate(ball(), 3, seed=seed, **DETECTOR).projections for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.9
    assert np.corrcoef(*(first - other)[:2, 0].reshape(2, -1))[0, 1] < 0.9


@pytest.mark.parametrize("hu, electronic_noise", [(AIR, 0.0), (AIR, 150.0), (0.0, 0.0), (0.0, 40.0)])
def test_counts_scatter_as_photons_and_readout_do(hu, electronic_noise):
    photons = 2e4
    ct = block(hu, size=(12, 12, 12), spacing=(4.0, 4.0, 4.0))
    scan = simulate(ct, 4, photons=photons, electronic_noise=electronic_noise, detector_shape=(60, 60), pixel_mm=(0.8, 0.8))
    counts = photons * np.exp(-scan.projections.astype(float))
    expected = photons * np.exp(-0.02 * 48 * (hu == 0))
    assert counts.mean() == pytest.approx(expected, abs=5 * np.sqrt(expected / counts.size) + 0.002 * expected * (hu == 0))
    assert counts.var() == pytest.approx(expected + electronic_noise**2, rel=5 * np.sqrt(2 / counts.size) + 0.003)


def test_a_starved_detector_gives_finite_line_integrals():
    scan = simulate(block(3000.0, size=(100, 100, 8)), 2, photons=100, electronic_noise=20, **DETECTOR)
    assert np.isfinite(scan.projections).all()


@pytest.mark.parametrize("photons", [None, 1e9])
def test_scatter_fills_the_shadow_by_its_fraction(photons):
    ct = block(0.0, size=(60, 60, 60), spacing=(3.0, 3.0, 3.0))
    settings = {"photons": photons, "electronic_noise": 0.0} | DETECTOR
    primary, total = (np.exp(-simulate(ct, 2, scatter_fraction=fraction, **settings).projections.astype(float)) for fraction in (0, 0.3))
    assert primary.max() < 0.9
    added = total - primary
    assert added.mean() / total.mean() == pytest.approx(0.3, rel=1e-3)
    assert added[0].std() < 0.01 * added[0].mean()


def test_a_body_that_reaches_out_of_the_field_of_view_is_said(caplog):
    wide = block(0.0, size=(40, 40, 8), spacing=(12.0, 12.0, 3.0))
    simulate(wide, 1, photons=None, **DETECTOR)
    assert "truncated" in caplog.text and "linac-half-fan" in caplog.text
    caplog.clear()
    simulate(block(0.0, size=(8, 8, 8)), 1, photons=None, **DETECTOR)
    assert not caplog.text


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"photons": 0}, "0 photons per pixel: give at least 1"),
        ({"photons": -5.0}, "-5.0 photons"),
        ({"photons": float("nan")}, "nan photons"),
        ({"photons": float("inf")}, "inf photons"),
        ({"photons": 1e20}, "at most"),
        ({"electronic_noise": -1.0}, "electronic noise of -1.0"),
        ({"scatter_fraction": 1.0}, "scatter fraction of 1.0"),
        ({"scatter_fraction": -0.1}, "scatter fraction of -0.1"),
        ({"seed": -1}, "seed -1"),
        ({"preset": "linax"}, "did you mean 'linac'"),
        ({"views": 0}, "0 views"),
        ({"mu_water": 0.0}, "attenuation of water"),
    ],
)
def test_what_no_detector_could_do_is_refused(settings, said):
    with pytest.raises(InputError, match=said):
        simulate(block(size=(4, 4, 4)), **({"views": 1} | DETECTOR | settings))


def test_a_volume_that_is_not_in_hounsfield_units_is_refused():
    mu = Volume(np.full((4, 4, 4), 0.02, np.float32), Grid.centred((4,) * 3, (2.0,) * 3), unit="1/mm")
    with pytest.raises(InputError, match="1/mm.*HU"):
        simulate(mu, 1, **DETECTOR)


def test_the_scan_says_how_it_was_made():
    ct = ball()
    ct.attributes |= {"SparseCTRecon.source": "ball", "PatientName": "Doe^Jane"}
    scan = simulate(ct, 2, photons=1e4, scatter_fraction=0.1, electronic_noise=3.0, seed=5, **DETECTOR)
    said = json.loads(json.dumps(scan.provenance))
    assert said["origin"] == "simulated" and said["ct"] == {"SparseCTRecon.source": "ball"}
    assert (said["photons"], said["scatter_fraction"], said["electronic_noise"], said["seed"], said["preset"]) == (
        1e4,
        0.1,
        3.0,
        5,
        "linac",
    )
    assert Grid.from_dict(said["ct_grid"]) == ct.grid
    assert scan.photons == 1e4


def test_progress_ends_with_the_last_view():
    seen = []
    simulate(ball(), 3, photons=None, progress=lambda *at: seen.append(at), **DETECTOR)
    assert seen and seen[-1] == (3, 3)
