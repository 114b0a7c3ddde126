"""DeepSparse's network from scratch against its pretraining and two steps, on limbs that none of them has seen.

`python Testing/Benchmarks/two_steps.py TARGET_FOLDER --others CT [CT ...] --held-out NAME [NAME ...] [--pretraining 1500] [--steps 500]`

Networks of the size "views-alone", which are shown no first volume, as in the paper, on few voxels. Pretrained on the others, they are
finetuned on the target's CTs; from scratch they learn from the target's alone, with the views that a user would have, as long as both steps
or as long as everything together. PSNR and SSIM of the CTs that are held out, from 6, 8 and 10 views over half a circle, see
`training/held_out.py`.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from common import report  # isort: skip

from SparseCTReconLib import weight_files
from SparseCTReconLib.networks.dice_weights import CALLED, FORMAT

COMMON = ("data.recipe=bone", "data.spacing_mm=4", "scans.of=24", "card.figures=true")
FEW = "[6, 10]"


class Trainings:
    """Trainings by the command line, each into a file of a folder; what is there already is not made again.

    Parameters
    ----------
    folder : Path
    voxels : int
        Along each edge of what is reconstructed.
    """

    def __init__(self, folder: Path, voxels: int):
        self.folder = folder
        self.common = (*COMMON, f"data.voxels={2 * voxels}", f"scans.voxels=[{voxels}]")

    def train(self, task: str, name: str, cts: list[Path], changes: list[str], start: Path | None = None) -> Path:
        """The weights of a training of `sparsectrecon train`."""
        out = self.folder / f"{name}.safetensors"
        if not out.exists():
            command = [sys.executable, "-m", "SparseCTReconLib.cli", "train", task, *map(str, cts), "--out", str(out)]
            command += ["--start", str(start)] if start else []
            subprocess.run([*command, "--set", *self.common, *changes], check=True)
        return out


def figures(path: Path) -> list[str]:
    """PSNR and SSIM of weights, as their card has them."""
    found = weight_files.read(path, FORMAT, CALLED).card["held_out"]["figures"]
    return [text for each in found for text in (f"{each['psnr_db']:.2f}", f"{each['ssim']:.3f}")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path, nargs="+")
    parser.add_argument("--others", type=Path, nargs="+", required=True)
    parser.add_argument("--held-out", nargs="+", required=True)
    parser.add_argument("--pretraining", type=int, default=1500, help="steps")
    parser.add_argument("--steps", type=int, default=500, help="of each of the two")
    parser.add_argument("--voxels", type=int, default=32)
    parser.add_argument("--folder", type=Path, default=Path("two_steps"), help="where the weights go")
    chosen = parser.parse_args()
    chosen.folder.mkdir(exist_ok=True)
    trainings = Trainings(chosen.folder, chosen.voxels)
    names = ", ".join(f'"{name}"' for name in chosen.held_out)
    P, S, rate = chosen.pretraining, chosen.steps, "training.rate=5e-4"
    held, alone = f"data.held_out=[{names}]", ["network.size=views-alone", "training.falling=true", rate]
    few = ["stage.name=adapt", f"stage.few={FEW}"]

    def scratch(steps: int) -> Path:
        changes = [held, *alone, *few, "stage.dense=10", f"training.steps={steps}"]
        return trainings.train("dice", f"scratch_{steps}", chosen.target, changes)

    def finetuned(name: str, start: Path, steps: tuple[int, int]) -> Path:
        changes = [held, f"views.few={FEW}"]
        for part, count in zip(("adapt", "adjust"), steps):
            changes += [f"{part}.steps={count}", f"{part}.falling=true", f"{part}.rate=2e-4"]
        return trainings.train("finetune", name, chosen.target, changes, start)

    pretrained = trainings.train("dice", "pretrained", chosen.others, [*alone, "stage.name=pretrain", f"training.steps={P}"])
    one_step = trainings.train(
        "dice",
        "one_step",
        chosen.target,
        [held, *few, f"training.steps={2 * S}", "training.falling=true", "training.rate=2e-4"],
        pretrained,
    )
    variants = {
        f"from scratch, {2 * S} steps": scratch(2 * S),
        f"from scratch, {P + 2 * S} steps": scratch(P + 2 * S),
        f"pretrained {P} steps on others, step 1 with {2 * S}": one_step,
        f"pretrained {P} steps on others, both steps with {S}": finetuned("both_steps", pretrained, (S, S)),
    }
    head = ["variant", *(f"{views} views: {what}" for views in (6, 8, 10) for what in ("PSNR, dB", "SSIM"))]
    title = f"{chosen.voxels} voxels cubed, half a circle, {len(chosen.held_out)} CTs held out"
    report(title, head, [[name, *figures(path)] for name, path in variants.items()])


if __name__ == "__main__":
    main()
