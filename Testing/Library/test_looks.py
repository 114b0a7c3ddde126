"""What a method shows beside its volume: written when there is a new one, under a name that every system takes; the last one stays."""

from dataclasses import replace

import numpy as np
import pytest
from played_method import Played

from SparseCTReconLib import Geometry, Grid, Scan, formats
from SparseCTReconLib.jobs import looks
from SparseCTReconLib.jobs.looks import Looks, slug
from SparseCTReconLib.jobs.spec import ReconstructJob
from SparseCTReconLib.jobs.tasks import Drive
from SparseCTReconLib.methods.reconstruct import Reconstruction

GRID = Grid.centred((4, 5, 6), (20, 20, 20))
NAME = "pseudo-reference"


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Showing(Played):
    """Takes 1 s for a step and shows a new pseudo-reference at every third one, of 0.01 times the step."""

    def __init__(self, clock):
        self.clock = clock

    def run(self, scan, grid, options, device="cpu", resume=None):
        others = {}
        for state in super().run(scan, grid, options, device, resume):
            self.clock.now += 1
            if state.step % 3 == 0:
                others = {NAME: lambda step=state.step: np.full(grid.shape, 0.01 * step, np.float32)}
            yield replace(state, others=others)


class Driving:
    """Drives `Showing` and keeps what is said."""

    def __init__(self, folder):
        self.folder, self.clock, self.said = folder, Clock(), []
        self.method = Showing(self.clock)

    def reconstruction(self, steps=8):
        geometry = Geometry.preset("linac", 4, detector_shape=(6, 8), pixel_mm=(60, 50))
        scan = Scan(np.ones((4, 6, 8)), geometry, mu_water=0.02)
        return Reconstruction(scan, self.method, self.method.Options(steps=steps), GRID, "cpu")

    def spec(self, **values):
        given = {"scan": "s", "output": "o.nrrd", "preview_interval_s": 0, "unit": "1/mm", "previews": str(self.folder)}
        return ReconstructJob(**given | values)

    def say(self, event, **of):
        self.said.append({"event": event, **of})

    def run(self, steps=8, **values):
        watch = type("Watch", (), {"step": None, "check": lambda self: None})()
        Drive(self.reconstruction(steps), self.spec(**values), self.folder, self.say, watch, clock=self.clock).run()
        return [event for event in self.said if event["event"] == "preview"]

    def looks(self, **values):
        return Looks(self.reconstruction(), self.spec(**values), self.say, self.clock)

    def state(self, step=1, **others):
        mu = np.full(GRID.shape, 0.02, np.float32)
        return replace(next(Played().run(None, GRID, Played.Options(steps=9))), step=step, volume=lambda: mu, others=others)


@pytest.fixture
def driving(tmp_path):
    return Driving(tmp_path)


def volume_of(value, shape=GRID.shape):
    return lambda: np.full(shape, value, np.float32)


def named(events):
    return [event for event in events if "name" in event]


def test_a_named_volume_is_shown_once_for_each_new_one_and_its_file_says_what_it_is(driving):
    events = driving.run()
    assert [(event["name"], event["step"]) for event in named(events)] == [(NAME, 3), (NAME, 6)]
    assert [event["step"] for event in events if "name" not in event] == list(range(1, 9))
    file = driving.folder / "pseudo-reference.nrrd"
    assert {event["path"] for event in named(events)} == {str(file)}
    shown = formats.read_volume(file)
    np.testing.assert_allclose(shown.array, 0.06, rtol=1e-6)
    assert shown.attributes["SparseCTRecon.named_preview"] == NAME
    assert shown.attributes["SparseCTRecon.disclaimer"] == "research use only; generated detail may be false"
    assert "not the reconstruction" in shown.attributes["SparseCTRecon.note"] and "step 6" in shown.attributes["SparseCTRecon.note"]
    assert "SparseCTRecon.method" not in shown.attributes


def test_the_last_named_volume_stays_though_no_look_was_due_any_more(driving):
    events = driving.run(preview_interval_s=1000)
    assert [event["step"] for event in events] == [1, 8]
    np.testing.assert_allclose(formats.read_volume(driving.folder / "pseudo-reference.nrrd").array, 0.06, rtol=1e-6)


def test_the_last_named_volume_is_not_written_again(driving):
    assert [event["step"] for event in named(driving.run(steps=6))] == [3, 6]


def test_named_volumes_are_in_the_unit_of_the_result(driving):
    driving.looks(unit="HU").look_if_due(driving.state(**{NAME: volume_of(0.02)}))
    np.testing.assert_allclose(formats.read_volume(driving.folder / "pseudo-reference.nrrd").array, 0, atol=1e-3)


def test_looking_at_named_volumes_takes_a_tenth_of_the_time_too(driving, monkeypatch):
    def slow(volume, path):
        driving.clock.now += 0.5

    monkeypatch.setattr(looks, "write_whole", slow)
    made = driving.looks()
    for step in range(1, 21):
        driving.clock.now += 1
        made.look_if_due(driving.state(step, a=volume_of(1), b=volume_of(2)))
    assert [event["step"] for event in driving.said if "name" not in event] == [1, 16], "the first look took 1.5 s, until 2.5 s"


def test_nothing_is_asked_for_its_named_volumes_where_nobody_looks(driving):
    made = driving.looks(previews=None)
    state = driving.state(**{NAME: lambda: pytest.fail("someone looked")})
    made.look_if_due(state)
    made.finish(state)
    assert driving.said == []


def test_a_named_volume_that_is_not_finite_is_not_shown_and_the_next_one_is(driving):
    made = driving.looks()
    made.look_if_due(driving.state(1, **{NAME: volume_of(np.nan), "other": volume_of(1)}))
    made.look_if_due(driving.state(2, **{NAME: volume_of(0.01), "other": volume_of(2)}))
    assert [(event["name"], event["step"]) for event in named(driving.said)] == [("other", 1), (NAME, 2), ("other", 2)]


def test_a_named_volume_of_another_shape_ends_the_previews_with_a_warning_and_not_the_run(driving):
    state = driving.state(**{NAME: volume_of(1, (2, 2, 2)), "other": volume_of(1)})
    made = driving.looks()
    made.look_if_due(state)
    made.look_if_due(state)
    assert [event["event"] for event in driving.said] == ["preview", "warning"]
    assert "no more previews" in driving.said[1]["message"] and "(2, 2, 2)" in driving.said[1]["message"]


@pytest.mark.parametrize(
    "name, stem",
    [
        ("pseudo-reference", "pseudo-reference"),
        ("Pseudo-référence Nr. 2", "pseudo-reference-nr-2"),
        ("../../etc/passwd", "etc-passwd"),
        ("a\\b:c*?\n\0", "a-b-c"),
        ("nul", "volume-nul"),
        ("step-000001", "volume-step-000001"),
        ("ложь", "volume"),
        ("", "volume"),
        ("x" * 300, "x" * 60),
    ],
)
def test_an_odd_name_gives_a_name_of_a_file_in_the_same_folder(driving, name, stem):
    assert slug(name) == stem
    driving.looks().look_if_due(driving.state(**{name: volume_of(0.01), NAME: volume_of(0.02)}))
    assert sorted(path.name for path in driving.folder.iterdir()) == sorted({f"{stem}.nrrd", "step-000001.nrrd", f"{NAME}.nrrd"})


def test_names_that_differ_in_odd_characters_only_have_files_of_their_own(driving):
    driving.looks().look_if_due(driving.state(**{"the one": volume_of(1), "the_one": volume_of(2), "the-one": volume_of(3)}))
    values = {path.stem: formats.read_volume(path).array.max() for path in driving.folder.glob("the*")}
    assert values == {"the-one": 1, "the-one-2": 2, "the-one-3": 3}


def test_a_file_that_someone_reads_and_windows_does_not_replace_gets_one_beside_it(driving, monkeypatch):
    def write(volume, path):
        if path.name == "pseudo-reference.nrrd" and path.exists():
            raise PermissionError(13, "used by another process", str(path))
        formats.write_volume(volume, path)

    monkeypatch.setattr(looks, "write_whole", write)
    made = driving.looks()
    for step in (1, 2):
        made.look_if_due(driving.state(step, **{NAME: volume_of(0.01 * step)}))
    assert [event["path"] for event in named(driving.said)] == [
        str(driving.folder / "pseudo-reference.nrrd"),
        str(driving.folder / "pseudo-reference-000002.nrrd"),
    ]
