"""What every reader and writer shares: SimpleITK on demand, files that appear whole or not at all, messages that name the file."""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import InputError


def simpleitk():
    """The SimpleITK module.

    Raises
    ------
    InputError
        Where it is not installed, with the command that installs it.
    """
    try:
        import SimpleITK
    except ImportError:
        raise InputError("reading and writing images needs SimpleITK: pip install SimpleITK", "missing-library") from None
    SimpleITK.ProcessObject.GlobalWarningDisplayOff()
    return SimpleITK


@contextmanager
def named(path):
    """Put the name of `path` in front of an InputError that leaves the block."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}", error.code) from error.__cause__


def existing(path) -> Path:
    """`path`, if there is something there; a leading ~ is the user's home folder."""
    path = Path(path).expanduser()
    if not path.exists():
        raise InputError(f"{path} does not exist: check the name", "missing-file")
    return path


def options_without_folders(text: str) -> str:
    """JSON of a method's options as "key=value, ..." for others to read: files without their folders, which may name people."""
    try:
        options = dict(json.loads(text))
    except (TypeError, ValueError):
        return ""
    return ", ".join(f"{key}={_without_folders(value)}" for key, value in options.items())


def _without_folders(value):
    if isinstance(value, list):
        return [_without_folders(each) for each in value]
    return re.split(r"[/\\]", value)[-1] if isinstance(value, str) else value


def without_path(text: str, path: Path) -> str:
    """`text` without the folders of `path`, which may name people: results that others get repeat it."""
    name = path.name if path.is_file() else "the scan"
    return text.replace(f"{path}{os.sep}", "").replace(str(path), name).replace(f"{path.parent}{os.sep}", "")


def image_suffix(path: Path) -> str:
    """The ending that names an image format, in lower case: ".nrrd", ".nii.gz"."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


@contextmanager
def written_beside(path):
    """Yield a temporary name beside `path`, with the same ending; it becomes `path` when the block ends well and is gone otherwise.

    Raises
    ------
    InputError
        Where the folder cannot be made or written to, or the disk is full.
    """
    path = Path(path).expanduser().absolute()
    temporary = path.with_name(f".writing-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        remove(temporary)


def unwritable(path, error: Exception) -> InputError:
    """The sentence for an output that could not be written because of `error`."""
    reason = getattr(error, "strerror", None) or "the disk may be full or the folder write-protected"
    return InputError(f"{path} cannot be written ({reason}): choose another place or make room there", "unwritable")


def remove(path: Path) -> None:
    """Remove a file or a folder with all in it, if it is there; what cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
