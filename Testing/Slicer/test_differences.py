"""Difference volumes and how volumes are shown, on Slicer's own nodes."""

import json

import numpy as np
import pytest
from volumes_to_compare import add_volume, body, reference_and_results

pytest.importorskip("vtk", reason="slicer-core is not installed (extra slicer-test)")
PRESETS_SCHEMA = (
    "https://raw.githubusercontent.com/Slicer/Slicer/main/Modules/Loadable/Volumes/Resources/Schema/"
    "volumes-display-presets-schema-v1.0.1.json#"
)


@pytest.fixture
def differences(host):
    from SparseCTReconPanel import differences

    return differences


def test_a_difference_is_the_result_minus_the_reference_in_the_result_s_place(slicer, differences):
    reference, (result,) = reference_and_results(slicer, 1)
    node = differences.difference(reference, result)
    assert np.allclose(slicer.util.arrayFromVolume(node), 10)
    assert node.GetOrigin() == result.GetOrigin() and node.GetSpacing() == result.GetSpacing()
    assert node.GetName() == "Result 1 minus CT"


def test_a_difference_between_two_grids_samples_the_reference_on_the_result_s(slicer, differences):
    z, y, x = np.mgrid[:20, :20, :20]
    reference = add_volume(slicer, "ramp", (100 * x + 10 * y + z).astype(np.float32), spacing=(1, 1, 1), origin=(0, 0, 0))
    result = add_volume(slicer, "coarse", np.zeros((4, 5, 6), np.float32), spacing=(2, 3, 1.5), origin=(1.5, 2, 3))
    values = slicer.util.arrayFromVolume(differences.difference(reference, result))
    k, j, i = np.mgrid[:4, :5, :6]
    assert np.allclose(values, -(100 * (1.5 + 2 * i) + 10 * (2 + 3 * j) + 3 + 1.5 * k), atol=1e-3)


def test_voxels_outside_the_reference_show_no_difference(slicer, differences):
    reference = add_volume(slicer, "CT", body())
    result = add_volume(slicer, "shifted", body() + np.float32(5), origin=(10.0 + 2 * 8, -20.0, 30.0))
    values = slicer.util.arrayFromVolume(differences.difference(reference, result))
    assert np.all(values[:, :, 8:] == 0) and not np.all(values[:, :, :8] == 0)


def test_whole_numbers_that_are_far_apart_are_subtracted_too(slicer, differences):
    low, high = (np.full((3, 4, 5), value, np.int16) for value in (-30000, 30000))
    node = differences.difference(add_volume(slicer, "low", low), add_volume(slicer, "high", high))
    assert np.all(slicer.util.arrayFromVolume(node) == 60000)


def test_transforms_above_the_volumes_count(slicer, differences):
    reference, (result,) = reference_and_results(slicer, 1)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([1.0, 1, 1, 1]) + np.eye(4, k=3) * 50))
    for node in (reference, result):
        node.SetAndObserveTransformNodeID(transform.GetID())
    node = differences.difference(reference, result)
    assert np.allclose(slicer.util.arrayFromVolume(node), 10)
    assert node.GetTransformNodeID() == transform.GetID()


def test_volumes_that_do_not_overlap_are_said_to_and_nothing_is_made(slicer, differences):
    reference = add_volume(slicer, "CT", body())
    result = add_volume(slicer, "elsewhere", body(), origin=(1000, 1000, 1000))
    before = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(ValueError, match="CT and elsewhere do not overlap"):
        differences.difference(reference, result)
    assert slicer.mrmlScene.GetNumberOfNodes() == before


def test_a_volume_that_is_not_in_hu_is_not_subtracted(slicer, differences):
    reference, (result,) = reference_and_results(slicer, 1)
    result.SetAttribute("SparseCTRecon.unit", "1/mm")
    with pytest.raises(ValueError, match="Result 1 holds values in 1/mm"):
        differences.difference(reference, result)


def test_a_difference_is_made_anew_only_where_one_of_both_has_changed(slicer, differences):
    reference, (result,) = reference_and_results(slicer, 1)
    assert not differences.isUpToDate(reference, result)
    differences.difference(reference, result)
    assert differences.isUpToDate(reference, result)
    for node in (result, reference):
        slicer.util.arrayFromVolumeModified(node)
        assert not differences.isUpToDate(reference, result)
        differences.difference(reference, result)


def test_a_difference_is_made_anew_where_one_of_both_has_moved(slicer, differences):
    reference, (result,) = reference_and_results(slicer, 1)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.eye(4) + 4 * np.eye(4, k=3)))

    def both_move():
        for node in (reference, result):
            node.SetOrigin(11, -20, 30)

    for move in (
        lambda: reference.SetOrigin(12, -20, 30),
        lambda: result.SetAndObserveTransformNodeID(transform.GetID()),
        lambda: transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.eye(4))),
        both_move,
    ):
        differences.difference(reference, result)
        assert differences.isUpToDate(reference, result)
        move()
        assert not differences.isUpToDate(reference, result)


def test_volumes_that_move_together_keep_their_difference(slicer, differences):
    reference, (result,) = reference_and_results(slicer, 1)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    for node in (reference, result):
        node.SetAndObserveTransformNodeID(transform.GetID())
    differences.difference(reference, result)
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.eye(4) + 0.3 * np.eye(4, k=3)))
    assert differences.isUpToDate(reference, result)


def test_a_volume_that_a_transform_bends_is_refused(slicer, differences):
    import vtk

    reference, (result,) = reference_and_results(slicer, 1)
    bend = vtk.vtkThinPlateSplineTransform()
    points = vtk.vtkPoints()
    for point in ((0, 0, 0), (10, 0, 0), (0, 10, 0), (0, 0, 10)):
        points.InsertNextPoint(point)
    bend.SetSourceLandmarks(points)
    bend.SetTargetLandmarks(points)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    transform.SetAndObserveTransformToParent(bend)
    result.SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(ValueError, match="harden the transform"):
        differences.difference(reference, result)


def test_a_second_difference_of_the_same_two_is_the_same_node(slicer, differences):
    reference, (result,) = reference_and_results(slicer, 1)
    first = differences.difference(reference, result)
    slicer.util.updateVolumeFromArray(result, body().astype(np.float32) - 3)
    second = differences.difference(reference, result)
    assert first is second and np.allclose(slicer.util.arrayFromVolume(second), -3)


def test_no_difference_is_made_of_a_volume_that_was_deleted_meanwhile(slicer, differences):
    for deleted in (0, 1):
        reference, (result,) = reference_and_results(slicer, 1)
        steps = differences.differenceInSteps(reference, result)
        next(steps)
        slicer.mrmlScene.RemoveNode((reference, result)[deleted])
        before = slicer.mrmlScene.GetNumberOfNodes()
        with pytest.raises(ValueError, match=f"{('CT', 'Result 1')[deleted]} was deleted"):
            list(steps)
        assert slicer.mrmlScene.GetNumberOfNodes() == before


def test_the_colours_diverge_from_a_dark_middle_and_end_at_the_range(slicer, differences):
    reference, (result,) = reference_and_results(slicer, 1)
    node = differences.difference(reference, result)
    differences.setRange(node, 150)
    display = node.GetDisplayNode()
    assert (display.GetWindow(), display.GetLevel()) == (300, 0)
    table = display.GetColorNode().GetLookupTable()
    low, middle, high = (np.array(table.GetTableValue(n)[:3]) for n in (60, 127, 194))
    assert middle.sum() < 0.3 and low[2] > low[0] and high[0] > high[2]


def test_a_bar_says_which_colour_is_how_many_hu(slicer, differences):
    reference, (result,) = reference_and_results(slicer, 1)
    node = differences.difference(reference, result)
    (legend,) = slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")
    assert legend.GetPrimaryDisplayNode() is node.GetDisplayNode() and legend.GetTitleText() == "Difference, HU"
    differences.removeDifferences()
    assert not slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")


def test_the_colours_are_made_once_and_saved_with_the_scene(slicer, differences, tmp_path):
    reference, results = reference_and_results(slicer, 2)
    nodes = [differences.difference(reference, result) for result in results]
    assert len({node.GetDisplayNode().GetColorNodeID() for node in nodes}) == 1
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(True)
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    node = slicer.util.getNode("Result 1 minus CT")
    assert differences.isDifference(node)
    assert differences.isDifference(node.GetDisplayNode().GetColorNode())
    assert differences.findDifference(slicer.util.getNode("CT"), slicer.util.getNode("Result 1")) is node


def test_differences_can_be_taken_away_again(slicer, differences):
    reference, results = reference_and_results(slicer, 2)
    before = {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLVolumeNode")}
    for result in results:
        differences.difference(reference, result)
    differences.removeDifferences()
    assert {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLVolumeNode")} == before


def test_a_display_preset_that_slicer_does_not_have_is_said(slicer, host):
    from SparseCTReconPanel import display

    reference, _results = reference_and_results(slicer, 0)
    with pytest.raises(ValueError, match="no display preset CT_NONSENSE"):
        display.applyWindowPreset([reference], "CT_NONSENSE")


def test_a_display_preset_is_slicer_s_own(slicer, host, monkeypatch, tmp_path):
    from SparseCTReconPanel import display

    preset = {"id": "CT_BONE", "name": "CT-Bone", "description": "", "icon": "", "window": 1000.0, "level": 400.0}
    presets = {"$schema": PRESETS_SCHEMA, "volumeDisplayPresets": [preset | {"color": "vtkMRMLColorTableNodeGrey"}]}
    (tmp_path / "VolumeDisplayPresets.json").write_text(json.dumps(presets), encoding="utf-8")
    logic = slicer.vtkSlicerVolumesLogic()
    logic.SetMRMLScene(slicer.mrmlScene)
    logic.SetModuleShareDirectory(str(tmp_path))
    monkeypatch.setattr(slicer.modules.volumes, "logic", lambda: logic)
    reference, (result,) = reference_and_results(slicer, 1)
    display.applyWindowPreset([reference, result], "CT_BONE")
    assert [(n.GetDisplayNode().GetWindow(), n.GetDisplayNode().GetLevel()) for n in (reference, result)] == [(1000, 400)] * 2
