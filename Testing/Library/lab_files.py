"""Scans of laboratory scanners: images as other programs write them, with descriptions."""

import numpy as np
from PIL import Image
from scan_files import SHAPE, VIEWS

COUNTS = np.random.default_rng(5).integers(5_000, 60_000, (VIEWS, *SHAPE), dtype=np.uint16)
I0 = 62_000
DEGREES = [0.0, 51.0, 103.0, 154.0, 206.0, 257.0, 309.0]
YAML = f"""\
# a comment
projections: .
values: intensities
i0: {I0}
pixel_mm: [0.2, 0.3]   # u, v
sid_mm: 200
sdd_mm: 400
offset_mm: [3, 1]
angles_deg: {DEGREES}
"""


def views_as(folder, ending="tif", name="view_{}", array=COUNTS):
    """An image for each view, numbered without leading zeros from 8 on, such that 10 sorts before 8 as a text."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(array, start=8):
        Image.fromarray(image).save(folder / f"{name.format(number)}.{ending}")
    return folder


def pages(path, array=COUNTS, **options):
    """A TIFF of many pages."""
    first, *rest = [Image.fromarray(image) for image in array]
    first.save(path, save_all=True, append_images=rest, **options)
    return path


def described(folder, text=YAML, **changes):
    """scanner.yaml with lines changed, or left out where the value is `...`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [line for line in text.splitlines() if line.split(":")[0] not in changes]
    lines += [f"{key}: {value}" for key, value in changes.items() if value is not ...]
    (folder / "scanner.yaml").write_text("\n".join(lines) + "\n")
    return folder / "scanner.yaml"


def expected():
    """Line integrals of `COUNTS`."""
    return -np.log(COUNTS / I0)


def cone_vectors(views=VIEWS, du=0.3, dv=0.2):
    """ASTRA's cone_vec of an orbit that wobbles: source, detector's centre, step to the next column, step to the next row."""
    rng = np.random.default_rng(3)
    rows = []
    for angle in np.linspace(0.2, 6.0, views):
        away = np.array([np.sin(angle), -np.cos(angle), 0.05 * rng.normal()])
        away /= np.linalg.norm(away)
        along = np.cross(away, [0, 0, 1])
        along /= np.linalg.norm(along)
        down = np.cross(away, along)
        rows.append([*(200 * away + rng.normal(size=3)), *(-150 * away + rng.normal(size=3)), *(du * along), *(dv * down)])
    return np.array(rows)
