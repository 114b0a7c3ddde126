"""ADMM-TV against itk-rtk's on T64: the time in which ours reaches the PSNR that RTK's ends with.

`python Testing/Benchmarks/admm_tv_rtk.py [head] [phantom]`: the bundled CT of a head, simulated, or a body of ellipsoids with a shell
thinner than two voxels, on which total variation pays for every edge. RTK runs first, to its end, with its default numbers of
iterations and weights tried for it; ours runs with its defaults, and with a strength that was tried on the phantom likewise.
"""

import sys
import time
from dataclasses import replace

from common import RADIUS_MM, noisy, report, task  # isort: skip
import torch
from in_rtk import admm_tv_image, set_threads, stack_in_rtk, volume_from_rtk
from phantoms import Phantom

from SparseCTReconLib import methods, read_ct, resources, simulate
from SparseCTReconLib.evaluation.compare import resample
from SparseCTReconLib.evaluation.metrics import psnr
from SparseCTReconLib.scan import Scan
from SparseCTReconLib.units import mu_to_hu

PHOTONS = 1e5
RTK_SETTINGS = {"tv_weight": 20.0, "beta": 3000.0, "iterations": 10, "cg_iterations": 3}
"""Of tv_weight 1 to 100 and beta 300 to 6000 the best of those tried on the phantom, and of six tried on the head."""


OUR_SETTINGS = ({}, {"strength": 2.0})
"""The defaults, which were chosen on scans of this head among others, and of strengths 1 to 3 the best on the phantom."""


def run_rtk(scan, grid):
    """Seconds and volume of RTK's."""
    stack = stack_in_rtk(scan.projections, scan.geometry)
    start = time.perf_counter()
    image = admm_tv_image(stack, grid, scan.geometry, **RTK_SETTINGS)
    return time.perf_counter() - start, volume_from_rtk(image)


def run_ours(scan, grid, quality, settings):
    """(step, seconds, PSNR) after each pass; looking at the volume does not count."""
    method = methods.get("admm-tv")
    points, spent = [], 0.0
    start = time.perf_counter()
    for state in method.run(scan, grid, method.Options(**settings)):
        spent += time.perf_counter() - start
        points.append((state.step, spent, quality(state.volume())))
        start = time.perf_counter()
    return points


def phantom_scan(geometry, grid):
    """Scan, grid and truth in HU of the ellipsoids."""
    phantom = Phantom(RADIUS_MM)
    scan = Scan(noisy(phantom.line_integrals(geometry, finer=2), PHOTONS), geometry, PHOTONS)
    return scan, grid, mu_to_hu(phantom.volume(grid))


def head_scan(geometry, grid):
    """Scan, grid and truth in HU of the bundled head, moved to the isocentre."""
    ct = read_ct(resources.find(resources.SAMPLE_CT))
    ct = replace(ct, grid=replace(ct.grid, origin_mm=tuple(ct.grid.origin_mm - ct.grid.centre_mm)))
    return simulate(ct, geometry=geometry, photons=PHOTONS), grid, resample(ct, grid)[0]


def compare(scan, grid, truth):
    """Rows of the table."""

    def quality(mu):
        return psnr(mu_to_hu(mu), truth)

    run_ours(scan, grid, quality, {})
    rtk_seconds, volume = run_rtk(scan, grid)
    goal = quality(volume)
    rows = [["itk-rtk", f"{RTK_SETTINGS['iterations']}, its end", rtk_seconds, f"{goal:.2f}", ""]]
    for settings in OUR_SETTINGS:
        name = f"SparseCTRecon, strength {settings.get('strength', 1):g}"
        points = run_ours(scan, grid, quality, settings)
        there = next((point for point in points if point[2] >= goal), None)
        if there:
            rows.append([name, f"{there[0]}, first as good", there[1], f"{there[2]:.2f}", f"1/{rtk_seconds / there[1]:.1f}"])
        step, seconds, reached = points[-1]
        rows.append([name, f"{step}, its end", seconds, f"{reached:.2f}", f"1/{rtk_seconds / seconds:.1f}"])
    return rows


def main():
    set_threads(torch.get_num_threads())
    scans = {"head": head_scan, "phantom": phantom_scan}
    rows = [[name, *row] for name in sys.argv[1:] or scans for row in compare(*scans[name](*task(64)))]
    notes = [f"- RTK's settings: {RTK_SETTINGS}; {PHOTONS:g} photons. Where ours has no line 'first as good', it never was."]
    report("ADMM-TV, T64, 50 views", ["object", "by", "iterations", "seconds", "PSNR, dB", "of RTK's time"], rows, notes)


if __name__ == "__main__":
    main()
