"""One point in every frame: CT voxel, patient LPS, RTK's IEC 61217, and the detector."""

import numpy as np
import pytest
import SimpleITK as sitk
from poses import hit_mm, random_geometry, rotation

from SparseCTReconLib.formats import read_ct, read_scan, rtk, write_scan, write_volume
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid, Volume
from SparseCTReconLib.scan import Scan

MARKER = (7, 4, 2)
ISOCENTRE = (35.0, -60.0, 110.0)


@pytest.fixture
def ct(tmp_path):
    """An oblique CT, far from the origin, with one bright voxel, written and read as a file."""
    grid = Grid((12, 10, 8), (0.9, 1.1, 2.5), (30.0, -66.0, 104.0), rotation((1, -2, 0.5), 0.4))
    array = np.full(grid.shape, -1000, dtype=np.float32)
    array[MARKER[::-1]] = 3000
    write_volume(Volume(array, grid), tmp_path / "ct.nrrd")
    return tmp_path / "ct.nrrd"


def iec_of(lps):
    """IEC 61217 coordinates about the isocentre, head first and supine: X to the left, Y to the head, Z up."""
    left, posterior, superior = np.asarray(lps) - ISOCENTRE
    return np.array([left, superior, -posterior])


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_marker_stays_where_it_was_from_ct_to_detector(ct, mirrored):
    volume = read_ct(ct)
    brightest = np.unravel_index(np.argmax(volume.array), volume.array.shape)[::-1]
    lps = (volume.grid.index_to_world @ [*brightest, 1])[:3]
    np.testing.assert_allclose(lps, sitk.ReadImage(str(ct)).TransformIndexToPhysicalPoint(MARKER), atol=1e-9)

    geometry = random_geometry(3, views=8, mirrored=mirrored, isocentre_mm=ISOCENTRE)
    homogeneous = rtk.from_geometry(geometry).matrices() @ [*iec_of(lps), 1]
    np.testing.assert_allclose(homogeneous[:, :2] / homogeneous[:, 2:], hit_mm(geometry, lps), atol=1e-7)


def test_a_marker_stays_where_it_was_through_a_scan_on_disk(tmp_path):
    geometry = random_geometry(4, views=6, isocentre_mm=ISOCENTRE)
    write_scan(Scan(np.zeros((6, *geometry.detector_shape)), geometry), tmp_path / "scan")
    again = read_scan(tmp_path / "scan").geometry
    lps = np.add(ISOCENTRE, (12, -7, 30))
    np.testing.assert_allclose(hit_mm(again, lps), hit_mm(geometry, lps), atol=1e-8)


def forward_projected_by_rtk(rtk_module, folder, blob_iec):
    """RTK's Joseph projections of a small blob at an IEC position, of the scan in `folder`."""
    import itk

    size, spacing = 24, 1.0
    origin = np.round(np.asarray(blob_iec)) - (size - 1) / 2 * spacing
    axes = [origin[a] + spacing * np.arange(size) - blob_iec[a] for a in range(3)]
    squared = axes[2][:, None, None] ** 2 + axes[1][None, :, None] ** 2 + axes[0][None, None, :] ** 2
    volume = itk.image_from_array(np.exp(-squared / (2 * 2.5**2)).astype(np.float32))
    volume.SetSpacing([spacing] * 3)
    volume.SetOrigin(origin.tolist())
    image_type = itk.Image[itk.F, 3]
    projector = rtk_module.JosephForwardProjectionImageFilter[image_type, image_type].New()
    projector.SetInput(0, itk.imread(str(folder / "projections.mha"), itk.F))
    projector.SetInput(1, volume)
    projector.SetGeometry(rtk_module.read_geometry(str(folder / "geometry.xml")))
    projector.Update()
    return itk.array_from_image(projector.GetOutput())


@pytest.mark.rtk
@pytest.mark.parametrize("shift", [(0, 0), (90, -60)])
def test_a_blob_projected_by_rtk_lands_on_the_pixel_that_the_geometry_predicts(rtk, tmp_path, shift):
    poses = random_geometry(8, views=6, isocentre_mm=ISOCENTRE)
    write_scan(
        Scan(np.zeros((6, 360, 300)), Geometry(poses.source, poses.detector, poses.u, poses.v, (360, 300), (3.0, 3.5), ISOCENTRE)),
        tmp_path / "scan",
    )
    stack = sitk.ReadImage(str(tmp_path / "scan" / "projections.mha"))
    stack.SetOrigin(np.add(stack.GetOrigin(), (*shift, 0)).tolist())
    sitk.WriteImage(stack, str(tmp_path / "scan" / "projections.mha"))
    blob = np.add(ISOCENTRE, (18.3, -25.6, 9.1))
    projections = forward_projected_by_rtk(rtk, tmp_path / "scan", iec_of(blob))

    geometry = read_scan(tmp_path / "scan").geometry
    v, u = np.meshgrid(*geometry.pixel_offsets_mm(), indexing="ij")
    weight = projections.sum(axis=(1, 2))
    assert (weight > 0).all()
    found = np.stack([(projections * u).sum(axis=(1, 2)), (projections * v).sum(axis=(1, 2))], axis=1) / weight[:, None]
    np.testing.assert_allclose(found, hit_mm(geometry, blob), atol=0.2)
