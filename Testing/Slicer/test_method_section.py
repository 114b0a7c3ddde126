"""The section "Reconstruction": options generated from what the method says, devices, and what it will take."""

import json
import sys
from typing import Annotated

import numpy as np
import pytest
from pydantic import TypeAdapter

from SparseCTReconLib import machine, methods
from SparseCTReconLib.jobs.spec import parse_spec


def form_of(panel):
    from SparseCTReconPanel.method_section import MethodSection

    return panel.section(MethodSection).form


def editor_of(panel, name):
    return form_of(panel).editors[name]


@pytest.mark.parametrize("name", methods.names())
def test_every_option_of_a_method_has_a_widget_with_its_value_unit_bounds_and_help(panel, name):
    method = methods.get(name)
    panel.parameterNode.method = name
    defaults = method.Options().model_dump()
    editors = form_of(panel).editors
    assert set(editors) == set(defaults)
    for option, editor in editors.items():
        help_text = method.Options.model_fields[option].description
        assert editor.value() == defaults[option], option
        assert editor.widget.toolTip.startswith(help_text)
    basic = [editor for editor in editors.values() if panel.ui.basicOptionsWidget.isAncestorOf(editor.widget)]
    advanced = [editor for editor in editors.values() if panel.ui.advancedOptionsButton.isAncestorOf(editor.widget)]
    assert 0 < len(basic) <= 4
    assert len(basic) + len(advanced) == len(defaults)


@pytest.mark.parametrize(
    "option, shown",
    [("finer", ["1", "2"]), ("likeness", ["ssim", "l1"]), ("fixer", "shipped"), ("sd_turbo", ""), ("accept_sd_turbo_licence", False)],
)
def test_numbers_words_and_names_of_files_have_widgets_that_show_them_as_they_are(panel, option, shown):
    panel.parameterNode.method = "diffnr-naf"
    widget = editor_of(panel, option).widget
    found = [widget.itemText(n) for n in range(widget.count)] if hasattr(widget, "itemText") else getattr(widget, "text", None)
    assert (widget.checked if shown is False else found) == shown


def test_abbreviations_in_names_of_options_are_written_large():
    from SparseCTReconPanel.catalogue import label

    names = ("table_rate", "mci", "cg_steps", "accept_sd_turbo_licence")
    assert [label({"name": name}) for name in names] == ["Table rate", "MCI", "CG steps", "Accept SD turbo licence"]


@pytest.mark.parametrize("name", methods.names())
def test_a_widget_goes_as_far_as_the_bounds_of_its_option_and_the_library_takes_both_ends(panel, name):
    panel.parameterNode.method = name
    method = methods.get(name)
    for option, editor in form_of(panel).editors.items():
        if not hasattr(editor.widget, "maximum"):
            continue
        for end in (editor.widget.minimum, editor.widget.maximum):
            editor.widget.value = end
            field = method.Options.model_fields[option]
            TypeAdapter(Annotated[field.annotation, field]).validate_python(editor.value())


def test_the_presets_of_a_method_fill_its_options_and_another_method_forgets_them(panel):
    combo, parameters = panel.ui.methodPresetComboBox, panel.parameterNode
    parameters.method = "naf"
    assert [combo.itemText(i) for i in range(combo.count)] == list(methods.get("naf").presets)
    combo.currentIndex = combo.findText("paper")
    assert parameters.methodPreset == "paper"
    assert editor_of(panel, "iterations").value() == 150_000
    assert editor_of(panel, "table_rate").value() == 1e-3
    parameters.method = "admm-tv"
    assert parameters.methodPreset == "" and combo.currentText == "recommended"


def test_only_what_differs_from_the_preset_is_kept_and_sent(acting_panel, actor, until):
    panel = acting_panel
    panel.parameterNode.method = "naf"
    editor_of(panel, "smoothness").widget.value = 0.75
    editor_of(panel, "iterations").widget.value = 500
    editor_of(panel, "iterations").widget.value = 100
    assert json.loads(panel.parameterNode.methodOptions) == {"naf": {"smoothness": 0.75}}
    panel.ui.applyButton.click()
    until(lambda: not panel.run.active)
    assert parse_spec(actor.jobs[-1]).options == {"smoothness": 0.75}


def test_options_are_kept_for_each_method_and_with_the_scene(panel, slicer, host, tmp_path):
    panel.parameterNode.method = "cgls"
    editor_of(panel, "iterations").widget.value = 33
    panel.parameterNode.method = "admm-tv"
    editor_of(panel, "iterations").widget.value = 77
    panel.ui.methodComboBox.currentIndex = methods.names().index("cgls")
    assert editor_of(panel, "iterations").value() == 33
    file = tmp_path / "sc\u00e8ne \u00e9.mrb"
    assert slicer.mrmlScene.WriteToMRB(str(file))
    slicer.mrmlScene.Clear(True)
    assert slicer.mrmlScene.ReadFromMRB(str(file))
    panel.enter()
    assert panel.parameterNode.method == "cgls" and editor_of(panel, "iterations").value() == 33
    panel.parameterNode.method = "admm-tv"
    assert editor_of(panel, "iterations").value() == 77


def test_an_option_that_may_be_left_out_goes_back_to_the_methods_own_choice(panel):
    panel.parameterNode.method = "admm-tv"
    editor = editor_of(panel, "iterations")
    assert editor.widget.text == "default"
    editor.widget.value = 50
    assert editor.widget.text == "50 passes" and editor.value() == 50
    editor.widget.value = editor.widget.minimum
    assert json.loads(panel.parameterNode.methodOptions) == {}


def test_reset_takes_back_what_was_set_and_a_preset_lets_go_of_it_too(panel):
    panel.parameterNode.method = "naf"
    assert not panel.ui.resetOptionsButton.enabled
    editor_of(panel, "layer_norm").widget.click()
    editor_of(panel, "network").widget.currentIndex = 2
    assert panel.ui.advancedOptionsButton.text == "Advanced (2 changed)"
    panel.ui.resetOptionsButton.click()
    assert panel.parameterNode.methodOptions == "{}" and editor_of(panel, "layer_norm").value() is True
    editor_of(panel, "mci").widget.text = "head"
    editor_of(panel, "mci").widget.editingFinished.emit()
    assert json.loads(panel.parameterNode.methodOptions) == {"naf": {"mci": "head"}}
    panel.ui.methodPresetComboBox.currentIndex = 1
    assert panel.parameterNode.methodOptions == "{}"


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"naf": 3}', '{"naf": {"levels": 99, "gone": 1, "decay": "yes", "rays": true}}'])
def test_options_of_a_scene_that_this_version_does_not_take_are_passed_over(panel, text):
    panel.parameterNode.methodOptions = text
    panel.parameterNode.method = "naf"
    assert editor_of(panel, "levels").value() == 8
    assert not panel.ui.resetOptionsButton.enabled


def test_a_click_puts_the_citation_on_the_clipboard(panel, slicer):
    panel.parameterNode.method = "fdk"
    panel.ui.citeButton.click()
    assert slicer.app.clipboard().text() == methods.get("fdk").citation


def test_what_a_method_needs_is_said_with_whether_it_is_there(panel, monkeypatch):
    from SparseCTReconPanel.method_section import MethodSection

    from SparseCTReconLib import resources

    panel.parameterNode.method = "fdk"
    assert panel.ui.methodNeedsLabel.text == "Runs on the CPU; needs no pretrained weights."
    monkeypatch.setattr(panel.section(MethodSection).devices, "gpus", [])
    panel.parameterNode.method = "naf"
    assert panel.ui.methodNeedsLabel.text == "Runs on the CPU or on an NVIDIA GPU (none found); its pretrained weights are installed."
    monkeypatch.setattr(panel.section(MethodSection).devices, "gpus", [machine.GPU("NVIDIA RTX A2000", None, None)])
    panel.parameterNode.views = 48
    assert "an NVIDIA GPU (found: NVIDIA RTX A2000);" in panel.ui.methodNeedsLabel.text

    def find(name):
        raise resources.InputError("gone")

    monkeypatch.setattr(resources, "find", find)
    panel.parameterNode.views = 49
    assert "weights are missing: restoration" in panel.ui.methodNeedsLabel.text
    assert "Pretrained weights are missing" in panel.ui.adviceLabel.text


def test_weights_of_the_users_own_count_as_installed(monkeypatch, tmp_path):
    from SparseCTReconPanel.catalogue import missingWeights

    from SparseCTReconLib import resources, weights

    monkeypatch.setattr(resources, "_PLACES", ())
    monkeypatch.setenv(weights.VARIABLE, str(tmp_path))
    monkeypatch.setenv("SPARSECTRECON_CACHE", str(tmp_path / "cache"))
    assert missingWeights("deepsparse") == ["deepsparse_limb"]
    (tmp_path / "deepsparse_limb.safetensors").touch()
    assert missingWeights("deepsparse") == [] and missingWeights("x-grm") == ["x-grm_limb"]


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A machine whose driver says what is written to the returned file."""
    said = tmp_path / "said"
    said.write_text("NVIDIA RTX A2000, 12288, 11020\n")
    program = tmp_path / "nvidia-smi"
    program.write_text(f'#!/bin/sh\ncat "{said}"\n')
    program.chmod(0o755)
    import os

    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return said


def test_the_gpu_is_listed_with_its_memory_without_importing_torch(driver, host, until):
    loaded = "torch" in sys.modules
    panel = host.open("SparseCTRecon")
    until(lambda: "A2000" in panel.ui.deviceComboBox.itemText(2))
    assert panel.ui.deviceComboBox.itemText(2) == "GPU (NVIDIA RTX A2000, 12 GB)"
    assert panel.ui.deviceComboBox.itemText(1).startswith("CPU (")
    assert loaded or "torch" not in sys.modules
    panel.cleanup()


def test_a_gpu_that_is_not_there_is_said_before_apply_with_a_way_out(panel, monkeypatch, until):
    from SparseCTReconPanel.method_section import MethodSection

    devices = panel.section(MethodSection).devices
    until(lambda: devices.gpus is not None)
    monkeypatch.setattr(devices, "gpus", [])
    panel.parameterNode.method = "naf"
    panel.ui.deviceComboBox.currentIndex = 2
    assert panel.parameterNode.device == "cuda"
    assert panel.ui.adviceWidget.visible and panel.ui.adviceLabel.text == "No NVIDIA GPU was found on this machine."
    panel.ui.adviceButton.click()
    assert panel.parameterNode.device == "cpu" and panel.ui.deviceComboBox.currentIndex == 1
    assert not panel.ui.adviceWidget.visible


def test_a_pytorch_without_cuda_is_said_before_apply(panel, ct, monkeypatch):
    from SparseCTReconPanel import devices as module
    from SparseCTReconPanel.method_section import MethodSection

    devices = panel.section(MethodSection).devices
    monkeypatch.setattr(devices, "gpus", [machine.GPU("NVIDIA RTX A2000", 12 << 30, 11 << 30)])
    monkeypatch.setattr(module.importlib.metadata, "version", lambda name: "2.13.0+cpu")
    panel.parameterNode.method = "naf"
    panel.parameterNode.device = "cuda"
    assert panel.ui.adviceLabel.text.startswith("The installed PyTorch is a build for the CPU only")
    panel.ui.adviceButton.click()
    monkeypatch.setattr(module.importlib.metadata, "version", lambda name: "2.13.0+cu129")
    panel.parameterNode.device = "cuda"
    assert not panel.ui.adviceWidget.visible
    panel.ui.inputSelector.setCurrentNode(ct)
    assert "of 11.8 GB free memory" in panel.ui.estimateLabel.text


def test_a_method_without_cuda_is_said_to_run_on_the_cpu_only(panel):
    panel.parameterNode.method = "fdk"
    panel.parameterNode.device = "cuda"
    assert panel.ui.adviceLabel.text == "FDK runs on the CPU only."


def test_memory_is_said_before_apply_and_coarser_voxels_make_it_fit(panel, ct, slicer, monkeypatch):
    slicer.util.updateVolumeFromArray(ct, np.zeros((60, 60, 60), np.int16))
    monkeypatch.setattr(machine, "available_memory_bytes", lambda: int(0.53e9))
    panel.ui.inputSelector.setCurrentNode(ct)
    panel.parameterNode.method = "fdk"
    panel.ui.viewsSpinBox.value = 10
    fits = panel.ui.estimateLabel.text
    assert fits.startswith("60 x 60 x 60 voxels, about 0.5 GB of 0.5 GB free memory")
    assert not panel.ui.adviceWidget.visible
    panel.parameterNode.method = "inr"
    assert panel.ui.adviceLabel.text == "This will not fit into the memory that is free."
    assert panel.ui.adviceButton.visible and panel.ui.adviceButton.text.endswith("mm voxels")
    panel.ui.adviceButton.click()
    assert panel.parameterNode.voxelSize > 2.5
    assert not panel.ui.adviceWidget.visible


def test_the_time_is_that_of_the_nearest_measurement_scaled(panel, ct, monkeypatch):
    from SparseCTReconLib import evidence

    row = {"method": "cgls", "preset": "recommended", "volume": "head", "views": 50, "budget_s": 60.0, "size": 20, "device": "cpu"}
    monkeypatch.setattr(evidence, "load", lambda: [row | {"psnr_db": 30.0, "seconds": 10.0, "steps": "15 of 15"}])
    panel.ui.inputSelector.setCurrentNode(ct)
    panel.parameterNode.device = "cpu"
    panel.parameterNode.method = "cgls"
    assert panel.ui.estimateLabel.text.endswith("free memory, about 10 s.")
    panel.ui.viewsSpinBox.value = 100
    assert panel.ui.estimateLabel.text.endswith("about 20 s.")
    panel.parameterNode.method = "fdk"
    assert panel.ui.estimateLabel.text.endswith("free memory; how long is not known for these settings.")
    panel.parameterNode.method = "cgls"
    editor_of(panel, "iterations").widget.value = 99
    assert "how long is not known" in panel.ui.estimateLabel.text


def test_what_a_scan_on_disk_will_take_is_said_to_be_unknown_and_how_to_know_it(panel, ct):
    panel.ui.inputSelector.setCurrentNode(ct)
    assert "voxels" in panel.ui.estimateLabel.text
    panel.ui.sourceComboBox.currentIndex = 2
    assert panel.ui.estimateLabel.visible
    assert panel.ui.estimateLabel.text == "Not known for a scan on disk: load it into the scene."


def test_round_voxel_sizes_are_offered():
    from SparseCTReconPanel.estimate import duration, rounded

    assert [rounded(n) for n in (0.31, 1.0, 1.26, 2.01, 9.5)] == pytest.approx([0.4, 1.0, 1.5, 2.5, 10.0])
    assert [duration(n) for n in (0.2, 75, 600, 9000)] == ["1 s", "75 s", "10 min", "2.5 h"]
