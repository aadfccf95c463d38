"""Answers to embeddings: the photos that are like them and their labels, from one state of a catalog.

What is asked at the same time is answered together, which costs a fraction of answering one after the other. An
answer does not depend on what it is asked with.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.filtered_photos import views_allowed
from birdsearch.indexer.catalog.filters import Where
from birdsearch.indexer.catalog.label_state import EstimateState, estimate_state
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.store import CatalogStore, Snapshot
from birdsearch.indexer.vectors.index import VectorIndex, normalised
from birdsearch.search.labels.estimator import LabelEstimator
from birdsearch.search.query.hits import Hit, LabelEstimate, LabelEvidence, QueryPhoto, QueryResult
from birdsearch.search.query.query_expansion import RefinedVectors
from birdsearch.search.query.retrieval import Match, best_views, describe, refined_views
from birdsearch.settings import DEFAULT_CONFIDENCE

__all__ = ["QueryEngine", "QueryRequest", "check_embedding"]


@dataclass(frozen=True, slots=True, eq=False)
class QueryRequest:
    """A question about an embedding.

    Attributes:
        query: The photo that it is of.
        embedding: (C,) float32, un-normalised.
        k: How many hits, at least 0.
        where: Conditions on the hits.
        include_self: Let the photo itself be a hit.
        refined: Order the hits by refined vectors.
        exact: Look at all vectors.
        labels: Whether to estimate labels.
        confidence: How sure a label has to be, 0..1, before it is rolled up.
        sought: (C,) float32: what the hits are to be like, if that is not the embedding itself.
        left_out: More photos that are no hits unless the photo itself may be one.

    Raises:
        InvalidInputError: `k` is negative.
    """

    query: QueryPhoto
    embedding: NDArray[np.float32]
    k: int = 20
    where: Where | None = None
    include_self: bool = False
    refined: bool = False
    exact: bool = False
    labels: bool = True
    confidence: float = DEFAULT_CONFIDENCE
    sought: NDArray[np.float32] | None = None
    left_out: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if self.k < 0:
            raise InvalidInputError(f"k must be at least 0, got {self.k}")

    @property
    def no_hits(self) -> frozenset[int]:
        """Photos that are no hits."""
        if self.include_self:
            return frozenset()
        return self.left_out if self.query.photo_id is None else self.left_out | {self.query.photo_id}

    @property
    def where_to_look(self) -> tuple[int, Where | None, bool, bool]:
        """What requests have in common that one search answers."""
        where = None if self.where is None or self.where.is_empty else self.where
        return self.k, where, self.refined, self.exact


class QueryEngine:
    """Answers requests about the vectors of a catalog. Several threads may use it at once.

    Args:
        store: The catalog.
    """

    def __init__(self, store: CatalogStore) -> None:
        self._store = store
        self._index: VectorIndex | None = None
        # A vector index is for one thread at a time, and must not be newer than the snapshot of the search.
        self._index_lock = threading.Lock()
        # Making refined vectors can take a minute: with an index of their own, other searches need not wait.
        self._refined: tuple[VectorIndex, RefinedVectors] | None = None
        self._refined_lock = threading.Lock()
        self._estimator: tuple[int, EstimateState, LabelEstimator] | None = None
        self._estimator_lock = threading.Lock()

    def answer(self, record: ModelRecord, requests: Sequence[QueryRequest]) -> list[QueryResult]:
        """Answer requests.

        Args:
            record: The catalog's model, which the embeddings are of.
            requests: What is asked.

        Returns:
            One answer a request, in order. Photos that are not in the catalog have the same answer alone and
            together; for those that are, what links one of them to a verified photo may also be another one.

        Raises:
            InvalidInputError: An embedding has another size or is not finite, a condition is not understood, or
                the confidence is outside its limits.
            CatalogError: The catalog is damaged.
        """
        if not requests:
            return []
        for request in requests:
            check_embedding(request.embedding, record.embedding_size)
            if request.sought is not None:
                check_embedding(request.sought, record.embedding_size)
        hits: list[tuple[Hit, ...]] = [()] * len(requests)
        warnings: list[tuple[str, ...]] = [()] * len(requests)
        for rows in _alike(requests, lambda request: request.where_to_look):
            found, said = self._hits(record, [requests[row] for row in rows])
            for row, of_one in zip(rows, found, strict=True):
                hits[row], warnings[row] = of_one, said
        labels: list[_Labels] = [_Labels()] * len(requests)
        asked = [row for row, request in enumerate(requests) if request.labels]
        for group in _alike([requests[row] for row in asked], lambda request: request.confidence):
            rows = [asked[row] for row in group]
            for row, of_one_photo in zip(
                rows, self._labels(record, [requests[row] for row in rows]), strict=True
            ):
                labels[row] = of_one_photo
        return [
            QueryResult(request.query, found, said.labels, said.unknown, of_search, said.evidence)
            for request, found, said, of_search in zip(requests, hits, labels, warnings, strict=True)
        ]

    def label_estimator(self, record: ModelRecord) -> LabelEstimator:
        """Return the estimator by the verified labels and the calibration that there are now."""
        now = estimate_state(self._store)
        with self._estimator_lock:
            known = self._estimator
            estimator = None
            if known is not None and known[0] == record.id:
                if known[1] == now:
                    return known[2]
                estimator = known[2].for_state(self._store, known[1], now)
            if estimator is None:
                estimator = LabelEstimator.open(self._store, record)
            self._estimator = (record.id, now, estimator)
            return estimator

    # -- hits --------------------------------------------------------------------------------------------

    def _hits(
        self, record: ModelRecord, requests: Sequence[QueryRequest]
    ) -> tuple[list[tuple[Hit, ...]], tuple[str, ...]]:
        """Find the hits of requests that one search answers; return them with warnings."""
        k, where, refined, exact = requests[0].where_to_look
        if not k and where is None:
            return [()] * len(requests), ()
        queries = normalised(
            np.stack(
                [request.embedding if request.sought is None else request.sought for request in requests]
            )
        )
        left_out = [request.no_hits for request in requests]
        with self._store.snapshot() as snapshot:
            # In the transaction that the hits are described in, and before the index catches up: whatever is
            # allowed is then in the index, and whatever is found has its rows.
            allowed = None if where is None else views_allowed(snapshot, record.id, where)
            if refined:
                index, matches = self._refined_matches(snapshot, record, queries, left_out, k, allowed)
            else:
                with self._index_lock:
                    index = self._caught_up(snapshot, record)
                    matches = best_views(snapshot, index, queries, left_out, k, allowed, exact=exact)
            hits = describe(snapshot, record, matches)
        warnings = index.warnings
        if allowed is not None and not len(allowed) and len(index):
            warnings += ("no photo of the catalog meets the conditions",)
        return hits, warnings

    def _caught_up(self, snapshot: Snapshot, record: ModelRecord) -> VectorIndex:
        """Return the index as a snapshot has it, of which this is the first read unless there are conditions."""
        index = self._index
        if index is None or index.model_id != record.id:
            self._index = index = VectorIndex.open(self._store, record.id, record.embedding_size)
        index.follow(snapshot)
        return index

    def _refined_matches(
        self,
        snapshot: Snapshot,
        record: ModelRecord,
        queries: NDArray[np.float32],
        left_out: Sequence[Collection[int]],
        k: int,
        allowed: NDArray[np.int64] | None,
    ) -> tuple[VectorIndex, list[list[Match]]]:
        with self._refined_lock:
            if self._refined is None or self._refined[0].model_id != record.id:
                plain = VectorIndex.open(self._store, record.id, record.embedding_size)
            else:
                plain = self._refined[0]
            plain.follow(snapshot)
            if (
                self._refined is None
                or self._refined[0] is not plain
                or self._refined[1].index.seq != plain.seq
            ):
                self._refined = (plain, RefinedVectors.open(self._store, plain))
            return plain, refined_views(snapshot, self._refined[1], queries, left_out, k, allowed)

    # -- labels ------------------------------------------------------------------------------------------

    def _labels(self, record: ModelRecord, requests: Sequence[QueryRequest]) -> list[_Labels]:
        estimator = self.label_estimator(record)
        if not len(estimator.space):
            return [_Labels()] * len(requests)
        views = self._store.whole_views(
            [request.query.photo_id for request in requests if request.query.photo_id is not None]
        )
        view_ids = [views.get(request.query.photo_id or 0, 0) for request in requests]
        references, groups = estimator.groups_for(self._store, view_ids)
        embeddings = np.stack([request.embedding for request in requests])
        answers = estimator.answer(embeddings, groups, requests[0].confidence, references)
        evidence = estimator.evidence(self._store, answers)
        return [
            _Labels(estimator.labels(answers, row), float(answers.unknown[row]), evidence[row])
            for row in range(len(requests))
        ]


@dataclass(frozen=True, slots=True)
class _Labels:
    labels: tuple[LabelEstimate, ...] = ()
    unknown: float | None = None
    evidence: LabelEvidence | None = None


def check_embedding(embedding: NDArray[np.float32], size: int) -> None:
    """Verify that an embedding can be searched for.

    Args:
        embedding: The embedding.
        size: C of the model.

    Raises:
        InvalidInputError: It has another size, or is not finite.
    """
    if embedding.shape != (size,):
        raise InvalidInputError(f"an embedding of this catalog has {size} numbers, got {len(embedding)}")
    if not np.isfinite(embedding).all():
        raise InvalidInputError("an embedding must be finite, got NaN or infinity")


def _alike(requests: Sequence[QueryRequest], key: Callable[[QueryRequest], object]) -> list[list[int]]:
    """Group the positions of requests whose keys are equal; conditions need not be hashable."""
    groups: list[tuple[object, list[int]]] = []
    for row, request in enumerate(requests):
        mine = key(request)
        for other, rows in groups:
            if other == mine:
                rows.append(row)
                break
        else:
            groups.append((mine, [row]))
    return [rows for _, rows in groups]
