"""A reference and its results in one comparison, and the report and the table that it leaves."""

import csv
import json
import re
import tracemalloc
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.evaluation import report_slices
from SparseCTReconLib.evaluation.assess import Assessment, Entry, Silent, Wanted, field_of_view, file_names
from SparseCTReconLib.evaluation.png import diverging, grey, png, square_pixels
from SparseCTReconLib.evaluation.report import write_report
from SparseCTReconLib.evaluation.report_slices import View
from SparseCTReconLib.evaluation.segmentation import PROGRAM_VARIABLE, Segmenter, Settings
from SparseCTReconLib.evaluation.segmenter_process import SegmenterError
from SparseCTReconLib.evaluation.tables import write_csv
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid, Volume

GRID = Grid.centred((44, 46, 10), (4, 4, 8))
MADE = {
    "SparseCTRecon.method": "played",
    "SparseCTRecon.method_title": "Played <b>",
    "SparseCTRecon.options": '{"steps": 5}',
    "SparseCTRecon.warnings": "views do not cover it",
    "SparseCTRecon.reprojection_residual": "0.0123",
}


def body(grid=GRID):
    """A trunk of soft tissue with a liver, a lung and a bone."""
    z, y, x = np.indices(grid.shape)
    hu = np.where((x - 22) ** 2 + (y - 23) ** 2 < 300, 10.0, -1000.0)
    hu[2:8, 15:25, 12:20], hu[2:8, 15:28, 25:32], hu[:, 33:36, 20:24] = 60, -750, 700
    return hu.astype(np.float32)


TRUTH = Entry("a CT.nrrd", "/somewhere/secret/a CT.nrrd", Volume(body(), GRID))


def result(name="NAF", noise=30.0, grid=GRID, attributes=None, seed=0):
    hu = body() if grid is GRID else np.full(grid.shape, 10, np.float32)
    hu = hu + np.random.default_rng(seed).normal(0, noise, hu.shape).astype(np.float32)
    return Entry(name, f"/somewhere/secret/{name}.nrrd", Volume(hu, grid, MADE if attributes is None else attributes))


@pytest.fixture
def segmenter(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAYED_CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv(PROGRAM_VARIABLE, str(Path(__file__).with_name("played_totalsegmentator.py")))
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tmp_path / "theirs"))
    return Segmenter(folder=tmp_path / "cache")


class Told(Silent):
    def __init__(self):
        self.stages, self.kinds, self.fractions, self.warnings = [], [], [], []

    def at(self, stage, step, steps, within):
        self.stages += [stage] if stage not in self.stages[-1:] else []
        self.fractions.append((step - (stage != "done")) / steps)

    def figures(self, result, kind, values):
        self.kinds.append((result, kind))

    def warning(self, message):
        self.warnings.append(message)


def test_each_result_has_its_figures_and_says_how_it_was_made():
    found = Assessment(TRUTH, [result("FDK", 120), result("NAF", 20)], Wanted()).run()
    fdk, naf = found["results"]
    assert (fdk["name"], naf["name"]) == ("FDK", "NAF")
    assert naf["image"]["psnr_db"] > fdk["image"]["psnr_db"] and 0 < fdk["image"]["rmse_hu"] == pytest.approx(120, rel=0.05)
    assert [tissue["name"] for tissue in naf["tissues"]] == ["air", "lung", "fat", "soft tissue", "bone"]
    assert naf["organs"] is None and found["segmenter"] is None
    assert naf["attributes"] == MADE and naf["warnings"] == ["views do not cover it"]
    json.dumps(found, allow_nan=False)


def test_what_is_not_wanted_is_not_computed():
    told = Told()
    found = Assessment(TRUTH, [result()], Wanted(image=False), listener=told).run()
    assert found["results"][0]["image"] is None and told.kinds == [("NAF", "tissues")]
    assert set(found["conventions"]) == {"tissues"}


def test_progress_grows_to_the_end_and_figures_come_as_they_are_there():
    told = Told()
    Assessment(TRUTH, [result("A"), result("B")], Wanted(), listener=told).run()
    assert told.fractions == sorted(told.fractions) and told.fractions[0] == 0 and told.fractions[-1] == 1
    assert told.kinds == [("A", "image"), ("B", "image"), ("A", "tissues"), ("B", "tissues")]


def test_organs_come_with_the_segmenters_noise_floor(tmp_path, segmenter):
    told = Told()
    wanted = Wanted(image=False, tissues=False, segmentation=Settings())
    found = Assessment(TRUTH, [result(noise=1), result("other", noise=1, seed=1)], wanted, tmp_path, segmenter, told).run()
    liver = next(organ for organ in found["results"][0]["organs"] if organ["name"] == "liver")
    assert liver["dice"] == 1 and liver["assd_mm"] == 0 and 0 < liver["noise_dice"] < 1 and liver["noise_hd95_mm"] == 4
    assert "quality fast" in found["segmenter"]["noise_floor"]
    assert {path.name for path in (tmp_path / "labels").iterdir()} == {
        "reference.nii.gz",
        "reference-fast.nii.gz",
        "NAF.nii.gz",
        "other.nii.gz",
    }
    assert told.fractions == sorted(told.fractions) and told.fractions[-1] == 1
    assert told.stages.count("segmenting the reference") == 1 and "organs of other" in told.stages


def test_each_grid_has_its_own_labels_of_the_reference(tmp_path, segmenter):
    coarse = result("coarse", 1, Grid.centred((22, 23, 5), (8, 8, 16)))
    wanted = Wanted(image=False, tissues=False, segmentation=Settings(), noise_floor=False)
    found = Assessment(TRUTH, [result(noise=1), coarse], wanted, tmp_path, segmenter).run()
    assert (tmp_path / "labels" / "reference-2.nii.gz").exists()
    assert all(organ["noise_dice"] is None for organ in found["results"][0]["organs"]) and found["segmenter"]["noise_floor"] is None


def test_a_reference_without_organs_is_a_sentence(tmp_path, segmenter, monkeypatch):
    monkeypatch.setenv("PLAYED_SEGMENTER", "empty")
    with pytest.raises(SegmenterError, match="no organ in the reference") as error:
        Assessment(TRUTH, [result()], Wanted(segmentation=Settings()), tmp_path, segmenter).run()
    assert error.value.code == "empty-segmentation"


def test_a_result_without_organs_scores_zero_and_is_warned_of(tmp_path, segmenter, monkeypatch):
    monkeypatch.setenv("PLAYED_SEGMENTER", "empty-recon")
    told = Told()
    found = Assessment(TRUTH, [result()], Wanted(segmentation=Settings()), tmp_path, segmenter, told).run()
    assert {organ["dice"] for organ in found["results"][0]["organs"]} == {0}
    assert "found no organ" in " ".join(told.warnings)


def test_structures_that_the_field_of_view_cuts_are_flagged(tmp_path, segmenter):
    wide, narrow = (Geometry.preset("linac", 30, detector_shape=(40, n), pixel_mm=(12, 6), offset_mm=(0, 0)) for n in (80, 16))
    flags = []
    for geometry in (wide, narrow):
        wanted = Wanted(image=False, tissues=False, segmentation=Settings(), noise_floor=False)
        found = Assessment(TRUTH, [replace(result(noise=1), geometry=geometry)], wanted, tmp_path, segmenter).run()
        flags.append(next(organ for organ in found["results"][0]["organs"] if organ["name"] == "lung_left")["at_border"])
    assert flags == [False, True]


def test_the_field_of_view_is_a_cylinder_about_the_isocentre():
    geometry = Geometry.preset("linac", 30, detector_shape=(40, 40), pixel_mm=(6, 6), isocentre_mm=(20, -10, 5))
    grid = Grid((30, 28, 26), (5, 6, 7), (-50, -90, -85), np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]))
    radius, half = geometry.field_of_view()
    k, j, i = np.indices(grid.shape)
    lps = np.stack([i, j, k], -1) @ grid.index_to_world[:3, :3].T + grid.origin_mm - geometry.isocentre_mm
    expected = (np.hypot(lps[..., 0], lps[..., 1]) <= radius) & (abs(lps[..., 2]) <= half)
    assert 0.1 < expected.mean() < 0.9
    assert (field_of_view(geometry, grid) != expected).mean() < 1e-3


@pytest.mark.parametrize(
    ("results", "says"),
    [
        ([], "0 results"),
        ([result(str(n)) for n in range(7)], "7 results"),
        ([result(), result()], "two results are called 'NAF'"),
        ([result(" ")], "without a name"),
        ([result(grid=Grid.centred((4, 4, 4), (1, 1, 1), (900, 0, 0)))], "NAF: the reconstruction .* do not overlap"),
        ([Entry("NAF", "x", Volume(np.full(GRID.shape, np.nan), GRID))], "NAF: .* are not finite"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(results, says):
    with pytest.raises(InputError, match=says) as error:
        Assessment(TRUTH, results, Wanted())
    assert "\n" not in str(error.value)


def test_names_become_files_of_their_own():
    names = ["naf: paper/1", "naf- paper-1", "Reference", "reference-fast", "ψ", "???"]
    files = file_names(names)
    assert len({file.lower() for file in files.values()}) == 6
    assert not any(file.lower().startswith("reference") for file in files.values())
    assert files["ψ"] == "ψ.nii.gz"


def test_the_table_has_a_row_for_each_figure(tmp_path, segmenter):
    found = Assessment(TRUTH, [result("A, b"), result("C")], Wanted(segmentation=Settings()), tmp_path, segmenter).run()
    write_csv(found, tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    at = {(row["result"], row["kind"], row["item"], row["figure"]): row for row in rows}
    assert len(at) == len(rows)
    assert float(at["A, b", "image", "", "rmse_hu"]["value"]) == found["results"][0]["image"]["rmse_hu"]
    assert at["C", "tissues", "bone", "volume_ml"]["unit"] == "ml"
    assert at["C", "organs", "liver", "at_border"]["value"] in ("true", "false")
    assert at["C", "organs", "liver", "hd95_mm"]["unit"] == "mm"


class Page(HTMLParser):
    """Tags that are open at the end, addresses outside the page, and the text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.text, self.images = [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.images += tag == "img"
        self.addresses += [value for key, value in attributes if key in ("src", "href") and not value.startswith("data:image/png;base64,")]
        if tag not in ("meta", "img", "input", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def page_of(assessment, path):
    write_report(assessment, assessment.run(), path)
    return Page(path.read_text(encoding="utf-8"))


def test_the_report_is_whole_and_needs_nothing_outside_itself(tmp_path, segmenter):
    results = [result("FDK <1>", 100, attributes={}), result("NAF", 20), result("coarse", 5, Grid.centred((50, 52, 12), (5, 5, 8)))]
    page = page_of(Assessment(TRUTH, results, Wanted(segmentation=Settings()), tmp_path, segmenter), tmp_path / "report.html")
    assert page.open == [] and page.addresses == []
    assert page.images == 3 * 2 * (4 + 3)
    text = " ".join(page.text)
    for said in ("Research use only", "FDK <1>", "Played <b>", "steps=5", "views do not cover it", "soft tissue", "liver", "noise floor"):
        assert said in text
    for said in ("the volume does not say", "VIFp", "Gattinoni", "HD95 ="):
        assert said in text


def test_figures_in_a_field_of_view_are_of_the_scan_of_each_result_and_shown_where_one_cuts(tmp_path):
    narrow = Geometry.preset("linac", 30, detector_shape=(40, 16), pixel_mm=(12, 6), offset_mm=(0, 0))
    everywhere = Geometry.preset("linac", 30, detector_shape=(60, 120), pixel_mm=(30, 30), offset_mm=(0, 0))
    entries = [replace(result("cut"), geometry=narrow), replace(result("whole"), geometry=everywhere), result("unknown")]
    for number, shown in ((0, True), (1, False)):
        page = page_of(Assessment(TRUTH, entries[number:], Wanted(tissues=False)), tmp_path / "report.html")
        text = " ".join(page.text)
        assert ("PSNR, in view" in text) is shown and ("In view: over the voxels" in text) is shown
        assert text.count("over the voxels of the scan's field of view") == shown, "said once"
    found = [one["image"] for one in Assessment(TRUTH, entries, Wanted(tissues=False)).run()["results"]]
    assert 0 < found[0]["fov_fraction"] < 0.5 and found[1]["fov_fraction"] == 1 and "fov_fraction" not in found[2]
    assert found[1]["fov_psnr_db"] == found[1]["psnr_db"] != found[0]["fov_psnr_db"]


def test_a_result_that_was_moved_is_judged_within_the_field_of_view_where_it_was_scanned(tmp_path, segmenter):
    narrow = Geometry.preset("linac", 30, detector_shape=(40, 16), pixel_mm=(12, 6), offset_mm=(0, 0))
    tipped = Grid(GRID.size, GRID.spacing_mm, (400.0, -30.0, 20.0), np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]))
    wanted = Wanted(tissues=False, segmentation=Settings(), noise_floor=False)

    def figures(grid, **changes):
        reference = Entry("CT", "CT.nrrd", Volume(body(), grid))
        entry = replace(result(noise=1), geometry=narrow, volume=Volume(result(noise=1).volume.array, grid), **changes)
        (found,) = Assessment(reference, [entry], wanted, tmp_path, segmenter).run()["results"]
        return found["image"], [organ["at_border"] for organ in found["organs"]]

    assert figures(tipped, scanned=GRID) == figures(GRID)
    assert figures(tipped)[0]["fov_fraction"] == 0, "the scan knows nothing of its move"
    with pytest.raises(InputError, match="NAF: .* voxels, and .* where it was scanned"):
        replace(result(), geometry=narrow, scanned=Grid.centred((3, 4, 5), (1, 1, 1)))


def test_the_report_tells_nothing_of_the_folders_it_came_from(tmp_path):
    write_report(assessment := Assessment(TRUTH, [result()], Wanted()), assessment.run(), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "NAF.nrrd" in text and "secret" not in text


def test_the_report_names_nobody(tmp_path):
    secret = "/home/secret"
    told = {
        "SparseCTRecon.options": json.dumps({"iterations": 7, "network": f"{secret}/w.safetensors", "names": [f"{secret}/v"]}),
        "SparseCTRecon.request": secret,
        "SparseCTRecon.device": "played device",
        "DICOM_0010_0010_Patient's_Name": "secret",
    }
    reference = Entry("CT", "CT.nrrd", Volume(body(), GRID, told))
    page = page_of(Assessment(reference, [result(attributes=MADE | told)], Wanted()), tmp_path / "report.html")
    text = "\n".join(page.text)
    assert "secret" not in text and text.count("network=w.safetensors") == 2 and text.count("played device") == 2


def test_a_report_of_perfect_and_of_empty_volumes_is_written(tmp_path):
    air = Entry("air", "air.nrrd", Volume(np.full(GRID.shape, -1000, np.float32), GRID))
    for number, (reference, entries) in enumerate([(TRUTH, [Entry("same", "s", TRUTH.volume)]), (TRUTH, [air]), (air, [air])]):
        page = page_of(Assessment(reference, entries, Wanted()), tmp_path / f"{number}.html")
        assert page.open == [] and not re.search(r"\b(nan|inf|None)\b", " ".join(page.text))


@pytest.mark.parametrize("turn", [np.eye(3), np.diag([-1.0, -1, 1]), np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])])
def test_pictures_look_the_same_whatever_the_axes_of_the_volume(turn):
    lps = np.full((12, 16, 20), -1000, np.float32)
    lps[2:9, 3:12, 4:18], lps[4:6, 4:6, 5:9] = 0, 500
    straight = Grid((20, 16, 12), (1, 1, 2), (0, 0, 0))
    inverse = np.round(turn).astype(int)
    axis_of = np.abs(inverse).argmax(0)  # the world axis along each of the turned grid's axes
    turned = np.transpose(lps, [2 - axis_of[2 - k] for k in range(3)])
    turned = turned[tuple(slice(None, None, int(inverse[axis_of[2 - k], 2 - k])) for k in range(3))]
    size, spacing = turned.shape[::-1], tuple(np.array(straight.spacing_mm)[axis_of])
    grid = Grid(size, spacing, (0, 0, 0), turn)
    expected, found = View.of(lps, straight), View.of(turned, grid)
    np.testing.assert_array_equal(found.turned(turned), lps)
    assert found.spacing_mm == expected.spacing_mm and found.at == expected.at
    np.testing.assert_array_equal(found.axial(turned), expected.axial(lps))
    np.testing.assert_array_equal(found.coronal(turned), expected.coronal(lps))


def test_the_middle_of_a_large_volume_is_found_in_little_memory(monkeypatch):
    lps = np.full((60, 120, 120), -1000, np.float32)
    lps[10:30, 20:90, 30:110] = 0
    inside = lps > -500
    monkeypatch.setattr(report_slices, "body_mask", lambda hu: inside)
    tracemalloc.start()
    view = View.of(lps, Grid.centred((120, 120, 60), (5, 5, 5)))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert view.at == (20, 54, 70) and view.shown == (slice(7, 33), slice(17, 93), slice(27, 113))
    assert most < lps.nbytes / 10


def test_pngs_are_read_by_others(tmp_path):
    import SimpleITK

    pixels = np.arange(6 * 9, dtype=np.uint8).reshape(6, 9)
    for number, each in enumerate((pixels, np.stack([pixels, pixels + 1, pixels + 2], -1))):
        (tmp_path / f"{number}.png").write_bytes(png(each))
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / f"{number}.png"))), each)


def test_the_window_and_the_colours_of_differences():
    np.testing.assert_array_equal(grey(np.array([-1000.0, -160, 40, 240, 900]), 400, 40), [0, 0, 128, 255, 255])
    colours = diverging(np.array([-300.0, -150, 0, 150, 300]), 300).astype(int)
    np.testing.assert_array_equal(colours[2], 0)
    assert (colours.sum(1)[[0, 4]] > colours.sum(1)[[1, 3]]).all()
    assert colours[1, 2] > colours[1, 0] and colours[3, 0] > colours[3, 2]


def test_pictures_have_square_pixels():
    assert square_pixels(np.zeros((10, 20)), 3.0, 1.0, most=60).shape == (60, 40)
