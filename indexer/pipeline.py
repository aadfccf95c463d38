"""Indexing: read, decode, embed and write at the same time, in bounded memory, losing nothing.

A photo counts as indexed once it is committed; commits come every half second or so. A run that is cut short
loses, and the next one does again, what was embedded since the last of them (`COMMIT_SECONDS`, or
`COMMIT_PHOTOS`), and the batches that were in the network and on their way to be written.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Protocol

from birdsearch.errors import CatalogError, ModelMismatchError
from birdsearch.indexer.catalog.embeddings import drop_damaged_vectors
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.roots import absent_roots, resolve_roots
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.model_source import LoadingModel, ModelSource
from birdsearch.indexer.options import IndexOptions
from birdsearch.indexer.plan import Plan, make_plan, refuse_emptied
from birdsearch.indexer.stages import IndexTimings, Stages, StagesClock
from birdsearch.indexer.vectors.index import VectorIndex
from birdsearch.indexer.watch import Watch
from birdsearch.indexer.writer import CatalogWriter
from birdsearch.model.runtimes.table import RUNTIMES

if TYPE_CHECKING:
    from birdsearch.model.inference import Model

__all__ = ["IndexProgress", "IndexSummary", "index_archive"]


_KEPT = "what is committed is kept, and the next run goes on from there; "


class IndexProgress(Protocol):
    """Receives the progress of a run, from several threads, one call at a time for each method."""

    def scanned(self, files: int) -> None:
        """Count photo files that the crawl has seen since the last call."""

    def planned(self, files: int) -> None:
        """Note that the crawl is over, and how many files have to be read."""

    def committed(self, files: int) -> None:
        """Count files that were committed to the catalog since the last call."""


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
        changed: Known paths with another picture than before.
        edited: Known paths with the picture that they had and other metadata, or another orientation.
        moved: Known photos found at a new path and no longer at the old one.
        unchanged: As they were.
        reembedded: Known content, embedded with another model.
        reread: Known content, read again since this version reads more of photos; not embedded again.
        missing: Were there, are not; their photos, vectors and labels are kept.
        failed: Could not be read, by failure code; those that had failed before and have not changed since
            are counted too.
        ignored: Files that are not pictures, by suffix.
        embedded: Vectors that were computed and stored.
        seconds: Wall time.
        interrupted: True if the run was stopped; the next one goes on.
        warnings: For a person.
        timings: Where the time went.
    """

    new: int
    copies: int
    changed: int
    edited: int
    moved: int
    unchanged: int
    reembedded: int
    reread: int
    missing: int
    failed: dict[str, int]
    ignored: dict[str, int]
    embedded: int
    seconds: float
    interrupted: bool = False
    warnings: tuple[str, ...] = ()
    timings: IndexTimings = field(default_factory=IndexTimings)

    @property
    def photos_per_second(self) -> float:
        """Vectors stored a second, over the whole run."""
        return self.embedded / self.seconds if self.seconds > 0 else 0.0


def index_archive(
    store: CatalogStore,
    model: Model | ModelSource,
    roots: Sequence[str | os.PathLike[str]],
    options: IndexOptions | None = None,
    progress: IndexProgress | None = None,
    on_tick: Callable[[str], None] = lambda _: None,
) -> IndexSummary:
    """Bring a catalog up to date with the photos under some folders.

    Args:
        store: A catalog open for writing.
        model: The model to embed with, or one to be loaded: that is done only if there is something to read, or
            if it is not the catalog's. A catalog keeps to one model unless asked to re-embed.
        roots: Folders.
        options: How to index.
        progress: Receives how it goes.
        on_tick: Called several times a second, in the calling thread, with the stages at work.

    Returns:
        What was found and done.

    Raises:
        MissingFilesError: A root is absent, empty, or has lost most of its files; nothing was marked missing.
        ModelMismatchError: The catalog was made with another model or preprocessing.
        CatalogError: The catalog could not be written; what was committed before is safe.
        StalledError: A stage gave no sign of life for too long; what was committed before is safe. A thread is
            still stuck in it, so that the process had better end.
        KeyboardInterrupt: The run was stopped; what was in hand is committed and the next run goes on.
    """
    options = options or IndexOptions()
    watch = Watch(options.stall_s, _KEPT, on_tick)
    return watch.run(lambda: _index(store, model, roots, options, progress or _Silent(), watch))


def _index(
    store: CatalogStore,
    model: Model | ModelSource,
    roots: Sequence[str | os.PathLike[str]],
    options: IndexOptions,
    progress: IndexProgress,
    watch: Watch,
) -> IndexSummary:
    clock = StagesClock()
    paths = resolve_roots(roots, allow_missing=options.confirm_missing)
    loading = LoadingModel(model)

    def loaded() -> Model:
        with watch.at_work("the loading of the network"):
            return loading.get()

    active = store.active_model()
    if active is not None and not (loading.may_be(active) or options.reembed):
        _check_model(store, active, loaded())
    if not options.confirm_missing:
        refuse_emptied(store, paths)
    record = _use(store, active, loading)
    model_id = None if record is None else record.id
    with watch.at_work("the check of the stored vectors"):
        dropped = drop_damaged_vectors(store)
    with contextlib.ExitStack() as resources:
        stages = resources.enter_context(Stages(store, loading, record, options, clock, watch))
        with watch.at_work("the crawl of the folders") as sign:
            plan = make_plan(
                store,
                paths,
                model_id,
                follow_links=options.follow_links,
                retry_failed=options.retry_failed,
                confirm_missing=options.confirm_missing,
                on_scan=progress.scanned,
                on_work=stages.prepare,
                on_step=sign,
            )
        resources.callback(plan.close)
        clock.scanned = time.monotonic()
        progress.planned(plan.to_read)
        settings = None
        if plan.to_read:
            network = loaded()
            if record is None:
                record = store.use_model(network)
            else:
                _check_model(store, record, network)
            settings = _settings(network, options)
        writer = CatalogWriter(store, None if record is None else record.id, "index", settings)
        try:
            if plan.to_read:
                stages.execute(plan, loading.get(), writer, progress)
            with watch.at_work("the writing of what moved or is gone") as sign:
                writer.reconcile(plan, confirm_missing=options.confirm_missing, on_step=sign)
            warnings = absent_roots(store) + _dropped_warnings(dropped)
            if record is not None:
                with watch.at_work("the saving of the vector index") as sign:
                    warnings += _save_vectors(store, record.id, record.embedding_size, sign)
        except BaseException as error:
            outcome = "failed" if isinstance(error, Exception) else "interrupted"
            # If the catalog itself is what failed, that error is the one to report.
            with contextlib.suppress(CatalogError):
                writer.finish(outcome, {"embedded": writer.embedded})
            raise
        summary = _summary(plan, writer, clock.timings(), time.monotonic() - clock.started, warnings)
        writer.finish("done", {"embedded": summary.embedded, "new": summary.new, "failed": summary.failed})
    return summary


def _check_model(store: CatalogStore, active: ModelRecord, model: Model) -> None:
    if (active.sha256, active.preprocessing) != (model.sha256, model.preprocessing):
        raise ModelMismatchError(
            f"{store.path}: made with {active.name} (sha256 {active.sha256[:12]}, {active.preprocessing}), but "
            f"the model given is {model.name} (sha256 {model.sha256[:12]}, {model.preprocessing}); their vectors "
            "do not compare. Give the catalog's own model, or embed every photo again with --reembed"
        )


def _use(store: CatalogStore, active: ModelRecord | None, loading: LoadingModel) -> ModelRecord | None:
    """Return the record of the model to embed with; None for a catalog's first model while it is not loaded."""
    if active is not None and loading.may_be(active):
        if loading.path is not None:
            store.moved_weights(active, loading.path)
        return active
    if active is None and not loading.is_loaded:
        return None
    return store.use_model(loading.get())


def _settings(model: Model, options: IndexOptions) -> dict[str, object]:
    """Return how a run decodes and embeds: what a vector may depend on beside its photo and the weights."""
    runtime = RUNTIMES[model.runtime]
    return {
        "decode": options.decode,
        "runtime": runtime.name,
        "precision": runtime.precision,
        "device": model.device,
        "batch_size": options.batch_size,
        "versions": {name: metadata.version(name) for name in (runtime.library, "pillow")},
    }


def _save_vectors(
    store: CatalogStore, model_id: int, dim: int, on_step: Callable[[], None] = lambda: None
) -> tuple[str, ...]:
    vectors = VectorIndex.open(store, model_id, dim)
    # Whatever is damaged is read from the catalog, and with it a snapshot is written anew.
    vectors.verify()
    if not vectors.is_saved:
        vectors.save(store, on_step=on_step)
    return vectors.warnings


def _dropped_warnings(dropped: Sequence[str]) -> tuple[str, ...]:
    return tuple(
        f"{photo}: its stored vector was damaged and was dropped; it is embedded again, or as soon as its folder "
        "is indexed"
        for photo in dropped
    )


def _summary(
    plan: Plan, writer: CatalogWriter, timings: IndexTimings, seconds: float, warnings: Sequence[str]
) -> IndexSummary:
    counts = writer.counts
    return IndexSummary(
        new=counts["new"],
        copies=counts["copies"],
        changed=counts["changed"],
        edited=counts["edited"],
        moved=counts["moved"],
        unchanged=plan.unchanged + counts["touched"],
        reembedded=counts["reembedded"],
        reread=counts["reread"],
        missing=counts["missing"],
        failed=dict(sorted((writer.failed + plan.failed_before).items())),
        ignored=dict(sorted(plan.ignored.items())),
        embedded=writer.embedded,
        seconds=seconds,
        warnings=tuple(warnings),
        timings=timings,
    )
