"""What goes into and stays in a job's folder: specification, events, checkpoints, results that appear whole."""

import errno
import json
import math

import numpy as np
import pytest

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.jobs import checkpoint
from SparseCTReconLib.jobs.checkpoint import Checkpoint
from SparseCTReconLib.jobs.events import EventStream, EventWriter, encode
from SparseCTReconLib.jobs.failures import explain
from SparseCTReconLib.jobs.files import written_beside
from SparseCTReconLib.jobs.spec import ReconstructJob, SimulateJob, parse_spec, read_spec, write_spec

IDENTITY = {"method": "naf", "scan": "abc", "grid": {"size": [4, 4, 4]}, "options": {"steps": 10}}


@pytest.mark.parametrize(
    "job",
    [
        ReconstructJob(scan="scan", output="käse volume.nrrd", method="fdk", options={"window": "hann"}, budget_s=3),
        SimulateJob(ct="ct.nrrd", output="scan", views=7, photons=None, offset_mm=(-148, 0)),
    ],
)
def test_a_job_file_comes_back_as_it_was_written_with_paths_from_its_folder(tmp_path, job):
    again = read_spec(write_spec(job, tmp_path / "a job"))
    assert again.output == str(tmp_path / "a job" / job.output)
    paths = {"output", "scan", "ct"}
    assert again.model_dump(exclude=paths) == job.model_dump(exclude=paths)


@pytest.mark.parametrize(
    "values, sentence",
    [
        ({"task": "paint"}, "task 'paint'"),
        ([1, 2], "task None"),
        ({"task": "reconstruct", "output": "x.nrrd"}, "scan: field required"),
        ({"task": "reconstruct", "scan": "s", "output": "x.nrrd", "budget": 3}, "did you mean 'budget_s'"),
        ({"task": "reconstruct", "scan": "s", "output": "x.nrrd", "budget_s": -1}, "budget_s=-1"),
        ({"task": "simulate", "ct": "c", "output": "s", "views": 0}, "views=0"),
        ({"task": "simulate", "ct": "c", "output": "s", "scatter_fraction": 1.5}, "scatter_fraction=1.5"),
    ],
)
def test_a_wrong_job_is_refused_with_what_is_wrong(values, sentence):
    with pytest.raises(InputError) as refused:
        parse_spec(values)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_job_file_that_is_missing_or_no_json_is_the_users_fault(tmp_path):
    with pytest.raises(InputError, match="cannot read the job"):
        read_spec(tmp_path / "job.json")
    (tmp_path / "job.json").write_text('{"task": "recon')
    with pytest.raises(InputError, match="not a job file"):
        read_spec(tmp_path / "job.json")


def test_events_are_ascii_and_strict_json_whatever_they_carry():
    line = encode("metric", step=np.int64(3), values={"loss": np.float32(math.nan), "größe": math.inf}, path=None)
    assert line.isascii() and line.count(b"\n") == 1
    assert json.loads(line) == {"event": "metric", "step": 3, "values": {"loss": None, "größe": None}, "path": None}


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_events_survive_any_cut_of_the_stream(size):
    data = encode("stage", name="später") + b"\xff\xfe not an event\n\n" + encode("done", path="a b.nrrd")
    stream = EventStream()
    events = [event for i in range(0, len(data), size) for event in stream.feed(data[i : i + size])]
    assert [event["event"] for event in events] == ["stage", "log", "done"]
    assert events[0]["name"] == "später"


def test_a_truncated_last_line_is_dropped_and_a_whole_one_taken():
    line = encode("stage", name="end").rstrip()
    cut, whole = EventStream(), EventStream()
    assert cut.feed(line[:-3]) == whole.feed(line) == []
    assert cut.close() == []
    assert [event["event"] for event in whole.close()] == ["stage"]


def test_a_writer_whose_reader_has_gone_says_so_instead_of_raising():
    class Broken:
        def write(self, data):
            raise BrokenPipeError

    say = EventWriter(Broken())
    say("heartbeat")
    assert say.lost


def test_a_result_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "volume.nrrd"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="full"), written_beside(path) as beside:
        beside.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "disk full")
    assert path.read_bytes() == b"old"
    with written_beside(path) as beside:
        beside.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    assert [item.name for item in tmp_path.iterdir()] == ["volume.nrrd"]


def test_a_checkpoint_comes_back_with_arrays_of_every_shape(tmp_path):
    arrays = {"table": np.arange(6, dtype=np.float32).reshape(2, 3).T, "step": np.array(7), "rng": np.arange(3, dtype=np.uint8)}
    checkpoint.save(tmp_path, Checkpoint(arrays, 7, 1.5), IDENTITY)
    found = checkpoint.load(tmp_path, IDENTITY)
    assert (found.step, found.seconds) == (7, 1.5)
    for name, array in arrays.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)


def test_a_newer_checkpoint_replaces_the_older_and_leaves_nothing_else(tmp_path):
    for step in (1, 2):
        checkpoint.save(tmp_path, Checkpoint({"x": np.full(2, step)}, step, step), IDENTITY)
    assert checkpoint.load(tmp_path, IDENTITY).step == 2
    assert len(list(tmp_path.iterdir())) == 2
    checkpoint.remove(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_the_earlier_checkpoint_valid(tmp_path):
    checkpoint.save(tmp_path, Checkpoint({"x": np.ones(2)}, 1, 1), IDENTITY)
    with pytest.raises(Exception, match="object"):
        checkpoint.save(tmp_path, Checkpoint({"x": np.array([object()])}, 2, 2), IDENTITY)
    assert checkpoint.load(tmp_path, IDENTITY).step == 1
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("key", IDENTITY)
def test_a_checkpoint_of_another_job_is_refused_and_the_difference_named(tmp_path, key):
    checkpoint.save(tmp_path, Checkpoint({"x": np.ones(2)}, 1, 1), IDENTITY)
    with pytest.raises(InputError, match=f"its {key} was"):
        checkpoint.load(tmp_path, {**IDENTITY, key: "other"})


def test_a_damaged_checkpoint_is_the_users_fault_with_the_way_out(tmp_path):
    checkpoint.save(tmp_path, Checkpoint({"x": np.ones(200)}, 1, 1), IDENTITY)
    next(tmp_path.glob("*.safetensors")).write_bytes(b"cut")
    with pytest.raises(InputError, match="start without --resume"):
        checkpoint.load(tmp_path, IDENTITY)


@pytest.mark.parametrize(
    "error, code, next_step",
    [
        (MemoryError(), "out-of-memory", "coarser grid"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), "out-of-memory", "coarser grid"),
        (OSError(errno.ENOSPC, "No space left on device", "/data/x.nrrd"), "disk-full", "Make room"),
        (PermissionError(errno.EACCES, "denied", "/data"), "not-permitted", "another place"),
        (ModuleNotFoundError("No module named 'itk'", name="itk.rtk"), "missing-package", "pip install itk-rtk"),
        (RuntimeError("CUDA error: no kernel image is available for execution"), "cuda-build", "--device cpu"),
        (KeyError("x"), "internal", "report it"),
    ],
)
def test_every_failure_has_one_sentence_and_a_next_step(error, code, next_step):
    failure = explain(error)
    assert failure.code == code
    assert next_step in failure.next_step
    assert failure.message and "\n" not in failure.message
