"""The command line behind a pipe that nobody reads to the end."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("arguments", [["methods"], ["reconstruct", "--help"]])
def test_a_reader_that_goes_away_is_no_fault_of_the_program(arguments):
    program = subprocess.Popen(
        [sys.executable, "-m", "SparseCTReconLib.cli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    program.stdout.close()
    complaint = program.stderr.read()
    assert program.wait(60) == 1 and complaint == ""
