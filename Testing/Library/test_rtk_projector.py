"""Line integrals and back-projections are those of itk-rtk's Joseph projector, on volumes with an empty rim (RTK weighs edges apart)."""

import numpy as np
import pytest
from small_scanners import circular, helical, irregular, tilted, turned_in_plane

from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.operators import projector

pytestmark = pytest.mark.rtk

SMALL = Grid.centred((15, 17, 14), (2.0, 1.5, 2.5), (1.0, -2.0, 3.0))
SCANNERS = {
    "linac": (Geometry.preset("linac", 7, detector_shape=(30, 40), pixel_mm=(13.0, 10.0)), Grid.centred((30, 28, 26), (8.0,) * 3)),
    "half-fan": (circular(offset_mm=(17.0, -4.0), isocentre_mm=(5.0, 6.0, -7.0)), SMALL),
    "helical": (helical(circular(), 15.0), SMALL),
    "turned in plane": (turned_in_plane(circular(), 0.2), SMALL),
    "tilted": (tilted(circular(), 0.3), SMALL),
    "irregular": (irregular(), Grid.centred((15, 17, 14), (10.0,) * 3)),
}
RIM = (slice(2, -2),) * 3


def relative(a, b):
    return np.linalg.norm((a - b).ravel().astype(float)) / np.linalg.norm(b.ravel().astype(float))


@pytest.mark.parametrize("name", SCANNERS)
def test_line_integrals_are_those_of_rtk(rtk, name):
    import itk
    from in_rtk import joseph_forward

    geometry, grid = SCANNERS[name]
    volume = np.zeros(grid.shape, np.float32)
    volume[RIM] = np.random.default_rng(0).random(volume[RIM].shape)
    theirs = joseph_forward(volume, grid, geometry)
    theirs.Update()
    A = projector(geometry, grid)
    assert relative(A(A.volume(volume)).numpy(), itk.array_from_image(theirs.GetOutput())) < 1e-5


@pytest.mark.parametrize("name", SCANNERS)
def test_back_projections_are_those_of_rtk_off_the_rim(rtk, name):
    from in_rtk import joseph_adjoint, volume_from_rtk

    geometry, grid = SCANNERS[name]
    projections = np.random.default_rng(1).random((geometry.views, *geometry.detector_shape), dtype=np.float32)
    theirs = joseph_adjoint(projections, grid, geometry)
    theirs.Update()
    A = projector(geometry, grid)
    assert relative(A.T(A.projections(projections)).numpy()[RIM], volume_from_rtk(theirs.GetOutput())[RIM]) < 1e-5
