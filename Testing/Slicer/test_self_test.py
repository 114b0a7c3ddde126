"""The module's own test, which Slicer runs by ctest and by "Reload and Test", run here with real workers."""

import sys
import types
import unittest
from urllib.request import url2pathname

import pytest

NAMES = ["cancel", "compare", "reconstruct", "scanLivesInTheScene", "simulate"]


@pytest.fixture
def own_test(host, slicer, monkeypatch):
    """The class SparseCTReconTest, with a module Sample Data that only knows what this module registers."""
    import SparseCTRecon

    def download(name):
        (uri,) = (source["uris"] for source in registered[-2:] if source["sampleName"] == name)
        return slicer.util.loadVolume(url2pathname(uri.removeprefix("file://")), {"name": name})

    registered = []
    logic = types.SimpleNamespace(registerCustomSampleDataSource=lambda **source: registered.append(source))
    monkeypatch.setitem(sys.modules, "SampleData", types.SimpleNamespace(SampleDataLogic=logic, downloadSample=download))
    return SparseCTRecon.SparseCTReconTest


def outcome(test):
    result = unittest.TestResult()
    test.run(result)
    return result


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_modules_own_test_passes_here_too(own_test, name):
    result = outcome(own_test(f"test_{name}"))
    assert (result.testsRun, result.failures, result.errors, result.skipped) == (1, [], [], [])


def test_ctest_and_reload_and_test_find_every_part_of_it(own_test, monkeypatch):
    assert unittest.defaultTestLoader.getTestCaseNames(own_test) == [f"test_{name}" for name in NAMES]
    ran = []
    for name in NAMES:
        monkeypatch.setattr(own_test, f"test_{name}", lambda self, name=name: ran.append(name))
    own_test().runTest()
    assert ran == NAMES


def test_without_the_workers_packages_it_is_skipped_and_says_which(own_test, monkeypatch):
    from SparseCTReconPanel import dependencies

    monkeypatch.setattr(dependencies, "missing", lambda: ["numba>=0.60"])
    ((_test, reason),) = outcome(own_test("test_reconstruct")).skipped
    assert reason == "Python packages are missing: numba>=0.60"
    assert outcome(own_test("test_scanLivesInTheScene")).wasSuccessful()
