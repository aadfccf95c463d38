"""Decode photos in supervised processes.

A photo can crash its decoder, hang it or make it ask for all the memory there is. Each is one photo's
failure: the process that it happened in is replaced, and no other photo notices.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from birdsearch.errors import BirdsearchError, InvalidInputError, PhotoError
from birdsearch.indexer.decode import DecodedPhoto
from birdsearch.indexer.decode_worker import read_seconds
from birdsearch.indexer.exif import Capture
from birdsearch.model.photo import PhotoLimits
from birdsearch.model.scaling import check_mode

__all__ = ["DecodePool", "DecodeResult", "DecodeTask", "Decoded", "Failed", "Known"]

_START_S = 120.0
_MAX_FAILED_STARTS = 3
# Decoding that looks at the time itself ends by itself; this much later it is ended from outside.
_GRACE_S = 1.0
_HEADER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class DecodeTask:
    """A file to decode.

    Attributes:
        key: Whatever the caller knows it by; it stays in this process.
        path: Absolute path.
        size: Bytes, as the crawl saw it.
        mtime_ns: Time of the last change of the content, as the crawl saw it.
    """

    key: Any
    path: bytes
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """A task that gave a photo. `digest` is its SHA-256."""

    task: DecodeTask
    digest: bytes
    photo: DecodedPhoto


@dataclass(frozen=True, slots=True)
class Known:
    """A task whose content was known by its digest, so that it was not decoded."""

    task: DecodeTask
    digest: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """A task that gave no photo. `digest` is None if the file could not be read."""

    task: DecodeTask
    digest: bytes | None
    error: PhotoError


DecodeResult = Decoded | Known | Failed
"""What becomes of a task."""


class _Worker:
    """One process, the connection to it, and the task that it has."""

    def __init__(self, command: Sequence[str], settings: str) -> None:
        ours, theirs = socket.socketpair()
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            with theirs:
                self.process = subprocess.Popen(
                    [*command, str(theirs.fileno()), settings],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self.log,
                    env=_environment(),
                    # Ctrl-C on a terminal goes to the foreground group; the parent alone is to get it.
                    process_group=0,
                )
        except BaseException:
            ours.close()
            self.log.close()
            raise
        self.connection = Connection(ours.detach())
        self.is_ready = False
        self.task: DecodeTask | None = None
        self.digest: bytes | None = None
        self.is_retry = False
        self.deadline = time.monotonic() + _START_S

    @property
    def is_idle(self) -> bool:
        return self.is_ready and self.task is None

    def send(self, message: dict[str, Any]) -> None:
        # If the worker is gone, that shows, and is dealt with, when its connection is read.
        with contextlib.suppress(OSError):
            self.connection.send_bytes(json.dumps(message).encode())

    def start(self, task: DecodeTask, *, is_retry: bool) -> None:
        self.task, self.digest, self.is_retry = task, None, is_retry
        self.deadline = time.monotonic() + read_seconds(task.size) + _GRACE_S
        self.send({"path": task.path.hex(), "size": task.size, "mtime_ns": task.mtime_ns})

    def end(self) -> int:
        """Kill the process if it runs, and collect it; returns its status as `subprocess` gives it."""
        self.connection.close()
        self.process.kill()
        status = self.process.wait()
        self.log.close()
        return status

    def last_words(self) -> str:
        self.log.seek(0)
        lines = self.log.read(1 << 16).decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"


class DecodePool:
    """Processes that read, hash and decode photos, and their supervision.

    Use it as a context manager: leaving it ends the processes. It serves one `run` at a time.
    """

    def __init__(
        self,
        workers: int,
        input_size: tuple[int, int],
        limits: PhotoLimits,
        memory_bytes: int = 4 << 30,
        is_known: Callable[[bytes], bool] = lambda digest: False,  # noqa: ARG005
        *,
        decode: str = "scaled",
        command: Sequence[str] | None = None,
    ) -> None:
        """Say what to run; the processes start with the context.

        Args:
            workers: Number of processes, at least 1.
            input_size: (height, width) that the network takes.
            limits: What one photo may cost.
            memory_bytes: Address space that one process may have, where the system can limit it.
            is_known: Told the SHA-256 of a file's content; True means that it need not be decoded. It is
                called in the thread that runs the pool.
            decode: One of `birdsearch.model.scaling.DECODE_MODES`.
            command: Program and arguments that start a worker; a socket's number and the settings follow.

        Raises:
            InvalidInputError: There would be no worker, or there is no such way to decode.
        """
        if workers < 1:
            raise InvalidInputError(f"decoding needs at least 1 worker, got {workers}")
        self._count = workers
        self._input_size = input_size
        self._limits = limits
        self._is_known = is_known
        self._command = tuple(command or (sys.executable, "-P", "-m", "birdsearch.indexer.decode_worker"))
        self._settings = json.dumps(
            {
                "input_size": input_size,
                "max_pixels": limits.max_pixels,
                "max_bytes": limits.max_bytes,
                "deadline_s": limits.deadline_s,
                "memory_bytes": memory_bytes,
                "decode": check_mode(decode),
            }
        )
        self._workers: list[_Worker] = []
        self._failed_starts = 0
        self._again: list[DecodeTask] = []

    def __enter__(self) -> Self:
        try:
            self._fill(self._count)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Process ids of the workers that there are now."""
        return tuple(worker.process.pid for worker in self._workers)

    def close(self) -> None:
        """End all workers, whatever they are doing."""
        while self._workers:
            self._workers.pop().end()

    def run(self, tasks: Iterable[DecodeTask]) -> Generator[DecodeResult, None, None]:
        """Decode files.

        Tasks are taken from `tasks` one by one as workers come free. Closing the iterator ends the workers
        that are busy.

        Args:
            tasks: What to decode.

        Yields:
            Exactly one result a task, in the order in which they are done.

        Raises:
            BirdsearchError: Workers do not start.
        """
        source = iter(tasks)
        upcoming = next(source, None)
        try:
            while upcoming is not None or self._again or any(worker.task for worker in self._workers):
                if upcoming is not None or self._again:
                    self._fill(self._count)
                for worker in self._workers:
                    if not worker.is_idle:
                        continue
                    if self._again:
                        worker.start(self._again.pop(), is_retry=True)
                    elif upcoming is not None:
                        worker.start(upcoming, is_retry=False)
                        upcoming = next(source, None)
                yield from self._wait()
        finally:
            self._again.clear()
            for worker in [worker for worker in self._workers if worker.task]:
                self._end(worker)

    def _fill(self, count: int) -> None:
        while len(self._workers) < count:
            self._workers.append(_Worker(self._command, self._settings))

    def _end(self, worker: _Worker) -> int:
        self._workers.remove(worker)
        return worker.end()

    def _wait(self) -> Iterator[DecodeResult]:
        """Wait until a worker has something to say or is late, and deal with all that have or are."""
        now = time.monotonic()
        waiting = [worker for worker in self._workers if not worker.is_idle]
        timeout = max(0.0, min((worker.deadline for worker in waiting), default=now) - now)
        heard = set(wait([worker.connection for worker in self._workers], timeout))
        now = time.monotonic()
        for worker in list(self._workers):
            # A worker that has spoken in time is not late, however long nobody listened.
            if worker.connection in heard:
                result = self._hear(worker)
            elif not worker.is_idle and worker.deadline <= now:
                result = self._late(worker)
            else:
                continue
            if result is not None:
                yield result

    def _hear(self, worker: _Worker) -> DecodeResult | None:
        try:
            message = json.loads(worker.connection.recv_bytes(_HEADER_BYTES))
            return self._take(worker, message)
        except (EOFError, OSError, ValueError, KeyError, TypeError):
            # Closed in the middle of its work, or saying what no worker says.
            return self._lost(worker)

    def _take(self, worker: _Worker, message: dict[str, Any]) -> DecodeResult | None:
        kind = message["kind"]
        task = worker.task
        if kind == "ready":
            worker.is_ready = True
            self._failed_starts = 0
            return None
        if task is None:
            raise ValueError(f"a worker with no task sent {kind!r}")
        if kind == "digest":
            return self._judge(worker, task, bytes.fromhex(message["digest"]))
        if kind == "failed":
            error = PhotoError(
                str(message["stage"]),
                str(message["code"]),
                str(message["reason"]),
                transient=bool(message["transient"]),
            )
            worker.task = None
            if error.code == "out-of-memory":
                # It does not go on after that, as what it has left is unknown; it must get no other task.
                self._end(worker)
            return Failed(task, worker.digest, error)
        if kind != "decoded" or worker.digest is None:
            raise ValueError(f"a worker sent {kind!r} out of turn")
        shape = (*self._input_size, 3)
        # (H * W * 3,) -> (H, W, 3)
        content = worker.connection.recv_bytes(math.prod(shape))
        pixels = np.frombuffer(content, np.uint8).reshape(shape).copy()
        photo = DecodedPhoto(
            format=str(message["format"]),
            width=int(message["width"]),
            height=int(message["height"]),
            pixels=pixels,
            capture=Capture(**message["capture"]),
            phash=bytes.fromhex(message["phash"]),
            sharpness=float(message["sharpness"]),
            decoded=str(message["decoded"]),
        )
        worker.task = None
        return Decoded(task, worker.digest, photo)

    def _judge(self, worker: _Worker, task: DecodeTask, digest: bytes) -> DecodeResult | None:
        if self._is_known(digest):
            worker.task = None
            worker.send({"kind": "skip"})
            return Known(task, digest)
        worker.digest = digest
        worker.deadline = time.monotonic() + self._limits.deadline_s + _GRACE_S
        worker.send({"kind": "decode"})
        return None

    def _late(self, worker: _Worker) -> DecodeResult | None:
        task, digest = worker.task, worker.digest
        if task is None:
            return self._lost(worker)
        self._end(worker)
        if digest is None:
            reason = f"reading took longer than {read_seconds(task.size):.0f} s"
            return Failed(task, None, PhotoError("read", "deadline", reason, transient=True))
        reason = f"decoding took longer than {self._limits.deadline_s:g} s"
        return Failed(task, digest, PhotoError("decode", "deadline", reason))

    def _lost(self, worker: _Worker) -> DecodeResult | None:
        """A worker whose connection closed: it died, or it went because it was no longer fit."""
        task, digest = worker.task, worker.digest
        with contextlib.suppress(subprocess.TimeoutExpired):
            # Its end of the connection closes a moment before it can be collected; a kill would hide why.
            worker.process.wait(timeout=1.0)
        if not worker.is_ready:
            self._count_failed_start(worker)
        status = self._end(worker)
        if task is None:
            return None
        if digest is None and not worker.is_retry:
            # Nothing of the photo was looked at: most likely the worker had died before it got the task.
            self._again.append(task)
            return None
        stage = "read" if digest is None else "decode"
        if status == -signal.SIGKILL:
            reason = "the decoder was killed (SIGKILL), as the system does when memory runs out"
            return Failed(task, digest, PhotoError(stage, "crashed", reason, transient=True))
        how = _signal_name(-status) if status < 0 else f"exit status {status}"
        return Failed(task, digest, PhotoError(stage, "crashed", f"the decoder crashed: {how}"))

    def _count_failed_start(self, worker: _Worker) -> None:
        self._failed_starts += 1
        if self._failed_starts >= _MAX_FAILED_STARTS:
            raise BirdsearchError(
                f"decoder processes do not start ({' '.join(self._command)}): {worker.last_words()}"
            )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _environment() -> dict[str, str]:
    """The parent's environment, so that a worker imports what the parent does, with one thread each."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    }
