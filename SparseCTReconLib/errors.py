"""The user's faults: one sentence that says what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something that was given is wrong. Every other exception is a fault of this project.

    Parameters
    ----------
    message : str
        One sentence: what, where, with the offending value, and the way out.
    code : str
        Short machine-readable name of the fault, e.g. ``"bad-geometry"``.
    """

    def __init__(self, message: str, code: str = "bad-input"):
        super().__init__(message)
        self.code = code


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name closest to `name`, or the list of all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"


def within_sentence(message: str) -> str:
    """A message of pydantic's with a small first letter, to go on a sentence with."""
    return message[:1].lower() + message[1:]
