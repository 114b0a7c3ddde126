"""A worker that plays comparisons: the files and events of a real one, without computing anything."""

from __future__ import annotations

import json
from pathlib import Path

from acting_worker import ActingWorker, Script

from SparseCTReconLib.jobs.events import encode


class ComparingWorker(ActingWorker):
    """Answers compare jobs; results are as good as they come early in the list."""

    def _compare(self, spec):
        yield encode("started", task="compare", method=None, device="cpu", backend=None, grid=None)
        yield encode("stage", name="image figures")
        yield encode("progress", step=1, steps=2, fraction=0.5, elapsed_s=1, remaining_s=1)
        while self._script.ending == "waits":
            yield encode("heartbeat")
        if self._script.ending == "error":
            self._exit_code = 2
            yield encode(
                "error", code="weights-missing", message="TotalSegmentator's weights are missing.", next_step="Connect to a network once."
            )
            return
        warnings = self._script.warning
        for message in warnings if isinstance(warnings, list) else filter(None, [warnings]):
            yield encode("warning", message=message)
        path = write_comparison(spec)
        self._exit_code = 0
        yield encode("done", path=str(path), summary={})


def write_comparison(spec) -> Path:
    """Leave the files of a finished comparison."""
    folder = Path(spec.output)
    folder.mkdir()
    comparison = {
        "reference": {"name": spec.reference_name, "path": spec.reference, "attributes": {}},
        "results": [_result(spec, number, result.name) for number, result in enumerate(spec.results)],
        "conventions": {"psnr_db": "PSNR: over the volume", "dice": "Dice: twice the overlap"},
        "segmenter": {"task": "total", "quality": "fast", "noise_floor": "fast against normal"} if spec.organs else None,
        "warnings": [],
        "disclaimer": "Research use only.",
    }
    (folder / "comparison.json").write_text(json.dumps(comparison), encoding="utf-8")
    (folder / "comparison.csv").write_text("result,kind,item,figure,value,unit\n", encoding="utf-8")
    if spec.report:
        (folder / "report.html").write_text("<html>played</html>", encoding="utf-8")
    return folder


def _result(spec, number: int, name: str) -> dict:
    worse = number + 1
    image = {"psnr_db": 40.0 - worse, "ssim": 1 - worse / 100, "rmse_hu": 10.0 * worse, "vif": 1 - worse / 10}
    image |= {f"body_{key}": value for key, value in image.items() if key != "vif"} | {"compared_fraction": 1.0}
    tissue = {"low_hu": None, "high_hu": None, "volume_ml": 10.0, "reference_volume_ml": 11.0, "mean_hu": 40.0, "reference_mean_hu": 42.0}
    tissues = [tissue | {"name": kind, "dice": 0.9, "error_hu": -2.0, "rmse_hu": 20.0} for kind in ("air", "soft tissue", "bone")]
    organ = {"dice": 0.91, "assd_mm": 1.2, "hd95_mm": 3.4, "noise_dice": 0.95, "noise_assd_mm": 0.5, "noise_hd95_mm": 1.5}
    organs = [
        organ | {"label": 5, "name": "liver", "volume_ml": 1500.0, "reference_volume_ml": 1490.0, "at_border": True},
        {key: None for key in organ} | {"label": 1, "name": "spleen", "dice": 0.0, "volume_ml": 0.0, "reference_volume_ml": 200.0},
    ]
    return {
        "name": name,
        "path": spec.results[number].path,
        "attributes": {},
        "image": image if spec.image else None,
        "tissues": tissues if spec.tissues else None,
        "organs": organs if spec.organs else None,
        "labels": None,
        "warnings": [],
    }


def new_worker(script: Script):
    """What makes a worker for each job, as the logic's `newTransport`."""
    return lambda: ComparingWorker(script)
