"""What is said before the work starts: whether rays meet the grid, how well the views cover it, whether the memory holds it."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
from played_method import Played, PlayedOptions
from small_scanners import irregular

from SparseCTReconLib import Geometry, Grid, InputError, Scan, default_grid, methods
from SparseCTReconLib.geometry import PRESETS
from SparseCTReconLib.methods.checks import check_memory, coverage_warnings, rays_meet, seen_share
from SparseCTReconLib.methods.reconstruct import prepare


def scan_of(pixels):
    return SimpleNamespace(projections=SimpleNamespace(size=pixels))


class Hashing(Played):
    """Holds a table of 2^steps rows beside its volumes."""

    memory_options = ("steps",)

    def memory_bytes(self, grid, scan, options):
        return super().memory_bytes(grid, scan, options) + 8.0 * 2**options.steps


def test_a_volume_too_large_for_memory_is_refused_with_a_size_that_fits():
    huge, options = Grid.centred((2000, 2000, 1000), (0.1, 0.1, 0.1)), PlayedOptions()
    with pytest.raises(InputError, match=r"needs about .* GB with played, 2.0 GB are free: give --size (\d+) (\d+) (\d+)") as refused:
        check_memory(Played(), scan_of(10**6), huge, options, 2e9)
    size = [int(word) for word in str(refused.value).split("--size ")[1].split()[:3]]
    check_memory(Played(), scan_of(10**6), Grid.centred(size, (1, 1, 1)), options, 2e9)
    with pytest.raises(InputError):
        check_memory(Played(), scan_of(10**6), Grid.centred([n * 5 // 4 for n in size], (1, 1, 1)), options, 2e9)


def test_projections_that_fill_the_memory_are_said_to_be_the_fault():
    with pytest.raises(InputError, match="bin the detector"):
        check_memory(Played(), scan_of(10**9), Grid.centred((8, 8, 8), (1, 1, 1)), PlayedOptions(), 2e9)


def test_a_table_too_large_for_memory_is_refused_with_the_option_to_lower():
    small = Grid.centred((8, 8, 8), (1, 1, 1))
    with pytest.raises(InputError, match=r"give --set steps=27$"):
        check_memory(Hashing(), scan_of(10), small, PlayedOptions(steps=30), 2e9)
    check_memory(Hashing(), scan_of(10), small, PlayedOptions(steps=27), 2e9)


def test_where_either_helps_the_option_and_the_size_are_both_offered():
    grid = Grid.centred((200, 200, 200), (1, 1, 1))
    with pytest.raises(InputError, match=r"give --set steps=26, or --size \d+ \d+ \d+ or smaller"):
        check_memory(Hashing(), scan_of(10), grid, PlayedOptions(steps=27), 1.7e9)


def test_a_hash_table_of_a_neural_field_counts_and_can_be_lowered():
    naf, grid = methods.get("naf"), Grid.centred((400, 400, 400), (1, 1, 1))
    small, large = (naf.Options(levels=16, log2_table=rows) for rows in (10, 24))
    tables = naf.memory_bytes(grid, scan_of(10), large) - naf.memory_bytes(grid, scan_of(10), small)
    assert 32 * 2**24 < tables < 16 * 32 * 2**24, "table, gradient and two moments of two features a row; coarse levels are dense"
    with pytest.raises(InputError, match=r"with naf, .* give --set log2_table=\d+, or --set levels=\d+") as refused:
        check_memory(naf, scan_of(10), grid, large, 8e9)
    fits = int(str(refused.value).split("log2_table=")[1].split(",")[0])
    check_memory(naf, scan_of(10), grid, naf.Options(levels=16, log2_table=fits), 8e9)


def test_the_rays_of_a_step_count_and_can_be_fewer():
    naf, grid = methods.get("naf"), Grid.centred((200, 200, 200), (1, 1, 1))
    many = naf.Options(rays=1_000_000, sample_spacing=0.2, start="nothing")
    with pytest.raises(InputError, match=r"give --set rays=\d+$") as refused:
        check_memory(naf, scan_of(10), grid, many, 4e9)
    fits = int(str(refused.value).split("rays=")[1])
    assert 1000 < fits < 500_000
    check_memory(naf, scan_of(10), grid, naf.Options(rays=fits, sample_spacing=0.2, start="nothing"), 4e9)


def test_the_restoring_network_counts_where_it_is_asked():
    naf, grid = methods.get("naf"), Grid.centred((300, 300, 300), (1, 1, 1))
    with_it, without, alone = (
        naf.memory_bytes(grid, scan_of(10), naf.Options(**options)) for options in ({}, {"restoration": "none"}, {"start": "nothing"})
    )
    assert with_it > without + 10 * 4 * 300**3 and without == alone


def test_inr_counts_its_tables_and_its_activations_and_says_what_to_lower():
    inr, grid = methods.get("inr"), Grid.centred((300, 300, 300), (1, 1, 1))

    def need(**options):
        return inr.memory_bytes(grid, scan_of(10), inr.Options(**options))

    assert need(levels=16, log2_table=24) > need(levels=16) > need() > 10 * 4 * 300**3
    assert need(architecture="siren") > 2**30 and need(loss="admm") > need(loss="fls")
    with pytest.raises(InputError, match=r"with inr, .* give --set log2_table=\d+, or --set levels=\d+") as refused:
        check_memory(inr, scan_of(10), grid, inr.Options(), 3.2e9)
    fits = int(str(refused.value).split("log2_table=")[1].split(",")[0])
    check_memory(inr, scan_of(10), grid, inr.Options(log2_table=fits), 3.2e9)
    with pytest.raises(InputError, match=r"give --size"):
        check_memory(inr, scan_of(10), grid, inr.Options(architecture="siren"), 3.2e9)


def test_a_machine_that_does_not_say_its_memory_is_trusted():
    check_memory(Played(), scan_of(10**12), Grid.centred((9000,) * 3, (1, 1, 1)), PlayedOptions(), None)


@pytest.mark.parametrize(
    "centre, meets", [((0, 0, 0), True), ((0, 0, 150), True), ((0, 0, 400), False), ((700, 0, 0), True), ((1000, 0, 0), True)]
)
def test_a_grid_is_met_where_its_shadow_falls_on_the_detector(centre, meets):
    geometry = Geometry.preset("linac", 4)
    assert rays_meet(geometry, Grid.centred((20, 20, 20), (2, 2, 2), centre)) is meets


@pytest.mark.parametrize("views", [8, 50, 720])
@pytest.mark.parametrize("name", PRESETS)
def test_a_usual_machine_covers_its_own_field_of_view(name, views):
    geometry = Geometry.preset(name, views)
    assert coverage_warnings(geometry, default_grid(geometry)) == []


@pytest.mark.parametrize("arc_deg, warned", [(90, True), (180, True), (188, True), (197, False), (250, False), (360, False)])
def test_an_orbit_shorter_than_half_a_turn_and_the_fan_is_said(arc_deg, warned):
    geometry = Geometry.preset("linac", 40, arc_rad=np.radians(arc_deg), start_rad=2.0)
    said = coverage_warnings(geometry, default_grid(geometry))
    if not warned:
        assert said == []
        return
    (sentence,) = said
    assert f"span {arc_deg} degrees" in sentence and "the fan are 196" in sentence


def test_a_small_object_needs_less_of_an_orbit_than_the_whole_fan():
    geometry = Geometry.preset("linac", 40, arc_rad=np.radians(186))
    assert coverage_warnings(geometry, Grid.centred((10, 10, 10), (4, 4, 4))) == []


def test_sources_in_all_directions_are_no_orbit_that_could_be_too_short():
    assert not any("degrees" in sentence for sentence in coverage_warnings(irregular(), Grid.centred((9, 9, 9), (9, 9, 9))))


def test_voxels_that_few_views_see_are_said():
    geometry = Geometry.preset("linac", 200)
    (sentence,) = coverage_warnings(geometry, Grid.centred((100, 100, 60), (7, 7, 4)))
    assert "% of the grid's voxels are seen by less than a quarter of the views" in sentence
    x = np.linspace(-350, 350, 200)
    seen_by_a_quarter = geometry.field_of_view()[0] / np.sin(np.pi / 8)
    expected = 100 * np.mean(np.hypot(x[:, None], x) > seen_by_a_quarter)
    assert 15 < expected < 30 and float(sentence.split(" %")[0]) == pytest.approx(expected, abs=8)


def test_the_share_of_views_that_see_a_point_is_counted():
    geometry = Geometry.preset("linac-half-fan", 400)
    share = seen_share(geometry, Grid.centred((1, 1, 1), (1, 1, 1)))
    np.testing.assert_array_equal(share, [1.0])
    at_the_rim = seen_share(geometry, Grid.centred((1, 1, 1), (1, 1, 1), (200, 0, 0)))
    assert 0.4 < at_the_rim[0] < 0.7
    np.testing.assert_array_equal(seen_share(geometry, Grid.centred((1, 1, 1), (1, 1, 1), (0, 0, 300))), [0.0])


def test_what_the_views_do_not_show_is_logged_and_kept_with_the_volume(caplog):
    geometry = Geometry.preset("linac", 6, detector_shape=(12, 16), pixel_mm=(30, 25), arc_rad=np.radians(60))
    with caplog.at_level(logging.WARNING, "SparseCTReconLib"):
        job = prepare(Scan(np.full((6, 12, 16), 0.5), geometry), "fdk", Grid.centred((8, 9, 10), (12, 12, 12)))
    orbit, method = job.warnings
    assert "span 60 degrees" in orbit and "fdk leaves out" in method
    assert [record.getMessage() for record in caplog.records] == [orbit, method]
    (state,) = job.states()
    assert job.volume(state, 1.0).attributes["SparseCTRecon.warnings"] == f"{orbit}; {method}"
