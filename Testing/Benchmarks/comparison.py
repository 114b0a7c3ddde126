"""How long comparisons of 256^3 voxels take, and how much memory: image figures, tissues, 100 organs, and the panel's whole job.

Each part runs in a process of its own, so that its peak of memory is its own: `python Testing/Benchmarks/comparison.py [VOXELS]`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

VOXELS = 256
LABELS = 100
MOVED_VOXELS = 2.0
"""How far the middles of the organs lie apart in the two label maps, standard deviation."""

PARTS = {
    "image figures": ("image", "10 s"),
    "image figures, reference half a voxel off": ("shifted", ""),
    "tissues": ("tissues", ""),
    f"{LABELS} organs": ("organs", "60 s, 3 GB"),
    "job of the panel: files, image figures, tissues, report": ("job", ""),
}


def write_bodies(voxels: int, folder: Path) -> None:
    """A body of `LABELS` organs, each a Voronoi cell of some HU, and the same with its cells moved and noise over it."""
    from SparseCTReconLib import formats
    from SparseCTReconLib.grid import Grid, Volume

    rng = np.random.default_rng(0)
    hu = np.concatenate([[-1000], rng.choice([-800, -90, 40, 60, 300], LABELS) + rng.normal(0, 10, LABELS)]).astype(np.float32)
    middles = _inside(rng.uniform(-1, 1, (20 * LABELS, 3)))[:LABELS]
    grid = Grid.centred((voxels,) * 3, (256 / voxels,) * 3)
    moved = middles + rng.normal(0, 2 * MOVED_VOXELS / voxels, middles.shape)
    for name, seeds, noise in (("reference", middles, 0), ("result", moved, 30)):
        labels = _cells(seeds, voxels)
        np.save(folder / f"{name}.npy", labels)
        array = hu[labels] + noise * rng.standard_normal(labels.shape, dtype=np.float32)
        formats.write_volume(Volume(array, grid), folder / f"{name}.nrrd")


def _inside(points: np.ndarray) -> np.ndarray:
    """Points (z, y, x) from -1 to 1 that lie in the body, an ellipsoid as wide as the volume."""
    return points[np.sum((points / (0.9, 0.7, 0.95)) ** 2, axis=1) < 0.9]


def _cells(seeds: np.ndarray, voxels: int) -> np.ndarray:
    """Number of the nearest seed (1 to n) in each voxel of the body, 0 outside it; uint8 [z, y, x]."""
    from scipy.ndimage import distance_transform_edt

    numbers = np.zeros((voxels,) * 3, np.uint8)
    numbers[tuple(np.clip(((seeds + 1) / 2 * voxels).astype(int), 0, voxels - 1).T)] = np.arange(1, len(seeds) + 1)
    nearest = distance_transform_edt(numbers == 0, return_distances=False, return_indices=True)
    z, y, x = (np.linspace(-1, 1, voxels, dtype=np.float32).reshape(shape) for shape in ((-1, 1, 1), (1, -1, 1), (1, 1, -1)))
    return np.where((z / 0.9) ** 2 + (y / 0.7) ** 2 + (x / 0.95) ** 2 < 1, numbers[tuple(nearest)], 0).astype(np.uint8)


def image(folder: Path, off_voxels: float = 0.0):
    """What one calls for the image figures of two volumes."""
    from SparseCTReconLib.evaluation.compare import evaluate
    from SparseCTReconLib.grid import Grid, Volume

    reference, result = _volumes(folder)
    grid = reference.grid
    origin = np.add(grid.origin_mm, off_voxels * np.array(grid.spacing_mm))
    moved = Volume(reference.array, Grid(grid.size, grid.spacing_mm, tuple(origin), grid.direction))
    return lambda: evaluate(result, moved)


def tissues(folder: Path):
    from SparseCTReconLib.evaluation.compare import aligned
    from SparseCTReconLib.evaluation.tissues import compare_tissues

    reference, result = _volumes(folder)
    return lambda: compare_tissues(aligned(result, reference))


def organs(folder: Path):
    """Dice and distances of all labels, with a field of view that cuts some."""
    from SparseCTReconLib.evaluation.organs import LabelMap, compare_labels
    from SparseCTReconLib.grid import Grid

    arrays = [np.load(folder / f"{name}.npy") for name in ("result", "reference")]
    size = arrays[0].shape[::-1]
    labels, reference = (LabelMap(array, Grid.centred(size, tuple(256 / n for n in size))) for array in arrays)
    y, x = np.mgrid[-1 : 1 : 1j * size[1], -1 : 1 : 1j * size[0]]
    seen = np.broadcast_to(x**2 + y**2 < 0.9, arrays[0].shape)
    return lambda: compare_labels(labels, reference, seen)


def job(folder: Path):
    """The worker that the panel starts, from files to report."""
    from SparseCTReconLib.jobs.client import Job, JobState, SubprocessTransport
    from SparseCTReconLib.jobs.spec import CompareJob, write_spec

    results = [{"name": "result", "path": str(folder / "result.nrrd")}]
    spec = CompareJob(reference=str(folder / "reference.nrrd"), results=results, output=str(folder / "found"))
    path = write_spec(spec, folder / "job")

    def run():
        started = Job(SubprocessTransport())
        started.start(path)
        assert started.wait(timeout_s=600) is JobState.DONE, started.error

    return run


def _volumes(folder: Path):
    from SparseCTReconLib import formats

    return (formats.read_volume(folder / f"{name}.nrrd") for name in ("reference", "result"))


def measured(part: str, folder: Path) -> dict:
    """Seconds of a part, and the peak of this process's memory, or of the worker's, in MB."""
    import resource

    call = image(folder, 0.5) if part == "shifted" else globals()[part](folder)
    start = time.perf_counter()
    call()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN if part == "job" else resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "peak": peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)}


def main(voxels: int) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        _in_a_process("bodies", folder, str(voxels))
        for title, (part, asked) in PARTS.items():
            found = json.loads(_in_a_process(part, folder))
            rows.append([title, f"{found['seconds']:.1f}", f"{found['peak']:.0f}", asked])
    from common import report  # brings torch: before, its memory would count as that of the processes started from here

    note = "Peak: of the whole process, with what it imports and the volumes. Organs: Voronoi cells of a body, moved by about 2 voxels."
    report(f"Comparisons, {voxels}^3", ["what", "seconds", "peak, MB", "asked: less than"], rows, [note])


def _in_a_process(*arguments: str) -> str:
    return subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    if sys.argv[1:2] == ["bodies"]:
        write_bodies(int(sys.argv[3]), Path(sys.argv[2]))
    elif len(sys.argv) == 3:
        print(json.dumps(measured(sys.argv[1], Path(sys.argv[2]))))
    else:
        main(int(sys.argv[1]) if len(sys.argv) == 2 else VOXELS)
