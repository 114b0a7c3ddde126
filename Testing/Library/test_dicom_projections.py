"""Rotational X-ray runs in DICOM: poses as the standard defines them, intensities as their files mean them, and files that are no runs."""

import logging
import re
import tracemalloc

import numpy as np
import pydicom
import pytest
import xray_runs as dicom
from hypothesis import given, settings
from hypothesis import strategies as st
from scanner_scans import AIR, attenuation, counts

from SparseCTReconLib import read_scan
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.formats import dicom_projections

IMAGES = counts(6, 10, 32)
TRUTH = attenuation(6, 10, 32)
STEPS = np.array([0, 30.5, 61, 91, 150, 200.0])


def read(tmp_path, data, name="run.dcm"):
    (tmp_path / name).write_bytes(data)
    return read_scan(tmp_path / name)


def refusal(path, data=None):
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError) as error:
        read_scan(path)
    assert "\n" not in str(error.value) and dicom.PATIENT not in str(error.value)
    return str(error.value)


def shadow_mm(geometry, point):
    """(u, v) in mm from the detector's centre of a point's shadow, for each view."""
    _, u, v = geometry.shadows(np.array([point], float))
    return np.concatenate([u, v], axis=1)


def test_the_detector_is_in_front_at_0_on_the_left_at_90_and_cranial_at_secondary_90():
    primary, secondary = np.array([0.0, 90, 180, 0]), np.array([0.0, 0, 0, 60])
    sid, sdd = np.full(4, 700.0), np.full(4, 1000.0)
    geometry = dicom_projections.geometry_of(primary, secondary, sid, sdd, (4, 6), (1, 1))
    cranial = 300 * np.array([0, -np.cos(np.pi / 3), np.sin(np.pi / 3)])
    np.testing.assert_allclose(geometry.detector, [[0, -300, 0], [300, 0, 0], [0, 300, 0], cranial], atol=1e-9)
    np.testing.assert_allclose(geometry.source, -geometry.detector * 700 / 300, atol=1e-9)


def test_an_image_is_as_seen_from_the_detector_head_up():
    geometry = dicom_projections.geometry_of(np.array([0.0, 90]), np.zeros(2), np.full(2, 700.0), np.full(2, 1000.0), (4, 6), (1, 1))
    left, head, back = (20, 0, 0), (0, 0, 20), (0, 20, 0)
    assert shadow_mm(geometry, left)[0] == pytest.approx([20 / 0.7, 0])  # frontal: the patient's left is on the right
    assert shadow_mm(geometry, head)[0] == pytest.approx([0, -20 / 0.7])  # rows count downwards
    assert shadow_mm(geometry, back)[1] == pytest.approx([20 / 0.7, 0])  # from the left: the back is on the right


def test_a_run_of_many_frames_has_its_angles_distances_and_line_integrals(tmp_path):
    scan = read(tmp_path, dicom.run(IMAGES, STEPS))
    np.testing.assert_allclose(np.degrees(scan.geometry.gantry_angles_rad), (180 - 100 + STEPS) % 360, atol=1e-9)
    np.testing.assert_allclose(scan.geometry.sid_mm, 780)
    np.testing.assert_allclose(scan.geometry.sdd_mm, 1200)
    assert scan.geometry.pixel_mm == (0.8, 0.6) and scan.geometry.detector_shape == (10, 32)
    np.testing.assert_allclose(scan.projections, TRUTH, atol=2e-4)
    assert "distance to the patient" in scan.provenance["assumed"] and scan.provenance["intensities"]["i0"] == pytest.approx(AIR)


def test_one_increment_is_the_step_from_frame_to_frame(tmp_path):
    scan = read(tmp_path, dicom.run(IMAGES, [7.5]))
    np.testing.assert_allclose(np.degrees(scan.geometry.gantry_angles_rad), 80 + 7.5 * np.arange(6), atol=1e-9)


def test_offsets_that_begin_with_the_first_angle_are_angles_which_is_said(tmp_path):
    scan = read(tmp_path, dicom.run(IMAGES, STEPS - 100))
    np.testing.assert_allclose(np.degrees(scan.geometry.gantry_angles_rad), (180 - 100 + STEPS) % 360, atol=1e-9)
    assert "they are taken for angles" in scan.provenance["warnings"][0]
    absolute = read(tmp_path, dicom.run(IMAGES, STEPS - 100, t00181510=("DS", [0])))
    np.testing.assert_allclose(absolute.geometry.source, scan.geometry.source)


def test_an_enhanced_run_has_angles_with_each_frame(tmp_path):
    angles = [(-90.0 + 20 * k, 3.0 * k) for k in range(6)]
    scan = read(tmp_path, dicom.enhanced(IMAGES, angles))
    primary, secondary = np.array(angles).T
    expected = dicom_projections.geometry_of(primary, secondary, np.full(6, 785.0), np.full(6, 1180.0), (10, 32), (0.8, 0.6))
    np.testing.assert_allclose(scan.geometry.source, expected.source, atol=1e-9)
    np.testing.assert_allclose(scan.geometry.v, expected.v, atol=1e-12)
    assert "distance to the patient" not in scan.provenance["assumed"]


def single_frames(folder, series="1.2.3", order=range(6)):
    folder.mkdir(exist_ok=True)
    for name, k in enumerate(order):
        said = {"t00181510": ("DS", [10.0 * k]), "t00200013": ("IS", [k + 1])}
        data = dicom.part10(dicom.common(10, 32, series, **said), pixels=dicom.plain(IMAGES[k]), instance=f"1.2.{series}.{k}")
        (folder / f"{series}-{name}.dcm").write_bytes(data)


def test_a_series_of_single_frames_is_put_in_order(tmp_path):
    single_frames(tmp_path, order=[3, 0, 5, 1, 4, 2])
    scan = read_scan(tmp_path)
    np.testing.assert_allclose(np.degrees(scan.geometry.gantry_angles_rad), 180 + 10 * np.arange(6), atol=1e-9)
    np.testing.assert_allclose(scan.projections, TRUTH, atol=2e-4)
    assert read_scan(next(tmp_path.iterdir())).content_hash() == scan.content_hash()


def test_of_mixed_series_one_must_be_named(tmp_path):
    single_frames(tmp_path, "1.2.3")
    single_frames(tmp_path, "1.2.4", order=range(4))
    message = refusal(tmp_path)
    assert "2 X-ray runs: 6 frames" in message and "4 frames" in message
    assert read_scan(tmp_path / "1.2.4-0.dcm").views == 4


@pytest.mark.parametrize(
    ("changed", "stored"),
    [
        ({"t00280004": ("CS", "MONOCHROME1")}, 65535 - IMAGES),
        ({"t00281041": ("SS", (-1).to_bytes(2, "little", signed=True))}, 65535 - IMAGES),
        ({"t00281052": ("DS", [-2000]), "t00281053": ("DS", [2])}, (IMAGES + 2000) // 2),
    ],
    ids=["dark is bright", "sign", "rescaled"],
)
def test_values_become_intensities_that_grow_with_the_beam(tmp_path, changed, stored):
    scan = read(tmp_path, dicom.run(stored, STEPS, **changed))
    np.testing.assert_allclose(scan.projections, TRUTH, atol=1e-3)
    assert scan.provenance["values"] != "proportional to the beam"


def test_logarithms_are_looked_up_in_the_files_table(tmp_path):
    entries = np.arange(4096)
    table = np.rint(65535 * np.exp((entries - 4095) / 900)).astype("<u2")
    stored = np.rint(4095 + 900 * np.log(IMAGES / 65535)).astype(int)
    lut = dicom.item((0x00283002, "US", [4096, 0, 16]), (0x00283004, "LO", "US"), (0x00283006, "OW", table.tobytes()))
    scan = read(tmp_path, dicom.run(stored, STEPS, t00281040=("CS", "LOG"), t00283000=("SQ", [lut])))
    np.testing.assert_allclose(scan.projections, TRUTH, atol=3e-3)


def test_run_length_is_decoded(tmp_path):
    scan = read(tmp_path, dicom.run(IMAGES, STEPS, syntax=dicom.RLE))
    np.testing.assert_allclose(scan.projections, TRUTH, atol=2e-4)


def test_what_nothing_here_decodes_is_named_with_the_command_that_helps(tmp_path, monkeypatch):
    decoder = pydicom.pixels.get_decoder(pydicom.uid.JPEG2000Lossless)
    monkeypatch.setattr(type(decoder), "is_available", property(lambda self: False))
    message = refusal(tmp_path / "run.dcm", dicom.run(IMAGES, STEPS, syntax=dicom.JPEG2000))
    assert "JPEG 2000" in message and "pip install pylibjpeg" in message


def test_a_mirrored_image_is_taken_as_patient_orientation_says(tmp_path, caplog):
    usual = read(tmp_path, dicom.run(IMAGES, STEPS, t00181510=("DS", [0]), t00200020=("CS", "L\\F"))).geometry
    mirrored = read(tmp_path, dicom.run(IMAGES, STEPS, t00181510=("DS", [0]), t00200020=("CS", "R\\F"))).geometry
    np.testing.assert_allclose(mirrored.u, -usual.u)
    np.testing.assert_allclose(mirrored.v, usual.v)
    assert "mirrored" in caplog.text


def test_angles_that_may_be_radians_are_said(tmp_path):
    images = counts(20, 10, 32)
    scan = read(tmp_path, dicom.run(images, np.linspace(0, 3.5, 20), t00181510=("DS", [0])))
    assert any("radians" in text for text in scan.provenance["warnings"])


BAD = {
    "no angle": ({"t00181510": None}, "PositionerPrimaryAngle is missing"),
    "angle no number": ({"t00181510": ("DS", "Doe^Jane")}, "PositionerPrimaryAngle is missing"),
    "increments for other frames": ({"t00181520": ("DS", [0, 1, 2])}, "3 values for 6 frames"),
    "does not turn": ({"t00181520": ("DS", [0])}, "does not turn"),
    "absurd angles": ({"t00181520": ("DS", [9000])}, "45000|44900"),
    "no distance": ({"t00181110": None}, "DistanceSourceToDetector is missing"),
    "no axis": ({"t00181111": None}, "DistanceSourceToPatient is missing"),
    "negative distance": ({"t00181110": ("DS", [-1200])}, "no such distance"),
    "detector before the axis": ({"t00181110": ("DS", [700])}, "the detector is 700 mm"),
    "no pitch": ({"t00181164": None}, "ImagerPixelSpacing is missing"),
    "more frames than pixels": ({"t00280008": ("IS", [7]), "t00181520": ("DS", [10])}, "claims 7 frames"),
    "absurd size": ({"t00280010": ("US", [16000]), "t00280011": ("US", [16000])}, "claims 6 frames of 16000 x 16000"),
    "no size": ({"t00280010": ("US", [0])}, "Rows is missing"),
    "absurd frames": ({"t00280008": ("IS", [2000000000])}, "NumberOfFrames is missing or not from 1"),
    "colour": ({"t00280002": ("US", [3])}, "colour"),
    "logarithms": ({"t00281040": ("CS", "LOG")}, "logarithms"),
    "bits": ({"t00280100": ("US", [7])}, "cannot be decoded"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_run_that_cannot_be_right_is_refused_in_a_sentence(tmp_path, name):
    changed, said = BAD[name]
    message = refusal(tmp_path / "run.dcm", dicom.run(IMAGES, STEPS, **changed))
    assert re.search(said, message), message


@pytest.mark.parametrize("kept", [0.2, 0.6, 0.99])
def test_a_run_that_is_cut_short_is_refused(tmp_path, kept):
    data = dicom.run(IMAGES, STEPS)
    message = refusal(tmp_path / "run.dcm", data[: int(kept * len(data))])
    assert "cut short" in message or "missing" in message


def test_black_images_are_refused(tmp_path):
    assert "black" in refusal(tmp_path / "run.dcm", dicom.run(np.zeros_like(IMAGES), STEPS))


def test_a_deflated_file_is_refused_before_it_unfolds(tmp_path):
    assert "deflated" in refusal(tmp_path / "run.dcm", dicom.part10(dicom.common(10, 32), syntax="1.2.840.10008.1.2.1.99"))


def test_a_few_bytes_do_not_unfold_into_gigabytes(tmp_path):
    said = {"t00280010": ("US", [8000]), "t00280011": ("US", [8000]), "t00280008": ("IS", [1000])}
    data = dicom.run(IMAGES, [1], syntax=dicom.RLE, **said)
    tracemalloc.start()
    message = refusal(tmp_path / "run.dcm", data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "claims 1000 frames" in message and peak < 30e6


def test_the_patients_name_stays_in_the_file(tmp_path, caplog, recwarn, capfd):
    bad = {"t00280009": ("AT", b"\0"), "t00200011": ("IS", "Doe^Jane"), "t00080020": ("DA", "Doe^Jane")}
    with caplog.at_level(logging.DEBUG):
        scan = read(tmp_path, dicom.run(IMAGES, STEPS, **bad))
    said = caplog.text + repr(scan.provenance) + "".join(str(each.message) for each in recwarn) + "".join(capfd.readouterr())
    assert "Doe" not in said and "4711" not in said


def test_without_pydicom_a_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    import builtins

    real = builtins.__import__

    def without(name, *arguments):
        if name.split(".")[0] == "pydicom":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install pydicom" in refusal(tmp_path / "run.dcm", dicom.run(IMAGES, STEPS))


CHANGES = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(changes=CHANGES, cut=st.none() | st.integers(132, 4000))
def test_no_damage_does_more_than_a_sentence(tmp_path_factory, changes, cut):
    path = tmp_path_factory.getbasetemp() / "damaged.dcm"
    data = bytearray(dicom.run(IMAGES[:3, :4, :8], STEPS[:3]))
    for at, value in changes:
        data[132 + at % (len(data) - 132)] = value
    path.write_bytes(bytes(data[:cut]))
    try:
        assert np.isfinite(read_scan(path).projections).all()
    except InputError as error:
        assert "\n" not in str(error)
