"""What the library knows of the machine and of the files that come with it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from SparseCTReconLib import InputError, machine, resources

ROOT = Path(machine.__file__).parents[1]


def test_peak_memory_holds_what_was_allocated_and_given_back_in_this_process_and_not_in_its_parent():
    program = "import numpy as np; from SparseCTReconLib.machine import peak_memory_bytes as peak; "
    program += "first = peak(); np.ones(25_000_000); print(first, peak())"
    parents = np.ones(40_000_000)
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    first, then = map(int, said.split())
    assert first < parents.nbytes
    assert then - first == pytest.approx(2e8, rel=0.1)


def test_free_memory_and_cores_are_those_of_this_machine():
    assert 1e6 < machine.available_memory_bytes() < 1e14
    assert 1 <= machine.cores() <= os.cpu_count()


def test_the_sample_ct_comes_with_the_library():
    assert resources.find(resources.SAMPLE_CT).stat().st_size > 1e5


def test_a_missing_resource_is_said_with_where_it_was_looked_for():
    with pytest.raises(InputError, match=r"no SampleData/dragon.nrrd .*Resources"):
        resources.find("SampleData/dragon.nrrd")


def test_the_gpus_are_read_from_what_the_driver_says():
    said = "NVIDIA RTX A2000, 12288, 11020\nNVIDIA GB10, [N/A], [N/A]\n\nNVIDIA-SMI has failed because it couldn't communicate\n"
    assert machine.parse_gpus(said) == [
        machine.GPU("NVIDIA RTX A2000", 12288 << 20, 11020 << 20),
        machine.GPU("NVIDIA GB10", None, None),
    ]
    assert machine.parse_gpus("") == []
