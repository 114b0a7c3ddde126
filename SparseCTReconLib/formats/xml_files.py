"""XML without its traps: no entities, so that a file of a kilobyte cannot unfold into gigabytes or pull in others; no endless nesting.

The check is made by the parser and not on the text, since a file may be in UTF-16.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from ..errors import InputError

_LARGEST = 1 << 26  # bytes; a projection takes a few hundred
_DEEPEST = 64


class _TooDeep(ValueError):
    pass


class _HasEntities(ValueError):
    pass


def read_tree(path: Path, what: str) -> Element:
    """The root of an XML file; namespaces stay in front of the names as "{...}".

    Parameters
    ----------
    path : Path
    what : str
        What the file is, with an article, for the messages: "an RTK geometry".

    Raises
    ------
    InputError
        Where the file is missing, damaged, larger than 64 MB, nested deeper than 64 elements, or defines entities.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(
                f"{path} has {path.stat().st_size >> 20} MB, and no {_bare(what)} is so large: give another file", "bad-geometry"
            )
        return parse(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path} is missing: a scan needs {what}", "missing-file") from None
    except _HasEntities:
        raise InputError(f"{path} defines XML entities, which no {_bare(what)} does: write it again without", "bad-geometry") from None
    except _TooDeep:
        raise InputError(
            f"{path} nests its elements over {_DEEPEST} deep: it is no {_bare(what)}; write it again", "bad-geometry"
        ) from None
    except (expat.ExpatError, LookupError, UnicodeError, OSError) as error:
        raise InputError(f"{path} cannot be read ({error}): it is damaged or cut short; write it again", "bad-geometry") from error


def _bare(what: str) -> str:
    return what.split(" ", 1)[1] if what.startswith(("a ", "an ")) else what


def parse(text: bytes) -> Element:
    """The root of an XML text; see `read_tree`."""
    builder = TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    depth = 0

    def start(tag, attributes):
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise _TooDeep
        builder.start(_universal(tag), {_universal(name): value for name, value in attributes.items()})

    def end(tag):
        nonlocal depth
        depth -= 1
        builder.end(_universal(tag))

    def entity(*_):
        raise _HasEntities

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, builder.data
    parser.EntityDeclHandler = parser.ExternalEntityRefHandler = parser.SkippedEntityHandler = entity
    parser.Parse(text, True)
    return builder.close()


def _universal(name: str) -> str:
    return "{" + name if "}" in name else name


def local(tag: str) -> str:
    """The name of an element without its namespace, in small letters."""
    return tag.rpartition("}")[2].lower()


def starts_with_element(path: Path, names: set[str]) -> bool:
    """Whether the first element of an XML file has one of `names` (small letters); reads the first 4 kilobytes and raises nothing."""
    found = []
    parser = expat.ParserCreate(namespace_separator="}")
    parser.StartElementHandler = lambda tag, _: found.append(local(tag))
    try:
        with path.open("rb") as stream:
            parser.Parse(stream.read(4096), False)
    except (expat.ExpatError, LookupError, UnicodeError, OSError):
        pass
    return bool(found) and found[0] in names
