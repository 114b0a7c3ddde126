"""Trust from the command line and as a background process: files, figures, refusals, and nothing half-written."""

import json

import numpy as np
import pytest
from cli_cases import refused, run
from phantoms import Phantom
from small_scans import scan_of

from SparseCTReconLib import Geometry, Grid, Volume, read_volume, reconstruct, write_scan, write_volume
from SparseCTReconLib.commands import trust as command
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.jobs import trust_task
from SparseCTReconLib.jobs.client import Job, JobState, SubprocessTransport
from SparseCTReconLib.jobs.spec import TrustJob, read_spec, write_spec

pytestmark = pytest.mark.usefixtures("quick_workers")
GRID = Grid.centred((24, 24, 20), (8.0,) * 3)
SIZE = ("--size", 20)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a scan and a volume of it."""
    folder = tmp_path_factory.mktemp("Vertrauen ψ")
    scan = scan_of(Phantom(80.0), Geometry.preset("linac", 8, detector_shape=(24, 32), pixel_mm=(12.0, 10.0)))
    write_scan(scan, folder / "scan")
    write_volume(reconstruct(scan, "cgls", GRID, device="cpu", iterations=4), folder / "volume.nrrd")
    write_volume(reconstruct(scan, "fdk", GRID, device="cpu"), folder / "fdk.nrrd")
    return folder


@pytest.fixture
def here(monkeypatch):
    """The command does the job in this process."""

    class Watch:
        def check(self):
            """Nobody cancels."""

    def run_here(spec, folder, title, console):
        said = []
        trust_task.trust(spec, lambda event, **values: said.append((event, values)), Watch())
        return said[-1][1]["summary"]

    monkeypatch.setattr(command, "run_job", run_here)


def test_maps_figures_picture_and_report_lie_in_one_folder(made, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("trust", made / "volume.nrrd", made / "scan", "--out", out, *SIZE, "--groups", 2, "--region", 0, -30, 0, 25, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((out / "trust.json").read_text())
    maps = {"contradiction", "asked", "determined", "prior", "spread", "apart"}
    assert {path.name for path in out.iterdir()} == {f"{name}.nrrd" for name in maps} | {
        "residual.nrrd",
        "trust.json",
        "trust.html",
        "trust.png",
    }
    assert set(found["meanings"]) == maps
    for name in maps:
        volume = read_volume(out / f"{name}.nrrd")
        assert volume.grid.matches(GRID) and np.isfinite(volume.array).all()
        assert volume.attributes["SparseCTRecon.map"] == name and "research use only" in volume.attributes["SparseCTRecon.disclaimer"]
    assert read_volume(out / "residual.nrrd").array.shape == (8, 24, 32)
    assert len(found["views"]) == len(found["held_back"]["views"]) == 8
    assert found["disagreement"]["spread_hu"] > 0 and found["region"]["radius_mm"] == 25
    page = (out / "trust.html").read_text()
    assert "data:image/png" in page and "Places that stand out" in page
    assert (out / "trust.png").read_bytes().startswith(b"\x89PNG")


def test_the_tables_are_for_people(here, made, tmp_path, capsys):
    others = ("--others", made / "fdk.nrrd", made / "volume.nrrd")
    assert run("trust", made / "volume.nrrd", made / "scan", "--out", tmp_path / "out", *SIZE, *others) == 0
    said = capsys.readouterr().out
    assert "residual over the noise" in said and "disagreement" in said and "not what is true" in said


def test_wrong_input_is_one_sentence_and_leaves_nothing(here, made, tmp_path, capsys):
    volume, scan, out = made / "volume.nrrd", made / "scan", tmp_path / "out"
    away = tmp_path / "away.nrrd"
    moved = read_volume(volume)
    write_volume(Volume(moved.array, Grid(GRID.size, GRID.spacing_mm, tuple(np.add(GRID.origin_mm, (0, 0, 900))))), away)
    assert "give a volume and a scan of the same place" in refused(capsys, "trust", away, scan, "--out", out, *SIZE)
    assert "holds no voxel" in refused(capsys, "trust", volume, scan, "--out", out, *SIZE, "--region", 900, 0, 0, 10)
    assert "at least 16 mm" in refused(capsys, "trust", volume, scan, "--out", out)
    assert "is no scan" in refused(capsys, "trust", volume, volume, "--out", out, *SIZE)
    assert "choose another folder" in refused(capsys, "trust", volume, scan, "--out", scan, *SIZE)
    assert "has no seed" in refused(capsys, "trust", volume, scan, "--out", out, *SIZE, "--seeds", 2)
    assert "does not say by which method" in refused(capsys, "trust", away, scan, "--out", out, *SIZE, "--groups", 2)
    assert "give 2 to 4" in refused(capsys, "trust", volume, scan, "--out", out, *SIZE, "--groups", 5)
    assert "give one of others, groups and seeds" in refused(
        capsys, "trust", volume, scan, "--out", out, *SIZE, "--groups", 2, "--seeds", 2
    )
    assert "two or more" in refused(capsys, "trust", volume, scan, "--out", out, *SIZE, "--others", volume)
    assert not out.exists()


def test_a_cancelled_job_leaves_nothing(made, tmp_path):
    spec = TrustJob(volume=str(made / "volume.nrrd"), scan=str(made / "scan"), output=str(tmp_path / "out"), size_mm=20)
    job = Job(SubprocessTransport(), on_event=lambda event: event["event"] == "started" and job.cancel())
    job.start(write_spec(spec, tmp_path / "job"))
    assert job.wait(timeout_s=120) is JobState.CANCELLED
    assert not (tmp_path / "out").exists()


def test_paths_of_a_job_are_taken_from_its_folder_and_unknown_keys_refused(tmp_path):
    values = {"task": "trust", "volume": "../v.nrrd", "scan": "../scan", "output": "out", "others": ["../a.nrrd"]}
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "job.json").write_text(json.dumps(values))
    spec = read_spec(tmp_path / "job" / "job.json")
    assert spec.volume == str(tmp_path / "job" / "../v.nrrd") and spec.others == [str(tmp_path / "job" / "../a.nrrd")]
    (tmp_path / "job" / "job.json").write_text(json.dumps(values | {"regions": 1}))
    with pytest.raises(InputError, match="no key 'regions'"):
        read_spec(tmp_path / "job" / "job.json")


def test_a_comparison_s_report_says_it_of_each_volume_where_it_is_asked_to(made, tmp_path, monkeypatch, capsys):
    from SparseCTReconLib.commands import compare as comparing

    volume, truth = read_volume(made / "volume.nrrd"), Phantom(80.0).volume(GRID) * 50_000 - 1000
    write_volume(Volume(truth, GRID), tmp_path / "truth.nrrd")
    figures = {name: 1.0 for name in ("psnr_db", "ssim", "rmse_hu", "reprojection_residual", "seconds", "peak_memory_mb")}
    monkeypatch.setattr(comparing, "reconstruct_each", lambda jobs, *_: {name: comparing.Made(volume, figures, {}) for name in jobs})
    out = tmp_path / "out"
    assert run("compare", made / "scan", tmp_path / "truth.nrrd", "--methods", "cgls", "fdk", "--out", out, "--trust") == 0
    page = (out / "report.html").read_text()
    assert page.count("Places that stand out") == 2 and "Trust (cgls)" in page and "Trust (fdk)" in page
