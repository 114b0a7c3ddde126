"""RTK's geometry under any name with what lies beside it."""

import numpy as np
import pytest
import SimpleITK as sitk
from poses import random_geometry
from scan_files import projections

from SparseCTReconLib import Geometry, InputError, Scan
from SparseCTReconLib.formats import read_scan, rtk, write_scan

GEOMETRY = random_geometry(3, views=7, isocentre_mm=(0, 0, 0))
VALUES = projections(7, GEOMETRY.detector_shape)


def image_of(array):
    """As RTK's programs write a stack or a view: millimetres, its middle at 0."""
    (rows, columns), (dv, du) = GEOMETRY.detector_shape, GEOMETRY.pixel_mm
    image = sitk.GetImageFromArray(array)
    flat = image.GetDimension() == 2
    image.SetSpacing((du, dv) if flat else (du, dv, 1))
    image.SetOrigin((-(columns - 1) / 2 * du, -(rows - 1) / 2 * dv, *(() if flat else (0,))))
    return image


@pytest.fixture
def folder(tmp_path):
    rtk.write_xml(rtk.from_geometry(GEOMETRY), tmp_path / "gantry.xml")
    return tmp_path


@pytest.mark.parametrize("name", ["stack.mha", "stack.nrrd", "stack.nii.gz"])
def test_a_stack_of_any_name_and_kind_is_found_beside_it(folder, name):
    sitk.WriteImage(image_of(VALUES), str(folder / name))
    for path in (folder, folder / "gantry.xml", folder / name):
        scan = read_scan(path)
        np.testing.assert_array_equal(scan.projections, VALUES)
        for pose in ("source", "detector", "u", "v"):
            np.testing.assert_allclose(getattr(scan.geometry, pose), getattr(GEOMETRY, pose), atol=1e-4)  # NIfTI has float32
        assert "line integrals" in scan.provenance["assumed"]


def test_an_image_for_each_view_is_read_in_natural_order(folder):
    for view, array in enumerate(VALUES, start=7):
        sitk.WriteImage(image_of(array), str(folder / f"proj{view}.mha"))
    np.testing.assert_array_equal(read_scan(folder).projections, VALUES)
    (folder / "proj10.mha").unlink()
    with pytest.raises(InputError, match=r"gantry\.xml has 7 poses, and there are 6 projections beside it: proj10\.mha is missing"):
        read_scan(folder)


def test_a_stack_that_does_not_fit_is_refused(folder):
    sitk.WriteImage(image_of(VALUES[:5]), str(folder / "stack.mha"))
    with pytest.raises(InputError, match="7 poses, and there are 5 projections"):
        read_scan(folder / "gantry.xml")


def test_the_stack_of_the_geometrys_name_is_its_own(folder):
    for name, array in (("gantry.mha", VALUES), ("other.mha", VALUES + 1), ("third.mha", VALUES)):
        sitk.WriteImage(image_of(array), str(folder / name))
    np.testing.assert_array_equal(read_scan(folder / "gantry.xml").projections, VALUES)
    np.testing.assert_array_equal(read_scan(folder / "other.mha").projections, VALUES + 1)


def test_counts_become_line_integrals_by_their_brightest_pixels(folder):
    counts = (60_000 * np.exp(-VALUES)).astype(np.uint16)
    counts[:, 0] = 60_000
    sitk.WriteImage(image_of(counts), str(folder / "stack.mha"))
    scan = read_scan(folder)
    np.testing.assert_allclose(scan.projections[:, 1:], VALUES[:, 1:], atol=1e-3)
    assert "I0 = 60000" in scan.provenance["assumed"]


def test_radians_in_place_of_degrees_are_said(tmp_path):
    views = 12
    geometry = Geometry.circular(views, 500, 800, (6, 8), (2.0, 2.0), arc_rad=np.radians(6.1))
    rtk.write_xml(rtk.from_geometry(geometry), tmp_path / "gantry.xml")
    sitk.WriteImage(sitk.GetImageFromArray(projections(views)), str(tmp_path / "stack.mha"))
    assert "may be radians" in read_scan(tmp_path).provenance["warnings"][0]


def test_images_without_a_pixel_size_are_refused(folder):
    from PIL import Image

    Image.fromarray(VALUES[0]).save(folder / "a.tif")
    with pytest.raises(InputError, match="says no pixel size"):
        read_scan(folder)


def test_arrays_without_a_pixel_size_are_refused_in_the_same_words(folder):
    np.save(folder / "stack.npy", np.zeros((3, 4, 5), np.float32))
    with pytest.raises(InputError, match="says no pixel size"):
        read_scan(folder)


def test_two_geometries_are_refused(folder):
    sitk.WriteImage(image_of(VALUES), str(folder / "stack.mha"))
    (folder / "second.xml").write_bytes((folder / "gantry.xml").read_bytes())
    with pytest.raises(InputError, match="2 RTK geometries"):
        read_scan(folder)
    assert read_scan(folder / "second.xml").views == 7


def test_a_scan_folder_stays_one(tmp_path):
    write_scan(Scan(VALUES, GEOMETRY, photons=5.0), tmp_path / "scan")
    assert read_scan(tmp_path / "scan" / "geometry.xml").photons == 5.0
