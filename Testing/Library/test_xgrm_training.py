"""Training of X-GRM: what is lowered, that it gets lower, and how training goes on after a stop or ends badly."""

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from phantoms import HEAD, Phantom
from small_xgrm import network, raw, scan
from torch.nn import functional

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.networks import xgrm, xgrm_weights
from SparseCTReconLib.networks.xgrm import GAUSSIANS, VOXELS
from SparseCTReconLib.operators import projector
from SparseCTReconLib.training import learning
from SparseCTReconLib.training.data import Example
from SparseCTReconLib.training.losses import seen_squares
from SparseCTReconLib.training.places import in_body
from SparseCTReconLib.training.steps import PATIENCE
from SparseCTReconLib.training.xgrm import Losses, Settings, XGRMTraining, around, part_of

GRID = Grid.centred((12, 11, 10), (2.2, 2.4, 2.6))


class Played:
    """Examples of two phantoms, the second one larger, without noise."""

    def __init__(self):
        truths = [Phantom(radius, HEAD[:3]).volume(GRID) / 0.02 for radius in (12.0, 9.0)]
        self.made = [Example(scan(4, seed), GRID, truth.astype(np.float16)) for seed, truth in enumerate(truths)]
        self.asked = []

    def __getitem__(self, index):
        self.asked.append(index)
        return self.made[index % 2]


@pytest.fixture(scope="module")
def played():
    return Played()


def training(of, steps=6, head=GAUSSIANS, seed=0, made=None, **changes):
    values = {"rate": 2e-3, "batch": 2, "box": 8, "xrays": 2}
    return XGRMTraining(of, made or network(head), Settings(steps, **(values | changes)), seed)


# --- what is lowered -------------------------------------------------------------------------------------------------------------------


def test_a_box_lies_where_its_voxels_lie_in_the_whole():
    part = part_of(GRID, [3, 1, 5], [4, 6, 2])
    assert part.size == (2, 6, 4) and part.spacing_mm == GRID.spacing_mm
    np.testing.assert_allclose(part.index_to_world @ [1, 2, 3, 1], GRID.index_to_world @ [6, 3, 6, 1])
    turned = Grid((5, 6, 7), (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]]))
    inside = part_of(turned, [1, 2, 3], [2, 2, 2])
    np.testing.assert_allclose(inside.index_to_world @ [1, 1, 1, 1], turned.index_to_world @ [4, 3, 2, 1])


def test_xrays_of_a_box_show_all_of_it_and_nothing_else():
    part = part_of(GRID, [3, 1, 5], [6, 6, 6])
    geometry = around(part, scan().geometry, 3, np.random.default_rng(0))
    _, u, v = geometry.shadows(part.corners_mm())
    (nv, nu), (dv, du) = geometry.detector_shape, geometry.pixel_mm
    assert geometry.views == 3 and (np.abs(u) < nu * du / 2).all() and (np.abs(v) < nv * dv / 2).all()
    assert np.abs(u).max() > 0.3 * nu * du / 2
    assert np.ptp(geometry.gantry_angles_rad) > 0.3


@pytest.mark.parametrize("head", [GAUSSIANS, VOXELS])
def test_a_network_that_knows_the_truth_has_nothing_left_to_lower(played, head, monkeypatch):
    """The decoded numbers are replaced by the truth's: only what Gaussians cannot show of sharp edges is left."""
    from SparseCTReconLib.gaussians.cloud import inverse_softplus

    learner, example = training(played, head=head, box=99), played.made[0]
    truth = torch.from_numpy(example.truth.astype(np.float32)).flatten()
    known = torch.zeros(truth.numel(), xgrm.HEADS[head])
    known[:, 0] = inverse_softplus(truth.clamp(min=1e-6))
    learner.model = lambda *_: known
    right = learner.losses_of(example, np.random.default_rng(0))
    known = known.clone()
    known[:, 0] = inverse_softplus(1.3 * truth.clamp(min=1e-6))
    wrong = learner.losses_of(example, np.random.default_rng(0))
    assert right.squares < 1e-6 and wrong.squares > 1e-3
    assert right.photometric < 0.25 * wrong.photometric and right.structure < 0.5 * wrong.structure
    if head == VOXELS:
        assert right.photometric < 1e-5 and right.structure < 1e-4


def test_losses_are_means_over_the_box_and_its_xrays(played):
    learner, example = training(played, head=VOXELS, box=99, xrays=2), played.made[1]
    found = learner.losses_of(example, np.random.default_rng(4))
    truth = torch.from_numpy(example.truth.astype(np.float32))
    volume = functional.softplus(raw(learner.network, example.scan, GRID)[:, 0]).view(GRID.shape)
    assert float(found.squares.detach()) == pytest.approx(float((volume - truth).square().mean()), rel=1e-4)
    rng = np.random.default_rng(4)
    rng.integers(1, size=3)
    geometry = around(part_of(GRID, [0, 0, 0], list(GRID.shape)), example.scan.geometry, 2, rng)
    lengths = projector(geometry, GRID)(volume - truth) / max(GRID.extent_mm)
    assert float(found.photometric.detach()) == pytest.approx(float(lengths.abs().mean()), rel=1e-3)
    assert 0 < found.structure < 2


def test_errors_that_no_window_shows_count_a_fifth():
    truth = torch.tensor([0.0, 1.0, 3.0, 3.0])
    made = torch.tensor([0.5, 1.0, 4.0, 1.0])
    assert float(seen_squares(made, truth)) == pytest.approx((0.25 + 0 + 0.2 * 1 + 4) / 4)


def test_what_is_lowered_is_their_weighted_sum(played):
    learner = training(played, photometric=0.5, structure=0.25)
    assert float(learner.total(Losses(*torch.tensor([1.0, 10.0, 100.0])))) == pytest.approx(1 + 5 + 25)
    without = training(played, xrays=0).losses_of(played.made[0], np.random.default_rng(0))
    assert without.squares > 0 and without.photometric == without.structure == 0


def test_boxes_come_from_everywhere_and_rather_from_where_the_body_is():
    rng, truth = np.random.default_rng(0), np.zeros((12, 12, 12))
    truth[:5, :5, :5] = 1
    places = [in_body(truth, (4, 4, 4), rng) for _ in range(300)]
    assert {along.start for at in places for along in at} == set(range(9))
    assert all(along.stop - along.start == 4 for at in places for along in at)
    at_random = np.mean([(truth[z : z + 4, y : y + 4, x : x + 4] > 0).mean() > 0.08 for z, y, x in np.ndindex(9, 9, 9)])
    assert np.mean([(truth[at] > 0).mean() > 0.08 for at in places]) > 1.5 * at_random


# --- what it learns --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [GAUSSIANS, VOXELS])
def test_a_tiny_network_learns_two_scans_by_heart(played, head):
    learner = training(played, 60, head, made=xgrm.begin(network(head).size), rate=1e-2, box=10)
    found = list(learner.losses())
    first, last = ({name: np.mean([each[name] for each in some]) for name in found[0]} for some in (found[:5], found[-5:]))
    assert last["squares"] < 0.5 * first["squares"] and last["photometric"] < 0.6 * first["photometric"]
    assert last["structure"] < first["structure"]


@pytest.mark.parametrize("head", [GAUSSIANS, VOXELS])
def test_gradients_of_what_is_lowered_reach_everything_that_learns(played, head):
    learner = training(played, head=head)
    learner.step()
    still = [name for name, weight in learner.network.named_parameters() if not weight.grad.abs().max() > 0]
    assert still == []


def test_examples_are_asked_for_in_order_and_each_once():
    of = Played()
    list(training(of, 3, box=4, xrays=0).losses())
    assert of.asked == list(range(6))


def test_processes_of_one_training_have_examples_and_boxes_of_their_own(played):
    class Second(learning.Alone):
        global_rank, world_size = 1, 3

    of = Played()
    list(XGRMTraining(of, network(), Settings(2, batch=2, box=4, xrays=0), fabric=Second()).losses())
    assert of.asked == [2, 3, 8, 9]


def test_the_rate_rises_and_falls_to_nothing(played):
    learner, rates = training(played, 100, rate=1.0), []
    for learner.done in range(100):
        rates.append(learner.rate())
    assert rates[:2] == pytest.approx([0.2, 0.4], rel=0.01) and rates[99] < 1e-3
    assert max(rates) == pytest.approx(1, rel=0.01) and np.argmax(rates) == 4


def test_only_matrices_decay(played):
    learner = training(played)
    decaying, others = learner.optimiser.param_groups
    assert decaying["weight_decay"] > 0 and all(each.dim() > 1 for each in decaying["params"])
    assert others["weight_decay"] == 0 and all(each.dim() < 2 for each in others["params"])


def test_the_average_follows_the_weights(played):
    learner, seen = training(played, 12, box=4, xrays=0), []
    for _ in learner.losses():
        seen.append(learner.network.last.bias.detach().clone())
        average = learner.average["last.bias"]
        assert (average >= torch.stack(seen).amin(dim=0) - 1e-6).all() and (average <= torch.stack(seen).amax(dim=0) + 1e-6).all()
    assert not torch.equal(average, seen[-1])


# --- its files -------------------------------------------------------------------------------------------------------------------------


def learnt(learner):
    return {**{f"network.{name}": tensor for name, tensor in learner.network.state_dict().items()}, **learner.average}


def same(one, other):
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_what_is_written_is_the_average_and_how_it_came_about(played, tmp_path):
    learner = training(played, 3, xrays=0)
    list(learner.losses())
    learner.save(tmp_path / "w.safetensors", {"anatomy": "limb"})
    found, file = xgrm_weights.load(tmp_path / "w.safetensors")
    assert file.card["anatomy"] == "limb" and file.card["trained"]["steps"] == 3 and file.card["trained"]["settings"]["box"] == 8
    for name, tensor in found.state_dict().items():
        torch.testing.assert_close(tensor, learner.average[name].half().float())


def test_training_that_goes_on_from_a_checkpoint_ends_as_if_it_had_never_stopped(tmp_path):
    whole = training(Played(), 6)
    found = [whole.step() for _ in range(3)]
    whole.save_state(tmp_path / "state.pt")
    found += list(whole.losses())
    of = Played()
    again = training(of, 6, made=network(seed=7))
    again.restore_state(tmp_path / "state.pt")
    assert again.done == 3 and list(again.losses()) == found[3:] and of.asked == list(range(6, 12))
    assert same(learnt(whole), learnt(again))


def test_a_checkpoint_can_be_taken_up_in_the_middle_of_another_run(played, tmp_path):
    learner = training(played, 6, xrays=0)
    learner.step()
    learner.save_state(tmp_path / "state.pt")
    after = learner.step()
    learner.restore_state(tmp_path / "state.pt")
    assert learner.step() == after


@pytest.fixture
def state(played, tmp_path):
    """A checkpoint after one of four steps."""
    learner = training(played, 4, xrays=0)
    learner.step()
    learner.save_state(tmp_path / "state.pt")
    return tmp_path / "state.pt"


def refused(match, path, learner):
    """The checkpoint is refused in one line, and nothing of the training has changed."""
    before = {name: tensor.detach().clone() for name, tensor in learnt(learner).items()}
    with pytest.raises(InputError, match=match) as caught:
        learner.restore_state(path)
    assert caught.value.code == "bad-checkpoint" and "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert learner.done == 0 and same(learnt(learner), before)


@pytest.mark.parametrize("how", ["cut off", "text", "empty", "missing", "a list", "without its optimiser", "a program"])
def test_a_damaged_checkpoint_is_refused(state, played, how):
    class Program:
        def __reduce__(self):
            return pytest.fail, ("it has run",)

    whole = state.read_bytes()
    held = torch.load(state, weights_only=True)
    contents = {"cut off": whole[: len(whole) // 2], "text": b"no checkpoint", "empty": b""}
    objects = {"a list": [1, 2], "without its optimiser": {name: held[name] for name in held if name != "optimiser"}}
    objects["a program"] = {**held, "network": Program()}
    state.unlink()
    if how in contents:
        state.write_bytes(contents[how])
    elif how in objects:
        torch.save(objects[how], state)
    refused("cannot be read as a checkpoint .*: delete it", state, training(played, 4, xrays=0))


@pytest.mark.parametrize("steps, seed, changes", [(5, 0, {}), (4, 1, {}), (4, 0, {"width": 8}), (4, 0, {"octaves": 2})])
def test_the_checkpoint_of_another_training_is_refused(state, played, steps, seed, changes):
    other = training(played, steps, seed=seed, made=network(**changes), xrays=0)
    refused("of another training: delete it, or give the same options", state, other)


def test_where_the_disk_is_full_the_old_checkpoint_stays(state, played, monkeypatch):
    learner = training(played, 4, xrays=0)
    learner.restore_state(state)
    learner.step()
    before = state.read_bytes()

    def full(self, data):
        with open(self, "wb") as file:
            file.write(bytes(data)[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space left on device.*make room") as caught:
        learner.save_state(state)
    assert caught.value.code == "unwritable" and state.read_bytes() == before
    assert [file.name for file in state.parent.iterdir()] == ["state.pt"]


# --- how it ends badly -----------------------------------------------------------------------------------------------------------------


def spoilt(of, value):
    """Examples of which the second scan's truth is no number."""
    made = Played()
    truth = made.made[1].truth.copy()
    truth[:] = value
    made.made[1] = replace(made.made[1], truth=truth)
    return made


def test_a_loss_that_is_no_number_ends_training_with_the_last_good_state_kept(state, played):
    learner = training(spoilt(played, np.nan), 4, xrays=0)
    learner.restore_state(state)
    before, written = {name: tensor.clone() for name, tensor in learnt(learner).items()}, state.read_bytes()
    with pytest.raises(InputError, match="the loss is no number at step 1: go on from the last checkpoint") as caught:
        learner.step()
    assert caught.value.code == "diverged" and same(learnt(learner), before)
    with pytest.raises(InputError, match="is left as it is"):
        learner.save_state(state)
    assert state.read_bytes() == written
    learner.restore_state(state)
    learner.save_state(state)


def test_a_gradient_that_is_no_number_now_and_then_changes_nothing_and_three_in_a_row_end_it(played, monkeypatch):
    learner = training(played, 9, xrays=0)
    norms = iter([0.5, np.nan, np.inf, 0.5, *[np.nan] * PATIENCE])
    monkeypatch.setattr(learner.fabric, "clip_gradients", lambda *_, **__: torch.tensor(next(norms)))
    states = []
    for _ in range(4 + PATIENCE - 1):
        learner.step()
        states.append({name: tensor.clone() for name, tensor in learnt(learner).items()})
    assert same(states[0], states[1]) and same(states[1], states[2]) and not same(states[2], states[3])
    with pytest.raises(InputError, match="gradient, 3 steps long, is no number at step 7"):
        learner.step()
    assert same(learnt(learner), states[3])


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch": 0}, {"box": 0}, {"rate": 0.0}, {"xrays": -1}, {"structure": -0.1}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(InputError, match="must be positive, and nothing negative"):
        Settings(**({"steps": 3} | wrong))


class Half(learning.Alone):
    """What a GPU does, on a CPU."""

    def autocast(self):
        return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("head", [GAUSSIANS, VOXELS])
def test_in_half_precision_and_sparing_memory_losses_and_gradients_are_about_the_same(played, head):
    found = []
    for fabric in (None, Half()):
        learner = XGRMTraining(played, network(head), Settings(6, batch=2, box=8), fabric=fabric)
        learner.network.spare_memory(fabric is not None)
        found.append([*learner.step().values(), *(float(weight.grad.norm()) for weight in learner.network.parameters())])
    np.testing.assert_allclose(found[1][:3], found[0][:3], rtol=0.05)
    assert np.corrcoef(np.log(found))[0, 1] > 0.99


@pytest.mark.gpu
@pytest.mark.parametrize("head", [GAUSSIANS, VOXELS])
def test_on_a_gpu_in_half_precision_it_learns_as_well(played, head):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    learner = XGRMTraining(played, xgrm.begin(network(head).size), Settings(60, 1e-2, 2, 10), device="cuda")
    found = [each["squares"] for each in learner.losses()]
    assert learner.network.fusion.sparing and np.mean(found[-5:]) < 0.5 * np.mean(found[:5])
