"""Photos of sensitive species, by a verified label, the last `label` run or the network.

One is enough: a label can be wrong, and a photo can show more than one bird, but a place that was told cannot be
taken back. So a verified label of another species does not lift this.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdsearch.indexer.catalog.changes import last_change
from birdsearch.indexer.catalog.embeddings import read_vectors
from birdsearch.indexer.catalog.location_facts import (
    photos_predicted,
    photos_verified,
    read_taxon_names,
    views_with_vectors,
)
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.store import CatalogStore, Snapshot, chunks
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
        """Return whether the scientific name is that of a sensitive species or of a form of one."""
        return " ".join(scientific_name.split()[:2]) in self

    def any_of(self, *names: str | None) -> bool:
        """Return whether one of the names, those that are None aside, is that of a sensitive species."""
        return any(name in self for name in names)


@dataclass(slots=True, eq=False)
class _Answers:
    """The network's answers whether views show a sensitive species, as far as it was asked.

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
    """The photos that show sensitive species by their labels. Several threads may ask at once.

    Args:
        store: An open catalog.
    """

    def __init__(self, store: CatalogStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        # A view's embedding never changes, so neither does the network's answer; names of the user's may be added.
        self._answers: _Answers | None = None
        self._names: tuple[object, SensitiveNames, list[int]] | None = None

    def among(self, snapshot: Snapshot, photo_ids: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """Return those of the photos that a label says show a sensitive species.

        Args:
            snapshot: The state of the catalog.
            photo_ids: (N,) int64, rising; None for all photos.

        Returns:
            (n,) int64, rising.
        """
        record = self._store.active_model()
        found: set[int] = set()
        names, taxon_ids = self._sensitive_names(snapshot)
        for some in self._pieces(photo_ids):
            found |= photos_verified(snapshot, taxon_ids, some)
            found |= _predicted(snapshot, names, some)
            if record is not None:
                found |= self._classified(snapshot, record, names, some)
        hidden = np.array(sorted(found), dtype=np.int64)
        return hidden if photo_ids is None else hidden[is_in(hidden, photo_ids)]

    def _sensitive_names(self, snapshot: Snapshot) -> tuple[SensitiveNames, list[int]]:
        """Return the names of sensitive species, and the ids of the taxa of the catalog that are."""
        key = tuple(read_taxon_names(snapshot))
        known = self._names
        if known is None or known[0] != key:
            names = SensitiveNames(Taxonomy.load(), ((name, scientific) for _, name, scientific in key))
            known = self._names = (key, names, [taxon_id for taxon_id, name, _ in key if name in names])
        return known[1], known[2]

    @staticmethod
    def _pieces(photo_ids: NDArray[np.int64] | None) -> Iterator[Sequence[int] | None]:
        """Yield runs of ids to look up; None once, for all photos, where there are many."""
        if photo_ids is None or len(photo_ids) > FEW:
            yield None
        else:
            yield from chunks(photo_ids.tolist())

    def _classified(
        self,
        snapshot: Snapshot,
        record: ModelRecord,
        names: SensitiveNames,
        photo_ids: Sequence[int] | None,
    ) -> set[int]:
        """Return the photos of which the network takes a view for a sensitive species."""
        classes = np.array([name in names for name in record.classes], dtype=bool)
        if not classes.any():
            return set()
        with self._lock:
            answers = self._answers
            is_of_these = answers is not None and np.array_equal(answers.classes, classes)
            if answers is None or answers.model_id != record.id or not is_of_these:
                self._answers = answers = _Answers(record.id, classes, np.full(0, -1, np.int8))
            if photo_ids is not None:
                return _taken_for_sensitive(snapshot, record, answers, photo_ids)
            seq = last_change(snapshot)
            if answers.seq != seq:
                answers.photos = frozenset(_taken_for_sensitive(snapshot, record, answers, None))
                answers.seq = seq
            return set(answers.photos)


def _taken_for_sensitive(
    snapshot: Snapshot, record: ModelRecord, answers: _Answers, photo_ids: Sequence[int] | None
) -> set[int]:
    pairs = views_with_vectors(snapshot, record.id, photo_ids)
    _ask(snapshot, record, answers, pairs[:, 0])
    return set(pairs[answers.by_view[pairs[:, 0]] == 1, 1].tolist())


def _ask(snapshot: Snapshot, record: ModelRecord, answers: _Answers, view_ids: NDArray[np.int64]) -> None:
    """Ask the network about these views."""
    grown = int(view_ids.max(initial=-1)) + 1 - len(answers.by_view)
    if grown > 0:
        answers.by_view = np.concatenate([answers.by_view, np.full(grown, -1, np.int8)])
    unknown = distinct(view_ids[answers.by_view[view_ids] < 0])
    for start in range(0, len(unknown), _BATCH):
        some = unknown[start : start + _BATCH]
        vectors, usable = read_vectors(snapshot, record.id, record.embedding_size, some)
        # (B, C) @ (C, classes) -> (B, classes)
        best = record.logits(vectors).argmax(axis=1)
        # A vector that is damaged may have been one.
        answers.by_view[some] = answers.classes[best] | ~usable


def _predicted(snapshot: Snapshot, names: SensitiveNames, photo_ids: Sequence[int] | None) -> set[int]:
    """Return the photos of which the last `label` run took a view for a sensitive species."""
    predicted = photos_predicted(snapshot, photo_ids)
    known = {name: name in names for _, *both in predicted for name in both}
    return {photo_id for photo_id, name, species in predicted if known[name] or known[species]}
