"""Small YAML files: plain values only, no aliases (with which a short text can stand for an endless one), no code."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ..errors import InputError

LARGEST = 1 << 20


@cache
def _loader():
    try:
        import yaml
    except ImportError:
        raise InputError("reading YAML needs PyYAML: pip install PyYAML", "missing-library") from None

    class Plain(yaml.SafeLoader):
        def compose_node(self, parent, index):
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("an alias (*name) stands for other text")
            return super().compose_node(parent, index)

    return yaml, Plain


def read(path: Path) -> dict:
    """The mapping in a YAML file.

    Raises
    ------
    InputError
        Where it is larger than 1 MiB, damaged, has aliases or tags, or holds anything else.
    """
    if path.stat().st_size > LARGEST:
        raise InputError(
            f"{path} has {path.stat().st_size >> 10} KiB, and is read up to {LARGEST >> 10}: put long tables into a CSV file",
            "bad-scan-file",
        )
    yaml, plain = _loader()
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), plain)
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        why = " ".join(str(error).split())[:160]
        raise InputError(f"{path} cannot be read as YAML ({why}): correct it", "bad-scan-file") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InputError(f"{path} must hold 'key: value' lines", "bad-scan-file")
    return values
