"""The stages of an index run, each in its thread: decode, embed, write, with short queues between them.

A thread feeds the decoder processes and passes on what they return; the run's own thread gathers batches and
runs the network; a thread commits. A slow stage holds the others back instead of filling memory. They wait for each
other without deadlines, since a `Watch` that waits for none of them ends the run if one gives no sign of life.
"""

from __future__ import annotations

import dataclasses
import queue
import resource
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import PhotoError
from birdsearch.indexer.catalog.outcomes import EmbeddedFile, FailedFile, KnownFile, Outcome
from birdsearch.indexer.catalog.records import FileTask, ModelRecord
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.in_flight import InFlight
from birdsearch.indexer.model_source import LoadingModel, input_size_of
from birdsearch.indexer.plan import Plan
from birdsearch.indexer.watch import RunStopped, Watch
from birdsearch.indexer.writer import CatalogWriter
from birdsearch.model.images.worker.pool import Decoded, DecodePool, DecodeResult, DecodeTask, Known

if TYPE_CHECKING:
    from birdsearch.indexer.options import IndexOptions
    from birdsearch.model.inference import Model

__all__ = ["COMMIT_PHOTOS", "COMMIT_SECONDS", "IndexTimings", "Stages", "StagesClock"]

T = TypeVar("T")

_DECODERS = "the supervision of the decoders"
# How often a waiting thread looks whether the run was stopped, in seconds.
_POLL = 0.1
# Batches are committed together where they come faster than this: a commit waits for the disk, and a run that is
# cut short loses no more than this, what is in the queue, and the batch in the network.
COMMIT_SECONDS = 0.5
COMMIT_PHOTOS = 1024


@dataclass(frozen=True, slots=True)
class IndexTimings:
    """Where the time of a run went, in seconds.

    The stages work at the same time, so their times do not add up. A stage that is busy nearly all of `working`
    is the one that the others wait for.

    Attributes:
        scanning: Crawling the folders and comparing them with the catalog.
        starting: From there until the network got its first photo: loading it, starting decoders.
        working: From then until everything was written; the busy times below are parts of it.
        decoding: Decoders at work, not held back by what follows.
        network: The network at work.
        network_waiting: The network waiting for decoded photos.
        writing: Writing to the catalog.
        finishing: Recording what moved or is gone, and saving the vector index.
        cpu: Processor time of this process, all its threads.
        decoders_cpu: Processor time of the decoder processes.
    """

    scanning: float = 0.0
    starting: float = 0.0
    working: float = 0.0
    decoding: float = 0.0
    network: float = 0.0
    network_waiting: float = 0.0
    writing: float = 0.0
    finishing: float = 0.0
    cpu: float = 0.0
    decoders_cpu: float = 0.0

    @property
    def busy(self) -> dict[str, float]:
        """Share of `working`, 0..1, that each stage was busy, the busiest first; empty if nothing was read."""
        if self.working <= 0:
            return {}
        shares = {
            "the network": self.network / self.working,
            "the decoders": self.decoding / self.working,
            "writing": self.writing / self.working,
        }
        return dict(sorted(shares.items(), key=lambda item: -item[1]))


class StagesClock:
    """Sums of what each stage took; every one belongs to one thread."""

    def __init__(self) -> None:
        self._cpu, self._decoders_cpu = _cpu_seconds()
        self.started = time.monotonic()
        self.scanned: float | None = None
        self.first_photo: float | None = None
        self.decoded: float | None = None
        self.written: float | None = None
        self.held_back = self.network = self.network_waiting = self.writing = 0.0

    def timings(self) -> IndexTimings:
        """Return the times so far."""
        now = time.monotonic()
        cpu, decoders_cpu = _cpu_seconds()
        scanned = now if self.scanned is None else self.scanned
        written = scanned if self.written is None else self.written
        first = written if self.first_photo is None else self.first_photo
        decoded = written if self.decoded is None else self.decoded
        return IndexTimings(
            scanning=scanned - self.started,
            starting=first - scanned,
            working=written - first,
            decoding=max(0.0, decoded - first - self.held_back),
            network=self.network,
            network_waiting=self.network_waiting,
            writing=self.writing,
            finishing=now - written,
            cpu=cpu - self._cpu,
            decoders_cpu=decoders_cpu - self._decoders_cpu,
        )


def _cpu_seconds() -> tuple[float, float]:
    """Return the processor time of this process, and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time(), children.ru_utime + children.ru_stime


class Committed(Protocol):
    """Receives the number of files in every commit."""

    def committed(self, files: int) -> None:
        """Count files that were committed to the catalog since the last call."""


class Stages:
    """The threads of one run and the queues between them.

    Use it as a context manager: leaving it ends the threads and the decoders.

    Args:
        store: A catalog open for writing.
        loading: The model.
        record: What the catalog knows of it, or None if the catalog has no model yet.
        options: How to index.
        clock: Receives where time goes.
        watch: Receives what is at work; it says when the run is to stop.
    """

    def __init__(
        self,
        store: CatalogStore,
        loading: LoadingModel,
        record: ModelRecord | None,
        options: IndexOptions,
        clock: StagesClock,
        watch: Watch,
    ) -> None:
        self._watch = watch
        self._loading = loading
        self._input_size = loading.input_size or (None if record is None else input_size_of(record))
        self._options = options
        self._clock = clock
        self._in_flight = InFlight(store, None if record is None else record.id)
        self._plan: Plan | None = None
        self._planned = threading.Event()
        self._decoded: queue.Queue[DecodeResult | None] = queue.Queue(maxsize=2 * options.batch_size)
        self._batches: queue.Queue[list[Outcome] | None] = queue.Queue(maxsize=2)
        # Another thread has failed, or there is no more to read.
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self._reader = threading.Thread(target=self._guarded(self._read), name="birdsearch-read", daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        with self._watch.at_work("the loading of the network"):
            self._loading.close()
        if self._reader.ident is not None:
            self._reader.join()
        self._in_flight.close()

    def prepare(self) -> None:
        """Begin to load the network and to start the decoders, if that has not begun."""
        if self._reader.ident is None:
            self._loading.begin()
            self._reader.start()

    def execute(self, plan: Plan, model: Model, writer: CatalogWriter, progress: Committed) -> None:
        """Do every task of a plan.

        Args:
            plan: What to do.
            model: The loaded model.
            writer: Writes what comes of it.
            progress: Called at every commit.

        Raises:
            BaseException: What the first failing thread raised, or `RunStopped`; what was embedded by then is
                committed.
        """
        self.prepare()
        self._in_flight.model_id = writer.model_id
        self._plan = plan
        self._planned.set()
        work = self._guarded(lambda: self._write(writer, progress))
        writing = threading.Thread(target=work, name="birdsearch-write", daemon=True)
        writing.start()
        try:
            self._embed(model)
        except RunStopped:
            pass
        finally:
            # Reached where the run is stopped too: no more reading, but what is embedded is written.
            self._stop.set()
            self._reader.join()
            self._finish_writing(writing)
            self._clock.written = time.monotonic()
        if self._errors:
            raise self._errors[0]
        self._watch.check()

    def _finish_writing(self, writing: threading.Thread) -> None:
        while writing.is_alive():
            try:
                self._batches.put(None, timeout=_POLL)
                break
            except queue.Full:
                continue
        writing.join()

    def _guarded(self, work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except RunStopped:
                pass
            except BaseException as error:
                self._errors.append(error)
                self._stop.set()

        return run

    def _check(self) -> None:
        """Go on only if this run is to go on."""
        self._watch.check()
        if self._stop.is_set():
            raise RunStopped

    def _put(self, target: queue.Queue[T], item: T) -> None:
        while True:
            self._check()
            try:
                target.put(item, timeout=_POLL)
            except queue.Full:
                continue
            return

    # -- decode ------------------------------------------------------------------------------------------

    def _read(self) -> None:
        pool = DecodePool(
            workers=self._options.workers,
            input_size=self._input_size or self._loading.get().input_size,
            limits=self._options.limits,
            judge=lambda task, digests: self._in_flight.judge(task.key, digests),
            decode=self._options.decode,
            on_wait=lambda: self._watch.sign(_DECODERS),
        )
        with pool:
            while not self._planned.wait(_POLL):
                self._check()
            results = pool.run(self._decode_tasks())
            while (result := self._next_result(results)) is not None:
                for ready in self._in_flight.in_order(result):
                    self._pass_on(ready)
            for result in self._in_flight.left():
                self._pass_on(result)
            self._clock.decoded = time.monotonic()
        self._put(self._decoded, None)

    def _next_result(self, results: Iterator[DecodeResult]) -> DecodeResult | None:
        # The decoders have deadlines of their own, photo by photo.
        with self._watch.at_work(_DECODERS):
            return next(results, None)

    def _decode_tasks(self) -> Iterator[DecodeTask]:
        for task in self._plan.tasks() if self._plan is not None else ():
            if self._stop.is_set() or self._watch.is_stopped:
                return
            sha256 = self._in_flight.wants_sha256(task)
            yield DecodeTask(task, task.absolute, task.found.size, task.found.mtime_ns, sha256=sha256)

    def _pass_on(self, result: DecodeResult) -> None:
        self._check()
        try:
            self._decoded.put_nowait(result)
        except queue.Full:
            began = time.monotonic()
            self._put(self._decoded, result)
            # Until the network has its first photo, the run is starting, which is counted as such.
            now = time.monotonic()
            self._clock.held_back += now - max(began, self._clock.first_photo or now)

    # -- embed -------------------------------------------------------------------------------------------

    def _embed(self, model: Model) -> None:
        batch: list[DecodeResult] = []
        decoded = 0
        size = self._options.batch_size
        while (result := self._next_decoded()) is not None:
            batch.append(result)
            decoded += isinstance(result, Decoded)
            if decoded == size or len(batch) == 8 * size:
                self._put(self._batches, self._outcomes(model, batch))
                batch, decoded = [], 0
        if batch:
            self._put(self._batches, self._outcomes(model, batch))

    def _next_decoded(self) -> DecodeResult | None:
        began = time.monotonic()
        while True:
            self._check()
            try:
                result = self._decoded.get(timeout=_POLL)
            except queue.Empty:
                continue
            now = time.monotonic()
            if self._clock.first_photo is None:
                self._clock.first_photo = now
            else:
                self._clock.network_waiting += now - began
            return result

    def _outcomes(self, model: Model, batch: Sequence[DecodeResult]) -> list[Outcome]:
        began = time.monotonic()
        pixels = [result.photo.pixels for result in batch if isinstance(result, Decoded)]
        with self._watch.at_work("the network"):
            embeddings = model.infer_pixels(np.stack(pixels)).embeddings if pixels else ()
        self._clock.network += time.monotonic() - began
        vectors: Iterator[NDArray[np.float32]] = iter(embeddings)
        outcomes: list[Outcome] = []
        for result in batch:
            task: FileTask = result.task.key
            if isinstance(result, Decoded):
                vector = next(vectors)
                if np.isfinite(vector).all() and vector.any():
                    # The pixels have done their work; many photos may wait to be written.
                    photo = dataclasses.replace(result.photo, pixels=_NO_PIXELS)
                    outcomes.append(EmbeddedFile(task, result.digests, photo, vector))
                else:
                    self._in_flight.release(result.digests)
                    outcomes.append(FailedFile(task, _BAD_VECTOR))
            elif isinstance(result, Known):
                outcomes.append(KnownFile(task, result.digests, result.seen))
            else:
                outcomes.append(FailedFile(task, result.error))
        return outcomes

    # -- write -------------------------------------------------------------------------------------------

    def _write(self, writer: CatalogWriter, progress: Committed) -> None:
        waiting: list[Outcome] = []
        due = time.monotonic()
        while True:
            # Not stopped by the stop signal: what was embedded is written, and `None` ends it.
            try:
                batch = self._batches.get(timeout=max(0.0, due - time.monotonic()) if waiting else None)
            except queue.Empty:
                batch = []
            waiting += batch or ()
            began = time.monotonic()
            if waiting and (batch is None or began >= due or len(waiting) >= COMMIT_PHOTOS):
                with self._watch.at_work("the writing of the catalog"):
                    writer.commit(waiting)
                self._in_flight.committed(item.digests for item in waiting if isinstance(item, EmbeddedFile))
                progress.committed(len(waiting))
                waiting = []
                due = time.monotonic() + COMMIT_SECONDS
                self._clock.writing += time.monotonic() - began
            if batch is None:
                return


_NO_PIXELS = np.zeros((0, 0, 3), np.uint8)
_BAD_VECTOR = PhotoError("embed", "bad-embedding", "the network gave a vector that is zero or not finite")
