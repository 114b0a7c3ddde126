"""The evidence that methods are recommended by: methods with presets x volumes x views x budgets, one table.

    python Testing/Benchmarks/evidence.py head.nrrd chest.nrrd --field 256 400 --views 10 20 50 --budgets 30 120
        [--methods fdk admm-tv naf naf:paper] [--size 128] [--device cpu] [--seen head ...] [--missing] [--out DIR]

Scans and volumes as in real_ct.py; each run is a process of its own, so that its peak of memory is its own, with kernels loaded before the
clock starts. ADMM-TV is run beside whatever is chosen, where it has not been yet. A row is known by method, preset, volume, views, budget,
size and device: it is written to evidence.json as soon as it is there, in the place of an earlier one, so that the table can be made in
pieces and on several machines; with `--missing` only what is not there yet is run. EVIDENCE.md is the same as a table; without a CT it is
only written anew.

`--seen` names the volumes that were used for training a learned prior; the others are then "held out". Without it the rows say "unknown".
"""

import argparse
import datetime
import multiprocessing
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

from common import ROOT, cores, processor  # isort: skip
import torch
from real_ct import FIELD_MM, Problem, in_field, problem, run, warm_up

from SparseCTReconLib import evidence, methods, read_ct
from SparseCTReconLib.evaluation.metrics import conventions
from SparseCTReconLib.jobs.files import write_json
from SparseCTReconLib.methods.reconstruct import versions

CONVENTIONS = {name: conventions()[name] for name in ("psnr_db", "ssim")}
FOLDER = ROOT / "Resources" / "Evidence"
HEAD = ["volume", "prior", "size", "views", "budget, s", "device", "method", "preset", "PSNR, dB", "SSIM", "seconds", "peak MB", "steps"]
HEAD += ["ADMM-TV, dB", "difference", "run"]


def main(arguments: list[str] | None = None) -> int:
    chosen = parse(arguments)
    table = Table(chosen.out)
    failed = []
    for path, field_mm in zip(chosen.ct, chosen.field * len(chosen.ct) if len(chosen.field) == 1 else chosen.field):
        failed += measure_volume(path, field_mm, chosen, table)
    table.write()
    for name in failed:
        print(f"failed: {name}", file=sys.stderr)
    return 1 if failed else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", nargs="*", type=Path)
    parser.add_argument("--field", nargs="+", type=float, default=[FIELD_MM], help="mm, one for all or one for each CT")
    parser.add_argument("--views", nargs="+", type=int, default=[20, 50])
    parser.add_argument("--budgets", nargs="+", type=float, default=[30.0, 120.0], help="seconds")
    parser.add_argument("--methods", nargs="+", default=every_method(), help="method or method:preset")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--seen", nargs="*", help="names of volumes that a learned prior was trained on")
    parser.add_argument("--missing", action="store_true", help="run only what is not in the table yet")
    parser.add_argument("--out", type=Path, default=FOLDER)
    chosen = parser.parse_args(arguments)
    if len(chosen.field) not in (1, len(chosen.ct)):
        parser.error(f"--field: {len(chosen.field)} fields for {len(chosen.ct)} CTs; give one for all or one for each")
    chosen.methods = [with_preset(name) for name in chosen.methods]
    chosen.again = set() if chosen.missing else set(chosen.methods)
    chosen.methods = list(dict.fromkeys([with_preset(evidence.BASELINE), *chosen.methods]))
    return chosen


def every_method() -> list[str]:
    """Every method with every preset."""
    return [f"{name}:{preset}" for name in methods.names() for preset in methods.get(name).presets]


def with_preset(name: str) -> tuple[str, str]:
    """Method and preset of "method" or "method:preset"."""
    name, _, preset = name.partition(":")
    return name, methods.preset_name(methods.get(name), {"preset": preset or None})


def measure_volume(path: Path, field_mm: float, chosen: argparse.Namespace, table: "Table") -> list[str]:
    """Run everything that is chosen on the CT in `path`; returns what failed."""
    volume, ct, failed = path.name.split(".")[0], None, []
    for views in chosen.views:
        wanted = [key for key in keys(volume, views, chosen) if key[:2] in chosen.again or key not in table]
        if not wanted:
            continue
        ct = ct or in_field(read_ct(path), field_mm, chosen.size)
        to_solve = problem(ct, views, chosen.size)
        for key in wanted:
            row = measure(key, to_solve)
            if row is None:
                failed.append(str(key))
                continue
            table.put(row | {"training": training(volume, chosen.seen)})
            print(f"{volume}, {views} views: {row['method']}:{row['preset']} {row['psnr_db']:.2f} dB in {row['seconds']:.1f} s", flush=True)
    return failed


def keys(volume: str, views: int, chosen: argparse.Namespace) -> list[tuple]:
    """Keys of the rows that are wanted of a volume at a number of views; a method without CUDA runs beside the others on the CPU."""
    devices = {name: chosen.device if chosen.device in methods.get(name).devices else "cpu" for name, _ in chosen.methods}
    return [
        (name, preset, volume, views, budget_s, chosen.size, devices[name])
        for budget_s, (name, preset) in product(chosen.budgets, chosen.methods)
    ]


def training(volume: str, seen: list[str] | None) -> str:
    """What the row says of learned priors."""
    if seen is None:
        return "unknown"
    return "seen" if volume in seen else "held out"


def measure(key: tuple, to_solve: Problem) -> dict | None:
    """The row of `key`, run in a process of its own; None where it failed."""
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    child = context.Process(target=_in_child, args=(key, to_solve, sending))
    child.start()
    sending.close()
    try:
        found = receiving.recv()
    except EOFError:
        found = None
    child.join()
    return None if found is None else dict(zip(evidence.KEY, key)) | found | {"load": load} | where()


def _in_child(key: tuple, to_solve: Problem, sending) -> None:
    values = dict(zip(evidence.KEY, key))
    name, preset, device = values["method"], values["preset"], values["device"]
    warm_up(name, preset, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    found = run(to_solve, name, values["budget_s"], preset, device)
    if device == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(), "peak_gpu_mb": round(torch.cuda.max_memory_allocated() / 1e6, 1)}
    sending.send(found | {"threads": torch.get_num_threads()})


def where() -> dict:
    """Machine, versions and date of a run."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    return {"machine": f"{processor()}, {cores()} cores", "versions": versions() | _commit(), "date": now}


def _commit() -> dict[str, str]:
    try:
        found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": found}


class Table:
    """The rows in evidence.json of a folder, by their keys, and the same in EVIDENCE.md.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path):
        self._folder = Path(folder)
        self._rows = {row_key(row): row for row in evidence.load(self._folder / "evidence.json")}

    def __contains__(self, key: tuple) -> bool:
        return key in self._rows

    def put(self, row: dict) -> None:
        """Take a row, in the place of the earlier one of the same key, and write the table."""
        self._rows[row_key(row)] = row
        self.write()

    def write(self) -> None:
        rows = sorted(self._rows.values(), key=lambda row: tuple(row[name] for name in _ORDER))
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(self._folder / "evidence.json", {"conventions": CONVENTIONS, "rows": rows})
        (self._folder / "EVIDENCE.md").write_text(markdown(rows), encoding="utf-8")


_ORDER = ("volume", "size", "views", "budget_s", "device", "method", "preset")


def row_key(row: dict) -> tuple:
    return tuple(row[name] for name in evidence.KEY)


def markdown(rows: list[dict]) -> str:
    """The rows as one table; machines, versions and dates below it, numbered as its last column says."""
    runs = list(dict.fromkeys(origin(row) for row in rows))
    lines = ["| " + " | ".join(HEAD) + " |", "|" + " --- |" * len(HEAD)]
    lines += ["| " + " | ".join(cells(row, rows, runs.index(origin(row)) + 1)) + " |" for row in rows]
    notes = [f"{number}. {text}" for number, text in enumerate(runs, start=1)]
    said = [f"- {text}." for text in CONVENTIONS.values()]
    about = "Written by `Testing/Benchmarks/evidence.py`, which says what was scanned; ADMM-TV stands beside every row."
    return "\n".join(["# Evidence", "", about, "", *lines, "", *notes, "", *said, ""])


def origin(row: dict) -> str:
    """Where and with what a row was measured."""
    packages = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
    return f"{row.get('gpu') or row['machine']}, {row['threads']} threads; {packages}; {row['date']}"


def cells(row: dict, rows: list[dict], number: int) -> list[str]:
    beside = baseline(row, rows)
    return [
        row["volume"],
        row["training"],
        f"{row['size']}^3",
        str(row["views"]),
        f"{row['budget_s']:g}",
        row["device"],
        row["method"],
        row["preset"],
        f"{row['psnr_db']:.2f}",
        f"{row['ssim']:.3f}",
        f"{row['seconds']:.3g}",
        "?" if row["peak_memory_mb"] is None else f"{row['peak_memory_mb']:.0f}",
        row["steps"],
        "-" if beside is None else f"{beside['psnr_db']:.2f}",
        "-" if beside is None else f"{row['psnr_db'] - beside['psnr_db']:+.2f}",
        str(number),
    ]


def baseline(row: dict, rows: list[dict]) -> dict | None:
    """ADMM-TV's row on the same task, on the same device where it has run there; None where it has not run."""
    same = ("volume", "size", "views", "budget_s")
    found = [other for other in rows if other["method"] == evidence.BASELINE and all(other[name] == row[name] for name in same)]
    return min(found, key=lambda other: (other["device"] != row["device"], other["preset"] != "recommended"), default=None)


if __name__ == "__main__":
    sys.exit(main())
