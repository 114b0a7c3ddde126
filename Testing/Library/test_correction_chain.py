"""Corrections as a chain: off, on or measured, in an order that makes sense, and kept in the provenance."""

import json
import tracemalloc
from typing import get_args

import numpy as np
import pytest
from degraded_scans import WIDE, clean, scan_of

from SparseCTReconLib import InputError, read_scan, write_scan
from SparseCTReconLib.corrections.chain import CORRECTIONS, HISTORY, ORDER, correct, parse, said
from SparseCTReconLib.corrections.intensities import Intensities
from SparseCTReconLib.corrections.redundancy import is_weighed
from SparseCTReconLib.geometry import Geometry
from SparseCTReconLib.scan import line_integrals


def chain(*texts):
    return parse(dict(text.split("=", 1) for text in texts))


@pytest.mark.parametrize("kind", ORDER, ids=lambda kind: kind.name)
def test_every_correction_says_what_it_is_and_has_a_help_and_a_unit_for_each_parameter(kind):
    assert kind.name and kind.title and kind.__doc__ and kind.domain in ("intensities", "line integrals")
    assert get_args(kind.model_fields["mode"].annotation) == ("off", "on", "measured")
    for field in kind.model_fields.values():
        assert field.description and "unit" in field.json_schema_extra


def test_what_is_off_leaves_the_scan_as_it_was():
    scan = scan_of(clean())
    out = correct(scan, parse(dict.fromkeys(CORRECTIONS, "off")))
    np.testing.assert_array_equal(out.projections, scan.projections)
    assert out.provenance[HISTORY] == []


def test_options_in_any_order_become_a_chain_in_the_right_one():
    found = chain("rings=measured", "scatter.fraction=0.2", "i0=measured")
    assert [each.name for each in found] == ["i0", "scatter", "rings"]
    assert [each.mode for each in found] == ["measured", "on", "measured"] and found[1].fraction == 0.2


def test_a_list_in_the_wrong_order_is_refused_with_what_to_put_where():
    with pytest.raises(InputError, match="scatter comes after rings in the chain: put it before"):
        parse([{"name": "rings"}, {"name": "scatter"}])
    with pytest.raises(InputError, match="twice"):
        parse([{"name": "rings"}, {"name": "rings"}])
    assert [each.name for each in parse([{"name": "scatter"}, {"name": "rings", "mode": "off"}])] == ["scatter", "rings"]


@pytest.mark.parametrize(
    "text, said",
    [
        ("scater=on", "no correction 'scater'; did you mean 'scatter'"),
        ("scatter.fracton=0.2", "scatter has no parameter 'fracton'; did you mean 'fraction'"),
        ("scatter.fraction=1.5", "scatter.fraction='1.5': input should be less than 1"),
        ("rings=maybe", "rings.mode='maybe': input should be 'off', 'on' or 'measured'"),
        ("lag.rates=a,b", "lag.rates='a,b': give numbers with commas between them"),
        ("detector-offset.u_mm=nan", "detector-offset.u_mm='nan'"),
    ],
)
def test_a_wrong_option_is_refused_with_the_nearest_right_one(text, said):
    with pytest.raises(InputError) as refused:
        chain(text)
    assert str(refused.value).startswith(said)


def test_numbers_are_written_as_people_write_them():
    assert chain("beam-hardening.coefficients=1,.1, -2e-3")[0].coefficients == (1.0, 0.1, -0.002)
    assert chain("beam-hardening.coefficients=[1, 0.5]")[0].coefficients == (1.0, 0.5)


@pytest.mark.parametrize(
    "text, most",
    [
        ("dark-flat", 3),
        ("i0=measured", 4),
        ("scatter.model=kernel", 6),
        ("beam-hardening.coefficients=1,.1", 3),
    ],
)
def test_a_correction_takes_no_more_room_than_a_few_stacks(text, most):
    geometry = Geometry.preset("linac", 60, detector_shape=(32, 64), pixel_mm=(8.0, 6.4))
    scan = scan_of(clean(geometry), geometry)
    wanted = parse({"dark-flat": {"flat": np.ones((32, 64))}}) if text == "dark-flat" else chain(text)
    correct(scan, wanted)  # what is imported takes room as well
    tracemalloc.start()
    try:
        correct(scan, wanted)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken < most * scan.projections.nbytes


def test_whole_numbers_become_line_integrals_a_view_at_a_time():
    counts = np.full((40, 64, 64), 20_000, np.uint16)
    tracemalloc.start()
    try:
        found = line_integrals(counts, 40_000)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_allclose(found, np.log(2), rtol=1e-6)
    assert taken < 2 * found.nbytes


def test_an_entry_without_a_name_is_refused():
    with pytest.raises(InputError, match='give an object with "name"'):
        parse([{"mode": "on"}])


def test_line_integrals_come_back_unchanged_from_a_correction_of_intensities_that_does_nothing():
    projections = np.linspace(-0.2, 60, WIDE.views * 24 * 64).reshape(-1, 24, 64)  # metal that lets nothing through included
    scan = scan_of(np.ones((WIDE.views, 24, 64)))
    scan.projections[:] = projections
    out = correct(scan, chain("scatter.fraction=0"))
    np.testing.assert_allclose(out.projections, projections, rtol=1e-6, atol=1e-6)


def test_raw_intensities_take_the_logarithm_that_a_scan_takes():
    counts = 1000 * clean()
    out = correct(Intensities(counts, WIDE, i0=1000.0, photons=1000.0, provenance={"from": "a detector"}), [])
    np.testing.assert_array_equal(out.projections, line_integrals(counts.astype(np.float32), 1000.0))
    assert out.photons == 1000 and out.provenance["from"] == "a detector"


def test_raw_intensities_without_i0_are_refused_until_it_is_measured():
    raw = Intensities(1000 * clean(), WIDE)
    with pytest.raises(InputError, match="give i0.value, or let i0 be measured"):
        correct(raw, [])
    out = correct(raw, chain("i0=measured"))
    np.testing.assert_allclose(out.projections, -np.log(clean()), atol=0.01)


def test_negative_and_missing_intensities_are_refused():
    counts = 1000 * clean()
    counts[3, 4, 5] = -1
    with pytest.raises(InputError, match="view 3, row 4, column 5"):
        correct(Intensities(counts, WIDE, i0=1000.0), [])
    counts[3, 4, 5] = np.nan
    with pytest.raises(InputError, match="not all finite"):
        Intensities(counts, WIDE)
    with pytest.raises(InputError, match="I0 is 0"):
        Intensities(clean(), WIDE, i0=0)
    with pytest.raises(InputError, match="views"):
        Intensities(clean()[:5], WIDE)


def test_what_was_applied_and_found_stays_with_the_scan_on_disk(tmp_path):
    scan = scan_of(1.1 * clean())
    scan.provenance["origin"] = "a test"
    out = correct(scan, chain("i0=measured", "scatter.fraction=0.01"))
    write_scan(out, tmp_path / "scan")
    back = read_scan(tmp_path / "scan")
    history = back.provenance[HISTORY]
    assert [entry["name"] for entry in history] == ["i0", "scatter"] and back.provenance["origin"] == "a test"
    assert history[0]["found"]["i0_mean"] == pytest.approx(1.1, abs=0.01)
    assert history[1]["fraction"] == 0.01 and "mean" in said(history[1])
    assert HISTORY not in scan.provenance


def test_what_was_applied_once_is_not_applied_again():
    once = correct(scan_of(clean()), chain("scatter.fraction=0.01"))
    with pytest.raises(InputError, match="scatter was applied to this scan already"):
        correct(once, chain("scatter.fraction=0.01"))
    with pytest.raises(InputError, match="already"):
        correct(once, [*parse({"scatter": "on"})])
    correct(once, chain("rings=measured"))


def test_a_damaged_history_stops_nothing():
    scan = scan_of(clean())
    for damaged in ("text", [1, {"found": 3}], None):
        scan.provenance[HISTORY] = damaged
        assert not is_weighed(scan)
        assert len(correct(scan, chain("rings=measured")).provenance[HISTORY]) == 1


def test_files_leave_no_folders_in_the_provenance(tmp_path):
    from SparseCTReconLib.formats.metaimage import write_plain

    path = tmp_path / "flat.mha"
    write_plain(np.full((2, 24, 64), 1000, np.float32), (1, 1, 1), (0, 0, 0), path)
    out = correct(Intensities(1000 * clean(), WIDE), parse({"dark-flat.flat": str(path)}))
    assert out.provenance[HISTORY][0]["flat"] == "flat.mha"
    assert str(tmp_path) not in json.dumps(out.provenance)


def test_progress_says_which_correction_is_at_work():
    told = []
    correct(scan_of(clean()), chain("i0=measured", "rings=measured"), lambda *what: told.append(what))
    assert told == [("Unattenuated beam (I0)", 0, 2), ("Rings", 1, 2)]


def test_a_scan_whose_rows_are_weighed_is_corrected_no_further():
    geometry = Geometry.preset("linac-half-fan", 24, detector_shape=(8, 64), pixel_mm=(8.0, 6.208))
    weighed = correct(scan_of(clean(geometry), geometry), chain("displaced-detector=measured"))
    assert is_weighed(weighed)
    with pytest.raises(InputError, match="weighed for a filter already"):
        correct(weighed, chain("rings=measured"))
