"""Python packages: looked up without importing them, installed only through Slicer's own ways and only when asked."""

import subprocess
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


def test_a_package_whose_own_requirement_is_missing_counts_as_missing(dependencies, calls, slicer, monkeypatch):
    without(monkeypatch, slicer, dependencies, "llvmlite")
    assert [one.partition("<")[0] for one in dependencies.missing()] == ["llvmlite"]


def test_what_slicer_brings_and_what_only_an_extra_needs_is_not_missing(dependencies, slicer, monkeypatch):
    asked = []
    monkeypatch.setattr(slicer.packaging, "pip_check", lambda one: asked.append(str(one)) or True)
    assert dependencies.missing() == []
    assert not [one for one in asked if one.startswith(("numpy", "torch", "pytest", "tensorflow", "jax"))]
    assert len(asked) > 4


FAILURES = {
    "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device": "make room on the disk",
    "WARNING: Retrying ... NewConnectionError: Failed to establish a new connection": "check the network, or set HTTPS_PROXY",
    "ERROR: Could not find a version that satisfies the requirement numba>=9 (from versions: none)": "update Slicer",
    "ERROR: something else": "see its last lines",
}


@pytest.fixture
def failing_pip(dependencies, slicer, monkeypatch):
    """A pip that prints lines and fails; `attempts` counts, `lines` are what it prints."""
    pip = types.SimpleNamespace(attempts=0, lines=[], fails=99, prompted=None)

    def ensure(requirements, prompt_install=True, **options):
        pip.attempts, pip.prompted = pip.attempts + 1, prompt_install
        print("\n".join(pip.lines))
        if pip.attempts <= pip.fails:
            raise subprocess.CalledProcessError(1, "pip install")
        monkeypatch.undo()

    without(monkeypatch, slicer, dependencies, "numba")
    monkeypatch.setattr(slicer.packaging, "pip_ensure", ensure)
    return pip


@pytest.mark.parametrize(("last", "advice"), FAILURES.items())
def test_a_pip_that_fails_is_said_with_its_last_lines_and_what_to_do(dependencies, failing_pip, last, advice):
    failing_pip.lines = [*(f"Collecting {n}" for n in range(20)), last]
    with pytest.raises(RuntimeError) as raised:
        dependencies.install()
    assert str(raised.value).endswith(last)
    assert "could not be installed (numba>=0.60)" in str(raised.value) and advice in str(raised.value)
    assert "Collecting 3" not in str(raised.value)


def test_without_a_window_nothing_is_asked_and_nothing_tried_again(dependencies, failing_pip):
    with pytest.raises(RuntimeError):
        dependencies.install()
    assert failing_pip.attempts == 1 and failing_pip.prompted is False


def test_with_a_window_it_is_tried_again_as_long_as_the_user_wants(dependencies, failing_pip, slicer, monkeypatch):
    shown = []
    monkeypatch.setattr(slicer.util, "mainWindow", lambda: object())
    monkeypatch.setattr(slicer.util, "confirmRetryCloseDisplay", lambda text, **more: shown.append((text, more["detailedText"])) or True)
    failing_pip.lines, failing_pip.fails = ["ERROR: something"], 2
    assert dependencies.install()
    assert failing_pip.attempts == 3 and failing_pip.prompted is True
    assert [details for _text, details in shown] == ["ERROR: something"] * 2
    assert shown[0][0].endswith("\n\nERROR: something")


def test_who_declines_has_not_failed(dependencies, slicer, monkeypatch):
    def declined(*args, **options):
        raise RuntimeError("User declined package installation")

    without(monkeypatch, slicer, dependencies, "numba")
    monkeypatch.setattr(slicer.packaging, "pip_ensure", declined)
    assert dependencies.install() is False


def test_torch_comes_through_the_pytorch_extension(dependencies, calls, slicer, monkeypatch):
    without(monkeypatch, slicer, dependencies, "torch")
    dependencies.install()
    assert calls[-1] == ("torch", {"askConfirmation": False, "torchVersionRequirement": ">=2.4"})


def test_a_missing_pytorch_extension_is_said_with_what_to_do(dependencies, calls, slicer, monkeypatch):
    without(monkeypatch, slicer, dependencies, "torch")
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    with pytest.raises(RuntimeError, match="PyTorch extension is missing: install it in the Extensions Manager"):
        dependencies.install()
