"""Writing a run into the catalog: one transaction a batch, and the reckoning at the end."""

from __future__ import annotations

import itertools
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import sqlalchemy as sa

from birdsearch.indexer.catalog import statements
from birdsearch.indexer.catalog.batch import Batch
from birdsearch.indexer.catalog.changes import live_pairs, write_changes
from birdsearch.indexer.catalog.connection import cursor_of
from birdsearch.indexer.catalog.file_metadata import settle_metadata
from birdsearch.indexer.catalog.outcomes import Outcome
from birdsearch.indexer.catalog.runs import finish_run, start_run
from birdsearch.indexer.catalog.store import CatalogStore, chunks
from birdsearch.indexer.catalog.unread_photos import has_unread
from birdsearch.indexer.plan import IdSet, Plan, is_most, most_is_gone

__all__ = ["CatalogWriter"]


# Rows of files that are gone which are written, and followed in the change log, together.
_GONE_ROWS = 10_000


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
        with store.reading() as reading:
            # Only photos whose picture is not known yet can turn out to be others.
            self._merges = has_unread(cursor_of(reading))
        self.counts: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.embedded = 0
        with store.writing() as connection:
            self._run_id = start_run(connection, command, model_id, settings)

    def commit(self, outcomes: Sequence[Outcome]) -> None:
        """Write a batch in one transaction: all of it or nothing.

        Args:
            outcomes: In the order in which they are to be written; a `KnownFile` after the file it equals.

        Raises:
            CatalogError: The catalog could not be written; nothing of the batch was.
        """
        with self._store.writing() as connection:
            batch = Batch(connection, self.model_id, self._run_id, outcomes, merges=self._merges)
            batch.write()
        for file_id in batch.created:
            self._created.add(file_id)
        self.counts += batch.counts
        self.failed += batch.failed
        self.embedded += batch.embedded

    def reconcile(
        self, plan: Plan, *, confirm_missing: bool, on_step: Callable[[], None] = lambda: None
    ) -> None:
        """After every task is committed: record what the crawl could not enter, what moved and what is gone.

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
        with self._store.writing() as connection:
            heirs = self._elsewhere(connection, rows)
            if not confirm_missing:
                for scope in plan.scopes:
                    lost = sum(
                        photo_id is not None and photo_id not in heirs for _, photo_id in gone[scope.root_id]
                    )
                    if is_most(lost, plan.live[scope.root_id]):
                        raise most_is_gone(scope, lost, plan.live[scope.root_id])
            self._mark_gone(connection, rows, heirs, on_step)

    def _write_problems(self, plan: Plan) -> None:
        for some in chunks(plan.problems):
            with self._store.writing() as connection:
                cursor = cursor_of(connection)
                for scope, problem in some:
                    self.failed[problem.code] += 1
                    place = (scope.root_id, problem.path)
                    known = cursor.execute(statements.AT, place).fetchone()
                    photo_id, *read = (None, None, 0, None) if known is None else known[1:]
                    why = ("crawl", problem.code, problem.reason, 1)
                    row = (None, *place, "error", photo_id, 0, 0, 0, 0, 0, *why, self._run_id, *read)
                    cursor.execute(statements.UPSERT_FILE, row)
                    plan.seen.add(cursor.execute(statements.AT, place).fetchone()[0])

    def _elsewhere(
        self, connection: sa.Connection, rows: Sequence[tuple[int, int | None]]
    ) -> dict[int, list[int]]:
        """Photos that files which were not found gone still show, with those of the files that are new.

        Returns:
            Ids of rows that this run made, in order, by photo; no ids if only older files show the photo.
        """
        cursor = cursor_of(connection)
        unseen = IdSet()
        for file_id, _ in rows:
            unseen.add(file_id)
        heirs: dict[int, list[int]] = {}
        for some in chunks(sorted({photo_id for _, photo_id in rows if photo_id is not None})):
            for file_id, photo_id in cursor.execute(statements.SHOWING.format(statements.marks(some)), some):
                if file_id not in unseen:
                    heirs.setdefault(photo_id, [])
                    if file_id in self._created:
                        heirs[photo_id].append(file_id)
        return heirs

    def _mark_gone(
        self,
        connection: sa.Connection,
        rows: Sequence[tuple[int, int | None]],
        heirs: Mapping[int, list[int]],
        on_step: Callable[[], None],
    ) -> None:
        """Say of files that were not found where they are now, or that they are missing.

        Each new path takes over the row of one old path of the same content: the file moved.
        """
        cursor = cursor_of(connection)
        forgotten = [(file_id,) for file_id, photo_id in rows if photo_id is None]
        cursor.executemany("DELETE FROM file WHERE id = ?", forgotten)
        # Photo by photo, so that what is held in memory does not grow with what is gone.
        by_photo = sorted((photo_id, file_id) for file_id, photo_id in rows if photo_id is not None)
        for some in chunks(by_photo, _GONE_ROWS):
            on_step()
            photos = {photo_id for photo_id, _ in some}
            before = live_pairs(connection, photos)
            missing = []
            for photo_id, file_id in some:
                if heirs.get(photo_id):
                    _move_row(cursor, file_id, heirs[photo_id].pop(0))
                    self.counts["moved"] += 1
                    self.counts["copies"] -= 1
                else:
                    missing.append((self._run_id, file_id))
            cursor.executemany(statements.MARK_MISSING, missing)
            self.counts["missing"] += len(missing)
            settle_metadata(cursor, photos)
            write_changes(connection, before, photos)

    def finish(self, outcome: str, counts: dict[str, object]) -> None:
        """Record how the run ended.

        Args:
            outcome: `done`, `interrupted` or `failed`.
            counts: The summary, for `run.counts`.
        """
        with self._store.writing() as connection:
            finish_run(connection, self._run_id, counts, outcome)


def _move_row(cursor: sqlite3.Cursor, file_id: int, heir_id: int) -> None:
    """Let the old row `file_id` describe the file that the new row `heir_id` was made for."""
    heir = cursor.execute(statements.FILE, (heir_id,)).fetchone()
    cursor.execute("DELETE FROM file WHERE id = ?", (heir_id,))
    cursor.execute(statements.REPLACE_FILE, (*heir, file_id))
