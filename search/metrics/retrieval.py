"""Retrieval scores: recall@k, mAP@R and k-NN accuracy of queries against references, exact."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError

__all__ = ["KnnScores", "Names", "RetrievalScores", "as_codes", "knn_scores", "retrieval_scores"]

Names: TypeAlias = Sequence[str] | Sequence[int] | NDArray[Any]
"""Labels or groups: all texts or all integers, compared for equality."""

# Similarities that are held at a time: 32 MiB in float64.
_CELLS = 4 * 1024 * 1024
# Binary digits after the point that a vector keeps.
_DIGITS = 26


@dataclass(frozen=True, slots=True, eq=False)
class RetrievalScores:
    """Retrieval scores of each query.

    Attributes:
        ks: For which k recall was counted.
        query: (M,) int64, row numbers of the queries that had something to find, rising.
        recall: (M, ks) bool, whether one of the k nearest had the query's label.
        average_precision: (M,) float64, average precision at R, 0..1, higher is better.
        relevant: (M,) int64, R: how many references there were to be found.
    """

    ks: tuple[int, ...]
    query: NDArray[np.int64]
    recall: NDArray[np.bool_]
    average_precision: NDArray[np.float64]
    relevant: NDArray[np.int64]

    def found(self, k: int) -> NDArray[np.bool_]:
        """Return (M,) whether each query had its label among its k nearest; `k` is one of `ks`."""
        return self.recall[:, _column(k, self.ks)]

    def recall_at_k(self, k: int) -> float:
        """Return the share of the queries with their label among their k nearest, 0..1; NaN if there are none."""
        return _mean(self.found(k))

    @property
    def mean_average_precision_at_r(self) -> float:
        """Mean of `average_precision`, 0..1, higher is better; NaN if there are no queries."""
        return _mean(self.average_precision)


@dataclass(frozen=True, slots=True, eq=False)
class KnnScores:
    """Results of k-NN classification for each query.

    Attributes:
        ks: For which k neighbours voted.
        query: (M,) int64, row numbers of the queries that had something to find, rising.
        right: (M, ks) bool, whether the vote named the query's label.
    """

    ks: tuple[int, ...]
    query: NDArray[np.int64]
    right: NDArray[np.bool_]

    def named(self, k: int) -> NDArray[np.bool_]:
        """Return (M,) whether the k nearest named each query's label; `k` is one of `ks`."""
        return self.right[:, _column(k, self.ks)]

    def accuracy(self, k: int) -> float:
        """Return the share of the queries named right, 0..1; NaN if there are none."""
        return _mean(self.named(k))


def retrieval_scores(
    queries: NDArray[np.float32],
    query_labels: Names,
    query_groups: Names,
    references: NDArray[np.float32],
    labels: Names,
    groups: Names,
    ks: Sequence[int] = (1, 5, 10),
) -> RetrievalScores:
    """Return recall@k and mAP@R of the ranking by similarity, where a query never finds its own group.

    A query for which there are R references of its label outside its group ranks all references outside its
    group. With rel(i) = 1 where the i-th of them has its label, else 0, and P(i) = (1/i) sum_{j<=i} rel(j):

        recall@k = max_{i<=k} rel(i)
        AP@R     = (1/R) sum_{i<=R} P(i) rel(i)

    and mAP@R is the mean of AP@R (Musgrave, Belongie and Lim 2020, "A Metric Learning Reality Check", arXiv
    2003.08505). A query with R = 0 has nothing to find and is left out.

    NOTE: vectors are rounded to multiples of 2^-26 of the power of two next to the longest one, about a
    float32's own precision, so that every sum of their products is exact in float64. The answer therefore
    depends neither on how rows are blocked nor on threads, and equal vectors tie exactly.

    Args:
        queries: (Q, C) float32, unit-norm.
        query_labels: Q labels.
        query_groups: Q groups, such as the event that a photo belongs to. A photo that is both a query and a
            reference must have the same group in both.
        references: (V, C) float32, unit-norm.
        labels: V labels.
        groups: V groups.
        ks: At least one k, each at least 1.

    Returns:
        Scores of each query. Of equally near references the first in order is ranked first.

    Raises:
        InvalidInputError: Shapes do not fit together, a vector is not finite, or a k is below 1.
    """
    ks = _checked_ks(ks)
    task = _Task.of(queries, query_labels, query_groups, references, labels, groups)
    recall = np.zeros((len(task.asked), len(ks)), dtype=bool)
    precision = np.zeros(len(task.asked), dtype=np.float64)
    for start, block in task.blocks():
        ordered = np.sort(block, axis=1)
        for number, row in enumerate(block, start=start):
            # (R,) ranks of what there is to find, from 1, rising
            ranks = _ranks(row, ordered[number - start], task.relevant(number))
            recall[number] = [ranks[0] <= k for k in ks]
            precise = np.arange(1, len(ranks) + 1) / ranks
            precision[number] = precise[ranks <= len(ranks)].sum() / len(ranks)
    return RetrievalScores(ks, task.asked, recall, precision, task.counts[task.asked])


def knn_scores(
    queries: NDArray[np.float32],
    query_labels: Names,
    query_groups: Names,
    references: NDArray[np.float32],
    labels: Names,
    groups: Names,
    ks: Sequence[int] = (10, 20, 100),
    temperature: float = 0.07,
) -> KnnScores:
    """Return the accuracy of k-NN classification by weighted votes, where a query never asks its own group.

    The k nearest references vote for their labels with the weight exp(s / temperature), s being their cosine
    similarity; the label with the greatest sum wins, of equal ones the first in sorted order (Wu et al. 2018,
    "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", arXiv 1805.01978, whose
    temperature is 0.07). The same queries count as in `retrieval_scores`, and vectors are rounded as there: a
    query whose label no reference outside its group has could not be named right, and is left out.

    Args:
        queries: (Q, C) float32, unit-norm.
        query_labels: Q labels.
        query_groups: Q groups.
        references: (V, C) float32, unit-norm.
        labels: V labels.
        groups: V groups.
        ks: At least one k, each at least 1. Where there are fewer references, all of them vote.
        temperature: Above 0.

    Returns:
        Whether each query was named right. Of equally near references the first in order votes.

    Raises:
        InvalidInputError: Shapes do not fit together, a vector is not finite, a k is below 1, or
            `temperature` is not above 0.
    """
    ks = _checked_ks(ks)
    if not temperature > 0:
        raise InvalidInputError(f"temperature must be above 0, got {temperature}")
    task = _Task.of(queries, query_labels, query_groups, references, labels, groups)
    right = np.zeros((len(task.asked), len(ks)), dtype=bool)
    for start, block in task.blocks():
        for number, row in enumerate(block, start=start):
            near = _nearest(row, max(ks))
            # The greatest is taken off, which scales all weights alike and keeps them from overflowing.
            weights = np.exp((row[near] - row[near[0]]) / temperature)
            voted, votes = np.unique(task.labels[near], return_inverse=True)
            for column, k in enumerate(ks):
                winner = voted[np.bincount(votes[:k], weights[:k]).argmax()]
                right[number, column] = winner == task.query_labels[task.asked[number]]
    return KnnScores(ks, task.asked, right)


def as_codes(*columns: Names) -> list[NDArray[np.int64]]:
    """Return distinct values as numbers 0, 1, 2, ... in sorted order, the same value alike in every column.

    Args:
        columns: Labels or groups.

    Returns:
        An int64 array for each column.

    Raises:
        InvalidInputError: The values are not all texts or all integers.
    """
    lists = [column.tolist() if isinstance(column, np.ndarray) else list(column) for column in columns]
    kinds = {str if isinstance(value, str) else int for value in chain(*lists)}
    if len(kinds) > 1 or not all(isinstance(value, str | int) for value in chain(*lists)):
        raise InvalidInputError("labels and groups must be all texts or all integers")
    numbers = {value: number for number, value in enumerate(sorted(set(chain(*lists))))}
    return [
        np.fromiter((numbers[value] for value in values), dtype=np.int64, count=len(values))
        for values in lists
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """Queries and references with numbered labels and groups.

    Attributes:
        counts: (Q,) how many references each query has to find.
        asked: (M,) rows of the queries that have any.
        members: Rows of the references of each label, rising.
    """

    queries: NDArray[np.float32]
    query_labels: NDArray[np.int64]
    query_groups: NDArray[np.int64]
    references: NDArray[np.float32]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    counts: NDArray[np.int64]
    asked: NDArray[np.int64]
    members: list[NDArray[np.int64]]

    @classmethod
    def of(
        cls,
        queries: NDArray[np.float32],
        query_labels: Names,
        query_groups: Names,
        references: NDArray[np.float32],
        labels: Names,
        groups: Names,
    ) -> _Task:
        if queries.ndim != 2 or references.ndim != 2 or queries.shape[1] != references.shape[1]:
            raise InvalidInputError(
                f"queries and references must be (Q, C) and (V, C), got {queries.shape} and {references.shape}"
            )
        for what, vectors, names in (
            ("query", queries, (query_labels, query_groups)),
            ("reference", references, (labels, groups)),
        ):
            if {len(names[0]), len(names[1])} != {len(vectors)}:
                raise InvalidInputError(
                    f"{len(vectors)} {what} vectors need as many labels and groups, "
                    f"got {len(names[0])} and {len(names[1])}"
                )
            if not np.isfinite(vectors).all():
                raise InvalidInputError(f"{what} vectors must be finite, got NaN or infinity")
        own_labels, other_labels = as_codes(query_labels, labels)
        own_groups, other_groups = as_codes(query_groups, groups)
        kinds = int(max(own_labels.max(initial=-1), other_labels.max(initial=-1))) + 1
        order = np.argsort(other_labels, kind="stable")
        bounds = np.searchsorted(other_labels[order], np.arange(kinds + 1))
        members = [order[low:high] for low, high in pairwise(bounds)]
        spread = int(max(own_groups.max(initial=-1), other_groups.max(initial=-1))) + 1
        # One number a pair of label and group.
        pairs = np.sort(other_labels * spread + other_groups)
        wanted = own_labels * spread + own_groups
        same_group = np.searchsorted(pairs, wanted, "right") - np.searchsorted(pairs, wanted, "left")
        counts = np.bincount(other_labels, minlength=kinds)[own_labels] - same_group
        return cls(
            queries=queries,
            query_labels=own_labels,
            query_groups=own_groups,
            references=references,
            labels=other_labels,
            groups=other_groups,
            counts=counts.astype(np.int64),
            asked=np.flatnonzero(counts > 0),
            members=members,
        )

    def relevant(self, number: int) -> NDArray[np.int64]:
        """Return the rows of the references that the `number`-th asked query has to find."""
        query = self.asked[number]
        members = self.members[self.query_labels[query]]
        return np.asarray(members[self.groups[members] != self.query_groups[query]], dtype=np.int64)

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Yield the number of a query and similarities (rows, V) from it on, -inf for own groups."""
        references, scale = _fixed_point(self.references)
        queries, query_scale = _fixed_point(self.queries)
        rows = max(1, _CELLS // max(1, len(references)))
        for start in range(0, len(self.asked), rows):
            asked = self.asked[start : start + rows]
            # (rows, C) @ (C, V) -> (rows, V)
            block = np.ldexp(queries[asked] @ references.T, scale + query_scale)
            block[self.query_groups[asked, None] == self.groups[None, :]] = -np.inf
            yield start, block


def _fixed_point(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], int]:
    """Return vectors as whole numbers times a power of two, so that float64 sums their products exactly.

    The longest vector is at most 2^26.25 units long. By Cauchy and Schwarz every partial sum of a product of
    two is then a whole number below 2^53, whatever the order of the terms.

    Returns:
        (N, C) whole numbers, and the exponent of the unit.
    """
    wide = vectors.astype(np.float64)
    longest = math.sqrt(float(np.einsum("nc,nc->n", wide, wide).max(initial=0.0)))
    exponent = (math.ceil(math.log2(longest) - 0.25) if longest > 0 else 0) - _DIGITS
    return np.rint(np.ldexp(wide, -exponent)), exponent


def _ranks(
    row: NDArray[np.float64], ordered: NDArray[np.float64], items: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the ranks of some items of a row, from 1 for the greatest, rising; of equals the first is first.

    Args:
        row: (V,) similarities.
        ordered: The row, sorted.
        items: Which.
    """
    values = row[items]
    above = len(row) - np.searchsorted(ordered, values, side="right")
    with_equals = len(row) - np.searchsorted(ordered, values, side="left")
    if (with_equals - above > 1).any():
        ranks = np.empty(len(row), dtype=np.int64)
        ranks[np.argsort(-row, kind="stable")] = np.arange(1, len(row) + 1)
        return np.sort(ranks[items])
    return np.sort(above).astype(np.int64) + 1


def _nearest(row: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Return the k greatest items that are not -inf, greatest first; of equals the first is first."""
    k = min(k, int((row > -np.inf).sum()))
    least = np.partition(row, len(row) - k)[len(row) - k]
    candidates = np.flatnonzero(row >= least)
    return candidates[np.argsort(-row[candidates], kind="stable")[:k]]


def _checked_ks(ks: Sequence[int]) -> tuple[int, ...]:
    if not ks or min(ks) < 1:
        raise InvalidInputError(f"each k must be at least 1, and there must be one, got {tuple(ks)}")
    return tuple(ks)


def _column(k: int, ks: tuple[int, ...]) -> int:
    if k not in ks:
        raise InvalidInputError(f"k = {k} was not counted, only {', '.join(map(str, ks))}")
    return ks.index(k)


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else float("nan")
