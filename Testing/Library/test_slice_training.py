"""Training of a SliceFixer: what it is shown, what it learns, and how it goes on after a stop."""

import itertools

import numpy as np
import pytest
import tiny_sd_turbo
import torch
from small_fixers import network

from SparseCTReconLib import weight_files
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.networks import compact_fixer, sd_turbo, slice_fixer
from SparseCTReconLib.networks.compact_fixer import REACH
from SparseCTReconLib.training import slice_fixer as training_file
from SparseCTReconLib.training.losses import error_left
from SparseCTReconLib.training.slice_fixer import UNTOLD, CompactLearner, SDTurboLearner, SliceTraining
from SparseCTReconLib.training.slice_pairs import StackPair


def pair_of(truth, *stacks, organ="limb", xrays=None):
    """A pair of arrays [z, y, x]; without stacks nothing is wrong with the truth."""
    xrays = np.random.default_rng(9).random((2, *truth.shape[::2])) if xrays is None else xrays
    halves = [np.asarray(array, np.float16) for array in (*(stacks or [truth]), truth, xrays)]
    return StackPair(tuple(halves[:-2]), *halves[-2:], organ)


def blocks(shape, seed=0):
    """Cubes of air and of water."""
    return np.random.default_rng(seed).integers(0, 2, [n // 4 for n in shape]).repeat(4, 0).repeat(4, 1).repeat(4, 2).astype(float)


def wrong_pairs(shape=(8, 16, 16)):
    """Truths, and what a pattern that is always the same makes of them: brighter on the left of each voxel pair, and overall."""
    pattern = np.broadcast_to(np.tile([0.3, 0.1], shape[2] // 2), shape)
    return [pair_of(truth, truth + pattern, truth + 0.5 * pattern) for truth in (blocks(shape, seed) for seed in range(3))]


def learner(made=None, rate=5e-3, batch=4):
    """The compact make with a small network that is the identity."""
    made = CompactLearner(made or network(changed=False))
    made.rate, made.batch = rate, batch
    return made


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """The rate is whole from the first step, and X-rays are small."""
    monkeypatch.setattr(training_file, "WARM_UP", 1)
    monkeypatch.setattr(compact_fixer, "XRAY", 8)


# --- what it is shown ------------------------------------------------------------------------------------------------------------------


def draws(pair, count, **options):
    """Batches of a training with one pair, the n-th as the n-th step draws it."""
    training = SliceTraining([pair], learner(**options), count)
    for training.done in range(count):
        yield training.draw()


def test_slices_come_with_their_neighbours_and_at_the_ends_with_themselves():
    nz = 9
    pair = pair_of(np.broadcast_to(np.arange(nz)[:, None, None] + 1.0, (nz, 16, 16)))
    seen = set()
    for batch in draws(pair, 20):
        for slab, truth, position in zip(batch.slabs, batch.truth, batch.position):
            z = round(float(position) * nz - 0.5)
            seen.add(z)
            wanted = np.clip(np.arange(z - REACH, z + REACH + 1), 0, nz - 1) + 1
            np.testing.assert_array_equal(slab, np.broadcast_to(wanted[:, None, None], slab.shape))
            assert float(position) == pytest.approx((z + 0.5) / nz) and (truth == z + 1).all()
    assert seen == set(range(nz))


def test_slab_and_truth_are_mirrored_and_turned_alike_in_all_eight_ways():
    sheet = 1 + np.arange(256.0).reshape(16, 16)
    ways = {np.rot90(mirrored, turns).tobytes() for mirrored in (sheet, sheet[:, ::-1]) for turns in range(4)}
    found = set()
    for batch in draws(pair_of(np.broadcast_to(sheet, (3, 16, 16))), 15):
        np.testing.assert_array_equal(batch.slabs, batch.truth[:, None].expand_as(batch.slabs))
        found |= {truth.double().numpy().tobytes() for truth in batch.truth}
    assert found == ways


def test_pieces_are_as_large_as_the_network_takes_and_come_from_everywhere():
    row = np.broadcast_to(np.arange(40.0) + 1, (3, 25, 40))
    training = SliceTraining([pair_of(row), pair_of(np.ones((3, 100, 90)))], learner(), 1)
    assert training.crop == 16
    values = np.concatenate([batch.truth.numpy().ravel() for batch in draws(pair_of(row), 30)])
    assert set(np.unique(values)) == set(np.arange(40.0) + 1)
    assert SliceTraining([pair_of(np.ones((3, 100, 90)))], learner(), 1).crop == 64
    assert SliceTraining([pair_of(np.ones((3, 40, 90)))], learner(), 1).crop == 32


def test_every_stack_of_every_pair_is_shown():
    pairs = [pair_of(np.ones((4, 16, 16)), *(np.full((4, 16, 16), value) for value in values)) for values in ((2, 3), (4, 5))]
    training, shown = SliceTraining(pairs, learner(), 20), set()
    for training.done in range(20):
        shown |= set(training.draw().slabs.unique().tolist())
    assert shown == {2, 3, 4, 5}


def test_air_is_shown_less_than_body():
    truth = np.zeros((4, 64, 64))
    truth[:, :20, :20] = 1
    training = SliceTraining([pair_of(truth)], learner(), 60)
    training.crop, body = 16, []
    for training.done in range(60):
        body += [float(sheet.mean()) > 0.08 for sheet in training.draw().truth]
    at_random = 0.1
    assert 2.5 * at_random < np.mean(body) < 1


def test_of_some_of_the_slices_neither_organ_nor_xrays_are_told():
    told = [(organ, xrays) for batch in draws(pair_of(np.ones((4, 16, 16))), 60) for organ, xrays in zip(batch.organs, batch.xrays)]
    assert {organ for organ, _ in told} == {"limb", ""}
    assert 0.7 * UNTOLD < np.mean([organ == "" for organ, _ in told]) < 1.4 * UNTOLD
    assert all((organ == "") == (float(xrays.abs().max()) == 0) for organ, xrays in told)


def test_xrays_come_mirrored_across_the_slices_axis_and_in_either_order():
    pair = pair_of(np.ones((4, 16, 16)))
    (xrays,) = SliceTraining([pair], learner(), 1).xrays
    assert xrays.shape == (2, 8, 8) and xrays.dtype == torch.float32
    ways = {way.numpy().tobytes() for order in (xrays, xrays.flip(0)) for way in (order, order.flip(2))}
    found = {sheets.numpy().tobytes() for batch in draws(pair, 20) for sheets in batch.xrays}
    assert len(ways) == 4 and found == ways | {torch.zeros_like(xrays).numpy().tobytes()}


# --- what it learns --------------------------------------------------------------------------------------------------------------------


def test_the_error_that_is_left_counts_easy_and_hard_examples_alike_and_dense_errors_a_fifth():
    truth = torch.zeros(2, 4, 4)
    given = torch.stack([torch.full((4, 4), 0.1), torch.full((4, 4), 1.0)])
    torch.testing.assert_close(error_left(0.5 * given, given, truth), torch.full((2,), 0.25), rtol=1e-3, atol=0)
    torch.testing.assert_close(error_left(given, given, truth), torch.ones(2))
    truth, given = torch.full((1, 1, 2), 3.0), torch.tensor([[[4.0, 1.0]]])
    assert float(error_left(torch.tensor([[[3.0, 1.0]]]), given, truth)) == pytest.approx(4 / 4.2, rel=1e-3)
    assert float(error_left(torch.tensor([[[4.0, 3.0]]]), given, truth)) == pytest.approx(0.2 / 4.2, rel=1e-3)


def test_a_network_learns_what_is_always_wrong_and_the_average_with_it(tmp_path):
    training = SliceTraining(wrong_pairs(), learner(), 60)
    gains = list(training.gains())
    assert len(gains) == training.done == 60 and abs(gains[0]) < 0.01 and np.mean(gains[-5:]) > 3.5
    training.save(tmp_path / "w.safetensors", {"anatomies": ["limb"]})
    fixer, pair = slice_fixer.load(str(tmp_path / "w.safetensors")), wrong_pairs()[0]
    stack, truth = (array.astype(np.float32) for array in (pair.stacks[0], pair.truth))
    repaired = fixer.repair(stack, pair.xrays, "limb")
    assert np.square(repaired - truth).mean() < 0.4 * np.square(stack - truth).mean()


def test_what_is_told_helps_where_it_alone_says_what_is_wrong():
    """The same stack stands for two truths, and only the organ tells which."""
    stack = blocks((8, 16, 16))
    pairs = [pair_of(stack + sign * 0.2, stack, organ=organ, xrays=np.zeros((2, 8, 16))) for sign, organ in ((1, "limb"), (-1, "head"))]
    training = SliceTraining(pairs, learner(), 60)
    list(training.gains())
    fixer = compact_fixer.CompactFixer(training.learner.network, weight_files.WeightFile("w", {"anatomies": []}, {}, "", ""))
    means = [float(np.mean(fixer.repair(stack, pairs[0].xrays, organ) - stack)) for organ in ("limb", "head")]
    assert means[0] > 0.1 and means[1] < -0.1


def test_gradients_reach_everything_that_learns():
    training = SliceTraining(wrong_pairs(), learner(), 12)
    list(training.gains())
    slopes = {
        name: weight.grad.flatten(1).abs().amax(dim=1) if weight.ndim > 1 else weight.grad for name, weight in training.weights.items()
    }
    told = slopes.pop("conditions.organ.weight")
    assert told.max() > 0
    assert [name for name, slope in slopes.items() if not (slope != 0).float().mean() > 0.7] == []


def test_the_average_is_that_of_the_weights_after_each_step():
    training = SliceTraining(wrong_pairs(), learner(), 5)
    seen = [training.weights["last.weight"].detach().clone()]
    for _ in training.gains():
        seen.append(training.weights["last.weight"].detach().clone())
    torch.testing.assert_close(training.average["last.weight"], torch.stack(seen).mean(dim=0))
    assert not torch.equal(seen[-1], seen[-2])


def test_the_rate_rises_and_falls_to_nothing(monkeypatch):
    monkeypatch.setattr(training_file, "WARM_UP", 4)
    training, rates = SliceTraining(wrong_pairs(), learner(rate=1.0), 12), []
    monkeypatch.setattr(training.optimiser, "step", lambda: rates.append(training.optimiser.param_groups[0]["lr"]))
    list(training.gains())
    assert 0.2 < rates[0] < 0.26 and np.argmax(rates) == 3 and (np.diff(rates[3:]) < 0).all() and rates[-1] < 0.03


def test_structure_counts_in_a_range_from_air_to_twice_water(monkeypatch):
    seen, ssim = [], training_file.ssim
    monkeypatch.setattr(training_file, "ssim", lambda *given: seen.append(given) or ssim(*given))
    with_structure = SliceTraining(wrong_pairs(), learner(), 10)
    batch = with_structure.draw()
    list(with_structure.gains())
    shown, wanted = seen[0]
    torch.testing.assert_close(shown, (batch.slabs[:, REACH] / 2).clamp(0, 1))
    torch.testing.assert_close(wanted, batch.truth / 2)
    monkeypatch.setattr(training_file, "ssim", lambda *given: 1.0)
    without = SliceTraining(wrong_pairs(), learner(), 10)
    list(without.gains())
    assert not torch.allclose(without.weights["last.bias"], with_structure.weights["last.bias"])


def test_a_further_loss_is_asked_about_the_repaired_slices_and_counts():
    asked = []

    def darkness(repaired, truth, organs):
        asked.append((repaired.shape, truth.shape, organs))
        return 50 * repaired.mean()

    plain, darker = (SliceTraining(wrong_pairs(), learner(), 10, perceptual=loss) for loss in (None, darkness))
    list(plain.gains()), list(darker.gains())
    assert len(asked) == 10 and asked[0][0] == asked[0][1] == (4, 16, 16) and set(asked[0][2]) <= {"limb", ""}
    assert float(darker.weights["last.bias"].mean().detach()) < float(plain.weights["last.bias"].mean().detach()) - 1e-3


def no_number_at(*steps):
    """A further loss that is none at some steps."""
    numbers = itertools.count()
    return lambda *given: (np.nan if next(numbers) in steps else 0.0) * given[0].sum()


def test_a_step_whose_loss_is_no_number_changes_nothing_and_training_goes_on():
    training = SliceTraining(wrong_pairs(), learner(), 6, perceptual=no_number_at(0, 1, 3, 4))
    before = {name: weight.detach().clone() for name, weight in training.weights.items()}
    for _ in range(2):
        training.step()
        assert training.astray == training.done
        for name, weight in training.weights.items():
            assert torch.equal(weight, before[name]) and torch.equal(training.average[name], before[name])
    assert len(list(training.gains())) == 4 and not training.astray
    assert all(torch.isfinite(weight).all() for weight in training.weights.values())
    assert not torch.equal(training.weights["last.weight"], before["last.weight"])


def test_a_loss_that_stays_no_number_ends_the_training_instead_of_letting_it_learn_nothing():
    training = SliceTraining(wrong_pairs(), learner(), 9, perceptual=no_number_at(2, 3, 4))
    with pytest.raises(InputError, match="gradient, 3 steps long, is no number at step 5: look for") as caught:
        list(training.gains())
    assert caught.value.code == "diverged" and all(torch.isfinite(weight).all() for weight in training.average.values())


@pytest.mark.parametrize("pairs, steps", [([], 10), (wrong_pairs(), 0)])
def test_without_pairs_or_steps_there_is_nothing_to_train(pairs, steps):
    with pytest.raises(InputError, match="nothing to train on"):
        SliceTraining(pairs, learner(), steps)


# --- its files -------------------------------------------------------------------------------------------------------------------------


def test_what_is_written_is_the_average_and_training_goes_on_from_its_own_weights(tmp_path):
    training = SliceTraining(wrong_pairs(), learner(), 6)
    for _ in range(4):
        training.step()
    before = {name: weight.detach().clone() for name, weight in training.weights.items()}
    training.save(tmp_path / "w.safetensors", {"anatomies": ["limb"], "steps": 4})
    file = weight_files.read(tmp_path / "w.safetensors", compact_fixer.FORMAT, "")
    assert file.card["steps"] == 4 and set(file.arrays) == set(before)
    for name, weight in training.weights.items():
        assert torch.equal(weight, before[name])
        np.testing.assert_array_equal(file.arrays[name], training.average[name].half())
    assert not np.array_equal(file.arrays["last.weight"], before["last.weight"].half())


def learnt(training):
    return {**{f"weights.{name}": weight for name, weight in training.weights.items()}, **training.average}


def test_training_that_goes_on_from_a_checkpoint_ends_as_if_it_had_never_stopped(tmp_path):
    whole = SliceTraining(wrong_pairs(), learner(), 8)
    gains = [whole.step() for _ in range(4)]
    whole.save_state(tmp_path / "state.pt")
    gains += list(whole.gains())
    again = SliceTraining(wrong_pairs(), learner(network(seed=7)), 8)
    again.restore_state(tmp_path / "state.pt")
    assert again.done == 4 and list(again.gains()) == gains[4:]
    for (name, one), other in zip(learnt(whole).items(), learnt(again).values()):
        assert torch.equal(one, other), name
    finished = SliceTraining(wrong_pairs(), learner(), 8)
    again.save_state(tmp_path / "state.pt")
    finished.restore_state(str(tmp_path / "state.pt"))
    assert list(finished.gains()) == []


@pytest.fixture
def state(tmp_path):
    """A checkpoint after one of four steps."""
    training = SliceTraining(wrong_pairs(), learner(), 4)
    training.step()
    training.save_state(tmp_path / "state.pt")
    return tmp_path / "state.pt"


def refused(match, path, training):
    """The checkpoint is refused in one line, and nothing of the training has changed."""
    before = {name: tensor.detach().clone() for name, tensor in learnt(training).items()}
    with pytest.raises(InputError, match=match) as caught:
        training.restore_state(path)
    assert caught.value.code == "bad-checkpoint" and "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert training.done == 0 and all(torch.equal(tensor, before[name]) for name, tensor in learnt(training).items())


@pytest.mark.parametrize("how", ["cut off", "text", "empty", "missing", "a list", "of something else", "without its optimiser"])
def test_a_damaged_checkpoint_is_refused(state, how):
    whole = state.read_bytes()
    held = torch.load(state, weights_only=True)
    contents = {"cut off": whole[: len(whole) // 2], "text": b"no checkpoint", "empty": b""}
    objects = {
        "a list": [1, 2],
        "of something else": {"weights": {}},
        "without its optimiser": {name: held[name] for name in held if name != "optimiser"},
    }
    state.unlink()
    if how in contents:
        state.write_bytes(contents[how])
    elif how in objects:
        torch.save(objects[how], state)
    refused("cannot be read as a checkpoint .*: delete it", state, SliceTraining(wrong_pairs(), learner(), 4))


def test_a_checkpoint_that_would_run_a_program_is_refused_without_running_it(tmp_path):
    class Program:
        def __reduce__(self):
            return pytest.fail, ("it has run",)

    torch.save({"weights": Program()}, tmp_path / "state.pt")
    refused("cannot be read as a checkpoint", tmp_path / "state.pt", SliceTraining(wrong_pairs(), learner(), 4))


@pytest.mark.parametrize("steps, seed, widths", [(5, 0, None), (4, 1, None), (4, 0, (8, 8, 8, 8))])
def test_the_checkpoint_of_another_training_is_refused(state, steps, seed, widths):
    made = compact_fixer.CompactNetwork(widths) if widths else None
    refused("of another training: delete it, or give the same options", state, SliceTraining(wrong_pairs(), learner(made), steps, seed))


# --- SD-Turbo's make -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    for library in ("diffusers", "peft", "transformers"):
        pytest.importorskip(library)
    return tiny_sd_turbo.make(tmp_path_factory.mktemp("sd-turbo"))


def test_adapters_of_sd_turbo_learn_and_its_own_weights_stay(folder, tmp_path):
    fixer = sd_turbo.begin(folder, licence_accepted=True)
    parameters = {name: parameter.detach().clone() for name, parameter in fixer.network.named_parameters()}
    training = SliceTraining(wrong_pairs(), SDTurboLearner(fixer), 2)
    training.learner.batch = 2
    assert all(np.isfinite(list(training.gains())))
    changed = {name for name, parameter in fixer.network.named_parameters() if not torch.equal(parameter, parameters[name])}
    assert changed <= set(training.weights) and len(changed) > 0.3 * len(training.weights)
    training.save(tmp_path / "a.safetensors", {"anatomies": ["limb"]})
    found = slice_fixer.load(str(tmp_path / "a.safetensors"), sd_turbo=str(folder), licence_accepted=True)
    assert found.make == "sd-turbo" and found.anatomies == ("limb",)
    for name, adapter in found.network.adapters().items():
        np.testing.assert_array_equal(adapter.detach(), training.average[name].half().float())


def test_training_of_adapters_goes_on_from_a_checkpoint_too(folder, tmp_path):
    def fresh():
        torch.manual_seed(3)
        made = SliceTraining(wrong_pairs(), SDTurboLearner(sd_turbo.begin(folder, licence_accepted=True)), 2)
        made.learner.batch = 2
        return made

    whole, again = fresh(), fresh()
    whole.step()
    whole.save_state(tmp_path / "state.pt")
    whole.step()
    again.restore_state(tmp_path / "state.pt")
    again.step()
    for (name, one), other in zip(learnt(whole).items(), learnt(again).values()):
        assert torch.equal(one, other), name
