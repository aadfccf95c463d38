"""Writing a run into the catalog: one transaction a batch, and the reckoning at the end."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from birdsearch.indexer.catalog.batch import write_batch
from birdsearch.indexer.catalog.id_set import IdSet
from birdsearch.indexer.catalog.index_runs import settle_gone, write_crawl_problems
from birdsearch.indexer.catalog.outcomes import Outcome
from birdsearch.indexer.catalog.runs import begin_run, end_run
from birdsearch.indexer.catalog.store import CatalogStore, chunks
from birdsearch.indexer.catalog.unread_photos import has_unread_photos
from birdsearch.indexer.plan import Plan, is_most, most_is_gone

__all__ = ["CatalogWriter"]


class CatalogWriter:
    """Writes one run. Not for use from several threads at once.

    Args:
        store: A catalog open for writing.
        model_id: The model of the vectors; None for a run that can have none.
        command: What runs.
        settings: How photos are decoded and embedded, in JSON types; kept with the run.

    Attributes:
        model_id: The model of the vectors.
        counts: What became of the files so far, by kind: `new`, `copies`, `changed`, `edited`, `moved`,
            `reembedded`, `reread`, `touched`, `missing`.
        failed: Files that could not be read, by failure code.
        embedded: Vectors stored.
    """

    def __init__(
        self,
        store: CatalogStore,
        model_id: int | None,
        command: str,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self._store = store
        self.model_id = model_id
        self._created = IdSet()
        # Only photos whose picture is not known yet can turn out to be others.
        self._merges = has_unread_photos(store)
        self.counts: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.embedded = 0
        self._run_id = begin_run(store, command, model_id, settings)

    def commit(self, outcomes: Sequence[Outcome]) -> None:
        """Write a batch in one transaction: all of it or nothing.

        Args:
            outcomes: In the order in which they are to be written; a `KnownFile` after the file it equals.

        Raises:
            CatalogError: The catalog could not be written; nothing of the batch was.
        """
        batch = write_batch(self._store, self.model_id, self._run_id, outcomes, merges=self._merges)
        for file_id in batch.created:
            self._created.add(file_id)
        self.counts += batch.counts
        self.failed += batch.failed
        self.embedded += batch.embedded

    def reconcile(
        self, plan: Plan, *, confirm_missing: bool, on_step: Callable[[], None] = lambda: None
    ) -> None:
        """Record what the crawl could not enter, what moved and what is gone, once every task is committed.

        Args:
            plan: The plan whose tasks were committed.
            confirm_missing: Believe it when most files of a root are gone.
            on_step: Called now and then; what it raises undoes what was written.

        Raises:
            MissingFilesError: Most files of a root are gone; nothing was marked missing.
        """
        self._write_problems(plan)
        # Rows that the crawl could not see and yet has something to say about are not gone.
        gone = {
            scope.root_id: [row for row in plan.unseen[scope.root_id] if row[0] not in plan.seen]
            for scope in plan.scopes
        }
        rows = sorted(itertools.chain.from_iterable(gone.values()))
        if not rows:
            return

        def check(heirs: Mapping[int, Sequence[int]]) -> None:
            if confirm_missing:
                return
            for scope in plan.scopes:
                lost = sum(
                    photo_id is not None and photo_id not in heirs for _, photo_id in gone[scope.root_id]
                )
                if is_most(lost, plan.live[scope.root_id]):
                    raise most_is_gone(scope, lost, plan.live[scope.root_id])

        moved, missing = settle_gone(self._store, self._run_id, rows, self._created, check, on_step)
        self.counts["moved"] += moved
        self.counts["copies"] -= moved
        self.counts["missing"] += missing

    def _write_problems(self, plan: Plan) -> None:
        for some in chunks(plan.problems):
            self.failed.update(problem.code for _, problem in some)
            found = [(scope.root_id, problem.path, problem.code, problem.reason) for scope, problem in some]
            for file_id in write_crawl_problems(self._store, self._run_id, found):
                plan.seen.add(file_id)

    def finish(self, outcome: str, counts: dict[str, object]) -> None:
        """Record how the run ended.

        Args:
            outcome: `done`, `interrupted` or `failed`.
            counts: The summary, for `run.counts`.
        """
        end_run(self._store, self._run_id, counts, outcome)
