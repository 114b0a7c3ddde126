"""What the measurements that come with the library say about the scan at hand: one sentence, without importing anything heavy."""

from functools import cache
from pathlib import Path

from .request import Source

GEOMETRY = "geometry.xml"


def recommendation(request):
    """What the evidence recommends for the request's number of views; empty where that is not known."""
    from SparseCTReconLib import evidence, methods

    views = viewsOfScan(request.scanFolder) if request.source is Source.FOLDER else request.views
    if not views:
        return ""
    device = "cuda" if request.device == "cuda" else "cpu"
    try:
        return evidence.sentence(evidence.load(), views, device, request.budget or None, methods.names())
    except ValueError as error:
        return str(error)


def viewsOfScan(path):
    """Number of views of a scan folder, or of the folder of a scan's file; 0 where it is no such folder."""
    folder = Path(path.strip() or ".")
    file = (folder if folder.is_dir() else folder.parent) / GEOMETRY
    try:
        return _views(str(file), file.stat().st_mtime_ns) if path.strip() else 0
    except OSError:
        return 0


@cache
def _views(file, changed):
    return Path(file).read_text(encoding="utf-8", errors="replace").count("<Projection>")
