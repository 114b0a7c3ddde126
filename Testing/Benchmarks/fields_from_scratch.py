"""What layer norm, mapping-consistency initialisation and the channel mask are worth to a field that learns all from the rays.

`python Testing/Benchmarks/fields_from_scratch.py CT [CT ...] [--field 256] [--views 50] [--seconds 60] [--size 128]`; the bundled head
without a CT; scans as in real_ct.py. Every variant has the same seconds, looking included; PSNR and SSIM after 15 %, 50 % and all of them,
next to FDK and to ADMM-TV. The first variants have the papers' settings (squares of single rays for NAF, absolute values for NI-NeRF,
constant rates), the others those of naf's preset "from-scratch", whose rates are constant too and whose weights are averaged; without
averaging they have rates that fall.
"""

import argparse
import time
from pathlib import Path

from common import report  # isort: skip
from real_ct import FIELD_MM, Problem, in_field, problem, run, warm_up

from SparseCTReconLib import read_ct, resources
from SparseCTReconLib.evaluation.metrics import psnr, ssim
from SparseCTReconLib.methods.reconstruct import prepare, to_unit

SHARES = (0.15, 0.5, 1.0)
NAF = {"preset": "paper", "loss": "squares", "network": "naf", "layer_norm": False, "mci": "none", "mask_step": 0}
NI_NERF = {"preset": "paper", "mci": "auto"}
OURS = {"preset": "from-scratch", "iterations": 1_000_000}
VARIANTS = {
    "NAF": NAF,
    "NAF + LN": NAF | {"layer_norm": True},
    "NI-NeRF without LN, MCI, mask": NI_NERF | {"layer_norm": False, "mci": "none", "mask_step": 0},
    "NI-NeRF without MCI, mask": NI_NERF | {"mci": "none", "mask_step": 0},
    "NI-NeRF without mask": NI_NERF | {"mask_step": 0},
    "NI-NeRF": NI_NERF,
    "ours": OURS,
    "ours without averaging": OURS | {"averaging": False, "decay": True},
    "ours + LN": OURS | {"layer_norm": True},
    "ours + LN + MCI": OURS | {"layer_norm": True, "mci": "auto"},
}


def quality(to_solve: Problem, options: dict, seconds: float) -> list[tuple[float, float]]:
    """PSNR and SSIM of naf with `options` after each of `SHARES` of the seconds."""
    scan, grid, truth = to_solve
    start, found, last = time.perf_counter(), [], None
    for state in prepare(scan, "naf", grid, "cpu", options).states(seconds):
        last = state
        if time.perf_counter() - start > SHARES[len(found)] * seconds:
            found.append(looked_at(state, scan, truth))
            if len(found) == len(SHARES):
                break
    return (found + [looked_at(last, scan, truth)] * len(SHARES))[: len(SHARES)]


def looked_at(state, scan, truth) -> tuple[float, float]:
    volume = to_unit(state.volume(), "HU", scan.mu_water)
    return psnr(volume, truth), ssim(volume, truth)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", nargs="*", type=Path, default=[resources.find(resources.SAMPLE_CT)])
    parser.add_argument("--field", nargs="+", type=float, default=[FIELD_MM], help="mm, one for all or one for each CT")
    parser.add_argument("--views", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    chosen = parser.parse_args()
    rows = []
    for path, field_mm in zip(chosen.ct, chosen.field * len(chosen.ct) if len(chosen.field) == 1 else chosen.field):
        to_solve = problem(in_field(read_ct(path), field_mm, chosen.size), chosen.views, chosen.size)
        for name in ("fdk", "admm-tv"):
            warm_up(name)
            found = run(to_solve, name, chosen.seconds)
            rows.append([path.name, f"{name} in {found['seconds']:.1f} s", *[""] * 4, f"{found['psnr_db']:.2f}", f"{found['ssim']:.3f}"])
        for name in chosen.variants:
            warm_up("naf", VARIANTS[name]["preset"])
            found = quality(to_solve, VARIANTS[name], chosen.seconds)
            rows.append([path.name, name, *(cell for p, s in found for cell in (f"{p:.2f}", f"{s:.3f}"))])
            print(*rows[-1], flush=True)
    head = [f"{unit} at {share * chosen.seconds:g} s" for share in SHARES for unit in ("dB", "SSIM")]
    title = f"Fields from scratch, {chosen.size} voxels cubed, {chosen.views} views, {chosen.seconds:g} s"
    report(title, ["CT", "variant", *head], rows)


if __name__ == "__main__":
    main()
