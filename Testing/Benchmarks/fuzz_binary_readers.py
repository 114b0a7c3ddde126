"""Let a fuzzer that sees which code runs (atheris, on libFuzzer) look for files that a reader of binary files cannot take.

`python Testing/Benchmarks/fuzz_binary_readers.py [READER ...] [--seconds 60] [--corpus FOLDER]`: each reader in a process of its own, from
the valid files of `Library/reader_seeds.py`; inputs that reach new code are kept and changed further, in FOLDER for the next time. A fault
is anything but a scan or an InputError, more than 5 s, and memory beyond what `fuzz_readers.py` grants. A reader's first one ends its turn
and is kept in a temporary folder that is named; the exit status is then 1. `pip install atheris`, for Linux on x86-64.
"""

import argparse
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

BINARY = (
    "Elekta",
    "Varian .hnd",
    "Varian .hnc",
    "Varian .xim",
    "Varian .xim, plain",
    "NAF",
    "TIGRE .mat",
    "TIGRE .mat, packed",
    "TIGRE .json and .npy",
    "TIGRE .npz",
    "lab: MetaImage",
    "lab: CSV and TIFF",
    "DICOM, run length",
)
"""Seeds whose last file is binary."""

LONGEST = 16384
"""Bytes of an input at most: each seed is some kilobytes."""

MOST_MB = 512
"""What a process may grow by, libFuzzer's own files among it."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"of {', '.join(BINARY)}; all by default")
    parser.add_argument("--seconds", type=int, default=60, help="for each reader")
    parser.add_argument("--corpus", type=Path, help="folder that keeps what was found to reach new lines")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if unknown := set(given.readers) - set(BINARY):
        parser.error(f"no binary reader {sorted(unknown)[0]!r}: known are {'; '.join(BINARY)}")
    if given.child:
        return feed_reader(given.readers[0], given.child, given.seconds)
    from common import machine

    kept = Path(tempfile.mkdtemp(prefix="fuzzed-"))
    print(machine())
    print("\n| reader | inputs | edges seen | peak MB | faults | inputs/s |\n|---|---|---|---|---|---|", flush=True)
    faults = 0
    for name in given.readers or BINARY:
        with tempfile.TemporaryDirectory() as temporary:
            folder = (given.corpus / _plain(name)) if given.corpus else Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, __file__, name, "--seconds", str(given.seconds), "--child", str(folder)]
            ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
            found = figures(ended.stderr)
            if not found["inputs"]:
                raise SystemExit(f"{name}: the reader's process did not begin:\n{ended.stdout[-1000:]}{ended.stderr[-3000:]}")
            for place in folder.glob("fault-*"):
                place.rename(kept / f"{_plain(name)}-{place.name}")
            if ended.returncode:
                (kept / f"{_plain(name)}.txt").write_text(ended.stdout + ended.stderr)
            faults += ended.returncode != 0
            rate = found["inputs"] / given.seconds
            print(f"| {name} | {found['inputs']} | {found['edges']} | {found['mb']} | {ended.returncode != 0:d} | {rate:.0f} |", flush=True)
    print(f"\n{faults} faults" + (f", kept in {kept}" if faults else ""))
    if not faults:
        kept.rmdir()
    return int(faults > 0)


def figures(said: str) -> dict[str, int]:
    """What libFuzzer says at its end, of itself: inputs, edges (of instrumented code), mb."""
    patterns = {"inputs": r"^#(\d+)\s", "edges": r" cov: (\d+)", "mb": r" rss: (\d+)Mb"}
    return {name: max(map(int, re.findall(pattern, said, re.MULTILINE)), default=0) for name, pattern in patterns.items()}


def feed_reader(name: str, folder: Path, seconds: int) -> int:
    """In a reader's process: change the last file of its seed."""
    import atheris

    with tempfile.TemporaryDirectory() as scan:
        with atheris.instrument_imports(include=["SparseCTReconLib"]):  # readers are imported when they are needed
            from fuzz_readers import SEEDS, read_scan

            path, files = SEEDS[name](Path(scan))
            read_scan(path)
        feed(lambda: read_scan(path), files[-1], folder, seconds)
    return 0


def feed(read: Callable[[], object], file: Path, folder: Path, seconds: int) -> None:
    """Call `read` with ever changing content of `file` for some seconds, then end the process: with 0, or with a fault in `folder`, beside
    the inputs that reached new code."""
    import atheris
    from fuzz_readers import ADDRESS_SPACE_MB, HANG_S, peak_mb, virtual_mb

    from SparseCTReconLib import InputError

    def one(code: bytes) -> None:
        file.write_bytes(code)
        with suppress(InputError):
            read()

    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    (corpus / "seed").write_bytes(file.read_bytes())
    limit = (virtual_mb() + ADDRESS_SPACE_MB) << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    limits = {"max_total_time": seconds, "timeout": int(HANG_S), "rss_limit_mb": int(peak_mb()) + MOST_MB, "max_len": LONGEST}
    told = [f"-{key}={value}" for key, value in limits.items()]
    atheris.Setup([sys.argv[0], *told, "-print_final_stats=1", f"-artifact_prefix={folder}/fault-", str(corpus)], one)
    atheris.Fuzz()


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


if __name__ == "__main__":
    sys.exit(main())
