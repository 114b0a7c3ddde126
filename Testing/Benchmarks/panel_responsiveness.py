"""How long the panel's process blocks while previews arrive: `python Testing/Benchmarks/panel_responsiveness.py [VOXELS ...]`.

A timer beats every 5 ms in the panel's event loop; a beat that comes late was held up by an event. Previews are written before, so that
only what the panel does with them counts. The test host has no slice views: what Slicer takes to draw them comes on top.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing" / "Slicer")]

BEAT_MS = 5
PREVIEWS = 10


class Player:
    """A transport whose worker has done all its work before: an event for each poll."""

    files: list[Path] = []
    write_scan = None

    def start(self, arguments, environment):
        self._job = json.loads(Path(arguments[-1]).read_text(encoding="utf-8"))
        self._folder = Path(arguments[-1]).parent
        self._exit_code = None
        self._life = self._play()

    def _play(self):
        from SparseCTReconLib.jobs.events import encode

        if self._job["task"] == "reconstruct":
            for step, file in enumerate(self.files, 1):
                yield encode("progress", step=step, steps=PREVIEWS, fraction=step / PREVIEWS, elapsed_s=step, remaining_s=1)
                yield encode("preview", path=str(file), step=step)
                yield encode("preview", path=str(file), step=step, name="pseudo-reference")
        else:
            self.write_scan(self._job)
        self._exit_code = 0
        yield encode("done", path=str(self.files[-1]), summary={})

    def poll(self):
        from SparseCTReconLib.jobs.transport import Poll

        return Poll(next(self._life, b""), b"", self._exit_code)

    def kill(self, pid):
        self._exit_code, self._life = -9, iter(())


def scan_writer():
    """What writes the scan that a job asks for, with few pixels."""
    from acting_worker import small_scan

    from SparseCTReconLib import formats

    return lambda job: formats.write_scan(small_scan(job["preset"], job["views"]), job["output"])


def write_previews(voxels: int, folder: Path) -> list[Path]:
    """Previews of voxels^3 float32, as the worker writes them."""
    from SparseCTReconLib import formats
    from SparseCTReconLib.grid import Grid, Volume

    array = np.random.default_rng(0).normal(0, 500, (voxels,) * 3).astype(np.float32)
    files = [folder / f"step-{step}.nrrd" for step in range(PREVIEWS)]
    for file in files:
        formats.write_volume(Volume(array, Grid.centred((voxels,) * 3, (1, 1, 1))), file)
    return files


def beats_while_running(session, panel, ct) -> tuple[np.ndarray, float]:
    """Milliseconds between the beats while a run of the panel lasts, and those that pressing Apply took."""
    import qt

    times = []
    timer = qt.QTimer()
    timer.setInterval(BEAT_MS)
    timer.setTimerType(qt.Qt.PreciseTimer)
    timer.connect("timeout()", lambda: times.append(time.perf_counter()))
    panel.ui.inputSelector.setCurrentNode(ct)
    start = time.perf_counter()
    panel.ui.applyButton.click()
    apply_ms = (time.perf_counter() - start) * 1000
    timer.start()
    while panel.run.active:
        session.app.processEvents(qt.QEventLoop.WaitForMoreEvents)
    beats = len(times)
    while len(times) == beats:  # the event that ended the run has its beat too
        session.app.processEvents(qt.QEventLoop.WaitForMoreEvents)
    timer.stop()
    if panel.run.error:
        raise SystemExit(panel.run.error["details"])
    return np.diff(times) * 1000, apply_ms


def ct_node(voxels: int):
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    slicer.util.updateVolumeFromArray(node, np.zeros((voxels,) * 3, np.int16))
    return node


def main(sizes: list[int]) -> None:
    import host

    session = host.start()
    session.load(ROOT / "SparseCTRecon" / "SparseCTRecon.py")
    panel = session.open("SparseCTRecon")
    panel.logic.newTransport = Player
    Player.write_scan = staticmethod(scan_writer())
    print("| CT and previews | Apply (ms) | longest block (ms) | 99th percentile (ms) | beats |\n|---|---|---|---|---|")
    for voxels in sizes:
        with tempfile.TemporaryDirectory() as folder:
            Player.files = write_previews(voxels, Path(folder))
            beats, apply_ms = beats_while_running(session, panel, ct_node(voxels))
        late = beats - BEAT_MS
        print(f"| {PREVIEWS} of {voxels}^3 | {apply_ms:.0f} | {late.max():.1f} | {np.percentile(late, 99):.1f} | {len(late)} |", flush=True)
        session.clear()
        panel.enter()
    panel.cleanup()


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [64, 128, 256])
