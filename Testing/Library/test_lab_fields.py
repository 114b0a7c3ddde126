"""Dark and flat fields that a laboratory scanner's description names."""

import numpy as np
import pytest
from lab_files import DEGREES, described, views_as
from PIL import Image
from scan_files import SHAPE, VIEWS
from test_lab_format import table

from SparseCTReconLib import InputError
from SparseCTReconLib.corrections.chain import correct, parse
from SparseCTReconLib.formats import read_scan

RNG = np.random.default_rng(7)
INTEGRALS = RNG.uniform(0, 3, (VIEWS, *SHAPE))
DARK, GAIN = RNG.uniform(900, 1100, SHAPE), RNG.uniform(20_000, 30_000, SHAPE)
RAW = np.round(DARK + GAIN * np.exp(-INTEGRALS)).astype(np.uint16)


def image(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.round(values).astype(np.uint16)).save(path)


def with_fields(folder, **changes):
    views_as(folder, array=RAW)
    image(folder / "dark.tif", DARK)
    image(folder / "flat.tif", DARK + GAIN)
    return described(folder, **({"i0": ..., "dark": "dark.tif", "flat": "flat.tif"} | changes))


def test_fields_among_the_views_are_applied_and_are_no_views(tmp_path):
    scan = read_scan(with_fields(tmp_path))
    np.testing.assert_allclose(scan.projections, INTEGRALS, atol=2e-3)
    assert scan.provenance["corrections"] == [
        {"name": "dark-flat", "mode": "on", "dark": "dark.tif", "flat": "flat.tif", "found": {"pixels_without_gain": 0}}
    ]


def test_corrections_go_on_from_there_but_for_the_fields_themselves(tmp_path):
    scan = read_scan(with_fields(tmp_path))
    np.testing.assert_allclose(correct(scan, parse({"i0.value": 1.1})).projections, scan.projections + np.log(1.1), atol=1e-5)
    with pytest.raises(InputError, match="dark-flat was applied to this scan already"):
        correct(scan, parse({"dark-flat.flat": str(tmp_path / "flat.tif")}))


def test_frames_of_a_field_are_averaged(tmp_path):
    for number, noise in enumerate(RNG.normal(0, 200, (10, *SHAPE))):
        image(tmp_path / "open" / f"frame_{number}.tif", DARK + GAIN + noise)
        image(tmp_path / "open" / f"frame_{number + 10}.tif", DARK + GAIN - noise)
    np.testing.assert_allclose(read_scan(with_fields(tmp_path, flat="open", projections="view_*.tif")).projections, INTEGRALS, atol=2e-3)


def test_a_dark_field_alone_is_taken_from_i0_as_well(tmp_path):
    even = np.round(DARK + 25_000 * np.exp(-INTEGRALS)).astype(np.uint16)
    file = with_fields(tmp_path, flat=..., i0=26_000, projections="view_*.tif")
    views_as(tmp_path, array=even)
    np.testing.assert_allclose(read_scan(file).projections, -np.log((even - np.round(DARK)) / (26_000 - np.round(DARK))), atol=1e-5)


def test_a_dark_field_alone_without_i0_leaves_air_to_be_looked_for(tmp_path):
    file = with_fields(tmp_path, flat=..., projections="views.npy")
    np.save(tmp_path / "views.npy", DARK + np.where(INTEGRALS < 1, 1, np.exp(-INTEGRALS)) * 25_000)
    scan = read_scan(file)
    np.testing.assert_allclose(scan.projections, np.where(INTEGRALS < 1, 0, INTEGRALS), atol=2e-3)
    assert "from the brightest pixels" in scan.provenance["assumed"]


def test_a_table_names_the_fields_of_each_view(tmp_path):
    with_fields(tmp_path, dark=..., flat=...)
    image(tmp_path / "later.tif", DARK + 1.25 * GAIN)
    flats = ["flat.tif"] * 3 + ["later.tif"] * (VIEWS - 3)
    (tmp_path / "scanner.yaml").unlink()
    names = ("file", "angle_deg", "sid_mm", "sdd_mm", "pixel_u_mm", "pixel_v_mm", "dark", "flat")
    rows = [(f"view_{8 + i}.tif", DEGREES[i], 200, 400, 0.2, 0.3, "dark.tif", flats[i]) for i in range(VIEWS)]
    brighter = np.where(np.arange(VIEWS) < 3, 0, np.log(1.25))[:, None, None]
    np.testing.assert_allclose(read_scan(table(tmp_path / "views.csv", names, rows)).projections, INTEGRALS + brighter, atol=2e-3)


def test_a_pixel_without_gain_is_said(tmp_path):
    file = with_fields(tmp_path)
    image(tmp_path / "flat.tif", DARK + np.where(np.arange(GAIN.size).reshape(SHAPE) == 5, 0, GAIN))
    scan = read_scan(file)
    assert "1 pixels show nothing of the beam" in scan.provenance["warnings"][0]
    assert scan.provenance["corrections"][0]["found"] == {"pixels_without_gain": 1}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"flat": "none.tif"}, r"^[^:]*none\.tif is missing: put it back"),
        ({"flat": "scanner.yaml"}, r"^[^:]*scanner\.yaml is no TIFF, PNG"),
        ({"flat": "none*.tif"}, r"no images where it says \(none\*\.tif\): correct 'flat'"),
        ({"dark": "../dark.tif"}, "lies outside the folder"),
        ({"dark": 5}, "a file's name is '5'"),
        ({"flat": "small.tif"}, r"the flat field \(small\.tif\) has .* pixels, the detector"),
        ({"dark": "flat.tif", "flat": "dark.tif"}, r"scanner\.yaml.* the two may be exchanged"),
        ({"i0": 60_000}, "give i0 or flat, not both"),
        ({"values": "line integrals"}, "line integrals have no dark or flat field"),
    ],
)
def test_fields_that_cannot_be_are_refused(tmp_path, changes, said):
    file = with_fields(tmp_path, projections="view_*.tif", **changes)
    image(tmp_path / "small.tif", GAIN[:-1])
    with pytest.raises(InputError, match=said):
        read_scan(file)


def test_fields_in_counts_are_refused_for_a_scan_that_was_divided_by_i0(tmp_path):
    scan = read_scan(with_fields(tmp_path, dark=..., flat=..., i0=40_000, projections="view_*.tif"))
    for given in ({"dark": str(tmp_path / "dark.tif")}, {"flat": str(tmp_path / "flat.tif")}, {"dark": DARK, "flat": DARK + GAIN}):
        with pytest.raises(InputError, match="divided by I0 already .* the fields are in counts"):
            correct(scan, parse({"dark-flat": given}))
    out = correct(scan, parse({"dark-flat": {"dark": DARK / 40_000, "flat": (DARK + GAIN) / 40_000}}))
    np.testing.assert_allclose(out.projections, INTEGRALS, atol=2e-3)
