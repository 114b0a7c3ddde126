"""From words on the command line to the dataclass of a command, and from the parser's complaints to one sentence."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import typing
from collections.abc import Mapping

from .. import __version__
from ..errors import InputError, nearest_name

_HELP = ("-h", "--help")


def parse(arguments: list[str], commands: Mapping[str, type], program: str):
    """The command that `arguments` give, or None where help or the version was asked for and printed.

    Parameters
    ----------
    arguments : list of str
        What stands behind the program's name.
    commands : mapping of str to dataclass
        By name; a name of two words, "train mci", makes the first one a group.
    program : str
        Its name.

    Raises
    ------
    InputError
        For an unknown command or flag (with the nearest name), a missing or a wrong value.
    """
    import tyro

    if arguments and arguments[0] == "--version":
        print(__version__)
        return None
    name = _name(arguments, commands)
    if name is None:
        _help(commands, program, arguments[:1])
        return None
    kind, called, rest = commands[name], f"{program} {name}", arguments[len(name.split()) :]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            command, unknown = tyro.cli(kind, prog=called, args=rest, return_unknown_args=True, config=(tyro.conf.FlagCreatePairsOff,))
    except SystemExit as end:
        if not end.code:
            return None
        _refuse_unknown([text for text in rest if text.startswith("--")], kind, called)
        raise InputError(f"{called}: {_explain(_one_sentence(said.getvalue()), kind, called)}", "bad-arguments") from None
    _refuse_unknown(unknown, kind, called)
    return command


def _name(arguments: list[str], commands: Mapping[str, type]) -> str | None:
    """Name of the command that is meant; None where there is none yet, so that help is due."""
    if not arguments or arguments[0] in _HELP:
        return None
    first, *rest = arguments
    if first in commands:
        return first
    second = [name.split()[1] for name in commands if name.startswith(first + " ")]
    if not second:
        known = {name.split()[0] for name in commands}
        raise InputError(f"no command {first!r}{nearest_name(first, known)}", "unknown-command")
    if not rest or rest[0] in _HELP:
        return None
    if rest[0] not in second:
        raise InputError(f"no command '{first} {rest[0]}'{nearest_name(rest[0], second)}", "unknown-command")
    return f"{first} {rest[0]}"


def _help(commands: Mapping[str, type], program: str, group: list[str]) -> None:
    within = [word for word in group if word not in _HELP]
    usage = " ".join([program, *within, "COMMAND"])
    print(f"usage: {usage} ...\n\nSparse-view cone-beam CT reconstruction. `{usage} --help` tells more.\n")
    for name, command in commands.items():
        if name.split()[: len(within)] == within:
            print(f"  {name:<12} {command.__doc__}")


def _refuse_unknown(arguments: list[str], kind: type, called: str) -> None:
    """Say what is nearest to a flag that the command does not have, or that there is a value too many."""
    flags = ["--" + field.name for field in dataclasses.fields(kind) if field.default is not dataclasses.MISSING]
    for text in arguments:
        flag = text.split("=")[0]
        if flag.startswith("-") and flag not in (*flags, "--help") and not re.match(r"-\.?\d", flag):
            raise InputError(f"{called} has no flag {flag!r}{nearest_name(flag, flags)}", "unknown-flag")
    values = [text for text in arguments if not text.startswith("-")]
    if values:
        raise InputError(f"{called}: {values[0]!r} is one value too many: see {called} --help", "bad-arguments")


def _one_sentence(box: str) -> str:
    """The first paragraph of the parser's framed message."""
    paragraph: list[str] = []
    for line in box.splitlines()[1:]:  # the first is the title
        if re.search("[─━═]|--", line) and not re.search("--[a-z]", line):
            if paragraph:
                break
        elif text := line.strip(" │┃║|"):
            paragraph.append(text)
    return " ".join(paragraph) or "the arguments are wrong: see --help"


def _explain(message: str, kind: type, called: str) -> str:
    """The parser's message about a command, without its types."""
    message = message.replace(f"Missing from {called}:", "missing:").replace(" (required)", "")
    if wrong := re.match(r"Error parsing --(\w+)", message):
        flag = wrong[1]
        hint = typing.get_type_hints(kind, include_extras=True)[flag]
        (place,) = [extra.metavar for extra in getattr(hint, "__metadata__", ()) if getattr(extra, "metavar", None)] or ["VALUE"]
        return f"--{flag} cannot be read: write --{flag} {place}"
    return message
