"""Weights fetched from elsewhere, when a user asks for them and for nothing else: by pooch, with a checksum, going on where it stopped."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import unquote, urlsplit

from . import resources, weight_files
from .errors import InputError, nearest_name
from .weight_files import SUFFIX
from .weights import fetched_folder

LISTED = "Weights/downloads.json"
"""The weights that can be fetched by name: {name: values of a `Source`}. An installation need not have it."""

PIECE, PATIENCE_S = 1 << 16, 30
"""Bytes that are written at a time; seconds of silence after which a server is given up."""


@dataclass(frozen=True)
class Source:
    """Where weights can be had.

    Parameters
    ----------
    url : str
        Of a file of safetensors.
    sha256 : str
        Of the whole file.
    licence : str
        Under which they are given; empty where only the source says.
    megabytes : float
        0 where unknown.
    """

    url: str
    sha256: str
    licence: str = ""
    megabytes: float = 0.0

    def __post_init__(self):
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc or not self.name.endswith(SUFFIX):
            raise InputError(f"{self.url}: give an address http(s)://... of a {SUFFIX} file", "bad-arguments")
        if not re.fullmatch("[0-9a-fA-F]{64}", self.sha256):
            raise InputError(f"{self.sha256!r} is no SHA-256: give the 64 digits that the source says of the file", "bad-arguments")

    @property
    def name(self) -> str:
        """The file's."""
        return Path(unquote(urlsplit(self.url).path)).name


def listed() -> dict[str, Source]:
    """The weights that can be fetched by name.

    Raises
    ------
    InputError
        Where the list is damaged.
    """
    try:
        path = resources.find(LISTED)
    except InputError:
        return {}
    known = {each.name for each in fields(Source)}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {name: Source(**{key: value for key, value in about.items() if key in known}) for name, about in values.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error}): install it again", "missing-resource") from None


def source(asked: str, sha256: str = "") -> Source:
    """What a name of the list or an address with its checksum means.

    Raises
    ------
    InputError
        For an unknown name, or an address without a checksum.
    """
    if "://" not in asked:
        there = listed()
        if asked in there:
            return there[asked]
        nearest = nearest_name(asked, there) if there else "; there are none yet"
        raise InputError(f"no weights to fetch are called {asked!r}{nearest}, or give an address and --sha256", "unknown-weights")
    if not sha256:
        raise InputError(f"{asked}: give its checksum too, --sha256, so that what arrives is what was meant", "bad-arguments")
    return Source(asked, sha256)


def fetch(of: Source, licence_accepted: bool, progress: Callable[[int, int], None] = lambda done, size: None) -> Path:
    """Fetch weights into the user's cache folder; what is there already is left as it is.

    Parameters
    ----------
    of : Source
    licence_accepted : bool
        Whether the user has said so.
    progress : callable
        Told the bytes that are there, and how many it will be, 0 where the server does not say.

    Returns
    -------
    Path
        Of the file, whose card has been read and whose checksums are right.

    Raises
    ------
    InputError
        Where the licence is not accepted, pooch is missing, the server does not answer, or what it gives is not what was meant.
    """
    if not licence_accepted:
        under = f"is under this licence: {of.licence}" if of.licence else "has a licence, which its source tells"
        raise InputError(f"{of.name} {under}; read it, and give --accept-licence if you accept it", "licence")
    pooch = _pooch()
    folder = fetched_folder()
    part = folder / f".part-{of.sha256[:16].lower()}"
    try:
        path = Path(pooch.retrieve(of.url, f"sha256:{of.sha256}", of.name, folder, downloader=_Resuming(part, progress)))
    except ValueError:
        text = f"what {of.url} gives has another checksum than {of.sha256}, and was thrown away: ask its source for the right one"
        raise InputError(text, "bad-checksum") from None
    except OSError as error:  # requests' errors are such
        raise InputError(f"{of.url} could not be fetched whole ({error}): try again, it goes on where it stopped", "no-download") from None
    try:
        _check(path)
    except InputError:
        path.unlink(missing_ok=True)
        raise
    return path


def _check(path: Path) -> None:
    """Whether a file holds weights as we write them, unchanged."""
    form, _ = weight_files.read_card(path)
    weight_files.read(path, form, "weights")


def _pooch():
    try:
        import pooch
    except ImportError:
        raise InputError('fetching weights needs pooch: pip install "sparsectrecon[download]"', "missing-library") from None
    pooch.get_logger().setLevel(logging.WARNING)
    return pooch


class _Resuming:
    """A downloader of pooch's that keeps what has come until all has; pooch then looks at the checksum.

    Parameters
    ----------
    part : Path
        Where it is kept.
    progress : callable
        See `fetch`.
    """

    def __init__(self, part: Path, progress: Callable[[int, int], None]):
        self.part, self.progress = part, progress

    def __call__(self, url: str, output_file: str, pooch) -> None:
        import requests

        done = self.part.stat().st_size if self.part.exists() else 0
        wanted = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
        with requests.get(url, headers=wanted, stream=True, timeout=PATIENCE_S) as answer:
            if not (done and answer.status_code == requests.codes.requested_range_not_satisfiable):  # else all of it is there
                answer.raise_for_status()
                done = done if answer.status_code == requests.codes.partial_content else 0
                self._write(answer, done)
        self.part.replace(output_file)

    def _write(self, answer, done: int) -> None:
        size = int(answer.headers.get("Content-Length", 0))
        size += done if size else 0
        with self.part.open("ab" if done else "wb") as file:
            for piece in answer.iter_content(PIECE):
                file.write(piece)
                done += len(piece)
                self.progress(done, size)
        if size and done < size:
            raise OSError(f"{done} of {size} bytes came")
