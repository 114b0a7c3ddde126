"""Laboratory scanners: YAML and CSV, angles and ASTRA's vectors, every kind of images; descriptions that do not fit."""

import numpy as np
import pytest
from lab_files import COUNTS, DEGREES, I0, cone_vectors, described, expected, pages, views_as
from poses import rotation
from scan_files import COLUMNS, ROWS, VIEWS

from SparseCTReconLib import InputError
from SparseCTReconLib.formats import read_scan

POINTS = np.array([[5.0, -12.0, 4.0], [0, 0, 0], [-9, 3, -6]])


def table(path, names, rows, separator=","):
    lines = [separator.join(names)] if names else []
    lines += [separator.join(str(value) for value in row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def pixel_seen(point, degrees, sid=200, sdd=400, offset=(3, 1), pixel=(0.2, 0.3)):
    """(row, column) of a point's shadow on a panel of pixels (u, v) with its first row on top, by the words of the description.

    Seen from above, the source goes counter-clockwise from -y. Turn the object back instead, such that the source is at -y again:
    then right is x and up is z.
    """
    x, y, z = rotation((0, 0, 1), -np.radians(degrees)) @ point
    right, up = (c * sdd / (sid + y) for c in (x, z))
    return (ROWS - 1) / 2 - (up - offset[1]) / pixel[1], (COLUMNS - 1) / 2 + (right - offset[0]) / pixel[0]


def pixels_of(scan):
    """(views, points, 2): row and column of the shadows of `POINTS`."""
    _, u, v = scan.geometry.shadows(POINTS)
    (rows, columns), (dv, du) = scan.geometry.detector_shape, scan.geometry.pixel_mm
    return np.stack([v / dv + (rows - 1) / 2, u / du + (columns - 1) / 2], axis=-1)


def test_markers_lie_where_the_description_says(tmp_path):
    views_as(tmp_path)
    scan = read_scan(described(tmp_path))
    shadows = pixels_of(scan)
    for view, degrees in enumerate(DEGREES):
        for point, shadow in zip(POINTS, shadows[view]):
            np.testing.assert_allclose(shadow, pixel_seen(point, degrees), atol=1e-9)
    np.testing.assert_allclose(scan.projections, expected(), atol=1e-6)


def test_the_first_row_and_the_first_column_are_where_it_says(tmp_path):
    views_as(tmp_path)
    usual = pixels_of(read_scan(described(tmp_path)))
    bottom = pixels_of(read_scan(described(tmp_path, first_row="bottom")))
    mirrored = pixels_of(read_scan(described(tmp_path, mirrored="true")))
    np.testing.assert_allclose(bottom, np.stack([ROWS - 1 - usual[..., 0], usual[..., 1]], axis=-1), atol=1e-9)
    np.testing.assert_allclose(mirrored, np.stack([usual[..., 0], COLUMNS - 1 - usual[..., 1]], axis=-1), atol=1e-9)


@pytest.mark.parametrize("opened", [".", "scanner.yaml", "view_8.tif"])
def test_any_file_of_the_folder_opens_it(tmp_path, opened):
    views_as(tmp_path)
    described(tmp_path)
    assert read_scan(tmp_path / opened).views == VIEWS


def test_images_may_lie_in_a_folder_in_a_file_by_a_pattern_or_in_a_list(tmp_path):
    views_as(tmp_path / "images")
    views_as(tmp_path, name="b{}")
    pages(tmp_path / "all.tif")
    listed = [f"images/view_{i}.tif" for i in range(8, 15)]
    hashes = {read_scan(described(tmp_path, projections=place)).content_hash() for place in ("images", "all.tif", "b*.tif", listed)}
    assert len(hashes) == 1


def test_an_arc_spreads_the_views_evenly(tmp_path):
    views_as(tmp_path)
    full = read_scan(described(tmp_path, angles_deg=..., arc_deg=360, start_deg=10)).geometry
    short = read_scan(described(tmp_path, angles_deg=..., arc_deg=-180)).geometry
    np.testing.assert_allclose(np.degrees(full.gantry_angles_rad), 10 + np.arange(VIEWS) * 360 / VIEWS)
    np.testing.assert_allclose(np.degrees(short.gantry_angles_rad), -np.arange(VIEWS) * 30 % 360, atol=1e-9)


def test_a_table_alone_describes_a_scan_view_by_view(tmp_path):
    views_as(tmp_path)
    names = ("file", "angle_deg", "sid_mm", "sdd_mm", "pixel_u_mm", "pixel_v_mm", "offset_u_mm", "offset_v_mm", "i0")
    backwards = range(VIEWS)[::-1]
    rows = [(f"view_{8 + i}.tif", DEGREES[i], 200 + i, 400, 0.2, 0.3, 3 + i, 1, I0 + 10 * i) for i in backwards]
    scan = read_scan(table(tmp_path / "views.csv", names, rows))
    shadows = pixels_of(scan)
    for view, i in enumerate(backwards):
        for point, shadow in zip(POINTS, shadows[view]):
            np.testing.assert_allclose(shadow, pixel_seen(point, DEGREES[i], sid=200 + i, offset=(3 + i, 1)), atol=1e-9)
        np.testing.assert_allclose(scan.projections[view], -np.log(COUNTS[i] / (I0 + 10 * i)), atol=1e-5)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_table_may_have_decimal_commas(tmp_path, separator):
    views_as(tmp_path)
    rows = [(str(degrees).replace(".", ","),) for degrees in DEGREES]
    table(tmp_path / "angles.txt", ("angle_deg", "i0"), [(*row, "62000,0") for row in rows], separator)
    scan = read_scan(described(tmp_path, angles_deg=..., i0=..., table="angles.txt"))
    np.testing.assert_allclose(np.degrees(scan.geometry.gantry_angles_rad), DEGREES)


def hit_by_astra(vector, row, column):
    """World position of a pixel of ASTRA's cone_vec: the detector's centre and steps from it."""
    _, centre, u, v = np.reshape(vector, (4, 3))
    return centre + (column - (COLUMNS - 1) / 2) * u + (row - (ROWS - 1) / 2) * v


def check_vectors(scan, vectors, unit=1.0):
    shadows = []
    for view, vector in enumerate(vectors):
        for row, column in ((0, 0), (ROWS - 1, 0), (2, 5)):
            source, pixel = vector[:3], hit_by_astra(vector, row, column)
            _, u, v = scan.geometry.shadows([unit * (0.7 * source + 0.3 * pixel)])
            (dv, du) = scan.geometry.pixel_mm
            shadows.append((v[view, 0] / dv + (ROWS - 1) / 2 - row, u[view, 0] / du + (COLUMNS - 1) / 2 - column))
    np.testing.assert_allclose(shadows, 0, atol=1e-7)


@pytest.mark.parametrize("form", ["yaml", "named columns", "bare columns"])
def test_markers_lie_where_astras_vectors_project_them(tmp_path, form):
    views_as(tmp_path)
    vectors = cone_vectors()
    if form == "yaml":
        file = described(tmp_path, angles_deg=..., vectors=vectors.tolist())
    else:
        names = [f"{what}_{axis}" for what in ("source", "detector", "u", "v") for axis in "xyz"] if form == "named columns" else ()
        file = table(tmp_path / "vectors.csv", names, vectors.tolist(), " " if form == "bare columns" else ",")
    check_vectors(read_scan(file), vectors)


def test_vectors_in_another_unit_and_a_sinogram_as_astra_has_it(tmp_path):
    np.save(tmp_path / "sinogram.npy", expected().transpose(1, 0, 2))
    scan = read_scan(
        described(
            tmp_path,
            text="projections: sinogram.npy\nvectors: x\n",
            vectors=(cone_vectors() / 10).tolist(),
            vector_unit_mm=10,
        )
    )
    check_vectors(scan, cone_vectors() / 10, unit=10)
    np.testing.assert_allclose(scan.projections, expected(), rtol=1e-6)
    assert "line integrals" in scan.provenance["assumed"]


def test_a_stack_with_as_many_rows_as_views_may_be_a_sinogram_which_is_said(tmp_path):
    np.save(tmp_path / "square.npy", np.random.default_rng(0).uniform(0, 3, (VIEWS, VIEWS, COLUMNS)))
    text = "projections: square.npy\nvalues: line integrals\nvectors: x\n"
    scan = read_scan(described(tmp_path, text=text, vectors=cone_vectors().tolist()))
    assert "as many rows as views" in scan.provenance["warnings"][0]


def test_without_i0_the_air_is_looked_for_and_that_is_said(tmp_path):
    views_as(tmp_path, array=np.where(COUNTS > 30_000, 60_000, COUNTS).astype(np.uint16))
    scan = read_scan(described(tmp_path, i0=...))
    assert "I0 = 60000" in scan.provenance["assumed"]
    assert scan.projections.min() == pytest.approx(0, abs=1e-6)


def test_negative_saturated_and_copied_images_are_said(tmp_path):
    odd = np.random.default_rng(0).uniform(1e4, 5e4, (VIEWS, 20, 30)).astype(np.float32)
    odd[:, 0, :3], odd[:, 1], odd[3] = -5, 65535, odd[2]
    np.save(tmp_path / "odd.npy", odd)
    said = " ".join(read_scan(described(tmp_path, projections="odd.npy")).provenance["warnings"])
    assert "21 negative intensities count as 0" in said
    assert "the largest value, 65535" in said
    assert "view 3 is a copy" in said


def test_radians_given_as_degrees_are_said(tmp_path):
    views = np.random.default_rng(0).uniform(0, 1, (12, 6, 8)).astype(np.float32)
    np.save(tmp_path / "a.npy", views)
    radians = np.linspace(0, 6, 12).tolist()
    scan = read_scan(described(tmp_path, projections="a.npy", values="line integrals", angles_deg=radians))
    assert "may be radians" in scan.provenance["warnings"][0]


def test_a_missing_image_is_named(tmp_path):
    views_as(tmp_path, name="view_{:03d}")
    (tmp_path / "view_011.tif").unlink()
    with pytest.raises(InputError, match=r"describes 7 views, and there are 6 images: view_011\.tif is missing"):
        read_scan(described(tmp_path))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sid_mm": ...}, "sid_mm is missing"),
        ({"sid_mm": 500}, "must lie behind the isocentre"),
        ({"sid_mm": "near"}, "sid_mm is near"),
        ({"pixel_mm": [0.2, -0.3]}, "must be positive"),
        ({"pixel_mm": 0}, "must be positive"),
        ({"angles_deg": [0, 1]}, "describes 2 views, and there are 7 images"),
        ({"angles_deg": ["x"] * 7}, "angles_deg is"),
        ({"angles_deg": [[0], [1, 2], 3, 4, 5, 6, 7]}, "angles_deg is"),
        ({"angles_deg": 7}, "must be a list"),
        ({"arc_deg": 360}, "give one of"),
        ({"angles_deg": ..., "arc_deg": 0}, "an arc of 0 degrees"),
        ({"angles_deg": ..., "arc_deg": 720}, "an arc of 720 degrees"),
        ({"angles_deg": ..., "vectors": [[1, 2, 3]] * 7}, "vectors is"),
        ({"angles_deg": ..., "table": "none.csv"}, r"none\.csv is missing"),
        ({"angles_deg": ..., "table": "../none.csv"}, "lies outside the folder"),
        ({"projections": "../images"}, "lies outside the folder"),
        ({"projections": "none*.tif"}, "no images where it says"),
        ({"projections": "[view_8.tif, view_8.tif]"}, "for two views"),
        ({"projections": 5}, "a file's name is '5'"),
        ({"values": "densities"}, "values is 'densities': give intensities or line integrals"),
        ({"first_row": "left"}, "first_row is 'left': give top or bottom"),
        ({"mirrored": "perhaps"}, "give false or true"),
        ({"i0": -1}, "I0 is -1"),
        ({"i0": 0}, "I0 is 0"),
        ({"sid_m": 0.2}, "unknown key 'sid_m'; did you mean 'sid_mm'"),
        ({"raw": "{columns: 8, rows: 6, type: object}"}, "type is 'object'"),
        ({"raw": "{columns: 8.5, rows: 6, type: uint16}"}, "must be whole numbers"),
        ({"raw": "{columns: 9, rows: 60, type: uint16}"}, "cut short, or described wrongly"),
        ({"raw": "[1]"}, "give columns, rows and type"),
    ],
)
def test_a_description_that_cannot_be_is_refused(tmp_path, changes, said):
    views_as(tmp_path)
    with pytest.raises(InputError, match=said):
        read_scan(described(tmp_path, **changes))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("angle_deg,sid_m\n0,1\n", "unknown column 'sid_m'; did you mean"),
        ("angle_deg,angle_deg\n0,1\n", "is there twice"),
        ("angle_deg,sid_mm\n0,200\n1\n", "row 2 has 1 values and there are 2 columns"),
        ("angle_deg,sid_mm\n0,far\n", "row 1, sid_mm: 'far' is no number"),
        ("angle_deg,sid_mm\n0,nan\n", "'nan' is no number"),
        ("angle_deg,sid_mm\n0,1e999\n", "'1e999' is no number"),
        ("angle_deg\n" + "0\n" * 7, "sid_mm is missing"),
    ],
)
def test_a_table_that_cannot_be_is_refused(tmp_path, text, said):
    views_as(tmp_path)
    (tmp_path / "views.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        read_scan(tmp_path / "views.csv")


def test_vectors_with_pixels_that_grow_or_lean_are_refused(tmp_path):
    views_as(tmp_path)
    vectors = cone_vectors()
    vectors[3, 6:9] *= 1.1
    with pytest.raises(InputError, match="pixels of 0.3 to 0.33 mm along u"):
        read_scan(described(tmp_path, angles_deg=..., vectors=vectors.tolist()))
    vectors = cone_vectors()
    vectors[3, 9:12] = vectors[3, 6:9] * 2 / 3
    with pytest.raises(InputError, match="view 3: detector axes u and v must be orthogonal"):
        read_scan(described(tmp_path, angles_deg=..., vectors=vectors.tolist()))


def test_two_descriptions_in_a_folder_are_refused(tmp_path):
    views_as(tmp_path)
    described(tmp_path)
    (tmp_path / "second.yaml").write_text((tmp_path / "scanner.yaml").read_text())
    with pytest.raises(InputError, match=r"scanner\.yaml and second\.yaml: give the one"):
        read_scan(tmp_path)


def test_a_list_in_another_order_lacks_no_image(tmp_path):
    views_as(tmp_path)
    listed = [f"view_{i}.tif" for i in (14, 8, 13, 9, 12, 10, 11)]
    assert "warnings" not in read_scan(described(tmp_path, projections=listed)).provenance
    listed[0] = "view_16.tif"
    views_as(tmp_path / "more")
    (tmp_path / "more" / "view_14.tif").rename(tmp_path / "view_16.tif")
    assert "view_14.tif is missing" in read_scan(described(tmp_path, projections=listed)).provenance["warnings"][0]


def test_line_integrals_that_nothing_gets_through_are_said(tmp_path):
    np.save(tmp_path / "counts.npy", COUNTS.astype(np.float32))
    scan = read_scan(described(tmp_path, projections="counts.npy", values="line integrals", i0=...))
    assert "nothing gets through that much" in scan.provenance["warnings"][0]


def test_images_of_transmission_are_taken_for_intensities_where_i0_is_given(tmp_path):
    np.save(tmp_path / "normalised.npy", (COUNTS / I0).astype(np.float32))
    scan = read_scan(described(tmp_path, projections="normalised.npy", values=..., i0=1))
    np.testing.assert_allclose(scan.projections, expected(), atol=1e-5)
    assert scan.provenance["assumed"] == "the images are intensities"
