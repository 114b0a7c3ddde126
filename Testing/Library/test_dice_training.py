"""Training of DiCE: what each stage is shown, what it learns, and what of numbers that are none."""

import numpy as np
import pytest
import torch
from dice_cases import ADAPT, ADJUST, LEARNER, PRETRAIN, held, training

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.grid import Grid, Volume
from SparseCTReconLib.networks import dice_weights
from SparseCTReconLib.networks.dice import reconstruct
from SparseCTReconLib.networks.dice_views import Box, shadows
from SparseCTReconLib.training.data import Drawn, Examples
from SparseCTReconLib.training.dice import Settings
from SparseCTReconLib.training.dice_examples import HeldExamples, HybridExample, HybridExamples, Stage, interleaved
from SparseCTReconLib.training.learning import Alone


@pytest.fixture(scope="module")
def scans():
    return [held(radius) for radius in (12.0, 16.0)]


# --- what it is shown ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape, count, stride", [((64, 64, 64), 4096, 4), ((64, 64, 64), 4097, 2), ((9, 10, 11), 40, 2), ((5, 4, 3), 60, 1)]
)
def test_points_are_of_one_interleaved_block_and_none_comes_twice(shape, count, stride):
    starts = set()
    for seed in range(30):
        index = interleaved(shape, count, np.random.default_rng(seed))
        assert len(index) == count == len({tuple(point) for point in index.tolist()})
        assert (index >= 0).all() and (index < shape).all() and (np.ptp(index % stride, axis=0) == 0).all()
        starts.add(tuple(index[0] % stride))
    assert len(starts) > min(stride**3, 12) / 2
    assert len(interleaved((3, 3, 3), 100, np.random.default_rng(0))) == 27


@pytest.mark.parametrize("stage", [PRETRAIN, ADAPT, ADJUST])
def test_each_example_has_the_stages_views_the_few_first(scans, stage):
    examples, counts = HeldExamples(scans, stage), set()
    for number in range(40):
        example = examples[number]
        counts.add(example.few)
        assert example.scan.views == 6 and len({tuple(source) for source in example.scan.geometry.source.round(3).tolist()}) == 6
        few = example.scan.geometry.gantry_angles_rad[: example.few]
        assert (np.diff(few) > 0).all()
    assert counts == set(range(stage.few[0], stage.few[1] + 1))


def test_every_scan_comes_once_before_any_comes_again_and_the_draw_follows_from_the_seed(scans):
    examples = HeldExamples(scans, PRETRAIN, seed=4)
    for turn in range(5):
        truths = {examples[2 * turn + n].truth.tobytes() for n in range(2)}
        assert len(truths) == 2
    one, other = HeldExamples(scans, PRETRAIN, seed=4)[7], examples[7]
    np.testing.assert_array_equal(one.scan.projections, other.scan.projections)
    assert one.few == other.few


def test_values_belong_to_their_points(scans):
    made = training(scans)
    examples = [made.examples[n] for n in range(2)]
    seen, points, truth, few = made.batch(examples, np.random.default_rng(0))
    assert points.shape == (2, 50, 3) and truth.shape == (2, 50) and few == [example.few for example in examples]
    for n, example in enumerate(examples):
        box = Box.of(example.scan.geometry)
        world = np.asarray(box.centre_mm) + points[n].numpy() * np.asarray(box.edges_mm) / 2
        index = (np.c_[world, np.ones(50)] @ example.grid.world_to_index.T)[:, :3].round(3).astype(int)[:, ::-1]
        np.testing.assert_allclose(truth[n], example.truth[tuple(index.T)], atol=1e-3)
        assert len(seen[n].images) == 6 and torch.isfinite(shadows(seen[n].matrices, points[n])).all()


def test_small_volumes_give_all_their_voxels(scans):
    made = training(scans, points=10_000)
    _, points, truth, _ = made.batch([made.examples[0]], np.random.default_rng(0))
    assert points.shape == (1, 720, 3) and truth.shape == (1, 720)


class Body:
    """A CT that is at hand: a cube of soft tissue."""

    def volume(self):
        array = np.full((20, 20, 20), -1000.0, np.float32)
        array[4:16, 4:16, 4:16] = 40.0
        return Volume(array, Grid.centred((20, 20, 20), (5.0,) * 3))


def test_examples_made_on_the_fly_have_the_stages_views_and_are_else_as_all_examples_are():
    drawn = Drawn(voxels=(8,), of=12)
    examples, plain = HybridExamples([Body()], drawn, PRETRAIN, 3), Examples([Body()], drawn, 3)
    for number in range(3):
        made, again, other = examples[number], HybridExamples([Body()], drawn, PRETRAIN, 3)[number], plain[number]
        assert made.scan.views == 6 and 2 <= made.few <= 5 and (made.few, made.grid) == (again.few, other.grid)
        np.testing.assert_array_equal(made.scan.projections, again.scan.projections)
        np.testing.assert_array_equal(made.truth, other.truth)
        assert made.scan.geometry.sid_mm[0] == pytest.approx(other.scan.geometry.sid_mm[0])
    with pytest.raises(InputError, match="5 views where 6 are drawn from"):
        HybridExamples([Body()], Drawn(voxels=(8,), views=(2, 3), of=5), PRETRAIN)


@pytest.mark.parametrize(
    "wrong, match",
    [
        ({"name": "guess"}, "no stage 'guess'"),
        ({"matching": "best"}, "the matching 'best'"),
        ({"few": (0, 3)}, "give the fewest and the most"),
        ({"few": (5, 4)}, "give the fewest and the most"),
        ({"few": (3, 25)}, "give the fewest and the most"),
    ],
)
def test_impossible_stages_are_refused(wrong, match):
    with pytest.raises(InputError, match=match):
        Stage(**wrong)


def test_scans_that_do_not_do_are_refused(scans):
    with pytest.raises(InputError, match="no scans to learn from"):
        HeldExamples([], PRETRAIN)
    with pytest.raises(InputError, match="a scan of 5 views where 6 are drawn from"):
        HeldExamples([*scans, held(views=5)], PRETRAIN)
    whole = scans[0]
    with pytest.raises(InputError, match="a truth of shape"):
        HybridExample(whole.scan, whole.grid, whole.truth[1:], few=3)
    with pytest.raises(InputError, match="13 of 12 views"):
        HybridExample(whole.scan, whole.grid, whole.truth, few=13)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"steps": 1, "batch": 0}, {"steps": 1, "points": 0}, {"steps": 1, "rate": 0.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match="must be positive"):
        Settings(**wrong)


# --- what it learns --------------------------------------------------------------------------------------------------------------------


def test_two_scans_are_learnt_by_heart_and_the_average_shows_them(scans, tmp_path):
    made = training(scans, ADAPT, steps=100, rate=1e-2, points=200, falling=True)
    losses = [found["squares"] for found in made.losses()]
    spread = np.mean([np.var(scan.truth.astype(float) / LEARNER.top) for scan in scans])
    assert losses[0] > 2 * spread and np.mean(losses[-10:]) < 0.6 * spread and made.done == 100
    made.save(tmp_path / "w.safetensors", {"anatomies": ["phantom"]})
    network, file = dice_weights.load(tmp_path / "w.safetensors")
    assert file.card["trained"]["stage"]["name"] == "adapt" and file.card["trained"]["steps"] == 100
    wholes = [scan.truth.astype(float) * 0.02 for scan in scans]
    for scan, truth in zip(scans, wholes):
        volume = reconstruct(network, scan.scan.subset(slice(None, None, 2)), scan.grid)
        assert np.mean((volume - truth) ** 2) < 0.5 * np.var(truth)


def test_adjustment_leaves_encoder_and_codebooks_and_denoise_layers_learn(scans):
    pretrained = training(scans, PRETRAIN, 3)
    list(pretrained.losses())
    before = {name: tensor.clone() for name, tensor in pretrained.network.state_dict().items()}
    made = training(scans, ADJUST, 25, pretrained.network)
    fresh = {name: tensor.clone() for name, tensor in made.network.state_dict().items()}
    found = list(made.losses())
    assert np.mean([step["denoising"] for step in found[-5:]]) < 0.9 * np.mean([step["denoising"] for step in found[:3]])
    for name, tensor in made.network.state_dict().items():
        if name.startswith(("encoder.", "quantisers.")):
            assert torch.equal(tensor, before[name]), name
        elif name.endswith("weight"):
            assert not torch.equal(tensor, fresh[name]), name
    assert "denoisers.0.residuals.0.layers.0.weight" not in before


def test_what_was_adjusted_can_be_adapted_to_other_scans_again(scans):
    adjusted = training(scans, ADJUST, 1)
    adjusted.step()
    made = training(scans, ADAPT, 1, adjusted.network)
    assert not made.network.configuration.denoising and not made.network.frozen
    assert all(parameter.requires_grad for parameter in made.network.parameters())


class Watched(Alone):
    """Keeps what is lowered."""

    def backward(self, loss):
        self.lowered = float(loss.detach())
        super().backward(loss)


@pytest.mark.parametrize("stage, extra, weight", [(PRETRAIN, "quantisation", 0.1), (ADJUST, "denoising", 1.0)])
def test_what_is_lowered_is_the_squares_and_the_stages_own_loss(scans, stage, extra, weight):
    watched = Watched()
    found = training(scans, stage, fabric=watched).step()
    assert watched.lowered == pytest.approx(found["squares"] + weight * found[extra]) and found[extra] > 0


def test_squares_are_in_units_of_the_networks_output_and_what_no_window_shows_counts_a_fifth(scans):
    made = training(scans, PRETRAIN)
    seen, points, truth, few = made.batch([made.examples[0]], np.random.default_rng((0, 0, 0)))
    made.network.eval()
    values = made.network(seen, points, few).values.detach() * LEARNER.top
    weights = torch.where((values > 2) & (truth > 2), 0.2, 1.0)
    wanted = (weights * (values - truth).square()).mean() / LEARNER.top**2
    made.network.train = lambda: None
    found = made.gradients([made.examples[0]], np.random.default_rng((0, 0, 0)))
    assert found["squares"] == pytest.approx(float(wanted), rel=1e-4)


def test_the_average_follows_the_networks_the_later_the_more(scans):
    made, name = training(scans, steps=6), "decoders.0.enter.0.weight"
    wanted = made.network.state_dict()[name].clone()
    for step, _ in enumerate(made.losses(), start=1):
        share = 10 / (9 + step)
        wanted = (1 - share) * wanted + share * made.network.state_dict()[name]
    torch.testing.assert_close(made.average[name], wanted)
    torch.testing.assert_close(made.averaged().state_dict()[name], made.average[name])
    assert not torch.equal(made.average[name], made.network.state_dict()[name])


def test_the_rate_stays_or_rises_and_falls_to_nothing(scans):
    constant, falling = (training(scans, steps=40, rate=1.0, falling=falls) for falls in (False, True))
    rates = []
    for falling.done in range(40):
        rates.append(falling.rate())
    assert constant.rate() == 1.0 and rates[0] == 0.5 and np.argmax(rates) == 1 and rates[-1] < 0.01
    assert (np.diff(rates[1:]) < 0).all()


# --- numbers that are none -------------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_stops_training_and_the_last_checkpoint_stays(scans, tmp_path, monkeypatch):
    made, path = training(scans), tmp_path / "state.pt"
    made.step()
    made.save_state(path)
    kept, average = path.read_bytes(), made.average["decoders.0.enter.0.weight"].clone()
    real = made.batch

    def spoiled(examples, rng):
        seen, points, truth, few = real(examples, rng)
        return seen, points, truth * np.nan, few

    monkeypatch.setattr(made, "batch", spoiled)
    with pytest.raises(InputError, match="the loss is no number at step 1: go on from the last checkpoint with a lower rate") as caught:
        made.step()
    assert caught.value.code == "diverged"
    with pytest.raises(InputError, match="left as it is"):
        made.save_state(path)
    assert path.read_bytes() == kept and torch.equal(made.average["decoders.0.enter.0.weight"], average)
    again = training(scans)
    again.restore_state(path)
    assert np.isfinite(again.step()["squares"])


class Blind(Alone):
    """Gradients that are no numbers in some steps."""

    def __init__(self, steps):
        super().__init__()
        self.steps, self.asked = steps, 0

    def backward(self, loss):
        super().backward(loss * np.nan if self.asked in self.steps else loss)
        self.asked += 1


def test_a_gradient_that_is_no_number_now_and_then_changes_nothing(scans):
    made = training(scans, fabric=Blind({1, 2, 4}))
    made.step()
    weights = [parameter.clone() for parameter in made.network.parameters()]
    made.step()
    assert all(torch.equal(one, other) for one, other in zip(weights, made.network.parameters()))
    assert len(list(made.losses())) == 4 and made.done == 6 and made.astray == 0
    assert all(torch.isfinite(parameter).all() for parameter in made.network.parameters())


def test_gradients_that_are_no_numbers_for_long_stop_training(scans):
    made = training(scans, fabric=Blind({1, 2, 3}))
    with pytest.raises(InputError, match="the loss's gradient, 3 steps long, is no number at step 4"):
        list(made.losses())
