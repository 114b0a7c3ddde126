"""The module as an extension package lays it out: everything that the CMake lists name, in one folder, and nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cmake_lists
import pytest

HERE = Path(__file__).resolve().parent

PROGRAM = """
import sys
sys.path[:0] = [{here!r}]
import host
session = host.start()
session.load({module!r})
panel = session.open("SparseCTRecon")
import SparseCTReconLib
from SparseCTReconLib.jobs.client import worker_environment
from SparseCTReconPanel.sampledata import sampleFolder
print(SparseCTReconLib.__file__, worker_environment()["PYTHONPATH"].split({pathsep!r})[0], sampleFolder(), sep="\\n")
"""


@pytest.fixture
def installed(tmp_path):
    for folder, inside in (("SparseCTRecon", "."), ("SparseCTReconLib", "SparseCTReconLib")):
        for names in cmake_lists.in_cmake(folder).values():
            for name in names:
                target = tmp_path / inside / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(cmake_lists.ROOT / folder / name, target)
    for folder in cmake_lists.resource_folders():
        shutil.copytree(cmake_lists.ROOT / "Resources" / folder, tmp_path / "Resources" / folder)
    return tmp_path


def run(arguments, folder, **variables):
    environment = {**os.environ, "PYTHONPATH": "", **variables}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_the_installed_module_opens_with_the_library_and_samples_beside_it(session_host, installed):
    program = PROGRAM.format(here=str(HERE), module=str(installed / "SparseCTRecon.py"), pathsep=os.pathsep)
    done = run(["-c", program], installed)
    library, path, samples = done.stdout.splitlines()[-3:] if done.returncode == 0 else pytest.fail(done.stderr)
    assert Path(library).parent == installed / "SparseCTReconLib"
    assert Path(path) == installed
    assert Path(samples) == installed / "Resources" / "SampleData"


def test_the_installed_worker_starts(installed):
    done = run(["-u", "-m", "SparseCTReconLib.jobs.worker"], installed.parent, PYTHONPATH=str(installed))
    assert done.returncode == 2
    assert "usage" in done.stderr
