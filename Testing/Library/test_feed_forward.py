"""The methods whose network makes a volume in one pass: stages, weights, warnings, checkpoints, agreement."""

import logging

import numpy as np
import pytest
import small_dice
import small_weights
from phantoms import Phantom
from small_scanners import circular
from small_scans import scan_of

from SparseCTReconLib import methods, resources, weights
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.methods import coarse_to_fine, feed_forward, rounds
from SparseCTReconLib.methods.admm_tv import first_volume
from SparseCTReconLib.methods.reconstruct import prepare, reconstruct
from SparseCTReconLib.networks import dice, dice_weights, xgrm_weights
from SparseCTReconLib.networks.xgrm_result import Reconstruction

BOTH = ("deepsparse", "x-grm")
GRID = Grid.centred((12, 13, 11), (2.0,) * 3)


def scan(views=5, seed=0, radius=11.0):
    return scan_of(Phantom(radius), circular(views=views), seed=seed)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A folder with weights for both methods."""
    folder = tmp_path_factory.mktemp("weights")
    like = [scan(5, seed, radius) for seed, radius in enumerate(np.linspace(10, 12, 8))]
    small_weights.dice(folder, like)
    small_weights.xgrm(folder, like)
    return folder


@pytest.fixture(autouse=True)
def only_there(shelf, monkeypatch, tmp_path):
    """No other weights are found."""
    monkeypatch.setenv(weights.VARIABLE, str(shelf))
    monkeypatch.setenv("SPARSECTRECON_CACHE", str(tmp_path))
    monkeypatch.setattr(resources, "folders", lambda name: [])


def running(name, of=None, grid=GRID, resume=None, **options):
    method = methods.get(name)
    return method.run(of or scan(), grid, methods.parse_options(method, {"weights": "limb"} | options), "cpu", resume)


def states(*arguments, **options):
    return list(running(*arguments, **options))


def taken(state):
    """A checkpoint, which must be taken before the next step."""
    return {key: np.array(value) for key, value in state.checkpoint().items()}


def of_network(name, shelf, grid=GRID):
    """What the network itself makes of the scan."""
    if name == "deepsparse":
        return dice.reconstruct(dice_weights.load(shelf / "deepsparse_limb.safetensors")[0], scan(), grid)
    return Reconstruction(xgrm_weights.load(shelf / "x-grm_limb.safetensors")[0], scan(), grid).volume()


@pytest.mark.parametrize("name", BOTH)
def test_the_papers_preset_gives_what_the_network_gives(name, shelf):
    (last,) = states(name, preset="paper")
    np.testing.assert_array_equal(last.volume(), of_network(name, shelf))
    assert last.stage == "making the volume" and last.step == last.steps == 1
    assert last.facts["weights"].startswith(f"{name}_limb (sha256 ") and "agreement" not in last.facts


@pytest.mark.parametrize("name", BOTH)
def test_a_large_grid_is_made_slab_by_slab_from_a_coarse_volume_on(name, shelf, monkeypatch):
    monkeypatch.setitem(rounds.VOXELS_AT_ONCE, "cpu", 4 * 12 * 13)
    monkeypatch.setattr(rounds, "COARSER", 2)
    grid = Grid.centred((12, 13, 11), (2.0, 2.5, 3.0), (1.0, 2.0, -3.0))
    whole, found = of_network(name, shelf, grid), []
    for state in methods.get(name).run(scan(), grid, methods.parse_options(methods.get(name), {"weights": "limb", "agreement": 0})):
        found.append((state.stage, state.step, np.abs(state.volume() - whole).max(axis=(1, 2))))
    assert [stage for stage, _, _ in found] == ["looking at the views"] + 3 * ["making the volume"]
    assert [step for _, step, _ in found] == [1, 2, 3, 4]
    for (_, step, off), done in zip(found, (0, 4, 8, 11)):
        assert (off[:done] < 1e-6 * whole.max()).all() and (off[done:] < whole.max()).all(), step
    coarse = found[0][2]
    assert 0 < coarse.mean() < 0.5 * np.ptp(whole)


def test_the_coarse_volume_lies_where_the_fine_one_does(monkeypatch):
    class Ramp:
        """A network whose volume is a linear function of place."""

        def volume(self, grid):
            places = np.stack(np.indices(grid.shape)[::-1], axis=-1) * 1.0 @ grid.index_to_world[:3, :3].T + grid.index_to_world[:3, 3]
            return (0.5 + places @ [0.01, 0.02, -0.03]).astype(np.float32)

    run = rounds.Rounds.__new__(rounds.Rounds)
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    run.learned, run.grid = Ramp(), Grid((17, 24, 16), (2.0, 1.5, 3.0), (4.0, 5.0, -6.0), turn)
    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(run._coarse()[inner], Ramp().volume(run.grid)[inner], atol=1e-4)


@pytest.mark.parametrize("name", BOTH)
def test_it_goes_on_exactly_from_any_checkpoint(name):
    kept = [(state.step, taken(state)) for state in running(name, agreement=4)]
    expected = states(name, agreement=4)[-1]
    assert [step for step, _ in kept] == [1, 2, 3, 4, 5] and expected.steps == 5
    for step, arrays in kept[:-1]:
        resumed = states(name, resume=arrays, agreement=4)
        assert [state.step for state in resumed] == list(range(step + 1, 6))
        np.testing.assert_allclose(resumed[-1].volume(), expected.volume(), atol=1e-6)
        assert resumed[-1].facts == expected.facts
    with pytest.raises(InputError, match="is at step 5 of 5"):
        states(name, resume=kept[-1][1], agreement=4)


@pytest.mark.parametrize("name", BOTH)
def test_agreement_lowers_the_residual_and_the_result_says_so(name):
    job = {"grid": GRID, "weights": "limb"}
    before, after = (reconstruct(scan(), name, preset=preset, **job).attributes for preset in ("paper", "recommended"))
    figures = [float(said["SparseCTRecon.reprojection_residual"]) for said in (before, after)]
    assert figures[1] < 0.5 * figures[0]
    assert after["SparseCTRecon.agreement"].startswith("kept: weighted residual ")
    assert "SparseCTRecon.agreement" not in before and f"{name}_limb" in after["SparseCTRecon.weights"]


@pytest.mark.parametrize("name", BOTH)
def test_scans_like_those_that_were_learnt_from_are_not_warned_of_and_others_are_on_the_result_too(name, caplog):
    with caplog.at_level(logging.INFO, "SparseCTReconLib"):
        assert (
            not reconstruct(scan(5, 3, 10.8), name, GRID, weights="limb", agreement=0).attributes["SparseCTRecon.warnings"].count("unlike")
        )
    assert f"the network has the weights {name}_limb (sha256" in caplog.text
    assert not [record for record in caplog.records if "unlike" in record.getMessage()]
    said = reconstruct(scan(9), name, GRID, weights="limb", agreement=0).attributes["SparseCTRecon.warnings"]
    assert f"unlike those that the weights {name}_limb have learnt from: it has 9 views, they 5" in said
    assert [record.levelname for record in caplog.records if "unlike" in record.getMessage()] == ["WARNING"]


@pytest.mark.parametrize("name", BOTH)
def test_weights_are_chosen_by_what_the_scan_shows(name, monkeypatch):
    monkeypatch.setattr(feed_forward, "propose", lambda scan: "limb")
    assert f"{name}_limb" in states(name, weights="auto", agreement=0)[-1].facts["weights"]
    monkeypatch.setattr(feed_forward, "propose", lambda scan: "chest")
    with pytest.raises(InputError, match=f"no weights of {name} for what seems to be a scan of the chest.*weights=limb") as caught:
        states(name, weights="auto")
    assert caught.value.code == "no-weights"


@pytest.mark.parametrize("name", BOTH)
def test_without_weights_the_sentence_says_what_to_do(name, monkeypatch, tmp_path):
    monkeypatch.setenv(weights.VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match=f"no weights for {name}: train some .*sparsectrecon weights --help"):
        states(name, weights="auto")


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("name", BOTH)
def test_one_or_two_views_are_refused(name, views):
    with pytest.raises(InputError, match=f"{name} needs 3 views or more, the scan has {views}") as caught:
        states(name, scan(views))
    assert caught.value.code == "too-few-views"


def test_weights_of_the_other_method_and_damaged_ones_are_refused(shelf, tmp_path):
    others = {"deepsparse": shelf / "x-grm_limb.safetensors", "x-grm": shelf / "deepsparse_limb.safetensors"}
    for name, path in others.items():
        with pytest.raises(InputError, match="holds no weights of"):
            states(name, weights=str(path))
        half = tmp_path / "half.safetensors"
        half.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(InputError, match="cannot be read as safetensors"):
            states(name, weights=str(half))
        (tmp_path / "ep_400.pth").write_bytes(b"\x80\x04.")
        with pytest.raises(InputError, match="may hold code"):
            states(name, weights=str(tmp_path / "ep_400.pth"))


def bettered(name, path, first):
    """What a network that is shown a first volume makes."""
    if name == "deepsparse":
        return dice.reconstruct(dice_weights.load(path)[0], scan(), GRID, first=first)
    return Reconstruction(xgrm_weights.load(path)[0], scan(), GRID, first).volume()


@pytest.mark.parametrize("name", BOTH)
def test_a_network_that_betters_a_first_volume_is_shown_admm_tvs(tmp_path, name):
    path = small_weights.bettering(tmp_path, name)
    found = states(name, weights=str(path), agreement=3, rounds=1)
    first = first_volume(scan(), GRID)
    passes = len(found) - 4
    np.testing.assert_array_equal(found[passes - 1].volume(), first)
    assert found[passes - 1].stage == "iterating" and "weights" not in found[passes - 1].facts
    np.testing.assert_allclose(found[passes].volume(), bettered(name, path, first), atol=1e-6)
    assert [state.stage for state in found[passes:]] == ["making the volume"] + 3 * ["agreeing with the projections"]
    assert np.abs(found[passes].volume() - first).max() > 1e-4


@pytest.mark.parametrize("name", BOTH)
def test_it_goes_on_exactly_where_the_network_betters_a_first_volume(tmp_path, name):
    options = {"weights": str(small_weights.bettering(tmp_path, name)), "agreement": 3, "rounds": 2}
    kept = [taken(state) for state in running(name, **options)]
    total, expected = len(kept), states(name, **options)[-1].volume()
    for back in (1, 3, 4, 5, 7, 8, 20):
        resumed = states(name, **options, resume=kept[total - 1 - back])
        assert [state.step for state in resumed] == list(range(total - back + 1, total + 1)), back
        np.testing.assert_allclose(resumed[-1].volume(), expected, atol=2e-6)


@pytest.mark.parametrize("name", BOTH)
def test_a_later_round_betters_what_agrees_with_the_projections(tmp_path, name):
    path = small_weights.bettering(tmp_path, name)
    once, twice = (states(name, weights=str(path), agreement=3, rounds=rounds) for rounds in (1, 2))
    assert [state.stage for state in twice[len(once) :]] == ["making the volume"] + 3 * ["agreeing with the projections"]
    assert twice[-1].step == twice[-1].steps == len(twice) and once[-1].facts["agreement"].startswith("kept")
    np.testing.assert_allclose(twice[len(once) - 1].volume(), once[-1].volume(), atol=1e-7)
    np.testing.assert_allclose(twice[len(once)].volume(), bettered(name, path, once[-1].volume()), atol=1e-6)


@pytest.mark.parametrize("name", BOTH)
def test_a_large_grid_is_begun_on_a_coarser_one_and_any_checkpoint_goes_on(tmp_path, name, monkeypatch):
    monkeypatch.setattr(coarse_to_fine, "LEAST", 6)
    monkeypatch.setattr(feed_forward, "REFINING", 2)
    options = {"weights": str(small_weights.bettering(tmp_path, name)), "agreement": 3, "rounds": 2}
    found = list(running(name, **options))
    passes = len(found) - 2 * 4 - 2 - 3
    of_a_level = ["making the volume"] + 3 * ["agreeing with the projections"]
    assert [state.stage for state in found] == passes * ["iterating"] + 2 * of_a_level + 2 * ["iterating"] + of_a_level[:3]
    assert [state.step for state in found] == list(range(1, len(found) + 1)) and found[0].steps == len(found)
    assert all(state.volume().shape == GRID.shape for state in found)
    coarse = coarse_to_fine.halved(scan(), GRID)
    np.testing.assert_array_equal(found[passes - 1].volume(), coarse_to_fine.interpolated(first_volume(*coarse), GRID.shape))
    assert ["weights" in state.facts for state in found] == [number >= passes for number in range(len(found))]
    assert found[passes + 8].metrics["residual"] < 0.5 * found[0].metrics["residual"]
    kept = [taken(state) for state in running(name, **options)]
    for done in (1, passes, passes + 1, passes + 4, passes + 8, passes + 9, passes + 10, passes + 11, passes + 12):
        resumed = states(name, **options, resume=kept[done - 1])
        assert [state.step for state in resumed] == list(range(done + 1, len(found) + 1)), done
        np.testing.assert_allclose(resumed[-1].volume(), found[-1].volume(), atol=2e-6)


def test_rounds_are_one_where_there_is_nothing_to_better_or_to_agree_with(tmp_path):
    assert len(states("deepsparse", agreement=3, rounds=5)) == len(states("deepsparse", agreement=3, rounds=1))
    path = str(small_weights.bettering(tmp_path, "deepsparse"))
    assert len(states("deepsparse", weights=path, agreement=0, rounds=5)) == len(states("deepsparse", weights=path, agreement=0, rounds=1))


def test_refined_features_explain_the_projections_better_and_leave_the_weights_alone(shelf):
    found = states("deepsparse", agreement=0, refinement=12)
    assert [state.stage for state in found] == 12 * ["refining what the network sees"] + ["making the volume"]
    assert found[11].metrics["loss"] < 0.97 * found[0].metrics["loss"]
    plain = states("deepsparse", agreement=0)[-1].volume()
    assert np.abs(found[-1].volume() - plain).max() > 1e-4
    np.testing.assert_array_equal(states("deepsparse", agreement=0)[-1].volume(), plain)


@pytest.mark.parametrize("name", BOTH)
def test_memory_grows_with_the_views_of_dice_and_with_a_file_of_weights(name, tmp_path):
    method, large = methods.get(name), tmp_path / "large.safetensors"
    with large.open("wb") as file:
        file.truncate(300_000_000)
    options = [methods.parse_options(method, {"weights": choice}) for choice in ("limb", str(large))]
    few, more = (method.memory_bytes(GRID, scan(), each) for each in options)
    assert more - few == pytest.approx(6 * 300e6 - 0.1e9)
    many = method.memory_bytes(GRID, scan(50), options[0]) - few
    assert many > (300 if name == "deepsparse" else 20) * scan(45).projections.nbytes / 4


def test_what_memory_cannot_hold_is_refused_before_it_starts():
    with pytest.raises(InputError, match="needs about .* GB with deepsparse"):
        prepare(scan(), "deepsparse", Grid.centred((2000, 2000, 2000), (0.02,) * 3))


def test_small_dice_is_the_network_of_the_shelf(shelf):
    assert dice_weights.load(shelf / "deepsparse_limb.safetensors")[0].configuration == small_dice.SMALL
