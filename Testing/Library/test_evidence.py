"""What the evidence recommends, and what it does not say."""

import json

import pytest

from SparseCTReconLib import InputError, evidence

METHODS = {"fdk": (22.0, 0.4), "admm-tv": (36.0, 20.0), "naf": (36.5, 118.0)}


def row(method="fdk", volume="head", views=20, psnr_db=30.0, seconds=1.0, **changes):
    return {
        "method": method,
        "preset": "recommended",
        "volume": volume,
        "views": views,
        "budget_s": 120.0,
        "size": 128,
        "device": "cpu",
        "training": "unknown",
        "psnr_db": psnr_db,
        "ssim": 0.9,
        "seconds": seconds,
        "peak_memory_mb": 500.0,
    } | changes


def measured(views=20, volumes=("head", "knee"), **changes):
    """Each method on each volume; the second volume is easier."""
    return [
        row(name, volume, views, psnr + 4 * index, seconds, **changes)
        for name, (psnr, seconds) in METHODS.items()
        for index, volume in enumerate(volumes)
    ]


def test_the_best_mean_over_the_volumes_is_recommended_with_its_lead_over_admm_tv():
    found = evidence.recommend(measured(), 20)
    assert (found.method, found.preset, found.views, found.volumes) == ("naf", "recommended", 20, 2)
    assert (found.psnr_db, found.gain_db, found.seconds) == (38.5, 0.5, 118.0)
    assert evidence.sentence(measured(), 20) == (
        "Best for 20 views on CPU: naf, 38.5 dB on 2 volumes in about 118 s, 0.5 dB above admm-tv."
    )


def test_a_budget_leaves_out_what_takes_longer():
    assert evidence.recommend(measured(), 20, budget_s=30).method == "admm-tv"
    assert evidence.recommend(measured(), 20, budget_s=2).method == "fdk"
    assert (
        evidence.sentence(measured(), 20, budget_s=30) == "Best for 20 views in 30 s on CPU: admm-tv, 38.0 dB on 2 volumes in about 20 s."
    )
    assert "nothing that was measured ended in that time" in evidence.sentence(measured(), 20, budget_s=0.1)


def test_with_more_time_the_longer_of_two_runs_counts_even_if_it_was_the_worse():
    rows = [row(budget_s=30.0, seconds=29.0, psnr_db=33.0), row(budget_s=120.0, seconds=119.0, psnr_db=32.0)]
    assert evidence.recommend(rows, 20).psnr_db == 32.0
    assert evidence.recommend(rows, 20, budget_s=60).psnr_db == 33.0


def test_the_nearest_number_of_views_counts_and_is_said():
    rows = measured(20) + [row("fdk", psnr_db=50.0, views=50)]
    assert evidence.recommend(rows, 30).views == 20
    assert evidence.recommend(rows, 35).views == 50
    assert "20 views" not in evidence.sentence(rows, 16) and "Best for 16 views on CPU, measured at 20: naf" in evidence.sentence(rows, 16)


@pytest.mark.parametrize("views, nearest", [(5, 20), (300, 50)])
def test_far_from_what_was_measured_there_is_no_evidence(views, nearest):
    rows = measured(20) + measured(50)
    assert evidence.recommend(rows, views) is None
    assert evidence.sentence(rows, views) == f"No evidence for {views} views: the nearest number that was measured is {nearest}."


def test_what_was_measured_on_a_cpu_says_nothing_about_cuda():
    assert evidence.recommend(measured(), 20, "cuda") is None
    assert evidence.sentence(measured(), 20, "cuda") == "No evidence for CUDA: only CPU was measured."
    rows = measured() + [row("naf", device="cuda", psnr_db=39.0)]
    assert evidence.sentence(rows, 20, "cuda").endswith("; admm-tv was not measured beside it.")


def test_methods_are_compared_on_the_same_volumes():
    found = evidence.recommend(measured() + [row("cgls", "knee", psnr_db=39.0)], 20)
    assert (found.method, found.volumes, found.psnr_db) == ("naf", 1, 40.5), "on the knee, the one volume that all have"
    assert evidence.recommend(measured() + [row("fdk", "chest", psnr_db=99.0)], 20).method == "naf", "nothing else has the chest"
    many = measured(volumes=("head", "knee", "chest")) + [row("cgls", "knee", psnr_db=99.0)]
    assert evidence.recommend(many, 20).method == "naf", "one volume of three is too few to be compared"


def test_a_preset_is_a_candidate_of_its_own():
    rows = measured() + [row("naf", volume, psnr_db=41.0, preset="paper") for volume in ("head", "knee")]
    assert evidence.recommend(rows, 20).preset == "paper"
    assert "naf with the preset paper, 41.0 dB" in evidence.sentence(rows, 20)


def test_volumes_that_a_prior_has_seen_count_only_where_there_are_no_others():
    seen = [row("naf", "head", psnr_db=60.0, training="seen"), row("admm-tv", "head", psnr_db=30.0, training="seen")]
    held_out = [row("naf", "knee", psnr_db=31.0, training="held out"), row("admm-tv", "knee", psnr_db=32.0, training="held out")]
    found = evidence.recommend(seen + held_out, 20)
    assert found.method == "admm-tv" and found.held_out and not found.seen
    assert evidence.sentence(seen, 20).endswith("; a learned prior has seen these volumes.")


def test_a_method_that_this_installation_does_not_have_is_not_recommended():
    assert evidence.recommend(measured(), 20, known=["fdk", "admm-tv"]).method == "admm-tv"
    assert evidence.sentence(measured(), 20, known=["cgls"]) == "No evidence yet: no method has been measured."


def test_without_a_file_there_is_no_evidence_yet(tmp_path, monkeypatch):
    def absent(name):
        raise InputError("this installation has no evidence")

    monkeypatch.setattr(evidence.resources, "find", absent)
    assert evidence.load() == [] and evidence.load(tmp_path / "none.json") == []
    assert evidence.sentence(evidence.load(), 20) == "No evidence yet: no method has been measured."


def test_rows_are_read_again_when_the_file_has_changed_and_a_broken_file_is_one_sentence(tmp_path):
    import os

    file = tmp_path / "evidence.json"
    file.write_text(json.dumps({"rows": measured()}))
    assert evidence.load(file) == measured()
    file.write_text(json.dumps({"rows": []}))
    os.utime(file, (1, 1))
    assert evidence.load(file) == []
    file.write_text("[")
    os.utime(file, (2, 2))
    with pytest.raises(InputError, match="remove it or make it anew"):
        evidence.load(file)
    file.write_text(json.dumps({"rows": [*measured(), {"method": "naf"}]}))
    os.utime(file, (3, 3))
    with pytest.raises(InputError, match="has a row without preset"):
        evidence.load(file)


def test_the_time_of_a_run_is_that_of_the_nearest_one_scaled_by_views_and_voxels():
    row = {"method": "naf", "preset": "recommended", "device": "cpu", "size": 128, "budget_s": 60.0}
    rows = [row | {"views": 20, "seconds": 10.0, "steps": "80 of 80"}, row | {"views": 50, "seconds": 30.0, "steps": "40 of 80"}]
    expected = lambda views, voxels, **more: evidence.expected_seconds(rows, "naf", "recommended", views, voxels, **more)  # noqa: E731
    assert expected(20, 128**3) == pytest.approx(10)
    assert expected(10, 256**3) == pytest.approx(40)
    assert expected(100, 128**3) == pytest.approx(120), "the run at 50 views was cut short at half its steps"
    assert expected(100, 128**3, budget_s=25.0) == 25.0
    assert expected(20, 128**3, device="cuda") is None
    assert evidence.expected_seconds(rows, "naf", "paper", 20, 128**3) is None
