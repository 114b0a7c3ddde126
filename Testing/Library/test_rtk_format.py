"""RTK's geometry files: agreement with itk-rtk both ways, and files that cannot be right."""

from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from poses import hit_mm, random_geometry

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.formats import rtk as rtk_format
from SparseCTReconLib.geometry import Geometry

WRITTEN_BY_RTK = """<?xml version="1.0"?>
<!DOCTYPE RTKGEOMETRY>
<RTKThreeDCircularGeometry version="3">
    <SourceToIsocenterDistance>1000</SourceToIsocenterDistance>
    <SourceToDetectorDistance>1500</SourceToDetectorDistance>
    <ProjectionOffsetX>5</ProjectionOffsetX>
  <Projection>
    <GantryAngle>30</GantryAngle>
    <SourceOffsetX>1.5</SourceOffsetX>
    <SourceOffsetY>-2.5</SourceOffsetY>
    <ProjectionOffsetY>-7</ProjectionOffsetY>
    <InPlaneAngle>2</InPlaneAngle>
    <OutOfPlaneAngle>3</OutOfPlaneAngle>
    <Matrix>
        -1301.36424234658   -52.0943263859307    744.143494159638                5750
         8.35463659433029    -1497.2673067392   -90.2278350473486               -8250
        0.499314767377287 -0.0523359562429438   0.864838546066896               -1000
    </Matrix>
  </Projection>
  <Projection>
    <GantryAngle>40</GantryAngle>
    <SourceOffsetX>1.5</SourceOffsetX>
    <SourceOffsetY>-2.5</SourceOffsetY>
    <ProjectionOffsetY>-7</ProjectionOffsetY>
    <InPlaneAngle>2</InPlaneAngle>
    <OutOfPlaneAngle>3</OutOfPlaneAngle>
    <Matrix>
        -1152.37443367224   -52.0943263859307    958.817811566395                5750
         -7.4401882391085    -1497.2673067392   -90.3078389118105               -8250
        0.641906691607273 -0.0523359562429438   0.764994605833232               -1000
    </Matrix>
  </Projection>
</RTKThreeDCircularGeometry>
"""
"""As itk-rtk 2.7 writes the calls AddProjection(1000, 1500, 30 or 40, 5, -7, 3, 2, 1.5, -2.5)."""

PARAMETERS = st.tuples(
    st.floats(100, 2000),
    st.floats(1.05, 3),
    st.floats(-720, 720),
    *[st.floats(-200, 200)] * 2,
    *[st.floats(-180, 180)] * 2,
    *[st.floats(-50, 50)] * 2,
)


def parameters_of(*projections):
    """RTKGeometry of projections in the order of RTK's AddProjection, angles in degrees."""
    columns = np.array(projections, dtype=float).T
    columns[[2, 5, 6]] = np.radians(columns[[2, 5, 6]])
    return rtk_format.RTKGeometry(*columns)


@pytest.fixture
def changed(tmp_path):
    """A function that writes `WRITTEN_BY_RTK` with one piece of text changed."""

    def write(old="", new=""):
        assert old in WRITTEN_BY_RTK
        path = tmp_path / "geometry.xml"
        path.write_text(WRITTEN_BY_RTK.replace(old, new) if old else WRITTEN_BY_RTK)
        return path

    return write


def test_a_file_written_by_rtk_is_read(changed):
    read = rtk_format.read_xml(changed())
    expected = parameters_of((1000, 1500, 30, 5, -7, 3, 2, 1.5, -2.5), (1000, 1500, 40, 5, -7, 3, 2, 1.5, -2.5))
    for name in vars(expected):
        np.testing.assert_allclose(getattr(read, name), getattr(expected, name), err_msg=name)


def test_a_file_of_version_2_with_the_old_name_of_the_angle_is_read(changed):
    old = WRITTEN_BY_RTK.replace('version="3"', 'version="2"').replace("GantryAngle>", "Angle>")
    path = changed()
    path.write_text(old)
    np.testing.assert_allclose(rtk_format.read_xml(path).gantry_rad, np.radians([30, 40]))


def test_only_what_is_not_zero_and_not_the_same_everywhere_is_written_with_each_projection(tmp_path):
    rtk_format.write_xml(rtk_format.from_geometry(Geometry.preset("linac-half-fan", 7)), tmp_path / "geometry.xml")
    root = ElementTree.parse(tmp_path / "geometry.xml").getroot()
    assert {e.tag: float(e.text) for e in root if e.tag != "Projection"} == {
        "SourceToIsocenterDistance": 1000,
        "SourceToDetectorDistance": 1500,
        "ProjectionOffsetX": 148,
    }
    assert [[e.tag for e in p] for p in root.iter("Projection")] == [["GantryAngle", "Matrix"]] * 7


@given(st.lists(PARAMETERS, min_size=1, max_size=4))
def test_a_written_geometry_comes_back(tmp_path_factory, projections):
    path = tmp_path_factory.getbasetemp() / "written.xml"
    parameters = parameters_of(*[(p[0], p[0] * p[1], *p[2:]) for p in projections])
    rtk_format.write_xml(parameters, path)
    read = rtk_format.read_xml(path)
    np.testing.assert_allclose(read.matrices(), parameters.matrices(), rtol=1e-11, atol=1e-6)
    np.testing.assert_allclose(read.frames, parameters.frames, atol=1e-12)


@given(st.integers(0, 10**6), st.booleans())
def test_any_pose_survives_the_nine_parameters(seed, mirrored):
    geometry = random_geometry(seed, mirrored=mirrored)
    again = rtk_format.to_geometry(
        rtk_format.from_geometry(geometry), geometry.detector_shape, geometry.pixel_mm, isocentre_mm=geometry.isocentre_mm
    )
    for name in ("source", "detector", "u", "v"):
        np.testing.assert_allclose(getattr(again, name), getattr(geometry, name), atol=1e-8, err_msg=name)


@pytest.mark.parametrize("out_of_plane", [90, -90, 89.9999999, 90.00001])
def test_a_source_over_the_head_survives_the_nine_parameters(out_of_plane):
    parameters = parameters_of((500, 800, 30, 5, -7, out_of_plane, 50, 1, 2))
    geometry = rtk_format.to_geometry(parameters, (4, 4), (1, 1))
    again = rtk_format.to_geometry(rtk_format.from_geometry(geometry), (4, 4), (1, 1))
    for name in ("source", "detector", "u", "v"):
        np.testing.assert_allclose(getattr(again, name), getattr(geometry, name), atol=1e-6, err_msg=name)


def test_gantry_angles_are_rtks_gantry_angles():
    geometry = Geometry.circular(9, start_rad=0.3)
    np.testing.assert_allclose(rtk_format.from_geometry(geometry).gantry_rad % (2 * np.pi), geometry.gantry_angles_rad)


def test_an_image_that_is_not_centred_is_a_displaced_detector():
    parameters = parameters_of((1000, 1500, 70, 0, 0, 0, 0, 0, 0))
    by_origin = rtk_format.to_geometry(parameters, (4, 4), (1, 1), centre_mm=(12, -5))
    by_offset = rtk_format.to_geometry(parameters_of((1000, 1500, 70, 12, -5, 0, 0, 0, 0)), (4, 4), (1, 1))
    np.testing.assert_allclose(by_origin.detector, by_offset.detector)
    point = (30, 20, -10)
    np.testing.assert_allclose(hit_mm(by_origin, point) + (12, -5), hit_mm(rtk_format.to_geometry(parameters, (4, 4), (1, 1)), point))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("</RTKThreeDCircularGeometry>", "", "damaged or cut short"),
        ("RTKThreeDCircularGeometry", "Elsewhere", "not <RTKThreeDCircularGeometry>"),
        ('version="3"', 'version="7"', "version 7"),
        ("<GantryAngle>40</GantryAngle>", "<GantryAngle>41</GantryAngle>", "projection 1: the matrix does not fit"),
        ("<ProjectionOffsetX>5<", "<ProjectionOffsetX>5.1<", "projection 0: the matrix does not fit"),
        ("<GantryAngle>40<", "<GantryAngle>forty<", "projection 1: <GantryAngle> must hold a finite number, not 'forty'"),
        ("<GantryAngle>40<", "<GantryAngle>nan<", "projection 1: <GantryAngle> must hold a finite number"),
        ("<GantryAngle>40<", "<GantryAngle><", "projection 1: <GantryAngle> must hold a finite number"),
        ("0.764994605833232", "", "projection 1: <Matrix> must hold 12 finite numbers"),
        ("<SourceToDetectorDistance>1500</SourceToDetectorDistance>", "", "parallel beams"),
        ("<ProjectionOffsetX>5<", "<RadiusCylindricalDetector>9</RadiusCylindricalDetector><ProjectionOffsetX>5<", "cylindrical detector"),
        ("<!DOCTYPE RTKGEOMETRY>", '<!DOCTYPE a [<!ENTITY x "y">]>', "entities"),
    ],
)
def test_a_file_that_cannot_be_right_is_refused_by_name(changed, old, new, said):
    with pytest.raises(InputError, match=said) as error:
        rtk_format.read_xml(changed(old, new))
    assert "geometry.xml" in str(error.value)


def test_a_geometry_without_projections_and_a_missing_one_are_refused(tmp_path):
    empty = tmp_path / "geometry.xml"
    empty.write_text('<RTKThreeDCircularGeometry version="3"/>')
    with pytest.raises(InputError, match="no projections"):
        rtk_format.read_xml(empty)
    with pytest.raises(InputError, match=r"other\.xml is missing"):
        rtk_format.read_xml(tmp_path / "other.xml")


def test_jaws_that_are_not_applied_are_said_in_the_log(changed, caplog):
    rtk_format.read_xml(changed("<ProjectionOffsetX>5<", "<CollimationUInf>50</CollimationUInf><ProjectionOffsetX>5<"))
    assert "jaws" in caplog.text


def matrices_of(rtk_geometry, views):
    from itk import array_from_matrix

    return np.array([array_from_matrix(rtk_geometry.GetMatrix(view)) for view in range(views)])


@pytest.mark.rtk
def test_what_rtk_writes_has_the_same_matrices_here(rtk, tmp_path):
    rng = np.random.default_rng(5)
    theirs = rtk.ThreeDCircularProjectionGeometry.New()
    for _ in range(20):
        sid = rng.uniform(100, 1500)
        offsets, angles = rng.uniform(-200, 200, 4), rng.uniform(-180, 180, 2)
        theirs.AddProjection(sid, sid * rng.uniform(1.1, 3), rng.uniform(-400, 400), *offsets[:2], *angles, *offsets[2:])
    rtk.write_geometry(theirs, str(tmp_path / "theirs.xml"))
    ours = rtk_format.read_xml(tmp_path / "theirs.xml")
    np.testing.assert_allclose(ours.matrices(), matrices_of(theirs, 20), rtol=1e-10, atol=1e-7)


@pytest.mark.rtk
@pytest.mark.parametrize("mirrored", [False, True])
def test_what_is_written_here_has_the_same_matrices_in_rtk(rtk, tmp_path, mirrored):
    ours = rtk_format.from_geometry(random_geometry(11, views=20, mirrored=mirrored))
    rtk_format.write_xml(ours, tmp_path / "ours.xml")
    theirs = rtk.read_geometry(str(tmp_path / "ours.xml"))
    np.testing.assert_allclose(matrices_of(theirs, 20), ours.matrices(), rtol=1e-10, atol=1e-7)


@pytest.mark.rtk
@pytest.mark.parametrize("mirrored", [False, True])
def test_rtk_takes_the_same_poses_to_the_same_matrices(rtk, mirrored):
    import itk

    geometry = random_geometry(12, views=20, mirrored=mirrored, isocentre_mm=(0, 0, 0))
    point, vector = itk.Point[itk.D, 3], itk.Vector[itk.D, 3]
    theirs = rtk.ThreeDCircularProjectionGeometry.New()
    for pose in zip(*(array[:, [0, 2, 1]] * (1, 1, -1) for array in (geometry.source, geometry.detector, geometry.u, geometry.v))):
        source, detector, u, v = (values.tolist() for values in pose)
        assert theirs.AddProjection(point(source), point(detector), vector(u), vector(v))
    np.testing.assert_allclose(matrices_of(theirs, 20), rtk_format.from_geometry(geometry).matrices(), rtol=1e-8, atol=1e-5)
