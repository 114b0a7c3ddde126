"""The previews of a run on their way from the worker's files into the scene: the newest one of each volume, in small steps."""

import time
from dataclasses import dataclass

from slicer.i18n import tr as _

from .nrrd import readNrrd
from .scene import RESULT_ROLE

HAND_OVER_S = 0.015
"""How long a preview may be handed over at a time; between the times the window answers."""


class Previews:
    """Hands previews over: those of the result to its node, those that have a name to nodes beside it.

    Parameters
    ----------
    output : OutputVolume
        Where the voxels of the result go.
    record : Record
        Takes a look at each preview of the result.
    say : callable
        Told in a sentence what the user may want to find in the log.

    Attributes
    ----------
    count : int
        How many previews of the result were shown.
    """

    def __init__(self, output, record, say):
        self.count = 0
        self._output, self._record, self._say = output, record, say
        self._beside = {}  # name: OutputVolume
        self._waiting = {}  # name, "" for the result: the newest event
        self._opened = None

    @property
    def pending(self):
        """Whether there is something to hand over."""
        return bool(self._waiting or self._opened)

    def note(self, event):
        """Remember a preview that the worker has written; an older one of the same volume is passed over."""
        self._waiting[event.get("name") or ""] = event

    def handOver(self):
        """Go on for a moment with what is to be handed over; whether there is more to do."""
        if self._opened is None and self._waiting:
            self._opened = self._open(next(iter(self._waiting)))
        if self._opened is None:
            return self.pending
        if self._opened.name and self._opened.volume.deleted:  # by the user, who does not want it
            self._opened = None
            return self.pending
        until = time.perf_counter() + HAND_OVER_S
        for _slab in self._opened.steps:
            if time.perf_counter() > until:
                return True
        opened, self._opened = self._opened, None
        self._show(opened)
        return self.pending

    def forget(self):
        """Let go of what was not handed over yet."""
        self._waiting.clear()
        self._opened = None

    def forgetResult(self):
        """Let go of the result's previews, for the result is there; what lies beside it is still to come."""
        self._waiting.pop("", None)
        if self._opened and not self._opened.name:
            self._opened = None

    def keep(self):
        """Leave what lies beside the result in the scene: the run has ended well."""
        for volume in self._beside.values():
            volume.keep()
            if volume.node:
                volume.node.SetNodeReferenceID(RESULT_ROLE, self._output.node.GetID())
                self._say(_("{name} lies beside the result: it is not the reconstruction.").format(name=volume.node.GetName()))

    def restore(self):
        """Leave the scene as it was before the run."""
        for volume in self._beside.values():
            volume.restore()

    def _open(self, name):
        """Open the newest preview of a volume; None where there is none to read."""
        event = self._waiting.pop(name)
        try:
            array, ijkToRas, attributes = readNrrd(event["path"])
        except FileNotFoundError:
            return None  # a newer preview has replaced it: its own event follows
        except (OSError, ValueError) as error:
            self._say(_("A preview could not be read: {error}").format(error=error))
            return None
        volume = self._volume(name)
        return _Opened(name, volume, volume.handOver(array, ijkToRas), event.get("step"), (array, ijkToRas, attributes))

    def _volume(self, name):
        if not name:
            return self._output
        if name not in self._beside:
            self._beside[name] = self._output.beside(name)
        return self._beside[name]

    def _show(self, opened):
        """Say what the voxels are that were handed over."""
        array, ijkToRas, attributes = opened.content
        if opened.name:
            opened.volume.describe(attributes)
        else:
            self.count += 1
            self._record.look(opened.volume.node, opened.step or self.count, array, ijkToRas)


@dataclass
class _Opened:
    """A preview that is being handed over: name ("" of the result), where to, the iterator that does it, step, what was read."""

    name: str
    volume: object
    steps: object
    step: int | None
    content: tuple
