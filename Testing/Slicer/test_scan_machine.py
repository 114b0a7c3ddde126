"""What a machine will see of a CT, said before anything is simulated."""

import numpy as np
import pytest

pytest.importorskip("vtk", reason="slicer-core is not installed (extra slicer-test)")


@pytest.fixture
def body(slicer):
    """Make a CT of 2 mm voxels that is body all over, of the given size in mm."""

    def make(across=200, along=200):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Body")
        slicer.util.updateVolumeFromArray(node, np.zeros((along // 2, across // 2, across // 2), np.int16))
        node.SetSpacing(2, 2, 2)
        return node

    return make


def sight(ct, **changes):
    from SparseCTReconPanel import machine
    from SparseCTReconPanel.request import Request

    return machine.sight(machine.plannedGeometry(Request(**changes), ct), ct)


def refusal(ct, **changes):
    from SparseCTReconPanel.request import Request

    valid, reason = Request(**changes).isValid(ct)
    assert not valid
    assert "\n" not in reason
    return reason


def test_a_body_within_the_field_of_view_is_seen_whole(body):
    assert sight(body(180, 180)) == "Sees 271 mm across and 273 mm along the patient: all of the body."


def test_how_much_of_a_body_lies_outside_is_said(body):
    assert "19 % of the body lies beside it" in sight(body(260, 200))
    assert "% above or below it" in sight(body(100, 600))
    assert "all of the body" in sight(body(260, 200), preset="linac-half-fan")


def test_the_air_about_a_body_does_not_count(slicer, body):
    ct = body(400, 200)
    voxels = slicer.util.arrayFromVolume(ct)
    voxels[:] = -1000
    voxels[:, 80:120, 80:120] = 0
    slicer.util.arrayFromVolumeModified(ct)
    assert "all of the body" in sight(ct)
    voxels[:] = -1000
    slicer.util.arrayFromVolumeModified(ct)
    assert "all of the body" in sight(ct)


def test_a_ct_that_changes_is_looked_at_again(slicer, body):
    ct = body(180, 180)
    assert "all of the body" in sight(ct)
    ct.SetSpacing(4, 4, 2)
    assert "lies beside it" in sight(ct)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"offset": 900.0}, "detector misses the isocentre"),
        ({"preset": "linac-half-fan", "columns": 40}, "detector misses the isocentre"),
        ({"views": 0}, "0 views: a scan has at least one"),
        ({"views": -3}, "-3 views"),
        ({"arc": 400.0}, "an arc of 400 degrees"),
        ({"preset": "linak"}, "did you mean 'linac'"),
        ({"rows": -4}, "detector of (-4, 256) pixels"),
    ],
)
def test_a_machine_that_cannot_be_or_sees_nothing_is_refused_before_it_runs(body, changes, said):
    assert said in refusal(body(), **changes)


def test_the_plan_is_the_geometry_that_the_worker_simulates(body):
    from SparseCTReconPanel import machine
    from SparseCTReconPanel.request import Request
    from SparseCTReconPanel.scene import gridOf

    from SparseCTReconLib.grid import Grid, Volume
    from SparseCTReconLib.jobs.spec import parse_spec
    from SparseCTReconLib.jobs.tasks import _simulate_arguments
    from SparseCTReconLib.simulate import simulate

    ct = body(40, 40)
    request = Request(preset="c-arm", views=3, arc=100.0, columns=12, rows=10, pixelSize=30.0, offset=5.0)
    spec = parse_spec(request.simulateJob("ct.nrrd", "scan"))
    grid = Grid.from_dict(gridOf(ct))
    scan = simulate(Volume(np.zeros(grid.shape), grid), spec.views, **_simulate_arguments(spec))
    assert machine.sameGeometry(scan.geometry, machine.plannedGeometry(request, ct))


@pytest.mark.parametrize(
    ("photons", "views", "words"),
    [
        (0, 50, "No noise"),
        (1e5, 660, "Usual dose: 100 %"),
        (1e5, 50, "Low dose: 7.6 %"),
        (1e3, 50, "Extremely low dose"),
        (1e7, 660, "High"),
    ],
)
def test_the_dose_is_said_in_words(host, photons, views, words):
    from SparseCTReconPanel.machine import dose

    assert dose(photons, views).startswith(words)
