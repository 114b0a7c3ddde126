"""Feed every reader with broken files for as long as you like: no crash, no hang, no exception but InputError, little memory.

`python Testing/Benchmarks/fuzz_readers.py [INPUTS] [READER ...] [--seed N]`: 10,000 inputs a reader by default, of which half are valid
files with a few changes and the others random bytes. Each reader runs in a process of its own, which a crash ends and which is started
again behind the input that it crashed on. Prints one line a reader; inputs that went wrong are kept in a temporary folder that is named,
with what was said of them, and the exit status is then 1.
"""

import argparse
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing" / "Library")]

from mutations import mutated, noise  # noqa: E402
from reader_seeds import SEEDS  # noqa: E402

from SparseCTReconLib import InputError, Scan  # noqa: E402
from SparseCTReconLib.formats import read_scan  # noqa: E402

HANG_S = 5.0
MOST_MB = 64
"""What a process may grow by over all its inputs of a few kilobytes: none may take much, and nothing may pile up."""
ADDRESS_SPACE_MB = 2048
"""An allocation beyond what the process has and this fails."""


class Hang(Exception):
    """An input took longer than `HANG_S`."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("inputs", type=int, nargs="?", default=10_000)
    parser.add_argument("readers", nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    unknown = set(given.readers) - set(SEEDS)
    if unknown:
        parser.error(f"no reader {sorted(unknown)[0]!r}: known are {', '.join(SEEDS)}")
    if given.child:
        return feed(given.readers[0], given.inputs, given.first, given.seed, given.child)
    from common import machine  # with torch, which the readers' processes do without

    kept = Path(tempfile.mkdtemp(prefix="fuzzed-"))
    print(machine())
    print(
        "\n| reader | inputs | scans | sentences | faults | slowest s | growth MB | inputs/s |\n|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    faults = sum(watch(name, given.inputs, given.seed, kept) for name in given.readers or SEEDS)
    print(f"\n{faults} faults" + (f", kept in {kept}" if faults else ""))
    if not faults:
        kept.rmdir()
    return int(faults > 0)


def watch(name: str, inputs: int, seed: int, kept: Path) -> int:
    """Feed a reader in a process of its own, again behind an input that ended it; prints its line and returns the faults."""
    total = dict.fromkeys(("scans", "sentences", "faults", "slowest", "growth", "seconds"), 0.0)
    done = 0
    while done < inputs:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, str(inputs), name, "--seed", str(seed), "--child", folder, "--first", str(done)]
            start = time.monotonic()
            ended = subprocess.run(command, capture_output=True, text=True)
            total["seconds"] += time.monotonic() - start
            said = [line.split("\t") for line in ended.stdout.splitlines()]
            counts = [line for line in said if line[0] == "counts"]
            if not counts:
                raise SystemExit(f"{name}: the reader's process did not begin:\n{ended.stderr}")
            for key, value in zip(total, map(float, counts[-1][2:])):
                total[key] = max(total[key], value) if key in ("slowest", "growth") else total[key] + value
            done = int(counts[-1][1])
            for line in said:
                if line[0] == "fault":
                    keep(kept, name, int(line[1]), Path(folder) / f"fault-{line[1]}", line[2].replace("\\n", "\n"))
            if ended.returncode:
                total["faults"] += 1
                done = int((Path(folder) / "number").read_text())
                why = f"the process ended with {ended.returncode}\n{ended.stderr[-2000:]}"
                keep(kept, name, done, Path(folder) / "current", why)
                done += 1
    rate = inputs / total["seconds"]
    figures = f"{total['scans']:.0f} | {total['sentences']:.0f} | {total['faults']:.0f} | {total['slowest']:.2f} | {total['growth']:.0f}"
    print(f"| {name} | {inputs} | {figures} | {rate:.0f} |", flush=True)
    return int(total["faults"])


def keep(kept: Path, name: str, number: int, file: Path, why: str) -> None:
    place = kept / f"{''.join(c if c.isalnum() else '-' for c in name)}-{number}"
    place.write_bytes(file.read_bytes() if file.exists() else b"")
    place.with_name(place.name + ".txt").write_text(why)


def feed(name: str, inputs: int, first: int, seed: int, folder: Path) -> int:
    """In the process of a reader: give it inputs `first` and on, and say on stdout how that went."""
    (folder / "scan").mkdir()
    path, files = SEEDS[name](folder / "scan")
    whole = {file: file.read_bytes() for file in files}
    if not isinstance(read_scan(path), Scan):
        raise SystemExit(f"{name}: its own scan is not read")
    limit = (virtual_mb() + ADDRESS_SPACE_MB) << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGALRM, _hang)
    before = peak_mb()
    counts = {"scans": 0, "sentences": 0, "faults": 0}
    slowest = 0.0
    for number in range(first, inputs):
        rng = random.Random(f"{name}/{seed}/{number}")
        file = rng.choice(files)
        code = (mutated if rng.random() < 0.5 else noise)(whole[file], rng)
        (folder / "current").write_bytes(code)
        (folder / "number").write_text(str(number))
        if number % 100 == 0 or number == first:
            _say_counts(number, counts, slowest, peak_mb() - before)
        file.write_bytes(code)
        start = time.monotonic()
        outcome, why = _outcome(path)
        file.write_bytes(whole[file])
        slowest = max(slowest, time.monotonic() - start)
        counts[outcome] += 1
        if why:
            (folder / f"fault-{number}").write_bytes(code)
            print("fault", number, why.replace("\n", "\\n").replace("\t", " "), sep="\t", flush=True)
    growth = peak_mb() - before
    if growth > MOST_MB:
        counts["faults"] += 1
        print("fault", inputs, f"the process grew by {growth} MB", sep="\t")
    _say_counts(inputs, counts, slowest, growth)
    return 0


def _outcome(path: Path) -> tuple[str, str]:
    """What came of reading, and a traceback where that is a fault."""
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        read_scan(path)
        return "scans", ""
    except InputError:
        return "sentences", ""
    except BaseException:
        return "faults", traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _hang(*_):
    raise Hang(f"more than {HANG_S:g} s")


def _say_counts(number: int, counts: dict, slowest: float, growth: float) -> None:
    print("counts", number, *counts.values(), round(slowest, 3), round(growth, 1), 0, sep="\t", flush=True)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def virtual_mb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") >> 20


if __name__ == "__main__":
    sys.exit(main())
