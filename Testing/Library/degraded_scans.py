"""Scans with the faults of a detector and of a beam, put there by models of their own, and how far a correction gets back."""

import numpy as np
from phantoms import Phantom

from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.scan import Scan

HEAD = Phantom(80.0)
WIDE = Geometry.preset("linac", 24, detector_shape=(24, 64), pixel_mm=(8.0, 6.4))


def clean(geometry=WIDE, phantom=HEAD):
    """Transmissions (views, v, u) without a fault, float64."""
    return np.exp(-phantom.line_integrals(geometry).astype(np.float64))


def scan_of(transmissions, geometry=WIDE, **facts):
    return Scan(-np.log(np.maximum(transmissions, 1e-7)), geometry, **facts)


def error(a, b):
    """Root mean square."""
    return float(np.sqrt(np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2)))
