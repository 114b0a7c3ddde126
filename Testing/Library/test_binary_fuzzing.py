"""The fuzzer that sees which code runs: it finds a fault that is planted, and none in a reader (`Benchmarks/fuzz_binary_readers.py`)."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("atheris", reason="atheris is not installed (extra test, on Linux)")

BENCHMARKS = Path(__file__).resolve().parents[1] / "Benchmarks"
SECONDS = 3
PLANTED = """
from SparseCTReconLib import InputError

def read(path):
    code = path.read_bytes()
    if code[:2] != b"RD":
        raise InputError("no image")
    if len(code) > 6 and code[4] > 0x7F:
        {fault}
"""
CHILD = """
import sys
from pathlib import Path
sys.path[:0] = [{benchmarks!r}, {folder!r}]
import atheris
from fuzz_binary_readers import feed
with atheris.instrument_imports(include=["planted"]):
    import planted
file = Path({folder!r}) / "file"
file.write_bytes(b"RD" + bytes(8))
feed(lambda: planted.read(file), file, Path({folder!r}), {seconds})
"""


def fuzzed(folder, fault):
    """What became of a reader that ends in `fault` where its file's fifth byte is above 0x7F, and the files on which it did."""
    (folder / "planted.py").write_text(PLANTED.format(fault=fault))
    code = CHILD.format(benchmarks=str(BENCHMARKS), folder=str(folder), seconds=SECONDS)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, errors="replace", timeout=120)
    return ended, [path.read_bytes() for path in folder.glob("fault-*")]


def test_a_planted_fault_is_found(tmp_path):
    ended, (code,) = fuzzed(tmp_path, 'raise ValueError("planted")')
    assert ended.returncode != 0 and "ValueError: planted" in ended.stdout + ended.stderr
    assert code[:2] == b"RD" and code[4] > 0x7F


def test_what_is_refused_in_a_sentence_is_no_fault(tmp_path):
    ended, found = fuzzed(tmp_path, 'raise InputError("is damaged")')
    assert ended.returncode == 0 and not found, ended.stderr[-2000:]


def test_a_reader_is_seen_from_within_and_takes_what_it_is_given(tmp_path):
    command = [
        sys.executable,
        str(BENCHMARKS / "fuzz_binary_readers.py"),
        "Varian .xim",
        "--seconds",
        str(SECONDS),
        "--corpus",
        str(tmp_path),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    row = next(line for line in ended.stdout.splitlines() if line.startswith("| Varian"))
    _reader, inputs, edges, _megabytes, faults, _rate = (cell.strip() for cell in row.strip("|").split("|"))
    assert int(inputs) > 20 and int(edges) > 150 and faults == "0"
    assert len(list((tmp_path / "Varian--xim" / "corpus").iterdir())) > 5, "inputs that reach new code are kept"
    refused = subprocess.run([*command[:2], "Word"], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2 and "no binary reader 'Word'" in refused.stderr
