"""The worker's own watch: a thread that says the worker lives and looks whether it is to stop. Standard library only."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from pathlib import Path

from .events import EventWriter
from .files import CANCEL_FILE, remove_leftovers

CANCELLED_EXIT = 3
_LOOK_S, _HEARTBEAT_S, _PATIENCE_S = 0.2, 0.8, 4.0
_STALE_S = 60.0
_SIGNALS = {signal.SIGTERM, signal.SIGINT}


class Cancelled(BaseException):
    """The job is to stop: a cancel file, a signal, or a parent that has gone."""


class Watch:
    """Heartbeats and cancellation of a worker.

    Parameters
    ----------
    folder : Path
        The job's folder, where a file `cancel` may appear.
    say : EventWriter
        Where the heartbeats go.
    """

    def __init__(self, folder: Path, say: EventWriter):
        self._folder, self._say = folder, say
        self._asked: float | None = None
        self._over = threading.Event()
        self._signals = socket.socketpair()
        for end in self._signals:
            end.setblocking(False)
        self.step: int | None = None
        """The last step that was done."""
        self.resumable = False
        """Whether a checkpoint has been written."""

    def start(self) -> None:
        """Begin to say that the worker lives and to look; call it from the main thread, which takes signals."""
        with contextlib.suppress(OSError):
            cancel = self._folder / CANCEL_FILE
            if time.time() - cancel.stat().st_mtime > _STALE_S:
                cancel.unlink()  # of an earlier run
        # A handler in Python would have to wait until a long call in C returns; the byte that a signal leaves here does not.
        signal.set_wakeup_fd(self._signals[1].fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda number, frame: None)
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def stop(self) -> None:
        """Say and look no more."""
        self._over.set()

    def check(self) -> None:
        """Raise `Cancelled` if the job is to stop."""
        self._look()
        if self._asked is not None:
            raise Cancelled

    def _look(self) -> None:
        if self._asked is None and (self._signalled() or self._say.lost or (self._folder / CANCEL_FILE).exists()):
            self._asked = time.monotonic()

    def _signalled(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            return not _SIGNALS.isdisjoint(self._signals[0].recv(64))
        return False

    def _run(self) -> None:
        pid, last = os.getpid(), float("-inf")
        while not self._over.wait(_LOOK_S):
            if time.monotonic() - last >= _HEARTBEAT_S:
                self._say("heartbeat", pid=pid)
                last = time.monotonic()
            self._look()
            if self._asked is not None and time.monotonic() - self._asked > _PATIENCE_S:
                remove_leftovers(self._folder)
                self._say("cancelled", step=self.step, resumable=self.resumable)
                end_children()
                os._exit(CANCELLED_EXIT)


def end_children() -> None:
    """End what this worker has started and left behind, where it leads a group of processes; nobody else would after a parent's death.

    The worker itself takes the signal as a byte in a socket.
    """
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        with contextlib.suppress(OSError):
            os.killpg(0, signal.SIGTERM)
