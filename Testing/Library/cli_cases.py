"""Runs the command line in this process, as a person would."""

from SparseCTReconLib.cli import main

ISOCENTRE = (10.0, -20.0, 300.0)
"""LPS of the scan and of the CT that conftest.py makes."""


def run(*arguments):
    return main([str(argument) for argument in arguments])


def refused(capsys, *arguments):
    """The one sentence with which the command refuses `arguments`."""
    assert run(*arguments) == 2
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and said.err.rstrip().endswith(lines[0]), said.err
    assert "Traceback" not in said.err + said.out
    return lines[0]
