"""Indexing: read, decode, embed and write at the same time, in bounded memory, losing nothing.

Three threads and a few decoder processes. A thread feeds the decoders and passes on what they return; the
caller's thread gathers batches and runs the network; a thread commits each batch in one transaction. The
queues between them are short, so a slow stage holds the others back instead of filling memory. A photo
counts as indexed once its batch is committed.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import CatalogError, InvalidInputError, ModelMismatchError, PhotoError
from birdsearch.indexer.catalog import CatalogStore
from birdsearch.indexer.claims import Claims
from birdsearch.indexer.decoders import Decoded, DecodePool, DecodeResult, DecodeTask, Known
from birdsearch.indexer.plan import FileTask, Plan, make_plan, refuse_emptied, resolve_roots
from birdsearch.indexer.vectors import VectorIndex
from birdsearch.indexer.writer import CatalogWriter, EmbeddedFile, FailedFile, KnownFile, Outcome
from birdsearch.model.photo import PhotoLimits

if TYPE_CHECKING:
    from birdsearch.model.runtime import Model

__all__ = ["IndexOptions", "IndexProgress", "IndexSummary", "index_archive"]

T = TypeVar("T")

# How often a waiting thread looks whether the run was stopped, in seconds.
_POLL = 0.1


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """How to index.

    Attributes:
        workers: Decoder processes.
        batch_size: Photos through the network, and into one transaction, at a time.
        follow_links: Enter links that leave a root.
        retry_failed: Read again what could not be read before, though it has not changed.
        confirm_missing: Believe it when a root is absent, empty, or has lost most of its files.
        reembed: Accept another model than the catalog's: photos are embedded again with it.
        limits: What a photo may cost.
    """

    workers: int = field(default_factory=lambda: max(1, min(8, os.cpu_count() or 1)))
    batch_size: int = 32
    follow_links: bool = False
    retry_failed: bool = False
    confirm_missing: bool = False
    reembed: bool = False
    limits: PhotoLimits = field(default_factory=PhotoLimits)

    def __post_init__(self) -> None:
        for name in ("workers", "batch_size"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} is {getattr(self, name)}; it has to be at least 1")


class IndexProgress(Protocol):
    """Told how a run goes; called from several threads, one call at a time for each method."""

    def scanned(self, files: int) -> None:
        """The crawl has seen so many more photo files."""

    def planned(self, files: int) -> None:
        """The crawl is over: so many files have to be read."""

    def committed(self, files: int) -> None:
        """So many more files are safe in the catalog."""


class _Silent:
    def scanned(self, files: int) -> None: ...

    def planned(self, files: int) -> None: ...

    def committed(self, files: int) -> None: ...


@dataclass(frozen=True, slots=True)
class IndexSummary:
    """What a run found and did. Counts are of files; every file that was found is in exactly one.

    Attributes:
        new: Content that the catalog did not have, embedded.
        copies: New paths whose content the catalog had: copies and hard links.
        changed: Known paths with other content than before.
        moved: Known photos found at a new path and no longer at the old one.
        unchanged: As they were.
        reembedded: Known content, embedded with another model.
        missing: Were there, are not; their photos, vectors and labels are kept.
        failed: Could not be read, by failure code; those that had failed before and have not changed since
            are counted too.
        ignored: Files that are not pictures, by suffix.
        embedded: Vectors that were computed and stored.
        seconds: Wall time.
        interrupted: True if the run was stopped; the next one goes on.
        warnings: For a person.
    """

    new: int
    copies: int
    changed: int
    moved: int
    unchanged: int
    reembedded: int
    missing: int
    failed: dict[str, int]
    ignored: dict[str, int]
    embedded: int
    seconds: float
    interrupted: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def photos_per_second(self) -> float:
        """Vectors stored a second, over the whole run."""
        return self.embedded / self.seconds if self.seconds > 0 else 0.0


def index_archive(
    store: CatalogStore,
    model: Model,
    roots: Sequence[str | os.PathLike[str]],
    options: IndexOptions | None = None,
    progress: IndexProgress | None = None,
) -> IndexSummary:
    """Bring a catalog up to date with the photos under some folders.

    Args:
        store: A catalog open for writing.
        model: The model to embed with; a catalog keeps to one unless told to re-embed.
        roots: Folders.
        options: How to index.
        progress: Told how it goes.

    Returns:
        What was found and done.

    Raises:
        MissingFilesError: A root is absent, empty, or has lost most of its files; nothing was marked missing.
        ModelMismatchError: The catalog was made with another model or preprocessing.
        CatalogError: The catalog could not be written; what was committed before is safe.
        KeyboardInterrupt: The run was stopped; what was in hand is committed and the next run goes on.
    """
    started = time.monotonic()
    options = options or IndexOptions()
    progress = progress or _Silent()
    paths = resolve_roots(roots, allow_missing=options.confirm_missing)
    _check_model(store, model, reembed=options.reembed)
    if not options.confirm_missing:
        refuse_emptied(store, paths)
    model_id = store.use_model(model).id
    plan = make_plan(
        store,
        paths,
        model_id,
        follow_links=options.follow_links,
        retry_failed=options.retry_failed,
        confirm_missing=options.confirm_missing,
        on_scan=progress.scanned,
    )
    try:
        progress.planned(plan.to_read)
        writer = CatalogWriter(store, model_id, "index")
        try:
            _Run(store, model, model_id, plan, writer, options, progress).execute()
            writer.reconcile(plan, confirm_missing=options.confirm_missing)
            warnings = _save_vectors(store, model_id, model.embedding_size)
        except BaseException as error:
            outcome = "failed" if isinstance(error, Exception) else "interrupted"
            # If the catalog itself is what failed, that error is the one to report.
            with contextlib.suppress(CatalogError):
                writer.finish(outcome, {"embedded": writer.embedded})
            raise
        summary = _summary(plan, writer, time.monotonic() - started, warnings)
        writer.finish("done", {"embedded": summary.embedded, "new": summary.new, "failed": summary.failed})
    finally:
        plan.close()
    return summary


def _check_model(store: CatalogStore, model: Model, *, reembed: bool) -> None:
    active = store.active_model()
    if active is None or reembed:
        return
    if (active.sha256, active.preprocessing) != (model.sha256, model.preprocessing):
        raise ModelMismatchError(
            f"{store.path}: made with {active.name} (sha256 {active.sha256[:12]}, {active.preprocessing}), but "
            f"the model given is {model.name} (sha256 {model.sha256[:12]}, {model.preprocessing}); their vectors "
            "do not compare. Give the catalog's own model, or embed every photo again with --reembed"
        )


def _save_vectors(store: CatalogStore, model_id: int, dim: int) -> tuple[str, ...]:
    vectors = VectorIndex.open(store, model_id, dim)
    if not vectors.is_saved:
        vectors.save(store)
    return vectors.warnings


def _summary(plan: Plan, writer: CatalogWriter, seconds: float, warnings: Sequence[str]) -> IndexSummary:
    counts = writer.counts
    return IndexSummary(
        new=counts["new"],
        copies=counts["copies"],
        changed=counts["changed"],
        moved=counts["moved"],
        unchanged=plan.unchanged + counts["touched"],
        reembedded=counts["reembedded"],
        missing=counts["missing"],
        failed=dict(sorted((writer.failed + plan.failed_before).items())),
        ignored=dict(sorted(plan.ignored.items())),
        embedded=writer.embedded,
        seconds=seconds,
        warnings=tuple(warnings),
    )


class _Stopped(Exception):  # noqa: N818
    """Another thread of the run has failed or was told to stop."""


class _Run:
    """The threads of one run and the queues between them."""

    def __init__(
        self,
        store: CatalogStore,
        model: Model,
        model_id: int,
        plan: Plan,
        writer: CatalogWriter,
        options: IndexOptions,
        progress: IndexProgress,
    ) -> None:
        self._store = store
        self._model = model
        self._plan = plan
        self._writer = writer
        self._options = options
        self._progress = progress
        self._claims = Claims(store, model_id)
        self._decoded: queue.Queue[DecodeResult | None] = queue.Queue(maxsize=2 * options.batch_size)
        self._batches: queue.Queue[list[Outcome] | None] = queue.Queue(maxsize=2)
        self._stop = threading.Event()
        self._errors: list[BaseException] = []

    def execute(self) -> None:
        """Do every task of the plan.

        Raises:
            BaseException: What the first failing thread raised, or the interrupt; what was embedded by then
                is committed.
        """
        reader = threading.Thread(target=self._guarded(self._read), name="birdsearch-read", daemon=True)
        writer = threading.Thread(target=self._guarded(self._write), name="birdsearch-write", daemon=True)
        reader.start()
        writer.start()
        try:
            self._embed()
        except _Stopped:
            pass
        finally:
            # Reached by an interrupt too: no more reading, but what is embedded is written.
            self._stop.set()
            reader.join()
            self._finish_writing(writer)
        if self._errors:
            raise self._errors[0]

    def _finish_writing(self, writer: threading.Thread) -> None:
        while writer.is_alive():
            try:
                self._batches.put(None, timeout=_POLL)
                break
            except queue.Full:
                continue
        writer.join()

    def _guarded(self, work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except _Stopped:
                pass
            except BaseException as error:
                self._errors.append(error)
                self._stop.set()

        return run

    def _put(self, target: queue.Queue[T], item: T) -> None:
        while True:
            if self._stop.is_set():
                raise _Stopped
            try:
                target.put(item, timeout=_POLL)
            except queue.Full:
                continue
            return

    def _read(self) -> None:
        pool = DecodePool(
            workers=self._options.workers,
            input_size=self._model.input_size,
            limits=self._options.limits,
            is_known=self._claims.is_known,
        )
        with pool:
            for result in pool.run(self._decode_tasks()):
                for ready in self._claims.in_order(result):
                    self._put(self._decoded, ready)
        self._put(self._decoded, None)

    def _decode_tasks(self) -> Iterator[DecodeTask]:
        for task in self._plan.tasks():
            if self._stop.is_set():
                return
            yield DecodeTask(task, task.absolute, task.found.size, task.found.mtime_ns)

    def _embed(self) -> None:
        batch: list[DecodeResult] = []
        decoded = 0
        while (result := self._next_decoded()) is not None:
            batch.append(result)
            decoded += isinstance(result, Decoded)
            if decoded == self._options.batch_size or len(batch) == 8 * self._options.batch_size:
                self._put(self._batches, self._outcomes(batch))
                batch, decoded = [], 0
        if batch:
            self._put(self._batches, self._outcomes(batch))

    def _next_decoded(self) -> DecodeResult | None:
        while True:
            if self._stop.is_set():
                raise _Stopped
            try:
                return self._decoded.get(timeout=_POLL)
            except queue.Empty:
                continue

    def _outcomes(self, batch: Sequence[DecodeResult]) -> list[Outcome]:
        pixels = [result.photo.pixels for result in batch if isinstance(result, Decoded)]
        embeddings = self._model.infer_pixels(np.stack(pixels)).embeddings if pixels else ()
        vectors: Iterator[NDArray[np.float32]] = iter(embeddings)
        outcomes: list[Outcome] = []
        for result in batch:
            task: FileTask = result.task.key
            if isinstance(result, Decoded):
                vector = next(vectors)
                if np.isfinite(vector).all() and vector.any():
                    outcomes.append(EmbeddedFile(task, result.digest, result.photo, vector))
                else:
                    self._claims.release(result.digest)
                    outcomes.append(FailedFile(task, _BAD_VECTOR))
            elif isinstance(result, Known):
                outcomes.append(KnownFile(task, result.digest))
            else:
                outcomes.append(FailedFile(task, result.error))
        return outcomes

    def _write(self) -> None:
        while True:
            # Not stopped by the stop signal: what was embedded is written, and `None` ends it.
            batch = self._batches.get()
            if batch is None:
                return
            self._writer.commit(batch)
            self._claims.committed(item.digest for item in batch if isinstance(item, EmbeddedFile))
            self._progress.committed(len(batch))


_BAD_VECTOR = PhotoError("embed", "bad-embedding", "the network gave a vector that is zero or not finite")
