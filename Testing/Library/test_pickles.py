"""Pickles, archives and MATLAB files that are made to run code, to fill memory or to point elsewhere."""

import io
import os
import pickle
import pickletools
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
import scan_files
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from SparseCTReconLib import InputError
from SparseCTReconLib.formats import arrays, mat5, pickles, yaml_files

LEAF = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.binary(max_size=5)
TREE = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=8)


def written(folder, code):
    path = folder / "file"
    path.write_bytes(code)
    return path


@given(TREE, st.integers(0, 5))
def test_plain_values_come_back_from_every_protocol(tmp_path_factory, value, protocol):
    code = pickle.dumps(value, protocol)
    assert pickles.load(written(tmp_path_factory.getbasetemp(), code)) == value


@settings(deadline=None)
@given(
    arrays_of.arrays(st.sampled_from(["<f4", ">f8", "<u2", ">i2", "u1", "?"]), arrays_of.array_shapes(min_dims=0, max_dims=4)),
    st.integers(0, 5),
    st.booleans(),
)
def test_arrays_come_back_from_every_protocol(tmp_path_factory, array, protocol, fortran):
    array = np.asfortranarray(array) if fortran else array
    code = pickle.dumps({"a": array, "strided": array[..., ::-1] if array.ndim else array, "number": np.float64(0.5)}, protocol)
    read = pickles.load(written(tmp_path_factory.getbasetemp(), code))
    np.testing.assert_array_equal(read["a"], array)
    np.testing.assert_array_equal(read["strided"], array[..., ::-1] if array.ndim else array)
    assert (read["a"].dtype, read["number"]) == (array.dtype, 0.5)


def test_a_pickle_of_python_2_is_read(tmp_path):
    """numpy.core.multiarray and bytes as text, as Python 2 and protocol 2 have them."""
    code = (
        b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85q\x04c_codecs\nencode\n"
        b"q\x05X\x01\x00\x00\x00bq\x06X\x06\x00\x00\x00latin1q\x07\x86q\x08Rq\x09\x87q\x0aRq\x0b(K\x01K\x02\x85q\x0ccnumpy\ndtype\nq\x0d"
        b"X\x02\x00\x00\x00u1q\x0eK\x00K\x01\x87q\x0fRq\x10(K\x03X\x01\x00\x00\x00|q\x11NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x12b\x89h"
        b"\x05X\x02\x00\x00\x00\x07\x08q\x13h\x07\x86q\x14Rq\x15tq\x16bs."
    )
    np.testing.assert_array_equal(pickles.load(written(tmp_path, code))["a"], [7, 8])


class Payload:
    """Runs a function when an ordinary unpickler reads it."""

    def __init__(self, function, *arguments):
        self._call = function, arguments

    def __reduce__(self):
        return self._call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("function", [os.system, eval, exec, getattr, compile, open, np.fromfile, np.load, print])
def test_code_is_refused_and_not_run(tmp_path, function, protocol):
    touched = tmp_path / "touched"
    code = pickle.dumps({"DSD": Payload(function, f"touch {touched}")}, protocol)
    with pytest.raises(InputError, match="may be code and is not run"):
        pickles.load(written(tmp_path, code))
    assert not touched.exists()


def test_what_is_admitted_cannot_be_made_into_something_else(tmp_path):
    """BUILD sets attributes of what a pickle is given: the functions of one pickle are not those of the next."""
    before = dict(pickles._BUILDERS)
    code = b"\x80\x02cnumpy\ndtype\nN}X\x0c\x00\x00\x00__defaults__K\x01\x85s\x86b."
    with pytest.raises(InputError):
        pickles.load(written(tmp_path, code))
    assert before == pickles._BUILDERS
    assert pickles._Type.__init__.__defaults__ == ("",)


BOMBS = {
    "bytes of a terabyte": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
    "a text of two gigabytes": b"\x80\x02X\xff\xff\xff\x7fx.",
    "a frame of a terabyte": b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"}.",
    "a byte array of a terabyte": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.",
    "a memory of 4 billion places": b"\x80\x02}r\xff\xff\xff\xff.",
    "a whole number of two gigabytes": b"\x80\x02\x8b\xff\xff\xff\x7fx.",
    "an array of 10^12 numbers in one byte": (
        b"\x80\x04cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01\x8a\x06\x00\x10\xa5\xd4\xe8\x00\x85cnumpy\n"
        b"dtype\nX\x02\x00\x00\x00f8\x89\x88\x87R\x89C\x01xtb."
    ),
    "lists within lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "a list of itself": b"\x80\x02]q\x00h\x00a.",
    "laughs": b"\x80\x02]q\x00" + b"".join(b"]q%c(h%ch%ce" % (i, i - 1, i - 1) for i in range(1, 100)) + b".",
    "millions of dicts": b"\x80\x02(" + b"}" * 3_000_000 + b"l.",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_fills_memory(tmp_path, name):
    path = written(tmp_path, BOMBS[name])
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="damaged or cut pickle"):
            pickles.load(path)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_an_array_gets_its_numbers_from_the_file_alone(tmp_path):
    code = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x8a\x06\x00\x10\xa5\xd4\xe8\x00\x85C\x01b\x87R."
    assert pickles.load(written(tmp_path, code)).size == 0


def test_every_cut_of_a_pickle_is_refused(tmp_path):
    code = scan_files.naf(tmp_path / "whole").read_bytes()
    for end in range(0, len(code) - 1, 97):
        with pytest.raises(InputError, match="damaged or cut pickle"):
            pickles.load(written(tmp_path, code[:end]))


def test_all_instructions_of_python_are_known():
    assert len(pickles._OPCODES) == len(pickletools.opcodes)


def test_reading_takes_little_more_than_the_file(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(pickle.dumps({"a": np.zeros(4 << 20, np.float32)}, 5))
    tracemalloc.start()
    try:
        pickles.load(path)
        assert tracemalloc.get_traced_memory()[1] < 1.1 * path.stat().st_size
    finally:
        tracemalloc.stop()


def archive(path, members, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as file:
        for name, code in members:
            file.writestr(name, code)
    return path


def test_an_archives_odd_names_write_nothing(tmp_path):
    code = scan_files.npy_bytes(np.arange(3))
    read = arrays.read_npz(archive(tmp_path / "a.npz", [("../../evil.npy", code), ("/tmp/evil.npy", code), ("b.npy", code)]))
    np.testing.assert_array_equal(read["b"], [0, 1, 2])
    assert not (tmp_path.parent.parent / "evil.npy").exists()
    assert sorted(os.listdir(tmp_path)) == ["a.npz"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_cannot_be_are_refused(tmp_path):
    code = scan_files.npy_bytes(np.arange(3))
    with pytest.raises(InputError, match="is there twice"):
        arrays.read_npz(archive(tmp_path / "a.npz", [("b.npy", code), ("b.npy", code)]))
    objects = io.BytesIO()
    np.save(objects, np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="not numbers"):
        arrays.read_npz(archive(tmp_path / "b.npz", [("b.npy", objects.getvalue())]))
    with pytest.raises(InputError, match="cut short: 24 bytes"):
        arrays.read_npz(archive(tmp_path / "c.npz", [("b.npy", code.replace(b"(3,)", b"(9,)"))]))
    whole = archive(tmp_path / "d.npz", [("b.npy", code)]).read_bytes()
    with pytest.raises(InputError, match="damaged or cut archive"):
        arrays.read_npz(written(tmp_path, whole[:-30]))


def test_an_archive_that_claims_too_much_is_refused(tmp_path):
    whole = bytearray(archive(tmp_path / "a.npz", [("b.npy", scan_files.npy_bytes(np.arange(3)))]).read_bytes())
    entry = whole.index(b"PK\x01\x02")
    struct.pack_into("<I", whole, entry + 24, 1 << 31)
    with pytest.raises(InputError, match="made to fill memory"):
        arrays.read_npz(written(tmp_path, whole))


VARIABLES = {
    "whole": np.arange(24, dtype=np.int16).reshape(2, 3, 4),
    "real": np.linspace(0, 1, 6).reshape(3, 2),
    "single": np.float32([[1.5]]),
    "text": "cone",
    "inner": {"DSD": 1536.0, "deep": {"n": np.array([[1.0, 2.0]])}},
}


@pytest.mark.parametrize("compressed", [False, True])
def test_what_scipy_writes_for_matlab_is_read(tmp_path, compressed):
    scipy.io.savemat(tmp_path / "a.mat", VARIABLES | {"cells": np.array([[1, "x"]], dtype=object), "odd": 1j}, do_compression=compressed)
    read = mat5.read(tmp_path / "a.mat")
    for name in ("whole", "real", "single"):
        np.testing.assert_array_equal(read[name], VARIABLES[name])
    assert read["text"] == "cone"
    np.testing.assert_array_equal(read["inner"]["deep"]["n"], [[1, 2]])
    assert read["inner"]["DSD"] == 1536
    assert "cells" not in read and "odd" not in read


def test_matlab_files_that_cannot_be_are_refused(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"a": np.arange(100.0)})
    whole = (tmp_path / "a.mat").read_bytes()
    with pytest.raises(InputError, match="damaged or cut file of MATLAB's"):
        mat5.read(written(tmp_path, whole[:-50]))
    with pytest.raises(InputError, match="version 7.3: save it with -v7"):
        mat5.read(written(tmp_path, b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n"))
    bomb = zlib.compress(struct.pack("<II", 14, 0x7FFFFFF0) + bytes(1000))
    with pytest.raises(InputError, match="bytes in .* compressed ones"):
        mat5.read(written(tmp_path, whole[:128] + struct.pack("<II", 15, len(bomb)) + bomb))


def test_yaml_that_would_grow_or_run_is_refused(tmp_path):
    laughs = "a: &a [x, x]\nb: &b [*a, *a]\n"
    for text, said in (
        (laughs, "alias"),
        ("a: !!python/name:os.system", "cannot be read"),
        ("[" * 5000, "cannot be read"),
        ("- a", "key: value"),
    ):
        with pytest.raises(InputError, match=said):
            yaml_files.read(written(tmp_path, text.encode()))
    with pytest.raises(InputError, match="is read up to 1024"):
        yaml_files.read(written(tmp_path, b"#" * (yaml_files.LARGEST + 1)))
