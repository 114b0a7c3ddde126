"""Files of DiCE's weights, and the authors' published ones made into ours."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from released_dice import BOX_MM, DETECTOR_MM, SDD_MM, SOD_MM, Release, state_dict
from small_dice import SMALL, network, orbit, random_scan
from small_fixers import network as small_fixer

from SparseCTReconLib import weight_files
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.networks import compact_fixer, dice_release, dice_weights
from SparseCTReconLib.networks.dice import reconstruct
from SparseCTReconLib.networks.dice_views import Box
from SparseCTReconLib.scan import Scan

GRID = Grid.centred((6, 5, 4), (5.0,) * 3)


@pytest.fixture
def file(tmp_path):
    dice_weights.save(network(), tmp_path / "w.safetensors", {"anatomies": ["limb"]})
    return tmp_path / "w.safetensors"


# --- our files -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("denoising", [False, True])
def test_weights_are_the_same_after_a_round_trip_but_for_half_precision(tmp_path, denoising):
    made, scan = network(replace(SMALL, denoising=denoising, plain_output=not denoising)), random_scan()
    dice_weights.save(made, tmp_path / "w.safetensors", {"anatomies": ["limb"]})
    found, file = dice_weights.load(tmp_path / "w.safetensors")
    assert found.configuration == made.configuration and not found.training
    wanted = reconstruct(made, scan, GRID)
    np.testing.assert_allclose(reconstruct(found, scan, GRID), wanted, atol=0.02 * wanted.max())
    assert file.card["anatomies"] == ["limb"] and file.name == "w" and file.sha256 in file.source


def test_training_can_go_on_from_a_file(file):
    found, made = dice_weights.load(file)[0], network()
    for ours, theirs in zip(found.quantisers, made.quantisers):
        assert ours.begun
        torch.testing.assert_close(ours.sums, theirs.sums, rtol=2e-3, atol=2e-3)
        torch.testing.assert_close(ours.sizes, theirs.sizes)


def test_a_file_takes_two_bytes_for_a_number_nearly(tmp_path):
    wide = replace(SMALL, widths=(16, 24), decoder=32)
    dice_weights.save(network(wide), tmp_path / "w.safetensors", {})
    numbers = sum(parameter.numel() for parameter in network(wide).parameters())
    assert (tmp_path / "w.safetensors").stat().st_size < 2.4 * numbers


def test_codes_that_are_out_of_half_precisions_range_stay_far_away(tmp_path):
    made, scan = network(), random_scan()
    with torch.no_grad():
        made.quantisers[0].codes[1] = 1e7
    wanted = reconstruct(made, scan, GRID)
    dice_weights.save(made, tmp_path / "w.safetensors", {})
    found = reconstruct(dice_weights.load(tmp_path / "w.safetensors")[0], scan, GRID)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, wanted, atol=0.02 * wanted.max())


def test_the_box_is_the_cards_or_the_scans(file):
    read = dice_weights.load(file)[1]
    geometry = orbit(isocentre_mm=(1.0, 2.0, 3.0))
    assert dice_weights.box(read, geometry) == Box.of(geometry)
    fixed = weight_files.WeightFile("w", {"box_mm": [100.0, 90.0, 80.0]}, {}, "", "")
    assert dice_weights.box(fixed, geometry) == Box((1.0, 2.0, 3.0), (100.0, 90.0, 80.0))


def refused(match, path):
    with pytest.raises(InputError, match=match) as caught:
        dice_weights.load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_missing_or_damaged_is_refused(file, tmp_path):
    refused("does not exist", tmp_path / "absent.safetensors")
    whole = file.read_bytes()
    for content, match in (
        (whole[: len(whole) // 2], "cannot be read"),
        (b"", "cannot be read"),
        (whole[:-4] + b"\x01\x02\x03\x04", "checksum is wrong"),
    ):
        file.write_bytes(content)
        refused(match, file)


def test_weights_of_another_method_are_refused(tmp_path):
    compact_fixer.save(small_fixer(), tmp_path / "w.safetensors", {"anatomies": ["limb"]})
    refused("holds no weights of DiCE", tmp_path / "w.safetensors")


@pytest.mark.parametrize("how", ["missing", "unknown", "shape", "not finite", "other sizes", "no configuration"])
def test_weights_that_do_not_fit_their_card_are_refused(file, how):
    read = weight_files.read(file, dice_weights.FORMAT, "")
    arrays, card, name = dict(read.arrays), dict(read.card), "decoders.0.enter.0.weight"
    if how == "missing":
        del arrays[name]
    elif how == "unknown":
        arrays["more"] = np.zeros(1, np.float32)
    elif how == "shape":
        arrays[name] = arrays[name][:, :1].copy()
    elif how == "not finite":
        arrays[name] = np.full_like(arrays[name], np.nan)
    elif how == "other sizes":
        card["configuration"] = replace(SMALL, decoder=8).card()
    else:
        del card["configuration"]
    weight_files.write(file, dice_weights.FORMAT, card, arrays)
    says = {"missing": "is missing", "unknown": "more is unknown", "not finite": "not finite", "no configuration": "none of DiCE's"}
    refused(says.get(how, "is of shape"), file)


# --- the authors' --------------------------------------------------------------------------------------------------------------------


def released_scan(views=3, seed=0):
    """A scan in their geometry, with the angles and projections as their code has them."""
    angles = np.arange(views) * np.pi / views
    shape, pitch = (16, 16), DETECTOR_MM / 16
    geometry = Geometry.from_gantry_angles(angles + np.pi / 2, SOD_MM, SDD_MM, shape, (pitch, pitch))
    scan = Scan(8 * np.random.default_rng(seed).random((views, *shape)), geometry)
    density_per_m = 1000 * scan.mu_water * 2.0
    return scan, angles, scan.projections[:, ::-1].astype(float) / density_per_m / 0.2


@pytest.mark.parametrize("denoising, widths", [(True, (2, 3, 4)), (False, (2, 3, 4)), (True, (3, 2))])
def test_converted_weights_give_what_the_published_model_gives(denoising, widths):
    state = state_dict(widths, decoder=4, denoising=denoising)
    scan, angles, theirs = released_scan()
    index = np.random.default_rng(1).integers(0, 256, (40, 3))
    wanted = Release(state)(theirs, angles, index / 255)
    made = dice_release.from_release(state)
    assert made.configuration.denoising == denoising and made.configuration.widths == widths
    box = Box((0.0, 0.0, 0.0), (BOX_MM,) * 3)
    points = torch.from_numpy((2 * index + 1) / 256 - 1).float()
    with torch.no_grad():
        found = made([made.looks(scan, box)], points[None]).values[0]
    assert np.ptp(wanted) > 0.05
    np.testing.assert_allclose(found, wanted, atol=2e-3 * np.ptp(wanted))


def test_a_published_file_becomes_one_of_ours(tmp_path):
    state = {f"module.{name}": tensor for name, tensor in state_dict().items()}
    torch.save(state, tmp_path / "ep_400.pth")
    dice_release.convert(tmp_path / "ep_400.pth", tmp_path / "chest.safetensors", "chest", {"views": 6})
    made, file = dice_weights.load(tmp_path / "chest.safetensors")
    assert made.configuration.release and made.configuration.top == 2.024 and made.configuration.denoising
    assert file.card["anatomies"] == ["chest"] and file.card["box_mm"] == [409.6] * 3 and file.card["views"] == 6
    assert file.card["converted_from"] == "ep_400.pth" and "patent" in file.card["licence"]
    volume = reconstruct(made, released_scan()[0], Grid.centred((4, 4, 4), (90.0,) * 3), dice_weights.box(file, orbit()))
    assert volume.shape == (4, 4, 4) and np.isfinite(volume).all()


class Program:
    def __reduce__(self):
        return pytest.fail, ("it has run",)


def unreadable(tmp_path, match, content):
    path = tmp_path / "ep.pth"
    torch.save(content, path)
    with pytest.raises(InputError, match=match):
        dice_release.convert(path, tmp_path / "out.safetensors", "chest")
    assert not (tmp_path / "out.safetensors").exists()


def test_a_published_file_with_code_in_it_is_refused_without_running_it(tmp_path):
    unreadable(tmp_path, "damaged or holds code", {"model": Program()})


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": {}}])
def test_what_is_no_state_dict_is_refused(tmp_path, content):
    unreadable(tmp_path, "holds no state dict", content)


def changed(name, tensor):
    state = state_dict()
    if tensor is None:
        del state[name]
    else:
        state[name] = tensor
    return state


@pytest.mark.parametrize(
    "state, match",
    [
        ({"conv.weight": torch.zeros(3)}, "there is no cb.0"),
        (changed("decoders.1.layers.0.conv.0.weight", None), "decoders.1.residuals.0.layers.0.weight is missing"),
        (changed("encoder.more", torch.zeros(2)), "encoder.more is unknown"),
        (changed("cb.2.pre_quant.weight", torch.zeros(3, 2, 1, 1, 1)), "is of shape"),
        (changed("point_decoder.mlps.0.0.weight", torch.tensor(1.0)), "no weights of DeepSparse's model"),
        (changed("cb.1.codebook.embedding.weight", None), "no weights of DeepSparse's model"),
    ],
)
def test_weights_that_are_laid_out_otherwise_are_refused(tmp_path, state, match):
    unreadable(tmp_path, match, state)


def test_damaged_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        dice_release.convert(tmp_path / "ep.pth", tmp_path / "out", "chest")
    torch.save(state_dict(), tmp_path / "ep.pth")
    (tmp_path / "ep.pth").write_bytes((tmp_path / "ep.pth").read_bytes()[:500])
    with pytest.raises(InputError, match="damaged or holds code"):
        dice_release.convert(tmp_path / "ep.pth", tmp_path / "out", "chest")
    with pytest.raises(InputError, match="no published weights of 'foot': known are abdomen, chest"):
        dice_release.convert(tmp_path / "ep.pth", tmp_path / "out", "foot")
