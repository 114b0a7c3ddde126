"""Fixtures that several test files use."""

import sys

import numpy as np
import pytest
from cli_cases import ISOCENTRE
from small_scans import small_head, tiny_scan

from SparseCTReconLib import Geometry, Grid, Scan, Volume, write_scan, write_volume


@pytest.fixture(scope="session")
def rtk():
    """itk-rtk's module; its import takes seconds, so it comes once and only where a test asks for it."""
    try:
        from itk import RTK
    except ImportError:
        pytest.skip("itk-rtk is not installed: pip install itk-rtk")
    RTK.ThreeDCircularProjectionGeometry.New()
    return RTK


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A small scan's folder, for the command line."""
    folder = tmp_path_factory.mktemp("scans") / "scan"
    geometry = Geometry.preset("linac", 6, detector_shape=(12, 16), pixel_mm=(30, 25), isocentre_mm=ISOCENTRE)
    write_scan(Scan(np.full((6, 12, 16), 0.5), geometry, photons=1e5), folder)
    return folder


@pytest.fixture(scope="module")
def ct(tmp_path_factory):
    """A small CT's file, for the command line: a cylinder of soft tissue in air."""
    grid = Grid.centred((20, 18, 16), (10, 10, 10), ISOCENTRE)
    z, y, x = np.indices(grid.shape)
    array = np.where((x - 9.5) ** 2 + (y - 8.5) ** 2 < 36, 40.0, -1000.0)
    path = tmp_path_factory.mktemp("ct") / "ein CT.nrrd"
    write_volume(Volume(array, grid), path)
    return path


@pytest.fixture(scope="module")
def head():
    """A noisy scan of a head, its grid and truth: see `small_scans`."""
    return small_head()


@pytest.fixture(scope="module")
def tiny():
    """A scan of 5 views and its grid: see `small_scans`."""
    return tiny_scan()


@pytest.fixture
def quick_workers(loaded_libraries, monkeypatch):
    """Workers of the command line do not load their libraries anew, where processes can be forked with them."""
    if sys.platform == "linux":
        import forked_worker

        from SparseCTReconLib.jobs import transport

        monkeypatch.setattr(transport, "subprocess", forked_worker)


@pytest.fixture
def played(monkeypatch, quick_workers):
    """The command line knows one more method, `played`."""
    import played_cli

    played_cli.install(monkeypatch.setattr)


@pytest.fixture
def tiny_weights(tmp_path, monkeypatch):
    """Methods that need pretrained weights find those of tiny networks, good for any part of the body."""
    import small_weights

    from SparseCTReconLib import weights

    monkeypatch.setenv(weights.VARIABLE, str(small_weights.shelf(tmp_path)))
