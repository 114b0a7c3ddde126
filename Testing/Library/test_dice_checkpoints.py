"""Training of DiCE in several goes and in several processes: it ends as if it had never stopped, and as alone."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from dice_cases import ADAPT, ADJUST, LEARNER, PRETRAIN, held, training

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.networks.dice import begin
from SparseCTReconLib.training import learning


@pytest.fixture(scope="module")
def scans():
    return [held(radius) for radius in (12.0, 16.0)]


# --- its files -------------------------------------------------------------------------------------------------------------------------


def learnt(made):
    return {**{f"network.{name}": tensor for name, tensor in made.network.state_dict().items()}, **made.average}


@pytest.mark.parametrize("stage", [PRETRAIN, ADJUST])
def test_training_that_goes_on_from_a_checkpoint_ends_as_if_it_had_never_stopped(scans, tmp_path, stage):
    whole = training(scans, stage, falling=True)
    found = [whole.step() for _ in range(3)]
    whole.save_state(tmp_path / "state.pt")
    found += list(whole.losses())
    again = training(scans, stage, network=begin(LEARNER, 5), falling=True)
    again.restore_state(tmp_path / "state.pt")
    assert again.done == 3 and list(again.losses()) == found[3:]
    for (name, one), other in zip(learnt(whole).items(), learnt(again).values()):
        assert torch.equal(one, other), name


def refused(match, path, made):
    before = {name: tensor.clone() for name, tensor in learnt(made).items()}
    with pytest.raises(InputError, match=match) as caught:
        made.restore_state(path)
    assert caught.value.code == "bad-checkpoint" and "\n" not in str(caught.value)
    assert made.done == 0 and all(torch.equal(tensor, before[name]) for name, tensor in learnt(made).items())


class Program:
    def __reduce__(self):
        return pytest.fail, ("it has run",)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", [1], {"done": 1}, {"network": Program()}, "cut", "missing"])
def test_a_damaged_checkpoint_or_one_with_code_is_refused(scans, tmp_path, content):
    path, made = tmp_path / "state.pt", training(scans)
    if content == "cut":
        made.save_state(path)
        content = path.read_bytes()[:1000]
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content != "missing":
        torch.save(content, path)
    refused("cannot be read as a checkpoint .*: delete it", path, made)


@pytest.mark.parametrize(
    "other", [{"steps": 7}, {"seed": 1}, {"stage": ADAPT}, {"batch": 1}, {"network": begin(replace(LEARNER, decoder=8))}]
)
def test_the_checkpoint_of_another_training_is_refused(scans, tmp_path, other):
    training(scans, **other).save_state(tmp_path / "state.pt")
    refused("of another training", tmp_path / "state.pt", training(scans))


def test_a_full_disk_leaves_the_older_checkpoint(scans, tmp_path, monkeypatch):
    made, path = training(scans), tmp_path / "state.pt"
    made.save_state(path)
    kept = path.read_bytes()

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "write_bytes", full)
    made.step()
    with pytest.raises(InputError, match="cannot be written"):
        made.save_state(path)
    monkeypatch.undo()
    assert path.read_bytes() == kept and list(tmp_path.iterdir()) == [path]


# --- on many processes -----------------------------------------------------------------------------------------------------------------


class Fabric:
    """What lightning's Fabric offers of what is used, and who was asked."""

    device = torch.device("cpu")

    def __init__(self, rank=0, size=1):
        self.global_rank, self.world_size, self.asked = rank, size, []

    def all_reduce(self, data, reduce_op):
        return data

    def setup(self, network, optimiser):
        self.asked.append("setup")

        class Wrapped(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = network

            def forward(self, *given):
                return network(*given)

        return Wrapped(), optimiser

    def autocast(self):
        return nullcontext()

    def backward(self, loss):
        self.asked.append("backward")
        loss.backward()

    def clip_gradients(self, module, optimizer, clip_val=None, max_norm=None, norm_type=2.0, error_if_nonfinite=True):
        self.asked.append("clip")
        return torch.nn.utils.clip_grad_norm_(module.parameters(), max_norm, norm_type, error_if_nonfinite)


def test_a_fabric_can_take_over_and_nothing_else_changes(scans):
    alone, fabric = training(scans, steps=2), Fabric()
    wrapped = training(scans, steps=2, fabric=fabric)
    assert list(alone.losses()) == list(wrapped.losses())
    assert fabric.asked == ["setup", "backward", "clip", "backward", "clip"]
    for (name, one), other in zip(learnt(alone).items(), learnt(wrapped).values()):
        assert torch.equal(one, other), name


def test_every_process_has_examples_and_points_of_its_own(scans, monkeypatch):
    shown = {}
    for rank in range(3):
        made, numbers = training(scans, steps=2, fabric=Fabric(rank, 3)), []
        monkeypatch.setattr(
            learning, "stream", lambda examples, asked, workers, kept=numbers: (kept.append(n) or examples[n] for n in asked)
        )
        list(made.losses())
        shown[rank] = numbers
    assert shown == {0: [0, 1, 6, 7], 1: [2, 3, 8, 9], 2: [4, 5, 10, 11]}
