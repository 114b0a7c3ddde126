"""CTs of round bodies that differ as parts of the body do."""

import numpy as np

from SparseCTReconLib.grid import Grid, Volume


def round_body(kind):
    """A CT of a round body: a trunk with and without lungs, a head with a skull, a limb with a bone."""
    grid = Grid.centred((50, 50, 16), (8.0, 8.0, 8.0))
    _, y, x = np.indices(grid.shape)
    x, y = (x - 24.5) * 8, (y - 24.5) * 8
    array = np.full(grid.shape, -1000.0)
    radius = {"chest": 180, "abdomen": 180, "head": 90, "limb": 90}[kind]
    array[np.hypot(x, y) < radius] = 0
    if kind == "chest":
        array[np.hypot((np.abs(x) - 85) / 60, y / 110) < 1] = -800
    if kind == "head":
        array[(np.hypot(x, y) > 75) & (np.hypot(x, y) < 90)] = 900
    if kind == "limb":
        array[np.hypot(x, y) < 90] = -60
        array[np.hypot(x - 50, y) < 16] = 600
    return Volume(array.astype(np.float32), grid)
