"""Scans of linacs that are incomplete, damaged, mixed up or malicious: one sentence, little memory, and nothing of the patient."""

import tracemalloc

import numpy as np
import pytest
import scanner_files as encode
from scanner_scans import ANGLES, WRITERS, counts, write_elekta, write_obi, write_truebeam, xim_properties

from SparseCTReconLib import read_scan
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.formats import xml_files

BOMB = '<!DOCTYPE bomb [<!ENTITY a "ha">' + "".join(f'<!ENTITY {b} "{10 * f"&{a};"}">' for a, b in zip("abcdefgh", "bcdefghi")) + "]>\n"
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>\n'


def refusal(path):
    with pytest.raises(InputError) as error:
        read_scan(path)
    text = str(error.value)
    assert "\n" not in text and not any(secret in text for secret in encode.PATIENT)
    return text


def first(folder, pattern):
    return sorted(folder.rglob(pattern))[0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("trap", [BOMB, OUTSIDE], ids=["bomb", "file from outside"])
@pytest.mark.parametrize("name", WRITERS)
def test_entities_are_refused_before_they_unfold(tmp_path, name, trap, encoding):
    WRITERS[name](tmp_path)
    xml = next(tmp_path.glob("*.xml"))
    head, _, body = xml.read_text().partition("\n")
    xml.write_text((head.replace("utf-8", encoding) + "\n" + trap + body).replace("1000.0", "&i;"), encoding=encoding)
    tracemalloc.start()
    message = refusal(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "entities" in message and peak < 5e6


def test_an_rtk_geometry_in_utf_16_has_no_entities_either(tmp_path):
    xml = tmp_path / "geometry.xml"
    xml.write_text(
        '<?xml version="1.0" encoding="utf-16"?>\n' + BOMB + "<RTKThreeDCircularGeometry>&i;</RTKThreeDCircularGeometry>", "utf-16"
    )
    with pytest.raises(InputError, match="entities"):
        xml_files.read_tree(xml, "an RTK geometry")


def test_endless_nesting_and_huge_files_are_refused(tmp_path, monkeypatch):
    xml = tmp_path / "a.xml"
    xml.write_text("<a>" * 100_000)
    with pytest.raises(InputError, match="64 deep"):
        xml_files.read_tree(xml, "a description")
    monkeypatch.setattr(xml_files, "_LARGEST", 1000)
    with pytest.raises(InputError, match="no description is so large"):
        xml_files.read_tree(xml, "a description")


@pytest.mark.parametrize("name", WRITERS)
def test_an_xml_that_is_cut_short_is_refused(tmp_path, name):
    WRITERS[name](tmp_path)
    xml = next(tmp_path.glob("*.xml"))
    xml.write_bytes(xml.read_bytes()[:-20])
    assert "damaged or cut short" in refusal(tmp_path)


@pytest.mark.parametrize("kept", [0, 10, 68, 600, -1])
@pytest.mark.parametrize("name", WRITERS)
def test_a_projection_that_is_cut_short_is_named(tmp_path, name, kept):
    WRITERS[name](tmp_path)
    file = sorted(path for path in tmp_path.rglob("*") if path.suffix in (".his", ".hnd", ".hnc", ".xim") and "Calib" not in str(path))[1]
    file.write_bytes(file.read_bytes()[:kept])
    message = refusal(tmp_path)
    assert file.name in message and ("cut short" in message or "damaged" in message or "other than" in message)


def test_an_absurd_size_is_refused_before_room_is_made_for_it(tmp_path):
    write_obi(tmp_path)
    write_elekta(tmp_path / "elekta")
    hnd, his = first(tmp_path, "*.hnd"), first(tmp_path, "*.his")
    hnd.write_bytes(encode.hnd(np.zeros((4, 8), np.int32), 0.0, fields={(120, "<I"): 2**31, (124, "<I"): 2**31}))
    data = bytearray(his.read_bytes())
    data[16:20] = b"\xff\x3f\xff\x3f"  # 16384 x 16384
    his.write_bytes(bytes(data))
    tracemalloc.start()
    assert "claims 2147483648 x 2147483648" in refusal(tmp_path / "Scan0")
    assert "bytes of pixels" in refusal(tmp_path / "elekta")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


@pytest.mark.parametrize(("name", "gone", "said"), [
    ("elekta", "*.his", "is no scan"),
    ("elekta", "_Frames.xml", "is no scan"),
    ("hnd", "ProjectionInfo.xml", "is no scan"),
    ("xim", "Scan.xml", "is no scan"),
])  # fmt: skip
def test_missing_files_are_missed(tmp_path, name, gone, said):
    WRITERS[name](tmp_path)
    for path in tmp_path.rglob(gone):
        path.unlink()
    assert said in refusal(tmp_path)


def test_more_projections_than_frames_are_refused(tmp_path):
    write_elekta(tmp_path)
    (tmp_path / "00009.his").write_bytes(encode.his(np.ones((40, 40))))
    assert "6 projections" in refusal(tmp_path) and "5 frames" in refusal(tmp_path)


def test_projections_of_two_scans_are_not_mixed(tmp_path):
    write_obi(tmp_path)
    for kind, image, said in (
        ("hnc", counts(1, 12, 32)[0], "several formats"),
        ("hnd", counts(1, 12, 28)[0], "28 x 12 pixels"),
    ):
        other = tmp_path / "Scan0" / f"Proj_7.{kind}"
        other.write_bytes(getattr(encode, kind)(image, 3.0))
        assert said in refusal(tmp_path)
        other.unlink()
    (tmp_path / "Scan0").rename(tmp_path / "Scan1")
    write_obi(tmp_path)
    assert "2 scans (Scan0, Scan1)" in refusal(tmp_path)


@pytest.mark.parametrize(("old", "new", "said"), [
    (">1000.0<", "><", "<CalibratedSAD> is '', which is no number"),
    (">1000.0<", ">inf<", "<CalibratedSAD> is 'inf'"),
    ("CalibratedSID", "SomethingElse", "<CalibratedSID> is missing"),
    ("DetectorPosLat", "Elsewhere", "<DetectorPosLat> is missing"),
    (">1500.0<", ">900<", "SDD > SID > 0"),
])  # fmt: skip
def test_a_description_that_cannot_be_right_is_refused_by_name(tmp_path, old, new, said):
    xml = encode.projection_info_xml()
    assert old in xml
    write_obi(tmp_path, xml=xml.replace(old, new))
    assert said in refusal(tmp_path)


@pytest.mark.parametrize(("old", "new", "said"), [
    ("<UCentre>115.0</UCentre>", "", "frame 0: <ucentre> is missing"),
    ("<GantryAngle>40.0<", "<GantryAngle>Doe^Jane<", "frame 1: <gantryangle> is 'Doe^Jane'"),
    ("<Frame>", "<Other>", "cut short"),
])  # fmt: skip
def test_frames_that_cannot_be_right_are_refused_by_name(tmp_path, old, new, said):
    write_elekta(tmp_path)
    xml = tmp_path / "_Frames.xml"
    xml.write_text(xml.read_text().replace(old, new.replace("Doe^Jane", "forty")))
    assert said.replace("Doe^Jane", "forty") in refusal(tmp_path)


@pytest.mark.parametrize("angle", [np.nan, np.inf, 1e300])
def test_an_angle_that_is_none_is_refused(tmp_path, angle):
    write_obi(tmp_path, angles=np.array([0.0, angle, 20.0]))
    assert "Proj_1.hnd: the angle is" in refusal(tmp_path)


def test_a_xim_file_without_an_angle_or_a_pitch_is_refused(tmp_path):
    write_truebeam(tmp_path)
    file = first(tmp_path, "Proj_00002.xim")
    for changed, said in (({"KVSourceRtn": None}, "the angle is missing"), ({"PixelWidth": None}, "claims pixels of nan")):
        file.write_bytes(encode.xim(counts(5, 12, 32)[2], xim_properties(95.5, **changed)))
        assert said in refusal(tmp_path)


def test_a_size_that_does_not_exist_in_the_table_is_refused(tmp_path):
    write_obi(tmp_path)
    file = first(tmp_path, "*.hnd")
    data = bytearray(file.read_bytes())
    data[1030] = 0xFF
    file.write_bytes(bytes(data))
    assert "a size that does not exist" in refusal(tmp_path)


def test_angles_in_radians_are_suspected(tmp_path):
    write_obi(tmp_path, angles=np.linspace(0, 6.2, 12))
    assert any("radians" in text for text in read_scan(tmp_path).provenance["warnings"])


def test_black_images_are_refused(tmp_path):
    write_elekta(tmp_path)
    for path in tmp_path.glob("*.his"):
        path.write_bytes(encode.his(np.zeros((40, 40))))
    assert "black" in refusal(tmp_path)


def test_a_link_to_elsewhere_is_not_followed(tmp_path):
    write_obi(tmp_path / "elsewhere")
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "ProjectionInfo.xml").write_text(encode.projection_info_xml())
    (tmp_path / "scan" / "Scan0").symlink_to(tmp_path / "elsewhere" / "Scan0", target_is_directory=True)
    assert "is no scan" in refusal(tmp_path / "scan")


def test_angles_are_left_as_they_are_where_nothing_is_wrong(tmp_path):
    write_obi(tmp_path)
    scan = read_scan(tmp_path)
    np.testing.assert_allclose(np.degrees(scan.geometry.gantry_angles_rad), ANGLES, atol=1e-9)
    assert not any("radians" in text for text in scan.provenance.get("warnings", []))
