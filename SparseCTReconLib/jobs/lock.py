"""One writer at a time: what a job writes is locked while it runs, so that two of them cannot mix their files. Standard library only.

The locks are the system's own and go with their process, however it ends. They lie in the machine's folder for temporary files under hashes
of the paths: nothing is left beside results, and no name of a folder shows.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError

IN_USE = "in-use"
"""Code of the error of a job whose place another one holds."""


@contextlib.contextmanager
def only_writer(*places) -> Iterator[None]:
    """Hold the locks of `places` (files or folders, which need not exist) within the block.

    Raises
    ------
    InputError
        Where another process holds one of them.
    """
    with contextlib.ExitStack() as held:
        for place in dict.fromkeys(os.path.realpath(place) for place in places):
            held.enter_context(_locked(place))
        yield


@contextlib.contextmanager
def _locked(place: str) -> Iterator[None]:
    folder = Path(tempfile.gettempdir()) / f"sparsectrecon-locks-{getattr(os, 'getuid', lambda: 'user')()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    name = hashlib.sha256(os.path.normcase(place).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    with open(folder / f"{name}.lock", "a+b") as file:
        if not _lock(file):
            raise InputError(f"{place} is being written by another job: wait for its end, cancel it, or choose another place", IN_USE)
        yield


def _lock(file) -> bool:
    """Whether this process now holds the lock of an open file; it is let go when the file is closed."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
