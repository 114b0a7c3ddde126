"""A worker that plays trust: the files and events of a real one, without computing anything."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from acting_worker import ActingWorker

from SparseCTReconLib import formats
from SparseCTReconLib.grid import Volume
from SparseCTReconLib.jobs.events import encode

FIGURES = {
    "residual": {"noise_ratio": 2.5},
    "determined_percent": 58.0,
    "size_mm": 10.0,
    "stand_out": [{"position_mm": [10.0, -20.0, 30.0], "z": -7.2, "asked_hu": -40.0, "where": "body"}],
    "warnings": ["the scan does not say its photons"],
}


class ExaminingWorker(ActingWorker):
    """Answers trust jobs too."""

    def _trust(self, spec):
        assert Path(spec.scan).exists()
        yield encode("started", task="trust")
        yield encode("stage", name="what the views determine")
        while self._script.ending == "waits":
            yield encode("heartbeat")
        if self._script.ending == "error":
            self._exit_code = 2
            yield encode("error", code="not-this-scan", message="The volume is of another scan.", next_step="", details="")
            return
        volume, folder = formats.read_volume(spec.volume), Path(spec.output)
        folder.mkdir()
        for number, name in enumerate(("contradiction", "asked", "determined", "prior"), start=1):
            values = np.full(volume.grid.shape, number, np.float32)
            formats.write_volume(Volume(values, volume.grid, {"SparseCTRecon.map": name}), folder / f"{name}.nrrd")
        (folder / "trust.json").write_text(json.dumps(FIGURES), encoding="utf-8")
        (folder / "trust.html").write_text("<html>played</html>", encoding="utf-8")
        self._exit_code = 0
        yield encode("done", path=str(folder), summary={})
