"""What the extension keeps on this computer that can be made or fetched again: how much it is, and deleting it."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from SparseCTReconLib import resources

OLD_S = 7 * 86400
RUNS = "SparseCTRecon-*"
"""Folders of runs in Slicer's temporary folder; newer ones may still be in use, by this Slicer or another one."""


@dataclass(frozen=True)
class Kept:
    """Folders of one kind.

    Parameters
    ----------
    kind : str
        "kernels", "weights", "totalsegmentator" or "runs".
    title, explanation : str
        What they are, for the user.
    folders : tuple of Path
    size : int
        Bytes in all.
    """

    kind: str
    title: str
    explanation: str
    folders: tuple
    size: int


def titles():
    """The kinds of what is kept, with a title and a sentence for each."""
    return {
        "kernels": (_("Compiled kernels"), _("Compiled again when they are needed, in about 10 s.")),
        "weights": (_("Downloaded weights"), _("Fetched again when a method needs them.")),
        "totalsegmentator": (_("TotalSegmentator's models"), _("Models and settings of the segmentations that this module asks for.")),
        "runs": (_("Files of failed runs"), _("In Slicer's temporary folder, older than a week.")),
    }


def kept():
    """What is kept, of every kind, whether there is any or not."""
    found = {kind: resources.kept(kind) for kind in resources.KEPT} | {"runs": _oldRuns()}
    return [Kept(kind, *texts, tuple(found[kind]), sum(map(_size, found[kind]))) for kind, texts in titles().items()]


def delete(entries):
    """Delete the folders of the entries; return those that could not be deleted whole."""
    for entry in entries:
        for folder in entry.folders:
            shutil.rmtree(folder, ignore_errors=True)
    return [folder for entry in entries for folder in entry.folders if folder.exists()]


def megabytes(size):
    """A number of bytes as a person says it."""
    return _("nothing") if size == 0 else _("{n} MB").format(n=f"{size / 1e6:.1f}" if size < 1e7 else f"{size / 1e6:.0f}")


def _oldRuns():
    return [path for path in Path(slicer.app.temporaryPath).glob(RUNS) if path.is_dir() and time.time() - _newest(path) > OLD_S]


def _newest(folder):
    return max(_times(folder), default=0.0)


def _times(folder):
    for path in (folder, *folder.rglob("*")):
        try:
            yield path.stat().st_mtime
        except OSError:  # deleted meanwhile
            continue


def _size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
