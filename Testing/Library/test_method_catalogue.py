"""The file from which the panel knows the methods, without importing them."""

import json

import method_catalogue

from SparseCTReconLib import methods


def test_the_file_says_what_the_methods_say():
    assert method_catalogue.FILE.read_text(encoding="ascii") == method_catalogue.described(), (
        "run: python Testing/Library/method_catalogue.py"
    )


def test_every_method_has_an_option_that_is_not_advanced_and_presets_of_options_that_it_has():
    for about in json.loads(method_catalogue.described()):
        names = {option["name"] for option in about["options"]}
        assert any(not option["advanced"] for option in about["options"]), about["name"]
        assert all(set(values) <= names for values in about["presets"].values())
        assert next(iter(about["presets"].values())) == {}, "the first preset is the options' defaults"
    assert [about["name"] for about in json.loads(method_catalogue.described())] == methods.names()
