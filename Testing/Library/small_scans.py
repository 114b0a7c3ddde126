"""Noisy scans of small bodies, with grids and truths, for methods that are to run in a second."""

import numpy as np
from phantoms import Phantom
from small_scanners import circular

from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.scan import Scan


def scan_of(phantom, geometry, photons=2e4, seed=0):
    """A scan with Poisson noise."""
    counts = np.random.default_rng(seed).poisson(photons * np.exp(-phantom.line_integrals(geometry, finer=2)))
    return Scan(-np.log(np.maximum(counts, 1) / photons), geometry, photons=photons)


def small_head():
    """A noisy scan of a head, a grid of 32^3 voxels, and the truth in HU."""
    phantom, grid = Phantom(80.0), Grid.centred((32, 32, 32), (5.4,) * 3)
    scan = scan_of(phantom, Geometry.preset("linac", 12, detector_shape=(32, 48), pixel_mm=(8.0, 6.0)), photons=5e3)
    return scan, grid, 50_000 * phantom.volume(grid) - 1000


def tiny_scan():
    """A scan of 5 views and a grid for runs of a few steps."""
    return scan_of(Phantom(11.0), circular()), Grid.centred((12, 13, 11), (2.0,) * 3)


def psnr(array, truth):
    """In dB, of 3000 HU."""
    return 10 * np.log10(3000**2 / np.mean((array - truth) ** 2))
