"""FDK against itk-rtk's on T128: seconds from projections to volume, and PSNR on a phantom with photon noise."""

from common import RADIUS_MM, in_turns, noisy, relative_difference, report, task  # isort: skip
import torch
from in_rtk import fdk_image, set_threads, stack_in_rtk, volume_from_rtk
from phantoms import Phantom

from SparseCTReconLib.classical.fdk import fdk
from SparseCTReconLib.evaluation.metrics import psnr
from SparseCTReconLib.units import mu_to_hu

REPEATS = 5


def main():
    set_threads(torch.get_num_threads())
    geometry, grid = task(128)
    phantom = Phantom(RADIUS_MM)
    truth = mu_to_hu(phantom.volume(grid))
    stack = noisy(phantom.line_integrals(geometry, finer=2), photons=1e5)
    ours, theirs = torch.from_numpy(stack), stack_in_rtk(stack, geometry)
    rows, notes = [], []
    for window in ("ram-lak", "hann"):
        functions = {
            "SparseCTRecon": lambda w=window: fdk(ours, geometry, grid, w),
            "itk-rtk": lambda w=window: fdk_image(theirs, grid, geometry, hann=w == "hann"),
        }
        seconds = in_turns(functions, REPEATS)
        volumes = {"SparseCTRecon": functions["SparseCTRecon"]().numpy(), "itk-rtk": volume_from_rtk(functions["itk-rtk"]())}
        rows += [
            [window, name, seconds[name], seconds["itk-rtk"] / seconds[name], f"{psnr(mu_to_hu(volume), truth):.2f}"]
            for name, volume in volumes.items()
        ]
        notes.append(f"- {window}: relative difference of the volumes {relative_difference(*volumes.values()):.1e}")
    report("FDK, T128, 50 views", ["window", "by", "seconds", "itk-rtk / this", "PSNR, dB"], rows, notes)


if __name__ == "__main__":
    main()
