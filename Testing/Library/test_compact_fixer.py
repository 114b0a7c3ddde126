"""The compact SliceFixer: what it is before training, what it looks at, and its weights' file."""

import numpy as np
import pytest
import torch
from small_fixers import WIDTHS, fixer, network

from SparseCTReconLib import resources, weight_files
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.fields.anatomy import ANATOMIES
from SparseCTReconLib.networks import compact_fixer, restoration, sd_turbo, slice_fixer
from SparseCTReconLib.networks.compact_fixer import FACTOR, REACH, XRAY, CompactFixer, CompactNetwork, fitted, organ_index, save
from SparseCTReconLib.networks.slice_fixer import load


def noise(shape, seed=0):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


STACK, XRAYS = noise((8, 16, 16)), noise((2, XRAY, XRAY), 1)


def repaired(stack=STACK, xrays=XRAYS, organ="limb", of=None):
    return (of or fixer()).repair(stack, xrays, organ)


@pytest.mark.parametrize("shape", [(8, 16, 16), (5, 17, 30), (3, 9, 40), (1, 1, 1), (2, 33, 8)])
def test_before_training_it_is_the_identity_whatever_the_size(shape):
    stack = 3 * noise(shape) - 0.5
    np.testing.assert_array_equal(repaired(stack, of=fixer(network(changed=False))), stack)


@pytest.mark.parametrize("shape", [(8, 16, 16), (5, 17, 30), (3, FACTOR - 7, 40), (1, 1, 1)])
def test_after_training_it_changes_stacks_of_any_size(shape):
    stack = noise(shape)
    found = repaired(stack)
    assert found.shape == shape and found.dtype == np.float32 and np.isfinite(found).all()
    assert np.abs(found - stack).max() > 1e-3


def test_a_slice_with_an_edge_that_must_be_padded_is_repaired_as_if_its_edge_went_on():
    stack = noise((3, 13, 18))
    padded = np.pad(stack, ((0, 0), (0, 3), (0, 14)), mode="edge")
    np.testing.assert_allclose(repaired(stack), repaired(padded)[:, :13, :18], atol=2e-5)


@pytest.mark.parametrize("changed", [0, 3, 7])
def test_a_slice_is_seen_by_its_neighbours_within_reach_and_by_no_others(changed):
    other = STACK.copy()
    other[changed] = 1 - other[changed]
    seen = np.abs(repaired(other) - repaired()).max(axis=(1, 2))
    distance = np.abs(np.arange(len(STACK)) - changed)
    assert (seen[distance <= REACH] > 1e-4).all()
    assert (seen[distance > REACH] == 0).all()


def untold():
    """A network whose features nothing that is told scales or shifts."""
    made = network()
    for module in made.modules():
        if isinstance(module, compact_fixer.Residual):
            torch.nn.init.zeros_(module.film.weight)
    return made


def test_above_the_first_slice_and_below_the_last_the_stack_goes_on_as_it_ends():
    longer = np.concatenate([STACK[:1], STACK[:1], STACK, STACK[-1:], STACK[-1:]])
    slabs = torch.from_numpy(np.stack([longer[z : z + 2 * REACH + 1] for z in range(len(STACK))]))
    anything = torch.zeros(8, 2, XRAY, XRAY), torch.zeros(8), torch.zeros(8, dtype=torch.long)
    with torch.no_grad():
        expected = untold()(slabs, *anything).numpy()
    np.testing.assert_allclose(repaired(of=fixer(untold())), expected, atol=2e-5)


OTHERS = {
    "another organ": {"organ": "head"},
    "no organ": {"organ": ""},
    "X-rays swapped": {"xrays": XRAYS[::-1]},
    "no X-rays": {"xrays": 0 * XRAYS},
}


@pytest.mark.parametrize("other", OTHERS)
def test_organ_and_xrays_matter_as_soon_as_the_film_layers_are_not_zero(other):
    one, two = repaired(), repaired(**OTHERS[other])
    assert np.abs(one - two).max() > 1e-4
    of = fixer(untold())
    np.testing.assert_array_equal(repaired(of=of), repaired(**OTHERS[other], of=of))


def test_equal_slices_at_other_places_are_told_apart_by_the_rows_beside_them():
    stack = np.broadcast_to(STACK[:1], STACK.shape)
    found = repaired(stack)
    assert np.abs(np.diff(found, axis=0)).max(axis=(1, 2)).min() > 1e-5
    np.testing.assert_allclose(np.ptp(repaired(stack, np.broadcast_to(XRAYS[:, :1], XRAYS.shape))[2:-2], axis=0), 0, atol=2e-5)


@pytest.mark.parametrize("rows, slices", [(slice(0, 8), [0, 1]), (slice(56, 64), [6, 7])])
def test_of_the_xrays_the_rows_beside_a_slice_are_read(rows, slices):
    other = XRAYS.copy()
    other[:, rows] = 1 - other[:, rows]
    changed = np.abs(repaired(xrays=other) - repaired()).max(axis=(1, 2)) > 0
    assert np.flatnonzero(changed).tolist() == slices


def test_xrays_of_any_size_show_the_same_as_before_on_the_network_s_rows_and_columns():
    ramp = np.linspace(0, 1, 20, dtype=np.float32)
    sheets = np.stack([np.broadcast_to(ramp[:, None], (20, 30)), np.full((20, 30), 0.5, np.float32)])
    found = fitted(sheets)
    assert found.shape == (2, XRAY, XRAY) and (found[0].diff(dim=0) >= -1e-6).all() and found[0, :, 0].mean() == pytest.approx(0.5)
    torch.testing.assert_close(found[1], torch.full((XRAY, XRAY), 0.5))
    torch.testing.assert_close(fitted(XRAYS), torch.from_numpy(XRAYS))
    finer = noise((2, 130, 200))
    assert fitted(finer).std() < 0.6 * finer.std()


def test_one_slice_at_a_time_gives_what_all_at_once_give(monkeypatch):
    at_once, counts = repaired(), []
    monkeypatch.setattr(compact_fixer, "PIXELS_AT_ONCE", 3 * 16 * 16)
    of = fixer()
    of.network.register_forward_hook(lambda module, given, found: counts.append(len(found)))
    np.testing.assert_allclose(repaired(of=of), at_once, atol=2e-5)
    monkeypatch.setattr(compact_fixer, "PIXELS_AT_ONCE", 1)
    np.testing.assert_allclose(repaired(of=of), at_once, atol=2e-5)
    assert counts == [3, 3, 2] + 8 * [1]


def test_every_organ_has_its_own_place_and_all_other_words_share_one():
    assert sorted(map(organ_index, ANATOMIES)) == list(range(len(ANATOMIES)))
    assert organ_index("tooth") == organ_index("") == len(ANATOMIES)
    assert np.isfinite(repaired(organ="tooth")).all()


def test_the_network_that_ships_has_at_most_ten_million_parameters_and_its_file_is_below_20_mb(tmp_path):
    whole = CompactNetwork()
    assert sum(parameter.numel() for parameter in whole.parameters()) <= 10_000_000
    save(whole, tmp_path / "w.safetensors", {"anatomies": []})
    assert (tmp_path / "w.safetensors").stat().st_size < 20e6


@pytest.fixture
def file(tmp_path):
    """The file of a trained network."""
    save(network(), tmp_path / "mine.safetensors", {"anatomies": ["limb", "head"], "credit": "nobody"})
    return tmp_path / "mine.safetensors"


def test_weights_are_the_same_after_a_round_trip_but_for_half_precision(file):
    found = load(str(file))
    assert isinstance(found, CompactFixer) and found.network.widths == WIDTHS
    np.testing.assert_allclose(repaired(of=found), repaired(), atol=2e-2)
    assert found.make == "compact" and found.edge is None and found.anatomies == ("limb", "head")
    assert found.source == weight_files.read(file, compact_fixer.FORMAT, "").source and found.source.startswith("mine (sha256 ")


def refused(match, code, *arguments, **options):
    with pytest.raises(InputError, match=match) as caught:
        load(*map(str, arguments), **options)
    assert caught.value.code == code and "\n" not in str(caught.value)


def test_files_that_hold_no_fixer_are_refused(file, tmp_path):
    refused("does not exist", "no-such-file", tmp_path / "absent.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    refused("cannot be read as safetensors", "bad-weights", tmp_path / "text.safetensors")
    refused("cannot be read", "bad-weights", tmp_path)
    restoration.save(restoration.RestorationNetwork((4, 8, 8)), tmp_path / "other.safetensors", {})
    refused("holds no weights of a SliceFixer", "bad-weights", tmp_path / "other.safetensors")


def test_weights_that_do_not_fit_their_card_are_refused(file):
    read = weight_files.read(file, compact_fixer.FORMAT, "")
    for card, arrays, match in (
        ({"anatomies": []}, read.arrays, "does not say the network's sizes"),
        (read.card, {**read.arrays, "last.bias": np.zeros(3, np.float16)}, r"last.bias is of shape \(3,\)"),
    ):
        weight_files.write(file, compact_fixer.FORMAT, card, arrays)
        refused(match, "bad-weights", file)


@pytest.mark.parametrize("kept, code", [(0.5, "bad-weights"), (1.0, "bad-checksum")])
def test_a_file_that_is_cut_off_or_changed_is_refused(file, kept, code):
    whole = bytearray(file.read_bytes())
    whole[-3] ^= 255
    file.write_bytes(whole[: int(kept * len(whole))])
    refused("copy it anew", code, file)


def test_sd_turbo_s_folder_beside_a_compact_file_is_refused(file, tmp_path):
    refused("leave sd_turbo out", "bad-option", file, sd_turbo=str(tmp_path))


@pytest.fixture
def adapters(tmp_path):
    """A file of SD-Turbo's make."""
    weight_files.write(tmp_path / "a.safetensors", sd_turbo.FORMAT, {"anatomies": []}, {"a": np.zeros(2, np.float16)})
    return tmp_path / "a.safetensors"


def test_adapters_of_sd_turbo_without_its_licence_are_refused_and_the_compact_one_is_offered(adapters):
    refused("stability.ai/license.*compact fixer", "licence", adapters)


def test_adapters_of_sd_turbo_without_its_folder_are_refused_and_the_compact_one_is_offered(adapters):
    for library in ("diffusers", "peft", "transformers"):
        pytest.importorskip(library)
    refused("hf download stabilityai/sd-turbo.*compact fixer", "missing-weights", adapters, licence_accepted=True)


def test_adapters_are_loaded_onto_the_device_with_sd_turbo_from_its_folder(adapters, monkeypatch):
    monkeypatch.setattr(sd_turbo, "load", lambda *arguments: arguments)
    assert load(str(adapters), "cuda", "folder", True) == ("folder", adapters, "cuda", True)


def test_the_shipped_weights_load_and_leave_air_and_water_about_alone():
    shipped = load()
    assert shipped.make == "compact" and set(shipped.anatomies) <= set(ANATOMIES) and shipped.network.widths == CompactNetwork().widths
    for value in (0.0, 1.0):
        stack = np.full((5, 64, 64), value, np.float32)
        found = repaired(stack, np.zeros((2, 5, 64)), shipped.anatomies[0], shipped)
        print(value, np.abs(found - value).max(), np.abs(found[1:-1, 8:-8, 8:-8] - value).max())
        np.testing.assert_allclose(found[:, 8:-8, 8:-8], value, atol=0.05)


def test_the_shipped_weights_are_those_of_their_card_in_words():
    words = resources.find(slice_fixer.WEIGHTS).with_suffix(".md").read_text()
    network = load().network
    assert f"{sum(parameter.numel() for parameter in network.parameters()) / 1e6:.1f} million parameters" in words
    assert resources.find(slice_fixer.WEIGHTS).stat().st_size < 20e6


def test_an_installation_without_the_shipped_weights_says_so(monkeypatch):
    monkeypatch.setattr(slice_fixer, "WEIGHTS", "Weights/nothing.safetensors")
    refused("this installation has no Weights/nothing.safetensors", "missing-resource")
