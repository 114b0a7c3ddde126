"""Python packages: looked up without importing them, installed only through Slicer's own ways and only when asked."""

import sys
import types

import pytest


@pytest.fixture
def dependencies(host):
    from SparseCTReconPanel import dependencies

    return dependencies


@pytest.fixture
def calls(monkeypatch, slicer):
    """What is asked of slicer.packaging and PyTorchUtils."""
    made = []
    monkeypatch.setattr(slicer.packaging, "pip_ensure", lambda requirements, **options: made.append(("pip", options)))
    utils = types.SimpleNamespace(installTorch=lambda **options: made.append(("torch", options)))
    monkeypatch.setitem(sys.modules, "PyTorchUtils", types.SimpleNamespace(PyTorchUtilsLogic=lambda: utils))
    return made


def without(monkeypatch, slicer, dependencies, *absent):
    installed, check = dependencies._installed, slicer.packaging.pip_check
    monkeypatch.setattr(dependencies, "_installed", lambda name: name not in absent and installed(name))
    monkeypatch.setattr(slicer.packaging, "pip_check", lambda one, *rest: not str(one).startswith(absent) and check(one, *rest))


def test_nothing_is_installed_where_everything_is_there(dependencies, calls):
    assert dependencies.install()
    assert calls == []


def test_packages_come_through_slicer_without_those_that_slicer_brings(dependencies, calls, slicer, monkeypatch):
    without(monkeypatch, slicer, dependencies, "numba")
    assert not dependencies.install()
    ((kind, options),) = calls
    assert kind == "pip"
    assert options["requester"] == "SparseCTRecon"
    assert {"torch", "numpy", "SimpleITK", "requests"} <= set(options["skip_packages"])


def test_torch_comes_through_the_pytorch_extension_after_asking(dependencies, calls, slicer, monkeypatch):
    without(monkeypatch, slicer, dependencies, "torch")
    dependencies.install()
    assert calls[-1] == ("torch", {"askConfirmation": True, "torchVersionRequirement": ">=2.4"})


def test_a_missing_pytorch_extension_is_said_with_what_to_do(dependencies, calls, slicer, monkeypatch):
    without(monkeypatch, slicer, dependencies, "torch")
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    with pytest.raises(RuntimeError, match="PyTorch extension is missing: install it in the Extensions Manager"):
        dependencies.install()
