"""Whatever is in a file, a reader gives a scan or an InputError, and takes little memory (`Benchmarks/fuzz_readers.py` runs longer)."""

import random
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import mutated, noise
from reader_seeds import SEEDS

from SparseCTReconLib import InputError, Scan
from SparseCTReconLib.formats import read_scan

MOST_BYTES = 4 << 20
"""What reading may take beside twice the size of files of a few kilobytes: modules, tables of the codecs, messages."""
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def read_or_refused(path):
    """The scan in `path`, or None where it was refused in a sentence."""
    try:
        scan = read_scan(path)
    except InputError as error:
        assert str(error) and "\n" not in str(error)
        assert error.code != "bad-input"
        return None
    assert isinstance(scan, Scan)
    assert np.isfinite(scan.projections).all()
    assert scan.projections.flags.writeable
    return scan


@pytest.fixture(scope="module", params=SEEDS)
def seed(request, tmp_path_factory):
    """What to open, and the files to break with what is in them."""
    path, files = SEEDS[request.param](tmp_path_factory.mktemp("seed"))
    assert read_or_refused(path) is not None
    return path, {file: file.read_bytes() for file in files}


@QUICK
@given(st.integers(0, 2**63), st.booleans())
def test_a_broken_file_gives_a_scan_or_a_sentence(seed, number, random_bytes):
    path, files = seed
    rng = random.Random(number)
    file = rng.choice(list(files))
    try:
        file.write_bytes((noise if random_bytes else mutated)(files[file], rng))
        read_or_refused(path)
    finally:
        file.write_bytes(files[file])


@settings(QUICK, max_examples=10)
@given(st.integers(0, 2**63))
def test_a_broken_file_takes_no_more_memory_than_a_whole_one_may(seed, number):
    path, files = seed
    rng = random.Random(number)
    file = rng.choice(list(files))
    tracemalloc.start()
    try:
        file.write_bytes(mutated(files[file], rng))
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        read_or_refused(path)
        assert tracemalloc.get_traced_memory()[1] - before < MOST_BYTES
    finally:
        tracemalloc.stop()
        file.write_bytes(files[file])


@settings(QUICK, max_examples=60)
@given(st.binary(max_size=300))
def test_random_bytes_are_no_scan(tmp_path, code):
    (tmp_path / "file").write_bytes(code)
    read_or_refused(tmp_path / "file")
    read_or_refused(tmp_path)
