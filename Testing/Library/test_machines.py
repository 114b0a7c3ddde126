"""Where trainings run: one process or many give the same, precision and workers are chosen, what is missing is said; how fast they are."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from small_dice import SMALL
from small_dice import network as dice_network
from small_xgrm import GRID, network, scan
from torch import nn
from train_cases import configuration, folder_of_cts

from SparseCTReconLib import weight_files
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.networks import dice_weights, xgrm_weights
from SparseCTReconLib.training import learning, logs, machines, throughput
from SparseCTReconLib.training.data import Example
from SparseCTReconLib.training.dice import DiCETraining
from SparseCTReconLib.training.dice import Settings as DiCESettings
from SparseCTReconLib.training.dice_examples import HeldExamples, Stage
from SparseCTReconLib.training.learning import Alone, Learning
from SparseCTReconLib.training.plan import Machine
from SparseCTReconLib.training.xgrm import Settings, XGRMTraining


def example(seed=0, views=4):
    truth = np.random.default_rng(seed).random(GRID.shape).astype(np.float16)
    return Example(scan(views, seed), GRID, truth)


def xgrm_training(steps=4, fabric=None):
    examples = [example(seed) for seed in range(2 * steps)]
    return XGRMTraining(examples, network(), Settings(steps, 1e-3, 2, 8, 0), fabric=fabric)


def dice_training(fabric=None):
    held = HeldExamples([example(seed, 6) for seed in range(2)], Stage("pretrain", (2, 4), 6))
    return DiCETraining(held, dice_network(SMALL), Stage("pretrain", (2, 4), 6), DiCESettings(4, 1e-3, 2, 50), fabric=fabric)


@pytest.fixture
def fabric():
    """Fabric with one process."""
    lightning = pytest.importorskip("lightning_fabric", reason="Lightning's Fabric is not installed: pip install lightning-fabric")
    return lightning.Fabric(accelerator="cpu", devices=1)


@pytest.mark.parametrize("make", [xgrm_training, dice_training])
def test_with_fabric_a_training_gives_what_it_gives_without_and_goes_on_after_a_stop(make, fabric, tmp_path):
    alone, together = make(), make(fabric=fabric)
    assert [alone.step(), alone.step()] == [together.step(), together.step()]
    together.save_state(tmp_path / "state.pt")
    after = [alone.step(), alone.step()]
    assert after == [together.step(), together.step()]
    again = make(fabric=fabric)
    again.restore_state(tmp_path / "state.pt")
    assert [again.step(), again.step()] == after
    for name, tensor in alone.average.items():
        torch.testing.assert_close(again.average[name], tensor, rtol=0, atol=0)


def in_processes(name, cts, folder, processes, *changes):
    """The finished command of a tiny training in so many processes, and its weights' file."""
    pytest.importorskip("lightning_fabric", reason="Lightning's Fabric is not installed: pip install lightning-fabric")
    config, start = configuration(name, folder)
    out = folder / f"{name}-{processes}.safetensors"
    command = [sys.executable, "-m", "SparseCTReconLib.cli", "train", name, cts, "--config", config, "--start", start, "--out", out]
    command += ["--set", f"machine.devices={processes}", "machine.device=cpu", *changes]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, timeout=900), out


@pytest.mark.slow
def test_two_processes_give_what_one_gives_with_twice_the_batch(tmp_path):
    """All of every scan's voxels count and no X-ray, so that nothing is drawn; X-GRM has no batch normalisation."""
    cts, found = folder_of_cts(tmp_path / "cts"), {}
    changes = ("training.box=16", "training.xrays=0", "training.steps=3", "training.rate=0.01")
    for processes, batch in ((1, 2), (2, 1)):
        said, out = in_processes("xgrm", cts, tmp_path, processes, f"training.batch={batch}", *changes)
        assert said.returncode == 0, said.stderr
        assert said.stdout.count("samples/s") == 1 and not out.with_suffix(".training").exists()
        found[processes] = weight_files.read(out, xgrm_weights.FORMAT, "").arrays
    before = weight_files.read(tmp_path / "xgrm-start.safetensors", xgrm_weights.FORMAT, "").arrays
    moved = max(float(np.abs(found[1][name] - before[name]).max()) for name in before)
    assert moved > 5e-3
    for name, array in found[1].items():
        np.testing.assert_allclose(found[2][name].astype(float), array.astype(float), atol=0.02 * moved, rtol=2e-3)


@pytest.mark.slow
def test_two_processes_take_both_steps_of_finetuning(tmp_path):
    said, out = in_processes("finetune", folder_of_cts(tmp_path / "cts"), tmp_path, 2)
    assert said.returncode == 0, said.stderr
    assert dice_weights.load(out)[0].configuration.denoising and said.stdout.count("samples/s") == 2
    assert said.stderr.count("broken.nrrd cannot be read") <= 3


@pytest.mark.slow
def test_a_fault_that_the_first_process_alone_finds_ends_all_of_them_with_its_sentence(tmp_path):
    (tmp_path / "xgrm-2.training").mkdir()
    (tmp_path / "xgrm-2.training" / "holiday.jpg").write_text("a beach")
    said, _ = in_processes("xgrm", folder_of_cts(tmp_path / "cts"), tmp_path, 2)
    assert said.returncode == 2 and "holds something else" in said.stderr and "Traceback" not in said.stderr


@pytest.mark.slow
def test_many_processes_with_nothing_to_learn_from_end_with_the_sentence_and_do_not_wait_for_each_other(tmp_path):
    (tmp_path / "empty").mkdir()
    said, _ = in_processes("xgrm", tmp_path / "empty", tmp_path, 2)
    assert said.returncode == 2 and "error: not one CT to train on" in said.stderr


def test_without_lightning_many_processes_are_refused_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    monkeypatch.setitem(sys.modules, "lightning", None)
    with pytest.raises(InputError, match="pip install lightning-fabric, or take one device") as caught:
        machines.begin(Machine(device="cpu", devices=2))
    assert caught.value.code == "missing-library"
    assert isinstance(machines.begin(Machine(device="cpu")), Alone)


def test_processes_wait_for_the_first_one_as_long_as_it_may_take_to_make_many_cts_alike(monkeypatch):
    """Lightning's own half an hour would end a training on a large folder before its first step."""
    fabric = pytest.importorskip("lightning_fabric", reason="Lightning's Fabric is not installed: pip install lightning-fabric")
    asked = []

    class Begun:
        def __init__(self, **what):
            asked.append(what)

        def launch(self):
            asked.append("launched")

    monkeypatch.setattr(fabric, "Fabric", Begun)
    machines.begin(Machine(device="cpu", devices=2, nodes=3, precision="bf16"))
    what, launched = asked
    assert isinstance(what["strategy"], fabric.strategies.DDPStrategy) and what["strategy"]._timeout.total_seconds() >= 24 * 3600
    assert (what["accelerator"], what["devices"], what["num_nodes"], what["precision"]) == ("cpu", 2, 3, "bf16-mixed") and launched


@pytest.mark.parametrize(
    "there, precision, half", [(True, "auto", True), (True, "32", False), (False, "auto", False), (False, "bf16", True)]
)
def test_precision_follows_from_the_device_if_not_said(there, precision, half, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    made = machines.begin(Machine(precision=precision))
    assert made.device.type == ("cuda" if there else "cpu") and made.half is half


def test_more_gpus_than_there_are_and_none_at_all_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="torch finds no CUDA device: take auto or cpu"):
        machines.begin(Machine(device="cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="machine.devices=4: there are 1 GPUs"):
        machines.begin(Machine(devices=4))


def test_examples_are_made_by_all_cores_that_feed_a_gpu_and_by_none_beside_a_cpu(monkeypatch):
    monkeypatch.setattr(machines.machine, "cores", lambda: 16)
    assert machines.workers(Machine(device="cpu")) == 0 and machines.workers(Machine(device="cpu", workers=3)) == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert machines.workers(Machine(devices=4)) == 3 and machines.workers(Machine()) == machines.MOST_WORKERS


def test_what_the_first_process_fails_in_fails_in_all_and_what_it_makes_it_has_alone():
    class Told(Alone):
        def __init__(self, rank, said=None):
            super().__init__()
            self.global_rank, self.said, self.heard = rank, said, []

        def broadcast(self, said):
            self.heard.append(said)
            return said if self.global_rank == 0 else self.said

    def failing():
        raise InputError("the folder is another's", "bad-output")

    first, second = Told(0), Told(1, "the folder is another's")
    with pytest.raises(InputError, match="the folder is another's") as caught:
        machines.by_the_first(first, failing)
    assert caught.value.code == "bad-output" and first.heard == ["the folder is another's"]
    with pytest.raises(InputError, match="the folder is another's"):
        machines.by_the_first(second, failing)
    with pytest.raises(ZeroDivisionError):
        machines.by_the_first(first, lambda: 1 / 0)
    assert machines.by_the_first(first, lambda: 5) == 5 and machines.by_the_first(Told(1), failing) is None


def test_where_one_process_finds_no_number_all_of_them_stop():
    class Two(Alone):
        global_rank, world_size = 0, 2

        def all_reduce(self, data, reduce_op):
            assert reduce_op == "sum"
            return data + 1

    learner = xgrm_training(fabric=Two())
    learner.examples = learner.examples * 4
    with pytest.raises(InputError, match="the loss is no number at step 0"):
        learner.step()


# --- how fast --------------------------------------------------------------------------------------------------------------------------


class Plain(Learning):
    """Two matrices, of which the operations are known."""

    class settings:
        steps, rate, batch = 9, 1e-3, 3

    def __init__(self, examples=None):
        self.layers = nn.Sequential(nn.Linear(20, 30, bias=False), nn.Linear(30, 10, bias=False))
        fabric, rate = Alone(), self.settings.rate
        super().__init__(examples or [torch.rand(7, 20)] * 27, self.layers, torch.optim.AdamW(self.layers.parameters(), rate),
                         self.settings, 0, 0, fabric)  # fmt: skip

    def gradients(self, examples, rng):
        loss = sum(self.model(each).square().mean() for each in examples)
        self.fabric.backward(loss)
        return {"loss": float(loss.detach())}


def test_operations_of_a_step_are_counted_and_the_training_does_not_notice():
    """Forwards 2 n a b for each matrix; backwards as many for its weights, and again for its input but for the first one's."""
    learner = Plain()
    before = [parameter.clone() for parameter in learner.layers.parameters()]
    forwards = [2 * 7 * 20 * 30, 2 * 7 * 30 * 10]
    assert throughput.operations(learner) == 3 * (2 * forwards[0] + 3 * forwards[1])
    assert all(torch.equal(one, other) for one, other in zip(before, learner.layers.parameters()))
    assert learner.done == 0 and learner.waiting is None and all(parameter.grad is None for parameter in learner.layers.parameters())


def test_speed_is_examples_operations_and_waiting_over_time(monkeypatch):
    clock = iter([100.0, 110.0])
    monkeypatch.setattr(throughput, "matmul_rate", lambda device, half: 1e6)
    monkeypatch.setattr(throughput, "operations", lambda learner: 250_000)
    learner = Plain()
    learner.done, learner.waited_s = 2, 5.0
    monkeypatch.setattr(throughput.time, "monotonic", lambda: next(clock))
    meter = throughput.Meter(learner)
    learner.done, learner.waited_s = 6, 7.0
    speed = meter.speed()
    assert speed == (4 * 3 / 10, 4 * 250_000 / 10 / 1e6, 2 / 10)
    assert str(speed) == "1.2 samples/s, 10% of what products of matrices reach on this machine, 20% of the time waiting for examples"


def test_time_spent_waiting_for_examples_is_what_making_them_takes(monkeypatch):
    now = [0.0]

    class Slow:
        def __getitem__(self, number):
            now[0] += 0.5
            return torch.rand(7, 20)

    monkeypatch.setattr(learning.time, "monotonic", lambda: now[0])
    learner = Plain(Slow())
    learner.step()
    assert learner.waited_s == 1.5


def test_the_rate_of_products_is_a_rate():
    assert 1e7 < throughput.matmul_rate(torch.device("cpu"), False) < 1e15


# --- logs ------------------------------------------------------------------------------------------------------------------------------


def test_figures_are_written_for_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed: pip install tensorboardX")
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c  # noqa: F401

    written = logs.Logs(tmp_path, 0)
    written.add({"squares": 0.25, "rate": 1e-3}, 7)
    written.close()
    (file,) = tmp_path.iterdir()
    data, found = file.read_bytes(), {}
    while data:  # TFRecord: length, checksum, event, checksum
        length = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + length])
        found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
        data = data[16 + length :]
    assert found == {("squares", 7): 0.25, ("rate", 7): pytest.approx(1e-3)}


def test_without_a_library_for_it_logs_are_refused_with_what_to_install(tmp_path, monkeypatch):
    for name in ("torch.utils.tensorboard", "tensorboardX"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match="pip install tensorboardX"):
        logs.Logs(tmp_path)
    logs.Silent().add({"loss": 1.0}, 1)
    assert json.dumps(list(map(str, tmp_path.iterdir()))) == "[]"
