"""Answers to embeddings: the photos that are like them and their labels, from one state of a catalog.

What is asked at the same time is answered together, which costs a fraction of answering one after the other. An
answer does not depend on what it is asked with.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.label_state import EstimateState, estimate_state
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.vectors.index import VectorIndex, normalised
from birdsearch.search.labels.estimator import LabelEstimator
from birdsearch.search.query.filters import Where, views_allowed
from birdsearch.search.query.hits import Hit, LabelEstimate, LabelEvidence, QueryPhoto, QueryResult
from birdsearch.search.query.query_expansion import RefinedVectors
from birdsearch.search.query.retrieval import Match, best_views, describe, refined_views
from birdsearch.settings import DEFAULT_CONFIDENCE

__all__ = ["Answerer", "Question", "check_embedding"]


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What is asked about an embedding.

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
        """What questions have in common that one search answers."""
        where = None if self.where is None or self.where.is_empty else self.where
        return self.k, where, self.refined, self.exact


class Answerer:
    """Answers questions about the vectors of a catalog. Several threads may ask at once.

    Args:
        store: The catalog.
    """

    def __init__(self, store: CatalogStore) -> None:
        self._store = store
        self._index: VectorIndex | None = None
        # A vector index is for one thread at a time, and must not have seen more than whoever searches it.
        self._index_lock = threading.Lock()
        # Making refined vectors can take a minute: they have an index of their own, so that nobody else waits.
        self._refined: tuple[VectorIndex, RefinedVectors] | None = None
        self._refined_lock = threading.Lock()
        self._estimator: tuple[int, EstimateState, LabelEstimator] | None = None
        self._estimator_lock = threading.Lock()

    def answer(self, record: ModelRecord, questions: Sequence[Question]) -> list[QueryResult]:
        """Answer questions.

        Args:
            record: The catalog's model, which the embeddings are of.
            questions: What is asked.

        Returns:
            One answer a question, in order. Photos that are not in the catalog have the same answer alone and
            together; for those that are, what links one of them to a verified photo may also be another one.

        Raises:
            InvalidInputError: An embedding has another size or is not finite, a condition is not understood, or
                the confidence is outside its limits.
            CatalogError: The catalog is damaged.
        """
        if not questions:
            return []
        for question in questions:
            check_embedding(question.embedding, record.embedding_size)
            if question.sought is not None:
                check_embedding(question.sought, record.embedding_size)
        hits: list[tuple[Hit, ...]] = [()] * len(questions)
        warnings: list[tuple[str, ...]] = [()] * len(questions)
        for places in _alike(questions, lambda question: question.where_to_look):
            found, said = self._hits(record, [questions[place] for place in places])
            for place, of_one in zip(places, found, strict=True):
                hits[place], warnings[place] = of_one, said
        labels: list[_Labels] = [_Labels()] * len(questions)
        asked = [place for place, question in enumerate(questions) if question.labels]
        for group in _alike([questions[place] for place in asked], lambda question: question.confidence):
            places = [asked[place] for place in group]
            for place, of_one_photo in zip(
                places, self._labels(record, [questions[place] for place in places]), strict=True
            ):
                labels[place] = of_one_photo
        return [
            QueryResult(question.query, found, said.labels, said.unknown, of_search, said.evidence)
            for question, found, said, of_search in zip(questions, hits, labels, warnings, strict=True)
        ]

    def label_estimator(self, record: ModelRecord) -> LabelEstimator:
        """What labels photos, by the verified labels and the calibration that there are now."""
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
        self, record: ModelRecord, questions: Sequence[Question]
    ) -> tuple[list[tuple[Hit, ...]], tuple[str, ...]]:
        """Hits of questions that one search answers, and warnings."""
        k, where, refined, exact = questions[0].where_to_look
        if not k and where is None:
            return [()] * len(questions), ()
        queries = normalised(
            np.stack(
                [question.embedding if question.sought is None else question.sought for question in questions]
            )
        )
        left_out = [question.no_hits for question in questions]
        with self._store.reading() as connection:
            # In the transaction that the hits are described in, and before the index catches up: whatever is
            # allowed is then in the index, and whatever is found has its rows.
            allowed = None if where is None else views_allowed(connection, record.id, where)
            if refined:
                index, matches = self._refined_matches(connection, record, queries, left_out, k, allowed)
            else:
                with self._index_lock:
                    index = self._caught_up(connection, record)
                    matches = best_views(connection, index, queries, left_out, k, allowed, exact=exact)
            hits = describe(connection, record, matches)
        warnings = index.warnings
        if allowed is not None and not len(allowed) and len(index):
            warnings += ("no photo of the catalog meets the conditions",)
        return hits, warnings

    def _caught_up(self, connection: sa.Connection, record: ModelRecord) -> VectorIndex:
        """The index as a transaction sees the catalog, whose first read this is unless there are conditions."""
        index = self._index
        if index is None or index.model_id != record.id:
            self._index = index = VectorIndex.open(self._store, record.id, record.embedding_size)
        index.follow(connection)
        return index

    def _refined_matches(
        self,
        connection: sa.Connection,
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
            plain.follow(connection)
            if (
                self._refined is None
                or self._refined[0] is not plain
                or self._refined[1].index.seq != plain.seq
            ):
                self._refined = (plain, RefinedVectors.open(self._store, plain))
            return plain, refined_views(connection, self._refined[1], queries, left_out, k, allowed)

    # -- labels ------------------------------------------------------------------------------------------

    def _labels(self, record: ModelRecord, questions: Sequence[Question]) -> list[_Labels]:
        estimator = self.label_estimator(record)
        if not len(estimator.space):
            return [_Labels()] * len(questions)
        views = self._store.whole_views(
            [question.query.photo_id for question in questions if question.query.photo_id is not None]
        )
        view_ids = [views.get(question.query.photo_id or 0, 0) for question in questions]
        references, groups = estimator.groups_for(self._store, view_ids)
        embeddings = np.stack([question.embedding for question in questions])
        answers = estimator.answer(embeddings, groups, questions[0].confidence, references)
        evidence = estimator.evidence(self._store, answers)
        return [
            _Labels(estimator.labels(answers, row), float(answers.unknown[row]), evidence[row])
            for row in range(len(questions))
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


def _alike(questions: Sequence[Question], key: Callable[[Question], object]) -> list[list[int]]:
    """Places of questions, those together whose keys are equal; conditions need not be hashable."""
    groups: list[tuple[object, list[int]]] = []
    for place, question in enumerate(questions):
        mine = key(question)
        for other, places in groups:
            if other == mine:
                places.append(place)
                break
        else:
            groups.append((mine, [place]))
    return [places for _, places in groups]
