"""How a worker process is run: the protocol, and the implementation with subprocess. Standard library only."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class Poll(NamedTuple):
    """What a process has said since the last time, and its exit code once it has gone and all it said was given."""

    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int | None = None


class Transport(Protocol):
    """How a worker process is run."""

    def start(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run Python with `arguments` and, on top of the present environment, the variables of `environment`."""

    def poll(self) -> Poll:
        """Return at once with what is new."""

    def kill(self, pid: int | None) -> None:
        """End the process and, where the worker has said its own `pid`, its whole process group."""


def kill_tree(pid: int) -> None:
    """End the process group of `pid` (POSIX) or `pid` with its children (Windows), without asking."""
    if os.name == "nt":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(pid)], capture_output=True, check=False)
        return
    try:
        os.killpg(pid, signal.SIGKILL)  # a worker leads a group, which outlives it as long as one of its children does
    except (ProcessLookupError, PermissionError):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


class SubprocessTransport:
    """Runs the worker with this interpreter (or `program`) in a session of its own."""

    def __init__(self, program: str = sys.executable):
        self._program = program
        self._process: subprocess.Popen | None = None
        self._chunks: queue.SimpleQueue = queue.SimpleQueue()
        self._readers: list[threading.Thread] = []

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        own_group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if os.name == "nt" else {"start_new_session": True}
        self._process = subprocess.Popen(
            [self._program, *arguments],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            **own_group,
        )
        streams = enumerate((self._process.stdout, self._process.stderr))
        self._readers = [threading.Thread(target=self._read, args=(index, stream), daemon=True) for index, stream in streams]
        for reader in self._readers:
            reader.start()

    def _read(self, index: int, stream) -> None:
        with stream:
            while data := stream.read(65536):
                self._chunks.put((index, data))

    def poll(self) -> Poll:
        exit_code = self._process.poll()
        if exit_code is not None:
            for reader in self._readers:
                reader.join(timeout=1.0)
        parts: tuple[list[bytes], list[bytes]] = ([], [])
        while not self._chunks.empty():
            index, data = self._chunks.get()
            parts[index].append(data)
        return Poll(b"".join(parts[0]), b"".join(parts[1]), exit_code)

    def kill(self, pid: int | None) -> None:
        for one in {pid, self.pid} - {None}:
            kill_tree(one)
