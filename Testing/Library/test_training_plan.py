"""Configurations of trainings: the examples that ship, defaults, values of the command line's own, and what is refused in a sentence."""

import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest
from train_cases import EXAMPLES

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.training import plan
from SparseCTReconLib.training.data import Drawn
from SparseCTReconLib.training.dice import Settings
from SparseCTReconLib.training.dice_examples import Stage
from SparseCTReconLib.training.plan import PLANS, Section, described, read
from SparseCTReconLib.training.prepared import RECIPES


def kind_of(path):
    """The plan that an example is for, which its name begins with."""
    return next(name for name in PLANS if path.name.startswith(name))


def refusal(name="dice", path=None, **changes):
    with pytest.raises(InputError) as caught:
        read(name, path, {key.replace("__", "."): value for key, value in changes.items()})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_there_is_an_example_for_every_training():
    assert {kind_of(path) for path in EXAMPLES} == set(PLANS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_read_and_say_all_that_a_card_needs(path):
    made = read(kind_of(path), path, {})
    assert made.data.cts and made.card.anatomies and made.card.credit and made.card.licence and made.output.weights
    assert made.model_dump(exclude_unset=True, mode="json") == tomllib.loads(path.read_text(encoding="utf-8"))


def test_without_a_file_the_defaults_are_those_of_the_training_itself():
    made = read("dice", None, {})
    assert Settings(**made.training.model_dump()) == Settings(made.training.steps)
    assert set(asdict(Drawn())) == set(read("xgrm", None, {}).scans.model_dump()), "all that can be drawn can be said"
    assert Drawn(**made.scans.model_dump()) == Drawn() and Stage(**made.stage.model_dump()) == Stage()
    assert made.data.how() == RECIPES["reconx"]
    assert read("dice", None, {"data.recipe": "bone", "data.voxels": "128"}).data.how().clip_hu == RECIPES["bone"].clip_hu


def test_the_command_lines_values_go_over_the_files(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("seed = 3\n[training]\nsteps = 7\nrate = 1e-3\n", encoding="utf-8")
    changes = {"training.steps": "9", "stage.few": "[4, 5]", "network.size": "full", "card.credit": "a b", "data.cts": ["x y", "z"]}
    made = read("dice", path, changes)
    assert (made.seed, made.training.steps, made.training.rate) == (3, 9, 1e-3)
    assert made.stage.few == (4, 5) and made.network.size == "full" and made.card.credit == "a b"
    assert made.data.cts == (Path("x y"), Path("z"))


def test_what_is_unknown_is_refused_with_what_is_nearest(tmp_path):
    assert "no key 'training.step'; did you mean 'steps'?" in refusal(training__step="4")
    assert "no key 'trainnig'; did you mean 'training'?" in refusal(trainnig__steps="4")
    assert "no key 'adapt'" in refusal(adapt__steps="4")
    assert "training='fast': it is a table: write [training]" in refusal(training="fast")
    assert "seed is no table" in refusal(seed="4", seed__more="4")
    path = tmp_path / "a.toml"
    path.write_text("[data]\nrecpie = 'bone'\n", encoding="utf-8")
    assert refusal(path=path) == f"{path}: no key 'data.recpie'; did you mean 'recipe'?"


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("training.steps", "0", "greater than or equal to 1"),
        ("training.rate", "fast", "valid number"),
        ("scans.half", "1.5", "less than or equal to 1"),
        ("network.size", "huge", "'compact' or 'views-alone'"),
        ("data.spacing_mm", "-1", "greater than 0"),
        ("stage.few", "[3]", "field required"),
        ("seed", "-1", "greater than or equal to 0"),
    ],
)
def test_a_value_out_of_its_bounds_is_refused_with_its_name(key, value, said):
    sentence = refusal(**{key: value})
    assert sentence.startswith(f"train dice: {key}") and said in sentence.lower()


def test_a_file_that_is_missing_or_no_toml_is_refused(tmp_path):
    assert "check the name" in refusal(path=tmp_path / "no.toml")
    (tmp_path / "a.yaml").write_text("training:\n  steps: 4\n", encoding="utf-8")
    assert "is no TOML" in refusal(path=tmp_path / "a.yaml") and "Resources/Training" in refusal(path=tmp_path / "a.yaml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    assert "is no TOML" in refusal(path=tmp_path / "b.toml")


@pytest.mark.parametrize("name", PLANS)
def test_every_value_has_its_help_and_what_is_listed_can_be_read_again(name):
    listed = list(described(name))
    keys = [key for key, _, _ in listed]
    assert len(keys) == len(set(keys)) == _count(PLANS[name]) and all(len(what) > 10 for _, _, what in listed)
    assert read(name, None, {key: default for key, default, _ in listed if default}) == PLANS[name]()
    assert any("(mm, > 0, <= 10)" in what for _, _, what in listed)


def _count(kind):
    defaults = [field.default for field in kind.model_fields.values()]
    return sum(_count(type(default)) if isinstance(default, Section) else 1 for default in defaults)


def test_sections_say_what_they_are():
    sections = [kind for kind in vars(plan).values() if isinstance(kind, type) and issubclass(kind, Section)]
    assert len(sections) > 10 and all(kind.__doc__ for kind in sections)
