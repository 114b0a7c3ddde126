"""How well trust flags planted detail: ROC areas of volumes with balls painted into them or removed from them.

    python Testing/Benchmarks/trust.py CT [CT ...] [--field 256] [--size 64] [--views 10 20 50] [--methods admm-tv fdk] [--statistics ...]

Of each CT the middle `field` mm are scaled to 256 mm, as in real_ct.py. Balls of 10 mm and +60 HU are put into the CT at half of the
places, drawn at random in the body (2 cm and more apart, 12 mm below its surface, within 10 cm of the axis); it is scanned (10^5 photons,
readout noise of 10) and reconstructed. Then detail is planted into the result: the real balls are removed, and balls of +60 or -60 HU are
painted at the other half. A place's score is the highest |statistic| within half a diameter. Positives: all places of the planted volume.
Negatives: the same places and up to 150 others of the volume without. A place counts as determined where the views determine half of a
10 mm mean.

Statistics, all from the residual r = y - A x of the sharpened volume (see `evaluation.trust_residual`), W = 1 / (noise + allowance):

    matched      A'W r over a ball, over its expected spread: the generalised likelihood ratio of a ball
    ramp         the same with a ramp filter along rows, that is, the mean over a ball of the residual's filtered back-projection
    refit        the mean over a ball of the change that CGLS asks for (10 iterations, weighted and damped)
    trust        refit over its usual size in the surroundings: what `sparsectrecon trust` writes
    unsharpened  trust, of the volume as it is
    apart        the mean over a ball of the difference to volumes made without a quarter of the views each, over their jackknife spread
    region       the data term's fall when the ball alone is re-fitted (3 CGLS steps); slow, no map
"""

import argparse
from pathlib import Path

from common import report, task  # isort: skip
import numpy as np
import torch
from real_ct import FIELD_MM, in_field
from scipy import ndimage

from SparseCTReconLib import Volume, methods, read_ct, resources, simulate
from SparseCTReconLib.classical.cgls import begin, cgls
from SparseCTReconLib.classical.data_terms import Weighted, filtered_metric
from SparseCTReconLib.evaluation import trust_residual
from SparseCTReconLib.evaluation.metrics import body_mask
from SparseCTReconLib.evaluation.trust import Asked, counted_voxels, examine
from SparseCTReconLib.evaluation.trust_balls import ball, ball_kernel, ball_means
from SparseCTReconLib.evaluation.trust_contradiction import ITERATIONS, contradiction, prior_weight, refitted, weighted
from SparseCTReconLib.evaluation.trust_determined import Resolution
from SparseCTReconLib.evaluation.trust_picture import draw
from SparseCTReconLib.evaluation.trust_reruns import held_back
from SparseCTReconLib.evaluation.trust_spread import LEAST_HU, spread_of
from SparseCTReconLib.methods.reconstruct import prepare

DIAMETER_MM, CHANGE_HU = 10.0, 60.0
PLACES, OTHERS = 24, 150
DETERMINED = 0.5
GROUPS = 4


class Planted:
    """A scan, where balls are, and volumes of it with and without planted detail."""

    def __init__(self, ct: Volume, views: int, size: int, seed: int = 7):
        ct = in_field(ct, FIELD_MM, size)
        geometry, self.grid = task(size, views)
        rng = np.random.default_rng(seed)
        self.places = places(ct, PLACES, 20.0, rng)
        self.real = np.arange(PLACES) < PLACES // 2
        values = ct.array + CHANGE_HU * sum(ball(ct.grid, place, DIAMETER_MM) for place in self.places[self.real])
        self.scan = simulate(Volume(values, ct.grid), geometry=geometry)
        self.made: dict[str, list[Volume]] = {}
        far = places(ct, OTHERS + PLACES, 8.0, rng)
        self.others = far[np.linalg.norm(far[:, None] - self.places, axis=2).min(axis=1) > 1.5 * DIAMETER_MM][:OTHERS]

    def reconstruct(self, method: str) -> Volume:
        job = prepare(self.scan, method, self.grid, "cpu", {})
        *_, state = job.states()
        return job.volume(state, 0.0)

    def jackknifed(self, volume: Volume) -> list[Volume]:
        """The volumes of the method that made `volume`, without each quarter of the views."""
        method = volume.attributes["SparseCTRecon.method"]
        if method not in self.made:
            self.made[method] = [each.volume for each in held_back(volume, self.scan, GROUPS, device="cpu")]
        return self.made[method]

    def plant(self, volume: Volume) -> Volume:
        signs = np.where(self.real, -1, np.where(np.arange(PLACES) % 2, -1, 1))
        change = sum(sign * ball(self.grid, place, DIAMETER_MM) for sign, place in zip(signs, self.places))
        return Volume(volume.array + np.float32(CHANGE_HU) * change, volume.grid, volume.attributes)


def places(ct: Volume, most: int, apart_mm: float, rng) -> np.ndarray:
    """Random LPS positions (n, 3) in the body."""
    spacing = np.asarray(ct.grid.spacing_mm[::-1])
    depth = ndimage.distance_transform_edt(body_mask(ct.array), spacing)
    middle = (np.asarray(ct.grid.shape) - 1) / 2
    index = np.argwhere(depth > 12)
    offset = (index - middle) * spacing
    index = index[(np.hypot(offset[:, 1], offset[:, 2]) < 100) & (np.abs(offset[:, 0]) < 85)]
    rng.shuffle(index)
    positions = (index[:20000, ::-1] @ ct.grid.index_to_world[:3, :3].T) + ct.grid.index_to_world[:3, 3]
    chosen = []
    for position in positions:
        if all(np.linalg.norm(position - other) > apart_mm for other in chosen):
            chosen.append(position)
        if len(chosen) == most:
            break
    return np.array(chosen)


def highest(values: np.ndarray, grid, positions: np.ndarray) -> np.ndarray:
    """The highest |value| within half a diameter of each position."""
    reach = int(np.ceil(DIAMETER_MM / 2 / min(grid.spacing_mm)))
    around = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    found = []
    for position in positions:
        at = (grid.world_to_index @ [*position, 1.0])[:3]
        index = np.round(at).astype(int) + around
        near = np.linalg.norm((index - at) * grid.spacing_mm, axis=1) <= DIAMETER_MM / 2
        inside = ((index >= 0) & (index < grid.size)).all(axis=1)
        found.append(np.abs(values[tuple(index[near & inside].T[::-1])]).max())
    return np.array(found)


def roc_area(positives: np.ndarray, negatives: np.ndarray) -> float:
    """Chance that a positive scores higher than a negative (Mann and Whitney)."""
    both = np.concatenate([positives, negatives])
    ranks = both.argsort().argsort() + 1.0
    n = len(positives)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * len(negatives)))


class Statistics:
    """Maps of the statistics of a volume."""

    def __init__(self, problem: Planted, volume: Volume):
        self.problem, self.volume, self.grid = problem, volume, volume.grid
        self.residual = trust_residual.residual_of(volume, problem.scan)
        self.kernel = ball_kernel(self.grid, DIAMETER_MM)
        self.counted = counted_voxels(volume, problem.scan.geometry)
        self.damping = prior_weight(self.grid, DIAMETER_MM, problem.scan.mu_water)

    def scores(self, name: str, positions: np.ndarray) -> np.ndarray:
        if name == "region":
            return np.array([self._region(position) for position in positions])
        return highest(getattr(self, name)(self.residual), self.grid, positions)

    def matched(self, residual) -> np.ndarray:
        A, weights = residual.A, residual.A.projections(1 / residual.expected.variance)
        found = ball_means(A.T(A.projections(residual.left) * weights).numpy(), self.kernel)
        probe = A(A.volume(ball_kernel_at(self.grid)))
        middle = tuple(n // 2 for n in self.grid.shape)
        even = ball_means(A.T(torch.ones_like(probe)).numpy(), self.kernel)[middle]
        expected = float((probe**2).sum()) / even * ball_means(A.T(weights).numpy(), self.kernel)
        return found / np.sqrt(np.maximum(expected, 1e-12))

    def ramp(self, residual) -> np.ndarray:
        metric = filtered_metric(torch.ones(residual.left.shape), self.problem.scan.geometry)
        return ball_means(residual.A.T(metric(residual.A.projections(residual.left))).numpy(), self.kernel)

    def refit(self, residual) -> np.ndarray:
        return self._contradiction(residual).asked_hu

    def trust(self, residual) -> np.ndarray:
        return self._contradiction(residual).z

    def unsharpened(self, residual) -> np.ndarray:
        mu = trust_residual.checked_mu(self.volume, self.problem.scan)
        return self._contradiction(trust_residual._left(residual.A, mu, self.problem.scan, 0.0)).z

    def apart(self, residual) -> np.ndarray:
        found = spread_of(self.volume, self.problem.jackknifed(self.volume), jackknife=True)
        return ball_means(found.apart, self.kernel) / np.maximum(ball_means(found.spread, self.kernel), LEAST_HU)

    def _contradiction(self, residual):
        A = weighted(residual.A, residual.expected.variance)
        change = refitted(A, residual.A.projections(residual.left) * A.root, self.damping, ITERATIONS).numpy()
        return contradiction(change * 1000 / self.problem.scan.mu_water, self.grid, DIAMETER_MM, self.counted)

    def _region(self, position: np.ndarray) -> float:
        A = weighted(self.residual.A, self.residual.expected.variance)
        only = Only(A, torch.from_numpy((ball(self.grid, position, DIAMETER_MM) > 0.25).astype(np.float32)))
        start = begin(only, A.A.projections(self.residual.left) * A.root)
        before = float(start.r.square().sum(dtype=torch.float64))
        for _, state in zip(range(3), cgls(only, start)):
            after = float(state.r.square().sum(dtype=torch.float64))
        return before - after


class Only:
    """A weighted projector of some voxels."""

    def __init__(self, A: Weighted, voxels: torch.Tensor):
        self.A, self.voxels, self.zeros = A, voxels, A.zeros

    def __call__(self, x):
        return self.A(x * self.voxels)

    def T(self, y):  # noqa: N802
        return self.A.T(y) * self.voxels


def ball_kernel_at(grid) -> np.ndarray:
    """The mean over the ball about the middle voxel."""
    middle = [n // 2 for n in grid.size]
    shares = ball(grid, (grid.index_to_world @ [*middle, 1.0])[:3], DIAMETER_MM)
    return shares / shares.sum()


def determined_places(problem: Planted, statistics: Statistics) -> np.ndarray:
    """Share of a ball's mean that the views determine at each place."""
    A = weighted(statistics.residual.A, statistics.residual.expected.variance)
    shares = Resolution(A, statistics.damping, statistics.grid).of_balls(DIAMETER_MM)
    return np.array(
        [shares[tuple(np.round((statistics.grid.world_to_index @ [*place, 1.0])[:3]).astype(int)[::-1])] for place in problem.places]
    )


def rows_of(path: Path, problem: Planted, views: int, size: int, name: str, wanted: list[str]) -> list[list]:
    volume = problem.reconstruct(name)
    without, planted = Statistics(problem, volume), Statistics(problem, problem.plant(volume))
    shares = determined_places(problem, without)
    determined = shares >= DETERMINED
    rows = []
    for statistic in wanted:
        few = statistic == "region"
        negatives = without.scores(statistic, problem.places if few else np.concatenate([problem.places, problem.others]))
        positives = planted.scores(statistic, problem.places)
        areas = [_area(positives[chosen], negatives) for chosen in (slice(None), determined, problem.real, ~problem.real)]
        figures = without.residual.figures()
        ratio = f"{figures['noise_ratio']:.1f}"
        rows.append([path.stem, size, views, name, ratio, statistic, f"{100 * shares.mean():.0f}", f"{determined.sum()}/{PLACES}", *areas])
        print(rows[-1], flush=True)
    return rows


def picture(problem: Planted, method: str, path: Path) -> None:
    """Draw the trust of a volume into which one ball was painted, in the slice through that ball."""
    volume = problem.reconstruct(method)
    place = problem.places[~problem.real][0]
    false = Volume(volume.array + np.float32(CHANGE_HU) * ball(problem.grid, place, DIAMETER_MM), problem.grid, volume.attributes)
    draw(examine(false, problem.scan, Asked(DIAMETER_MM, (*place, DIAMETER_MM))), false, path)


def _area(positives: np.ndarray, negatives: np.ndarray) -> str:
    return f"{roc_area(positives, negatives):.3f}" if len(positives) else "-"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", nargs="*", type=Path, default=[resources.find(resources.SAMPLE_CT)])
    parser.add_argument("--field", nargs="+", type=float, default=[FIELD_MM], help="mm, one for all or one for each CT")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--views", nargs="+", type=int, default=[10, 20, 50])
    parser.add_argument("--methods", nargs="+", default=["admm-tv"], choices=methods.names())
    parser.add_argument(
        "--statistics", nargs="+", default=["trust"], choices=["matched", "ramp", "refit", "trust", "unsharpened", "apart", "region"]
    )
    parser.add_argument("--picture", type=Path, help="PNG to draw of one planted ball; no ROC areas then")
    chosen = parser.parse_args()
    rows = []
    for path, field_mm in zip(chosen.ct, chosen.field * len(chosen.ct) if len(chosen.field) == 1 else chosen.field):
        ct = read_ct(path)
        scaled = Volume(ct.array, type(ct.grid).centred(ct.grid.size, tuple(s * FIELD_MM / field_mm for s in ct.grid.spacing_mm)))
        for views in chosen.views:
            problem = Planted(scaled, views, chosen.size)
            if chosen.picture:
                picture(problem, chosen.methods[0], chosen.picture)
                return
            for name in chosen.methods:
                rows += rows_of(path, problem, views, chosen.size, name, chosen.statistics)
    head = ["CT", "voxels", "views", "method", "residual / noise", "statistic", "determined, %", "places determined"]
    report("Planted detail", [*head, "ROC area", "where determined", "removed", "painted"], rows)


if __name__ == "__main__":
    main()
