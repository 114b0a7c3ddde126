"""The layout with linked views, on Slicer's own layout logic and slice logics; what the views show is looked at, not the widgets."""

import zipfile

import numpy as np
import pytest
from volumes_to_compare import reference_and_results

pytest.importorskip("vtk", reason="slicer-core is not installed (extra slicer-test)")


@pytest.fixture
def manager(host):
    yield host.show_views()
    host.hide_views()


@pytest.fixture
def views(host):
    from SparseCTReconPanel.compare_views import CompareViews

    return CompareViews()


def test_every_volume_has_a_view_over_the_reference(slicer, manager, views):
    reference, results = reference_and_results(slicer, 3)
    assert views.show(reference, results)
    assert manager.sliceViewNames() == [f"SparseCTReconVolume{n}" for n in range(4)]
    for n, result in enumerate(results, start=1):
        composite = slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceCompositeNodeSparseCTReconVolume{n}")
        assert composite.GetBackgroundVolumeID() == reference.GetID()
        assert composite.GetForegroundVolumeID() == result.GetID()
        assert composite.GetLinkedControl()


def test_the_views_are_linked_among_themselves_only(slicer, manager, views):
    reference, results = reference_and_results(slicer, 1)
    views.show(reference, results)
    groups = {name: manager.sliceWidget(name).mrmlSliceNode().GetViewGroup() for name in ("Red", *manager.sliceViewNames())}
    assert groups.pop("Red") not in groups.values() and len(set(groups.values())) == 1


def test_differences_have_views_of_their_own(slicer, manager, views):
    from SparseCTReconPanel.differences import difference

    reference, results = reference_and_results(slicer, 2)
    views.show(reference, results, [difference(reference, result) for result in results])
    assert manager.sliceViewNames()[-2:] == ["SparseCTReconDifference1", "SparseCTReconDifference2"]


@pytest.mark.parametrize("count", range(1, 7))
def test_one_to_six_results_find_room(slicer, manager, views, count):
    reference, results = reference_and_results(slicer, count)
    views.show(reference, results)
    assert len(manager.sliceViewNames()) == count + 1


def test_the_user_s_layout_comes_back(slicer, manager, views):
    reference, results = reference_and_results(slicer, 1)
    before = manager.layout
    views.show(reference, results)
    views.show(reference, results, orientation="Coronal")
    views.restore()
    assert manager.layout == before


def test_a_scene_that_is_saved_does_not_ask_for_a_layout_that_others_do_not_have(slicer, manager, views, tmp_path):
    reference, results = reference_and_results(slicer, 1)
    views.show(reference, results)
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "side by side.mrb"))
    views.restore()
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "before.mrb"))
    with_views, without = (_scene_text(tmp_path / f"{name}.mrb") for name in ("side by side", "before"))
    assert "currentViewArrangement" not in with_views and f'currentViewArrangement="{manager.layout}"' in without


def _scene_text(path):
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith(".mrml"))).decode("utf-8")


def test_a_layout_that_the_user_chose_meanwhile_stays(slicer, manager, views):
    reference, results = reference_and_results(slicer, 1)
    views.show(reference, results)
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    views.restore()
    assert manager.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView


def test_fading_goes_from_the_reference_to_the_result(slicer, manager, views):
    reference, (result,) = reference_and_results(slicer, 1)
    slicer.util.updateVolumeFromArray(result, np.full(slicer.util.arrayFromVolume(result).shape, 1000, np.float32))
    for node in (reference, result):
        node.GetDisplayNode().SetAutoWindowLevel(False)
        node.GetDisplayNode().SetWindowLevel(2000, 0)
    views.show(reference, [result])
    middle = []
    for fade in (0.0, 0.5, 1.0):
        views.setFade(fade)
        picture = manager.shown("SparseCTReconVolume1")
        middle.append(int(picture[100, 100, 0]))
    assert middle[0] < middle[1] < middle[2] and middle[2] == 255


def test_a_chart_is_shown_below(slicer, manager, views):
    from SparseCTReconPanel.profiles import LineProfile

    reference, results = reference_and_results(slicer, 1)
    profile = LineProfile([reference, *results])
    views.show(reference, results, chartNode=profile.chartNode)
    profile.close()
    plot = slicer.mrmlScene.GetNodeByID("vtkMRMLPlotViewNodeSparseCTReconProfile")
    assert plot.GetPlotChartNodeID() == profile.chartNode.GetID()


def test_without_a_main_window_nothing_is_shown_and_nothing_fails(slicer, views):
    reference, results = reference_and_results(slicer, 1)
    assert not views.show(reference, results)
    views.setFade(0.5)
    views.setOrientation("Coronal")
    views.restore()
    assert not views.shown


def test_volumes_deleted_under_the_views_do_no_harm(slicer, manager, views):
    reference, results = reference_and_results(slicer, 2)
    views.show(reference, results)
    slicer.mrmlScene.RemoveNode(results[0])
    views.setFade(0.3)
    slicer.mrmlScene.Clear(False)  # as File > Close scene does: the views' nodes stay
    views.setFade(0.7)
    views.setOrientation("Sagittal")
    views.restore()


def test_without_the_layout_the_slice_views_that_are_there_fade(slicer, host):
    from SparseCTReconPanel.compare_views import fadeInSliceViews

    reference, (result,) = reference_and_results(slicer, 1)
    fadeInSliceViews(reference, result, 0.25)
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        assert (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()) == (reference.GetID(), result.GetID())
        assert composite.GetForegroundOpacity() == 0.25
