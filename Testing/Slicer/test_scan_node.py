"""Scans in the scene: volume nodes that hold the projections and, in sealed attributes, how they were measured."""

import json

import numpy as np
import pytest
from acting_worker import small_scan

from SparseCTReconLib import formats
from SparseCTReconLib.jobs.client import JobState
from SparseCTReconLib.jobs.spec import parse_spec

pytest.importorskip("vtk", reason="slicer-core is not installed (extra slicer-test)")


@pytest.fixture
def scan_node(slicer):
    from SparseCTReconPanel.scan_node import createScanNode

    return createScanNode(small_scan(seed=4), "Mine")


def tasks(actor):
    return [job["task"] for job in actor.jobs]


def refusal(call, *arguments, **keywords):
    with pytest.raises(ValueError) as error:
        call(*arguments, **keywords)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_scan_is_the_same_after_it_was_a_node(scan_node):
    from SparseCTReconPanel.scan_node import scanOf

    before, after = small_scan(seed=4), scanOf(scan_node)
    assert after.content_hash() == before.content_hash()
    assert (after.photons, after.mu_water, after.provenance) == (before.photons, before.mu_water, before.provenance)
    assert after.geometry.isocentre_mm == before.geometry.isocentre_mm


def test_columns_rows_and_views_of_the_projections_are_those_of_the_volume(slicer, scan_node):
    assert scan_node.GetImageData().GetDimensions() == (8, 6, 6)
    slicer.util.arrayFromVolume(scan_node)[2, 3, 4] = 77
    assert scan_node.GetImageData().GetScalarComponentAsFloat(4, 3, 2, 0) == 77


def test_a_scene_with_a_scan_survives_an_mrb_file(slicer, ct, logic, actor, tmp_path):
    from SparseCTReconPanel.scan_node import ctOf, scanOf

    node = logic.simulate(ct, views=9)
    name, before = node.GetName(), scanOf(node).content_hash()
    place = tmp_path / "Ordner mit Ümlaut 頭"
    place.mkdir()
    assert slicer.mrmlScene.WriteToMRB(str(place / "scene.mrb"))
    slicer.mrmlScene.Clear(True)
    assert slicer.mrmlScene.ReadFromMRB(str(place / "scene.mrb"))
    back = slicer.util.getNode(name)
    assert scanOf(back).content_hash() == before
    assert scanOf(back).provenance == small_scan(seed=0).provenance
    assert ctOf(back).GetName() == "Oblique CT"
    assert logic.simulate(ctOf(back), views=9) is back
    assert tasks(actor) == ["simulate"]


@pytest.mark.parametrize(
    ("attribute", "change"),
    [
        ("geometry", lambda text: text.replace("[[0.0,-1000.0", "[[0.0,-990.0") if "[[0.0,-1000.0" in text else "x" + text[1:]),
        ("geometry", lambda text: json.dumps(json.loads(text) | {"isocentre": [0, 0, 9]})),
        ("geometry", lambda text: json.dumps(json.loads(text) | {"shape": [6]})),
        ("geometry", lambda text: json.dumps(json.loads(text) | {"source": [[None, 0, 0]]})),
        ("geometry", lambda text: text[:-5]),
        ("geometry", lambda text: "[]"),
        ("geometry", lambda text: None),
        ("photons", lambda text: "2e5"),
        ("photons", lambda text: "many"),
        ("muWater", lambda text: "0.03"),
        ("provenance", lambda text: "[]"),
        ("provenance", lambda text: "{}"),
        ("units", lambda text: "line integrals, cm, LPS"),
        ("voxels", lambda text: "00000000"),
        ("seal", lambda text: None),
        ("scan", lambda text: "2"),
    ],
)
def test_a_scan_whose_attributes_were_edited_is_refused_in_a_sentence(scan_node, logic, attribute, change):
    key = f"SparseCTRecon.{attribute}"
    new = change(scan_node.GetAttribute(key))
    scan_node.RemoveAttribute(key) if new is None else scan_node.SetAttribute(key, new)
    message = refusal(logic.start, scanVolume=scan_node)
    assert "Mine" in message
    assert "load the scan again" in message or "install a newer" in message


def test_a_volume_that_is_no_scan_is_refused_by_name(ct, logic):
    assert refusal(logic.start, scanVolume=ct).startswith("Oblique CT is no scan")


def test_a_scan_without_its_voxels_or_with_others_is_refused(slicer, scan_node, logic):
    slicer.util.updateVolumeFromArray(scan_node, np.zeros((5, 6, 8), np.float32))
    assert "5 x 6 x 8 pixels (views, rows, columns), its geometry is for 6 x 6 x 8" in refusal(logic.start, scanVolume=scan_node)
    scan_node.SetAndObserveImageData(None)
    assert "0 x 0 x 0" in refusal(logic.start, scanVolume=scan_node)


def test_projections_that_are_not_finite_are_refused_by_name(slicer, scan_node, logic):
    slicer.util.arrayFromVolume(scan_node)[1, 1, 1] = np.nan
    assert refusal(logic.start, scanVolume=scan_node).startswith("Mine: view 1 has values that are not finite")


def test_a_job_gets_the_scan_as_a_folder_that_the_library_reads(slicer, scan_node, logic, actor, finished):
    assert finished(logic.start(scanVolume=scan_node)).state is JobState.DONE
    finished(logic.start(scanVolume=scan_node, method="cgls"))
    first, second = (job["scan"] for job in actor.jobs)
    assert first == second
    assert formats.read_scan(first).content_hash() == small_scan(seed=4).content_hash()
    slicer.util.arrayFromVolume(scan_node)[0] += 1
    slicer.util.arrayFromVolumeModified(scan_node)
    finished(logic.start(scanVolume=scan_node))
    changed = formats.read_scan(actor.jobs[-1]["scan"])
    assert changed.content_hash() != small_scan(seed=4).content_hash()
    assert "changed after" in changed.provenance["edited"]


def test_a_scan_is_simulated_once_and_used_again(ct, logic, actor, finished):
    first = finished(logic.start(ct))
    again = finished(logic.start(ct, method="cgls"))
    assert tasks(actor) == ["simulate", "reconstruct", "reconstruct"]
    assert actor.jobs[1]["scan"] == actor.jobs[2]["scan"]
    assert first.scanNode.GetName() == "Oblique CT scan, 50 views"
    assert again.scanNode is None
    assert logic.simulate(ct) is first.scanNode


@pytest.mark.parametrize("change", ["views", "seed", "machine", "CT", "scan", "deleted scan"])
def test_a_scan_is_simulated_again_once_something_of_it_has_changed(slicer, ct, logic, actor, finished, change):
    node = finished(logic.start(ct)).scanNode
    changes = {"views": {"views": 51}, "seed": {"seed": 1}, "machine": {"offset": 12.0}}.get(change, {})
    if change == "CT":
        slicer.util.arrayFromVolume(ct)[5, 5, 5] += 1
    if change == "scan":
        slicer.util.arrayFromVolume(node)[0, 0, 0] += 1
    if change == "deleted scan":
        slicer.mrmlScene.RemoveNode(node)
    finished(logic.start(ct, **changes))
    assert tasks(actor) == ["simulate", "reconstruct"] * 2


def test_what_the_detector_is_reaches_the_job(ct, logic, actor, finished):
    finished(logic.startSimulation(ct, preset="c-arm", columns=400, pixelSize=0.9, offset=-20.0, arc=190.0))
    finished(logic.startSimulation(ct, preset="linac-half-fan", offset=0.0))
    finished(logic.startSimulation(ct, preset="c-arm"))
    own, centred, plain = (parse_spec(job) for job in actor.jobs)
    assert (own.detector_shape, own.pixel_mm, own.offset_mm, own.arc_deg) == ((248, 400), (0.9, 0.9), (-20.0, 0.0), 190.0)
    assert (centred.offset_mm, centred.detector_shape, centred.pixel_mm) == ((0.0, 0.0), None, None)
    assert (plain.offset_mm, plain.arc_deg) == (None, None)


def test_a_simulation_alone_makes_a_scan_and_no_volume(slicer, ct, logic, actor, finished):
    run = finished(logic.startSimulation(ct, views=7))
    assert run.state is JobState.DONE, run.error
    assert run.outputNode is None
    assert run.message == "Oblique CT scan, 7 views is ready."
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == [ct, run.scanNode]
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    assert hierarchy.GetItemName(hierarchy.GetItemParent(hierarchy.GetItemByDataNode(run.scanNode))) == "Study"


@pytest.mark.parametrize("ending", ["error", "dies"])
def test_a_reconstruction_that_fails_takes_its_scan_out_of_the_scene_again(slicer, ct, logic, actor, finished, ending):
    actor.ending = ending
    run = finished(logic.start(ct))
    assert run.state is JobState.FAILED
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == [ct]
    from pathlib import Path

    assert not Path(actor.jobs[1]["scan"]).exists()


def test_a_simulation_that_is_cancelled_leaves_nothing(slicer, ct, logic, actor, until, finished):
    from pathlib import Path

    actor.ending = "waits in the simulation"
    run = logic.startSimulation(ct)
    until(lambda: actor.jobs)
    run.cancel()
    assert finished(run).state is JobState.CANCELLED
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == [ct]
    assert not Path(actor.jobs[0]["output"]).parent.exists()
    assert not run.folder.exists()


def test_a_ct_that_is_deleted_while_its_scan_is_simulated_does_not_stop_it(slicer, ct, logic, actor, until, finished):
    run = logic.startSimulation(ct)
    until(lambda: actor.jobs)
    slicer.mrmlScene.RemoveNode(ct)
    assert finished(run).state is JobState.DONE
    assert run.scanNode.GetNodeReference("SparseCTRecon.ct") is None


def test_a_scan_that_is_deleted_while_it_is_reconstructed_does_not_stop_it(slicer, ct, logic, actor, until, finished):
    run = logic.start(ct)
    until(lambda: run.previews >= 1)
    slicer.mrmlScene.RemoveNode(run.scanNode)
    assert finished(run).state is JobState.DONE


def test_closing_the_scene_stops_a_simulation_and_says_so(slicer, ct, logic, actor, until):
    actor.ending = "waits in the simulation"
    run = logic.startSimulation(ct)
    until(lambda: actor.jobs)
    slicer.mrmlScene.Clear(False)
    assert run.state is JobState.CANCELLED
    assert "scene was closed" in run.message
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0


def test_no_folder_of_a_scan_outlives_the_logic_or_its_node(slicer, ct, logic, actor, finished):
    from pathlib import Path

    node = finished(logic.start(ct)).scanNode
    folder = Path(actor.jobs[-1]["scan"])
    slicer.mrmlScene.RemoveNode(node)
    other = finished(logic.start(ct, views=4)).scanNode
    assert not folder.parent.exists()
    kept = logic.scanFolders.folderOf(other)
    assert kept.is_dir()
    logic.stopAll("Slicer was closed.")
    assert not kept.parent.exists()


def test_a_result_lies_on_the_voxels_of_the_ct_that_the_scan_was_simulated_from(slicer, ct, logic, actor, finished):
    from SparseCTReconPanel.scan_node import createScanNode
    from SparseCTReconPanel.scene import gridOf

    node = createScanNode(small_scan(ct_grid=gridOf(ct)), "From the command line")
    finished(logic.start(scanVolume=node))
    assert actor.jobs[0]["grid"]["size"] == [22, 20, 18]
    broken = createScanNode(small_scan(ct_grid={"size": [2]}), "Broken")
    assert "SparseCTRecon.provenance" in refusal(logic.start, scanVolume=broken)


def test_a_result_moves_with_the_ct_of_its_scan(slicer, ct, logic, actor, finished):
    node = logic.simulate(ct)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    ct.SetAndObserveTransformNodeID(transform.GetID())
    result = finished(logic.start(scanVolume=node)).outputNode
    assert result.GetTransformNodeID() == transform.GetID()
    assert result.GetName() == "Oblique CT fdk"


def test_neither_is_a_scan_taken_for_a_ct_nor_overwritten_by_a_result(ct, scan_node, logic):
    assert "Mine is a scan: select the CT" in refusal(logic.start, scan_node)
    assert "Mine is a scan: choose another volume" in refusal(logic.start, ct, scan_node)
