"""Which implementation of a neural field runs, and what is said where none can."""

import logging
import sys

import numpy as np
import pytest
import torch

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.fields import backends, tinycudann_field
from SparseCTReconLib.fields.backends import make_field
from SparseCTReconLib.fields.hash_grid import HashGrid
from SparseCTReconLib.fields.head import Head
from SparseCTReconLib.fields.networks import FourierReLU, HashNetwork, Siren
from SparseCTReconLib.fields.torch_field import TorchField

SCALE = 0.02
HASH, SINES, RAMPS = HashNetwork(HashGrid(2, 4, 9, 10), Head(4, 16)), Siren(2, 24), FourierReLU(2, 24)


def test_what_runs_is_chosen_by_the_device_and_said_in_the_log(caplog, monkeypatch):
    caplog.set_level(logging.INFO, "SparseCTReconLib.fields")
    assert [make_field(a, SCALE).backend for a in (HASH, SINES, RAMPS)] == ["numba", "torch", "torch"]
    assert "HashNetwork runs on cpu by numba" in caplog.text and "Siren runs on cpu by torch" in caplog.text
    for missing, chosen in (((), "tinycudann"), (("tinycudann",), "triton"), (("tinycudann", "triton"), "torch")):
        monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name, gone=missing: None if name in gone else name)
        monkeypatch.setattr(backends, "tinycudann_fails", lambda: None)
        monkeypatch.setattr(backends, "triton_fails", lambda device, gone=missing: "it is not there" if "triton" in gone else None)
        assert backends._choose(HASH, "cuda") == chosen and backends._choose(SINES, "cuda") == "torch"
    assert "slower than triton, because: it is not there" in caplog.text


def test_tinycudann_built_for_another_gpu_is_passed_over_with_a_word(caplog, monkeypatch):
    def fails():
        raise InputError("tinycudann does not run on this GPU")

    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(backends, "triton_fails", lambda device: None)
    monkeypatch.setattr(backends, "tinycudann_fails", backends.tinycudann_fails.__wrapped__)
    monkeypatch.setattr(tinycudann_field, "library", fails)
    assert backends._choose(HASH, "cuda") == "triton" and "because: tinycudann does not run on this GPU" in caplog.text


@pytest.mark.parametrize(
    "architecture, device, backend, said",
    [
        (HASH, "cuda", "numba", "runs on the cpu alone"),
        (HASH, "cpu", "tinycudann", "runs on cuda alone"),
        (HASH, "tpu", None, "give cpu or cuda"),
        (HASH, "cpu", "tritn", "did you mean 'triton'"),
        (SINES, "cpu", "numba", "give the backend torch for Siren"),
        (RAMPS, "cuda", "triton", "give the backend torch for FourierReLU"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(architecture, device, backend, said):
    with pytest.raises(InputError, match=said):
        make_field(architecture, SCALE, device, backend)


@pytest.mark.parametrize("architecture", [HASH, SINES])
def test_cuda_that_is_not_there_is_never_replaced_in_silence(architecture, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for backend in (None, "torch"):
        with pytest.raises(InputError, match="finds no GPU: give device cpu"):
            make_field(architecture, SCALE, "cuda", backend)


def test_triton_that_does_not_run_says_why(monkeypatch):
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(backends, "triton_fails", backends.triton_fails.__wrapped__)
    with pytest.raises(InputError, match="triton is not installed.*take the backend numba"):
        make_field(HASH, SCALE, "cpu", "triton")


def test_tinycudann_that_is_not_there_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="finds none: take the backend numba"):
        tinycudann_field.library()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "tinycudann", None)
    with pytest.raises(InputError, match="pip install git"):
        tinycudann_field.library()


def test_an_unknown_precision_and_a_head_that_does_not_fit_its_grid_are_refused():
    with pytest.raises(InputError, match="float32, tf32, bfloat16"):
        TorchField(SINES.module(np.random.default_rng(0)), SCALE, precision="half")
    with pytest.raises(InputError, match="8 channels behind a hash grid of 4"):
        HashNetwork(HashGrid(2), Head(8))
