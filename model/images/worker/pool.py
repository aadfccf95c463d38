"""Decode photos in supervised processes.

A photo can crash its decoder, hang it or make it ask for all the memory there is. Each is one photo's
failure: the process that it happened in is replaced, and no other photo notices.
"""

from __future__ import annotations

import contextlib
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from birdsearch.cores import cores
from birdsearch.errors import BirdsearchError, InvalidInputError, PhotoError
from birdsearch.model.images.decode import DecodedPhoto, FileDigests, SeenPhoto
from birdsearch.model.images.exif import Capture
from birdsearch.model.images.photo import PhotoLimits
from birdsearch.model.images.scaling import check_mode
from birdsearch.model.images.worker.child import DO_SEE, DO_SKIP, read_seconds
from birdsearch.model.images.worker.process import DecodeTask, Held, Verdict, WorkerProcess, signal_name

__all__ = [
    "DecodePool",
    "DecodeResult",
    "DecodeTask",
    "Decoded",
    "Failed",
    "Known",
    "Verdict",
    "usual_decoders",
]

_MAX_FAILED_STARTS = 3
# However long a worker may take, the waiting side shows at this interval that it lives.
_SIGN_S = 1.0
# More of them take memory, and the process that they work for cannot keep up.
_MOST_DECODERS = 32


def usual_decoders() -> int:
    """Return how many processes decode by default: one a core."""
    return min(_MOST_DECODERS, cores())


@dataclass(frozen=True, slots=True)
class Decoded:
    """A task that gave a photo."""

    task: DecodeTask
    digests: FileDigests
    photo: DecodedPhoto


@dataclass(frozen=True, slots=True)
class Known:
    """A task whose picture was known, so that it was not decoded. `seen` is None if its file was known as well."""

    task: DecodeTask
    digests: FileDigests
    seen: SeenPhoto | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """A task that gave no photo. `digests` is None if the file could not be read."""

    task: DecodeTask
    digests: FileDigests | None
    error: PhotoError


DecodeResult = Decoded | Known | Failed
"""What becomes of a task."""


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
        judge: Callable[[DecodeTask, FileDigests], Verdict] = lambda task, digests: Verdict(),  # noqa: ARG005
        *,
        decode: str = "scaled",
        command: Sequence[str] | None = None,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        """Say what to run; the processes start with the context.

        Args:
            workers: Number of processes, at least 1.
            input_size: (height, width) that the network takes.
            limits: What one photo may cost.
            memory_bytes: Address space that one process may have, where the system can limit it.
            judge: Called with the digests of a file, in the thread that runs the pool; says whether the file is
                decoded.
            decode: One of `birdsearch.model.images.scaling.DECODE_MODES`.
            command: Program and arguments that start a worker; a socket's number and the settings follow.
            on_wait: Called about once a second while workers are waited for; what it raises ends the run.

        Raises:
            InvalidInputError: There would be no worker, or there is no such way to decode.
        """
        if workers < 1:
            raise InvalidInputError(f"decoding needs at least 1 worker, got {workers}")
        self._count = workers
        self._shape = (*input_size, 3)
        self._deadline_s = limits.deadline_s
        self._judge_file = judge
        self._on_wait = on_wait
        self._command = tuple(command or (sys.executable, "-P", "-m", "birdsearch.model.images.worker.child"))
        self._settings = {
            "input_size": input_size,
            "max_pixels": limits.max_pixels,
            "max_bytes": limits.max_bytes,
            "deadline_s": limits.deadline_s,
            "memory_bytes": memory_bytes,
            "decode": check_mode(decode),
        }
        self._workers: list[WorkerProcess] = []
        self._selector = selectors.DefaultSelector()
        self._failed_starts = 0
        self._again: list[Held] = []
        self._judged: dict[bytes, Verdict] = {}

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
            self._end(self._workers[-1])
        self._selector.close()

    def run(self, tasks: Iterable[DecodeTask]) -> Generator[DecodeResult, None, None]:
        """Decode files.

        Tasks are taken from `tasks` one by one as workers come free; a worker has up to
        `birdsearch.model.images.worker.process.HELD_TASKS` of them in hand. Closing the iterator ends the workers
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
            while upcoming is not None or self._again or any(worker.held for worker in self._workers):
                if upcoming is not None or self._again:
                    self._fill(self._count)
                while self._again or upcoming is not None:
                    task = self._again[-1].task if self._again else upcoming
                    worker = None if task is None else self._least_busy(task)
                    if task is None or worker is None:
                        break
                    if self._again:
                        worker.give(task, is_retry=self._again.pop().is_retry)
                    else:
                        worker.give(task, is_retry=False)
                        upcoming = next(source, None)
                yield from self._wait()
        finally:
            for worker in [worker for worker in self._workers if worker.held]:
                self._end(worker)
            self._again.clear()
            self._judged.clear()

    def _least_busy(self, task: DecodeTask) -> WorkerProcess | None:
        able = [worker for worker in self._workers if worker.takes(task)]
        if not all(worker.is_ready for worker in self._workers):
            # What is given to one that has something would wait behind it while another starts.
            able = [worker for worker in able if not worker.held]
        return min(able, key=lambda worker: len(worker.held), default=None)

    def _fill(self, count: int) -> None:
        while len(self._workers) < count:
            worker = WorkerProcess(self._command, self._settings, self._shape)
            self._workers.append(worker)
            self._selector.register(worker.connection, selectors.EVENT_READ, worker)

    def _end(self, worker: WorkerProcess) -> int:
        """End a worker; what it had in hand is for another."""
        self._workers.remove(worker)
        self._selector.unregister(worker.connection)
        self._again += reversed(worker.held)
        self._judged.update(
            (held.digests.file, held.verdict)
            for held in worker.held
            if held.digests is not None and held.verdict is not None
        )
        worker.held = []
        return worker.end()

    def _wait(self) -> Iterator[DecodeResult]:
        """Wait until a worker has something to say or is late, and deal with all that have or are."""
        now = time.monotonic()
        soonest = min((worker.deadline for worker in self._workers if worker.is_busy), default=now)
        heard = {key.data for key, _ in self._selector.select(min(max(0.0, soonest - now), _SIGN_S))}
        self._on_wait()
        now = time.monotonic()
        results: list[DecodeResult] = []
        for worker in list(self._workers):
            # A worker that has spoken in time is not late, however long its messages waited.
            if worker in heard:
                result = self._hear(worker)
            elif worker.is_busy and worker.deadline <= now:
                result = self._late(worker)
            else:
                continue
            if result is not None:
                results.append(result)
        # Not before all were heard: they are to be at work again while the caller is.
        yield from results

    def _hear(self, worker: WorkerProcess) -> DecodeResult | None:
        try:
            message = worker.hear()
            result = self._take(worker, message)
            if worker in self._workers:
                worker.begins(message.get("next"), self._deadline_s)
        except (EOFError, OSError, ValueError, KeyError, TypeError, StopIteration):
            # Closed in the middle of its work, or saying what no worker says.
            return self._lost(worker)
        return result

    def _take(self, worker: WorkerProcess, message: dict[str, Any]) -> DecodeResult | None:
        kind, held = message["kind"], worker.doing
        if kind == "ready" and not worker.is_ready:
            worker.is_ready = True
            self._failed_starts = 0
            return None
        if kind == "begin" and held is None:
            return None
        if held is None:
            raise ValueError(f"a worker at no task sent {kind!r}")
        if kind == "digest" and held.digests is None:
            sha256 = message["sha256"]
            return self._judge(
                worker,
                held,
                FileDigests(
                    bytes.fromhex(message["picture"]),
                    bytes.fromhex(message["file"]),
                    None if sha256 is None else bytes.fromhex(sha256),
                ),
            )
        if kind == "failed":
            error = PhotoError(
                str(message["stage"]),
                str(message["code"]),
                str(message["reason"]),
                transient=bool(message["transient"]),
            )
            worker.held.remove(held)
            if error.code == "out-of-memory":
                # It does not go on after that, as what it has left is unknown; it must get no other task.
                self._end(worker)
            return Failed(held.task, held.digests, error)
        if kind not in ("decoded", "seen") or held.digests is None:
            raise ValueError(f"a worker sent {kind!r} out of turn")
        if kind == "seen":
            if held.verdict is None or held.verdict.do != DO_SEE:
                raise ValueError("a worker did not decode what it was told to")
            seen = SeenPhoto(
                format=str(message["format"]),
                capture=Capture(**message["capture"]),
                rendering=str(message["rendering"]),
            )
            worker.held.remove(held)
            return Known(held.task, held.digests, seen)
        photo = DecodedPhoto(
            format=str(message["format"]),
            width=int(message["width"]),
            height=int(message["height"]),
            pixels=worker.pixels(held),
            capture=Capture(**message["capture"]),
            phash=bytes.fromhex(message["phash"]),
            sharpness=float(message["sharpness"]),
            decoded=str(message["decoded"]),
            rendering=str(message["rendering"]),
        )
        worker.held.remove(held)
        return Decoded(held.task, held.digests, photo)

    def _judge(self, worker: WorkerProcess, held: Held, digests: FileDigests) -> DecodeResult | None:
        # What a process was to decode when it ended is still to be decoded: asking again would call it known.
        verdict = self._judged.pop(digests.file, None) or self._judge_file(held.task, digests)
        worker.answer(verdict)
        if verdict.do == DO_SKIP:
            worker.held.remove(held)
            return Known(held.task, digests)
        held.digests, held.verdict = digests, verdict
        return None

    def _late(self, worker: WorkerProcess) -> DecodeResult | None:
        held = worker.doing
        if held is None:
            return self._lost(worker)
        worker.held.remove(held)
        self._end(worker)
        if held.digests is None:
            reason = f"reading took longer than {read_seconds(held.task.size):.0f} s"
            return Failed(held.task, None, PhotoError("read", "deadline", reason, transient=True))
        reason = f"decoding took longer than {self._deadline_s:g} s"
        return Failed(held.task, held.digests, PhotoError("decode", "deadline", reason))

    def _lost(self, worker: WorkerProcess) -> DecodeResult | None:
        """Collect a worker that ended by itself; return the failure of its photo, None if that is retried."""
        held = worker.doing
        with contextlib.suppress(subprocess.TimeoutExpired):
            # Its end of the connection closes a moment before it can be collected; a kill would hide why.
            worker.process.wait(timeout=1.0)
        if not worker.is_ready:
            self._count_failed_start(worker)
        if held is not None:
            worker.held.remove(held)
        status = self._end(worker)
        if held is None:
            return None
        if held.digests is None and not held.is_retry:
            # Nothing of the photo was looked at: perhaps the worker was ended from outside as it began.
            self._again.append(Held(held.task, True, 0))
            return None
        stage = "read" if held.digests is None else "decode"
        if status == -signal.SIGKILL:
            reason = "the decoder was killed (SIGKILL), as the system does when memory runs out"
            return Failed(held.task, held.digests, PhotoError(stage, "crashed", reason, transient=True))
        how = signal_name(-status) if status < 0 else f"exit status {status}"
        return Failed(held.task, held.digests, PhotoError(stage, "crashed", f"the decoder crashed: {how}"))

    def _count_failed_start(self, worker: WorkerProcess) -> None:
        self._failed_starts += 1
        if self._failed_starts >= _MAX_FAILED_STARTS:
            raise BirdsearchError(
                f"decoder processes do not start ({' '.join(self._command)}): {worker.last_words()}"
            )
