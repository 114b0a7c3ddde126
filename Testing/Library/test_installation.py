"""What an installation has and lacks: it is found without failing, and each fault comes with what to do."""

import json
import subprocess
import sys

import numpy as np
import pytest

from SparseCTReconLib import installation, resources


def finding(found, name):
    (one,) = (one for one in found["findings"] if one["name"] == name)
    return one


@pytest.fixture(scope="module")
def found():
    return installation.examine()


def test_an_installation_that_serves_has_no_faults(found):
    assert not [one for one in found["findings"] if one["state"] == "fault"]
    assert finding(found, "numpy")["found"] == np.__version__
    assert finding(found, "device")["found"].startswith("torch ")
    assert "agree" in finding(found, "kernels")["found"]
    assert finding(found, "files")["found"].startswith("sample CT, ")
    assert all(one["next_step"] for one in found["findings"] if one["state"] != "ok")


def test_a_missing_package_is_a_fault_with_what_to_do():
    found = installation.examine(("numpy", "no-such-package"))
    assert finding(found, "no-such-package") == {
        "name": "no-such-package",
        "state": "fault",
        "found": "no-such-package is missing",
        "next_step": "pip install no-such-package",
    }
    assert "no-such-package is missing: pip install no-such-package" in found["warnings"]


def test_a_package_whose_module_is_called_otherwise_is_found(monkeypatch):
    monkeypatch.setattr(installation, "_adjoint_error", lambda: 0.0)
    found = installation.examine(("PyYAML", "pillow"))
    assert [finding(found, name)["state"] for name in ("PyYAML", "pillow")] == ["ok", "ok"]


def test_a_package_that_is_there_but_cannot_be_loaded_is_a_fault(monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    said = finding(installation.examine(("safetensors",)), "safetensors")
    assert said["state"] == "fault" and "cannot be loaded" in said["found"] and "--force-reinstall" in said["next_step"]


def test_without_torch_neither_the_device_nor_the_kernels_are_blamed_on_something_else(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    found = installation.examine(())
    assert "torch cannot be loaded" in finding(found, "device")["found"]
    monkeypatch.setattr(installation, "_adjoint_error", lambda: __import__("torch"))
    assert finding(installation.examine(()), "kernels")["next_step"] == "pip install torch"


@pytest.mark.parametrize(("wrong", "said"), [(RuntimeError("LLVM says no\nand more"), "(LLVM says no)"), (0.3, "do not agree (3e-01)")])
def test_kernels_that_do_not_compile_or_do_not_agree_are_a_fault(monkeypatch, wrong, said):
    def tried():
        if isinstance(wrong, Exception):
            raise wrong
        return wrong

    monkeypatch.setattr(installation, "_adjoint_error", tried)
    fault = finding(installation.examine(()), "kernels")
    assert fault["state"] == "fault" and said in fault["found"] and fault["next_step"]


def test_a_gpu_that_torch_cannot_use_is_said(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(installation, "_nvidia", lambda: "GPU 0: NVIDIA H200")
    said = finding(installation.examine(()), "device")
    assert said["state"] == "warning" and "NVIDIA H200" in said["found"] and said["next_step"].startswith("install ")


def test_a_disk_and_a_memory_that_are_nearly_full_are_said(monkeypatch):
    monkeypatch.setattr(installation.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 3e8}))
    monkeypatch.setattr(installation, "available_memory_bytes", lambda: 1e9)
    found = installation.examine(())
    assert finding(found, "disk")["found"].startswith("only 0.3 GB") and finding(found, "memory")["state"] == "warning"


def test_the_program_says_it_in_its_last_line(tmp_path):
    arguments = ["-m", "SparseCTReconLib.installation", "--needed", "numpy", "--folder", str(tmp_path)]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout.splitlines()[-1])["packages"] == {"numpy": np.__version__}


def test_the_cache_lists_its_own_folders_only(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSECTRECON_CACHE", str(tmp_path))
    for name in ("kernels-0.1.0-a", "kernels-0.0.9-b", "totalsegmentator", "Documents"):
        (tmp_path / name).mkdir()
    (tmp_path / "kernels-notes.txt").touch()
    assert [path.name for path in resources.kept("kernels")] == ["kernels-0.0.9-b", "kernels-0.1.0-a"]
    assert [path.name for path in resources.kept("totalsegmentator")] == ["totalsegmentator"]
    assert resources.kept("weights") == []
