"""Photos of sensitive species: what a verified label, the last `label` run or the network says so of.

One is enough: a label can be wrong, and a photo can show more than one bird, but a place that was told cannot be
taken back. So a verified label of another species does not lift this.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.annotations import labelled_photos
from birdsearch.indexer.catalog.embeddings import read_vectors
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.store import CatalogStore, chunks
from birdsearch.model.taxonomy import Taxon, Taxonomy, name_key
from birdsearch.search.query.sorted_sets import distinct, is_in

__all__ = ["FEW", "SensitiveLabels", "SensitiveNames"]

FEW = 2000
"""Photos that are looked up by id; of more, the whole tables are read, which is faster then."""

# Embeddings that are classified at a time: bounds memory, not the answer.
_BATCH = 8192


class SensitiveNames:
    """Names of sensitive species, whatever their spelling.

    Args:
        taxa: Of these the sensitive ones, their forms, and what bears their scientific name.
        more: Other taxa as (name, scientific name); of these what bears a name of a sensitive one.
    """

    def __init__(self, taxa: Iterable[Taxon], more: Iterable[tuple[str, str]] = ()) -> None:
        given = list(taxa)
        self._keys = {name_key(name) for taxon in given if taxon.sensitive for name in taxon.names} - {""}
        others = [(taxon.common_name, taxon.scientific_name) for taxon in given] + list(more)
        self._keys |= {
            name_key(name) for name, scientific in others if name in self or self._is_form(scientific)
        }

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name_key(name) in self._keys

    def _is_form(self, scientific_name: str) -> bool:
        """The scientific name is that of a sensitive species or of a form of one."""
        return " ".join(scientific_name.split()[:2]) in self

    def any_of(self, *names: str | None) -> bool:
        """Whether one of the names, those that are None aside, is that of a sensitive species."""
        return any(name in self for name in names)


@dataclass(slots=True, eq=False)
class _Answers:
    """Whether the network takes views for a sensitive species, as far as it was asked.

    Attributes:
        model_id: The network.
        classes: (classes,) bool, which of its classes are sensitive.
        by_view: (largest view id + 1,) int8: 1 it does, 0 it does not, -1 not asked yet.
        seq: The last change of the catalog when it was asked about all views; -1 before.
        photos: Photos of which it takes a view for a sensitive species, as of then.
    """

    model_id: int
    classes: NDArray[np.bool_]
    by_view: NDArray[np.int8]
    seq: int = -1
    photos: frozenset[int] = frozenset()


class SensitiveLabels:
    """Which photos labels say show sensitive species. Several threads may ask at once.

    Args:
        store: An open catalog.
    """

    def __init__(self, store: CatalogStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        # A view's embedding never changes, so neither does the network's answer; names of the user's may be added.
        self._answers: _Answers | None = None
        self._names: tuple[object, SensitiveNames, list[int]] | None = None

    def among(self, connection: sa.Connection, photo_ids: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """Return those of the photos that a label says show a sensitive species.

        Args:
            connection: An open transaction.
            photo_ids: (N,) int64, rising; None for all photos.

        Returns:
            (n,) int64, rising.
        """
        record = self._store.active_model()
        found: set[int] = set()
        names, taxon_ids = self._sensitive_names(connection)
        for some in self._pieces(photo_ids):
            found |= _verified(connection, taxon_ids, some)
            found |= _predicted(connection, names, some)
            if record is not None:
                found |= self._classified(connection, record, names, some)
        hidden = np.array(sorted(found), dtype=np.int64)
        return hidden if photo_ids is None else hidden[is_in(hidden, photo_ids)]

    def _sensitive_names(self, connection: sa.Connection) -> tuple[SensitiveNames, list[int]]:
        """The names of sensitive species, and the ids of taxa of the catalog that are."""
        rows = connection.execute(
            sa.select(schema.taxon.c.id, schema.taxon.c.name, schema.taxon.c.scientific_name)
        ).all()
        key = tuple(tuple(row) for row in rows)
        known = self._names
        if known is None or known[0] != key:
            names = SensitiveNames(Taxonomy.load(), ((row.name, row.scientific_name) for row in rows))
            known = self._names = (key, names, [row.id for row in rows if row.name in names])
        return known[1], known[2]

    @staticmethod
    def _pieces(photo_ids: NDArray[np.int64] | None) -> Iterator[Sequence[int] | None]:
        """Runs of ids to look up; None once, for all photos, where there are many."""
        if photo_ids is None or len(photo_ids) > FEW:
            yield None
        else:
            yield from chunks(photo_ids.tolist())

    def _classified(
        self,
        connection: sa.Connection,
        record: ModelRecord,
        names: SensitiveNames,
        photo_ids: Sequence[int] | None,
    ) -> set[int]:
        """Photos of which the network takes a view for a sensitive species."""
        classes = np.array([name in names for name in record.classes], dtype=bool)
        if not classes.any():
            return set()
        with self._lock:
            answers = self._answers
            is_of_these = answers is not None and np.array_equal(answers.classes, classes)
            if answers is None or answers.model_id != record.id or not is_of_these:
                self._answers = answers = _Answers(record.id, classes, np.full(0, -1, np.int8))
            if photo_ids is not None:
                return _taken_for_sensitive(connection, record, answers, photo_ids)
            seq = connection.execute(sa.select(sa.func.max(schema.change.c.seq))).scalar_one() or 0
            if answers.seq != seq:
                answers.photos = frozenset(_taken_for_sensitive(connection, record, answers, None))
                answers.seq = seq
            return set(answers.photos)


def _taken_for_sensitive(
    connection: sa.Connection, record: ModelRecord, answers: _Answers, photo_ids: Sequence[int] | None
) -> set[int]:
    view, embedding = schema.view.c, schema.embedding.c
    statement = (
        sa.select(view.id, view.photo_id)
        .join(schema.embedding, embedding.view_id == view.id)
        .where(embedding.model_id == record.id)
    )
    rows = connection.execute(_of(statement, view.photo_id, photo_ids)).all()
    # (V, 2)
    pairs = np.array([tuple(row) for row in rows], dtype=np.int64).reshape(-1, 2)
    _ask(connection, record, answers, pairs[:, 0])
    return set(pairs[answers.by_view[pairs[:, 0]] == 1, 1].tolist())


def _ask(
    connection: sa.Connection, record: ModelRecord, answers: _Answers, view_ids: NDArray[np.int64]
) -> None:
    """Have the network's answer for these views."""
    grown = int(view_ids.max(initial=-1)) + 1 - len(answers.by_view)
    if grown > 0:
        answers.by_view = np.concatenate([answers.by_view, np.full(grown, -1, np.int8)])
    unknown = distinct(view_ids[answers.by_view[view_ids] < 0])
    for start in range(0, len(unknown), _BATCH):
        some = unknown[start : start + _BATCH]
        vectors, usable = read_vectors(connection, record.id, record.embedding_size, some)
        # (B, C) @ (C, classes) -> (B, classes)
        best = record.logits(vectors).argmax(axis=1)
        # A vector that is damaged may have been one.
        answers.by_view[some] = answers.classes[best] | ~usable


def _verified(
    connection: sa.Connection, taxon_ids: Sequence[int], photo_ids: Sequence[int] | None
) -> set[int]:
    if not taxon_ids:
        return set()
    statement = labelled_photos(taxon_ids, verdicts=("positive", "uncertain"), with_lost=True)
    return set(connection.execute(_of(statement, schema.view.c.photo_id, photo_ids)).scalars())


def _predicted(connection: sa.Connection, names: SensitiveNames, photo_ids: Sequence[int] | None) -> set[int]:
    """Photos of which the last `label` run took a view for a sensitive species."""
    view, prediction, run = schema.view.c, schema.prediction.c, schema.run.c
    newest = sa.select(sa.func.max(run.id)).where(run.command == "label", run.outcome == "done")
    statement = (
        sa.select(view.photo_id, prediction.name, prediction.species)
        .join(schema.prediction, prediction.view_id == view.id)
        .where(prediction.run_id == newest.scalar_subquery())
    )
    rows = connection.execute(_of(statement, view.photo_id, photo_ids)).all()
    known = {name: name in names for row in rows for name in (row.name, row.species)}
    return {row.photo_id for row in rows if known[row.name] or known[row.species]}


def _of(
    statement: sa.Select[Any], photo_id: sa.ColumnElement[int], photo_ids: Sequence[int] | None
) -> sa.Select[Any]:
    return statement if photo_ids is None else statement.where(photo_id.in_(photo_ids))
