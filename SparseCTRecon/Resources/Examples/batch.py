"""For each CT in a folder: simulates a scan, reconstructs it, and compares the two. In Slicer without its window:

    Slicer --no-main-window --python-script batch.py CTS OUT --method admm-tv --views 50

OUT gets a volume for each CT, and results.csv. What is done is skipped, so that the same line goes on where it was stopped; a CT that fails
has the reason in the table, and is tried again the next time. The exit status is 1 where one has failed.
"""

import argparse
import csv
import os
import time
from pathlib import Path

import slicer

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
FIGURES = ("psnr_db", "ssim", "rmse_hu", "vif")
COLUMNS = ("volume", "ct", "method", "views", "seconds", *FIGURES, "error")


def main(arguments=None):
    """Do what the command line asks; return the exit status."""
    asked = parse(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    table = Table(asked.out / "results.csv")
    for ct in asked.cts:
        volume = f"{stem(ct)}-{asked.method}-{asked.views}.nrrd"
        if table.isDone(volume):
            print(f"{volume}: done before", flush=True)
            continue
        began = time.monotonic()
        row = {"volume": volume, "ct": ct.name, "method": asked.method, "views": asked.views}
        try:
            row |= reconstruct(ct, asked.out / volume, asked)
        except Exception as error:
            row["error"] = " ".join(str(error).split())
        table.add(row | {"seconds": round(time.monotonic() - began, 1)})
        print(f"{volume}: {row.get('error') or 'done'}", flush=True)
        slicer.mrmlScene.Clear(False)
    return int(any(row["error"] for row in table.rows.values()))


def parse(arguments):
    """The command line, with the files of the folder in `cts`."""
    parser = argparse.ArgumentParser(prog="batch.py", description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder with CTs in HU, a file each")
    parser.add_argument("out", type=Path, help="folder for the volumes and results.csv")
    parser.add_argument("--method", default="admm-tv")
    parser.add_argument("--views", type=int, default=50)
    parser.add_argument("--voxel-size", dest="voxelSize", type=float, default=0.0, help="mm; 0 = as the CT")
    asked = parser.parse_args(arguments)
    if not asked.folder.is_dir():
        parser.error(f"there is no folder {asked.folder}")
    asked.cts = sorted(path for path in asked.folder.iterdir() if path.name.lower().endswith(ENDINGS))
    names = [stem(path) for path in asked.cts]
    if len(names) > len(set(names)):
        parser.error(f"two files of {asked.folder} differ in their endings alone: rename one, its volume would overwrite the other's")
    return asked


def reconstruct(file, volumeFile, asked):
    """Write the volume; return what the comparison with the CT says."""
    logic = slicer.util.getModuleLogic("SparseCTRecon")
    ct = slicer.util.loadVolume(str(file), {"show": False, "singleFile": True})
    volume = logic.process(ct, method=asked.method, views=asked.views, voxelSize=asked.voxelSize)
    logic.compare(ct, [volume], tissues=False, report=False)
    (written,) = logic.exportVolumes([volume], volumeFile.parent)
    os.replace(written, volumeFile)
    figures = logic.comparisonRun.figures["results"][0]["image"]
    return {name: "" if figures[name] is None else f"{figures[name]:.5g}" for name in FIGURES}


def stem(path):
    """A file's name without its ending."""
    ending = next(ending for ending in ENDINGS if path.name.lower().endswith(ending))
    return path.name[: -len(ending)]


class Table:
    """A CSV file, which is whole whenever the batch is stopped; `rows` are dicts of texts by the volume's name."""

    def __init__(self, path):
        self.path, self.rows = path, {}
        if path.exists():
            with open(path, newline="", encoding="utf-8") as file:
                self.rows = {row["volume"]: row for row in csv.DictReader(file)}

    def isDone(self, volume):
        return volume in self.rows and not self.rows[volume]["error"] and (self.path.parent / volume).exists()

    def add(self, row):
        self.rows[row["volume"]] = {name: str(row.get(name, "")) for name in COLUMNS}
        beside = self.path.with_suffix(".part")
        with open(beside, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows.values())
        os.replace(beside, self.path)


if __name__ == "__main__":
    slicer.util.exit(main())
