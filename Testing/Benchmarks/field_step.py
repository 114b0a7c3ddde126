"""A training step of the neural field per million points on rays, by part, against the same in torch.

`python Testing/Benchmarks/field_step.py [thousands of points]`; 1000 by default. Torch encodes by plain indexing with autograd, by indexing
that finds the rows anew for the gradient, or by embedding_bag, which sums up weighted rows in one call; head and Adam are torch's own.
Tables of 2^17 rows are hashed on the fine levels, those of 2^22 have a row for every vertex.
"""

import sys

from common import in_turns, report  # isort: skip
import numpy as np
import torch

from SparseCTReconLib.fields import hash_grid, head, reference, torch_hash
from SparseCTReconLib.fields.adam import BETA1, BETA2, EPSILON, Adam
from SparseCTReconLib.fields.hash_grid import HashGrid
from SparseCTReconLib.fields.head import Head

HEADS = {"32": Head(16, 32), "16": Head(16, 16), "NI-NeRF": Head(16, 32, skip=True, activation="gelu")}
LOG2_TABLES = (17, 22)
SCALE, RATE = 0.02, 1e-3
SAMPLES = 128


def on_rays(count, rng):
    """Points (3, n) at equal distances on chords of the unit cube."""
    first, last = rng.random((2, 3, max(1, count // SAMPLES)))
    along = (np.arange(SAMPLES) + 0.5) / SAMPLES
    points = first[:, :, None] * (1 - along) + last[:, :, None] * along
    return points.reshape(3, -1).astype(np.float32)


def parts(points, grid, shape, rng):
    """The parts of our step by name, in the order in which they run."""
    table, parameters = grid.initial_table(rng), shape.initial(rng)
    gradient = np.zeros_like(table)
    optimisers = Adam(table), Adam(parameters)
    features = hash_grid.encode(points, table, grid)
    slope = rng.standard_normal(points.shape[1]).astype(np.float32)
    feature_gradient, parameter_gradient = head.backward(features, parameters, shape, SCALE, slope)

    def adam():
        optimisers[0].step(gradient, RATE)
        optimisers[1].step(parameter_gradient, RATE)

    return {
        "encode": lambda: hash_grid.encode(points, table, grid, features),
        "head": lambda: head.forward(features, parameters, shape, SCALE),
        "head, backward": lambda: head.backward(features, parameters, shape, SCALE, slope),
        "encode, backward": lambda: hash_grid.encode_backward(points, feature_gradient, grid, gradient),
        "Adam": adam,
    }


def embedding_bag(points, table, grid):
    """`reference.encode` with one call of embedding_bag for the eight vertices of a level."""
    features = []
    for _, scale, corners in torch_hash.levels(points, grid):
        rows, weights = (torch.stack(found, dim=1) for found in zip(*corners))
        features.append(scale * torch.nn.functional.embedding_bag(rows, table, per_sample_weights=weights, mode="sum").T)
    return torch.cat(features)


def torch_step(encode, points, grid, shape, rng):
    """A function that takes a whole step in torch."""
    places = torch.from_numpy(points)
    table, parameters = (torch.nn.Parameter(torch.from_numpy(start)) for start in (grid.initial_table(rng), shape.initial(rng)))
    adam = torch.optim.Adam([table, parameters], RATE, (float(BETA1), float(BETA2)), float(EPSILON))
    slope = torch.from_numpy(rng.standard_normal(points.shape[1]).astype(np.float32))

    def step():
        adam.zero_grad()
        reference.head(encode(places, table, grid), parameters, shape, SCALE).backward(slope)
        adam.step()

    return step


TORCH = {"indexing": reference.encode, "rows anew": torch_hash.encode, "embedding_bag": embedding_bag}


def measure(log2_table, name, points):
    """A row of the table."""
    grid, shape, rng = HashGrid(log2_table=log2_table), HEADS[name], np.random.default_rng(0)
    ours = in_turns(parts(points, grid, shape, rng), 7)
    theirs = in_turns({kind: torch_step(encode, points, grid, shape, rng) for kind, encode in TORCH.items()}, 2)
    per_million = {kind: 1e9 / points.shape[1] * seconds for kind, seconds in (ours | theirs).items()}
    total = sum(per_million[part] for part in ours)
    best = min(per_million[kind] for kind in theirs)
    return [f"2^{log2_table}", name, *(per_million[part] for part in ours), total, *(per_million[kind] for kind in theirs), best / total]


def main():
    points = on_rays(1000 * int((sys.argv[1:] or [1000])[0]), np.random.default_rng(0))
    rows = [measure(log2_table, name, points) for log2_table in LOG2_TABLES for name in HEADS]
    columns = ["rows", "hidden", "encode", "head", "head, backward", "encode, backward", "Adam", "total"]
    titles = [*columns, *(f"torch, {kind}" for kind in TORCH), "torch's best / ours"]
    notes = [
        f"- {points.shape[1]} points a step, {SAMPLES} on a ray; 8 levels of 2 features, 16 to 128 cells",
        "- every number is scaled from these points to a million, Adam's too, which does not depend on them",
    ]
    report("Step of the neural field, ms per million points", titles, rows, notes)


if __name__ == "__main__":
    main()
