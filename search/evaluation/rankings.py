"""Plain and refined ranking of verified photos, as they are and with few photos of each species."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdsearch.search.labels.fusion import References
from birdsearch.search.metrics.retrieval import RetrievalScores, retrieval_scores
from birdsearch.search.metrics.sampling import few_shot
from birdsearch.search.query.background import background_cosine
from birdsearch.search.query.query_expansion import expand, refined_vectors

__all__ = ["FrequencyScores", "by_frequency", "ranked", "refined_unit"]

_FREQUENCIES = (2, 5, 10, 30)


@dataclass(frozen=True, slots=True, eq=False)
class FrequencyScores:
    """Scores of rankings where species have a given number of photos.

    Attributes:
        name: Its name in the report.
        plain: By the vectors as they are.
        refined: By the refined ones, made from the same photos.
    """

    name: str
    plain: RetrievalScores
    refined: RetrievalScores


def refined_unit(unit: NDArray[np.float32], voters: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Refine vectors: those of the voters among themselves, the others by the voters, as queries are.

    Args:
        unit: (V, C) float32, unit-norm.
        voters: (V,) bool.

    Returns:
        (V, C) float32, unit-norm.
    """
    stored = np.ascontiguousarray(unit[voters])
    refined = np.empty_like(unit)
    refined[voters] = refined_vectors(stored)
    if not voters.all():
        refined[~voters] = expand(np.ascontiguousarray(unit[~voters]), stored, background_cosine(stored))
    return refined


def ranked(
    references: References,
    unit: NDArray[np.float32],
    voters: NDArray[np.bool_],
    rows: NDArray[np.int64],
) -> RetrievalScores:
    """Return the scores of queries that look among the voters.

    Args:
        references: The verified photos; a query never finds a photo of its own group.
        unit: (V, C) float32, unit-norm, the vectors to rank by.
        voters: (V,) bool, those that may be found.
        rows: (Q,) int64, the queries.
    """
    return retrieval_scores(
        unit[rows],
        references.labels[rows],
        references.groups[rows],
        unit[voters],
        references.labels[voters],
        references.groups[voters],
    )


def by_frequency(
    references: References, voters: NDArray[np.bool_], rows: NDArray[np.int64], seed: int
) -> tuple[FrequencyScores, ...]:
    """Score rankings where every species has 2, 5, 10 or 30 photos, and where they differ in that.

    A query that votes itself stays a voter only if it was drawn.

    Args:
        references: The verified photos.
        voters: (V,) bool, those that may be drawn.
        rows: (Q,) int64, the queries.
        seed: Decides which photos are drawn.

    Returns:
        One for each number of photos below the most that a species has, and one in which species have 2, 5, 10
        and 30 in turn, in the order of their labels; empty if no species has more than 2.
    """
    voting = np.flatnonzero(voters)
    labels, groups = references.labels[voting], references.groups[voting]
    present = np.unique(labels)
    most = max(np.unique(groups[labels == label]).size for label in present)
    found: list[FrequencyScores] = []
    drawn: dict[int, NDArray[np.int64]] = {}
    for count in (count for count in _FREQUENCIES if count < most):
        drawn[count] = voting[few_shot(labels, groups, count, seed)]
        found.append(_scores(f"{count} photos a species", references, drawn[count], rows))
    if len(drawn) > 1:
        counts = list(drawn)
        kept = [
            drawn[counts[turn % len(counts)]][references.labels[drawn[counts[turn % len(counts)]]] == label]
            for turn, label in enumerate(present.tolist())
        ]
        name = f"{', '.join(map(str, counts))} photos in turn"
        found.append(_scores(name, references, np.concatenate(kept), rows))
    return tuple(found)


def _scores(
    name: str, references: References, kept: NDArray[np.int64], rows: NDArray[np.int64]
) -> FrequencyScores:
    voters = np.zeros(len(references), bool)
    voters[kept] = True
    plain = ranked(references, references.unit, voters, rows)
    return FrequencyScores(
        name, plain, ranked(references, refined_unit(references.unit, voters), voters, rows)
    )
