"""What a worker says: one ASCII JSON object per line of its standard output. Standard library only.

=============  =======================================================================================
event          keys
=============  =======================================================================================
started        pid, task, method, device, backend, grid
stage          name; pid in the first one
progress       stage, step, steps, fraction, elapsed_s, remaining_s (null while unknown)
metric         step, values {name: number}
figures        result, kind (image, tissues or organs), values: as in comparison.json
preview        path, step; name where it is not the volume itself but one that the method shows beside it
log            message, level
warning        message
heartbeat      pid; at least every second
error          code, message (one sentence), next_step, details
cancelled      step, resumable
done           path, summary
=============  =======================================================================================
"""

from __future__ import annotations

import json
import math
import threading
from typing import Any, BinaryIO

Event = dict[str, Any]


def _plain(value):
    """`value` as strict JSON has it: no NaN or infinity, keys as strings, numpy scalars as numbers."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item") and not hasattr(value, "__len__"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def encode(event: str, **values) -> bytes:
    """The line of an event, ASCII, with its line feed."""
    return json.dumps({"event": event, **_plain(values)}, ensure_ascii=True, allow_nan=False).encode("ascii") + b"\n"


class EventWriter:
    """Writes events from several threads, whole lines only.

    Parameters
    ----------
    stream : binary file
        Where the lines go.
    """

    def __init__(self, stream: BinaryIO):
        self._stream = stream
        self._lock = threading.Lock()
        self.lost = False
        """True once nobody reads any more: the parent has gone."""

    def __call__(self, event: str, **values) -> None:
        line = encode(event, **values)
        with self._lock:
            try:
                self._stream.write(line)
                self._stream.flush()
            except (OSError, ValueError):
                self.lost = True


class EventStream:
    """Bytes in, events out: keeps partial lines, survives foreign bytes and foreign lines."""

    def __init__(self):
        self._rest = b""

    def feed(self, data: bytes) -> list[Event]:
        """Events of the lines that `data` completes; a line that is no event becomes a log event."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [event for line in lines if (event := _decode(line))]

    def close(self) -> list[Event]:
        """The event of a last line without line feed, if it is whole; a truncated one is dropped."""
        line, self._rest = self._rest, b""
        event = _decode(line)
        return [event] if event and event["event"] != "log" else []


def _decode(line: bytes) -> Event | None:
    text = line.decode("utf-8", errors="replace").strip()
    if not text:
        return None
    try:
        event = json.loads(text)
    except ValueError:
        event = None
    if isinstance(event, dict) and isinstance(event.get("event"), str):
        return event
    return {"event": "log", "message": text, "level": "INFO"}
