"""What the dataclasses of the command line's commands share."""

from __future__ import annotations

from tyro.conf import arg

from ..errors import InputError

PLAIN = {"markup": False, "highlight": False, "soft_wrap": True}
"""How a console prints a text as it is."""


def place(name: str):
    """An argument's place in the usage: what stands there."""
    return arg(metavar=name)


def positive(flag: str, seconds: float) -> None:
    """Refuse a time that is none."""
    if not seconds > 0:
        raise InputError(f"{flag} {seconds:g}: give a positive number of seconds", "bad-arguments")
