"""Line profiles: a markups line, a table and a chart that follow it."""

import numpy as np
import pytest
from volumes_to_compare import add_volume, body, reference_and_results

pytest.importorskip("vtk", reason="slicer-core is not installed (extra slicer-test)")


@pytest.fixture
def profile_of(host):
    from SparseCTReconPanel.profiles import LineProfile

    made = []

    def make(volumes, line=None):
        made.append(LineProfile(volumes, line))
        return made[-1]

    yield make
    for one in made:
        one.close()


def line_between(slicer, *points):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsLineNode")
    for point in points:
        node.AddControlPointWorld(*point)
    return node


def column(slicer, profile, node):
    return np.array(slicer.util.arrayFromTableColumn(profile.tableNode, node.GetID()))


def test_a_profile_has_a_curve_for_each_volume(slicer, profile_of):
    reference, results = reference_and_results(slicer, 2)
    profile = profile_of([reference, *results])
    chart = profile.chartNode
    series = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
    assert [one.GetName() for one in series] == ["CT", "Result 1", "Result 2"]
    assert len({one.GetColor() for one in series}) == 3
    values = [column(slicer, profile, node) for node in (reference, *results)]
    assert np.allclose(values[1] - values[0], 10) and np.allclose(values[2] - values[0], 20)


def test_the_new_line_runs_through_the_middle_of_the_reference(slicer, profile_of):
    reference, _results = reference_and_results(slicer, 0)
    values = column(slicer, profile_of([reference]), reference)
    assert np.isfinite(values).all() and values.max() == 40


def test_the_curves_follow_the_line(slicer, profile_of):
    z, y, x = np.mgrid[:10, :10, :10]
    ramp = add_volume(slicer, "ramp", (x + 100.0 * y).astype(np.float32), spacing=(1, 1, 1), origin=(0, 0, 0))
    line = line_between(slicer, (0, 5, 5), (9, 5, 5))
    profile = profile_of([ramp], line)
    assert np.allclose(column(slicer, profile, ramp), 500 + np.array(slicer.util.arrayFromTableColumn(profile.tableNode, "mm")), atol=1e-4)
    line.SetNthControlPointPositionWorld(1, 0, 9, 5)
    values = column(slicer, profile, ramp)
    assert np.isclose(values[0], 500) and np.isclose(values[-1], 900)


def test_points_outside_a_volume_have_no_value(slicer, profile_of):
    small = add_volume(slicer, "small", body(), origin=(0, 0, 0))
    values = column(slicer, profile_of([small], line_between(slicer, (-20, 10, 10), (10, 10, 10))), small)
    assert np.isnan(values[0]) and np.isfinite(values[-1])


def test_a_volume_that_is_deleted_loses_its_curve_and_the_others_stay(slicer, profile_of):
    reference, (first, second) = reference_and_results(slicer, 2)
    profile = profile_of([reference, first, second])
    slicer.mrmlScene.RemoveNode(first)
    profile.lineNode.SetNthControlPointPositionWorld(0, 12, -10, 40)
    assert [profile.chartNode.GetNthPlotSeriesNode(n).GetName() for n in range(2)] == ["CT", "Result 2"]
    assert profile.chartNode.GetNumberOfPlotSeriesNodes() == 2
    assert np.isfinite(column(slicer, profile, second)).any()


def test_a_profile_whose_chart_is_deleted_does_no_harm(slicer, profile_of):
    reference, _results = reference_and_results(slicer, 0)
    profile = profile_of([reference])
    slicer.mrmlScene.RemoveNode(profile.chartNode)
    profile.lineNode.SetNthControlPointPositionWorld(0, 12, -10, 40)
    assert profile.chartNode is None


def test_a_closed_scene_ends_a_profile(slicer, profile_of):
    reference, _results = reference_and_results(slicer, 0)
    profile = profile_of([reference])
    slicer.mrmlScene.Clear(True)
    profile.update()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 0


def test_a_removed_profile_leaves_nothing_behind(slicer, profile_of):
    reference, results = reference_and_results(slicer, 1)
    before = {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")}
    profile_of([reference, *results]).remove()
    assert {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")} == before
