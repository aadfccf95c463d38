"""Agreement of groups with the truth, counted by pairs.

scikit-learn's `pair_confusion_matrix` counts the same, but takes no tuples as groups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from birdsearch.errors import InvalidInputError

__all__ = ["PairScores", "pair_scores"]


@dataclass(frozen=True, slots=True)
class PairScores:
    """Pairs that are joined, against those that are to be.

    Attributes:
        right: Pairs that truth and answer join.
        true: Pairs that the truth joins.
        found: Pairs that the answer joins.
    """

    right: int
    true: int
    found: int

    @property
    def precision(self) -> float:
        """Share of the joined pairs that are right, 0..1; 1 where none are joined."""
        return self.right / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """Share of the true pairs that are joined, 0..1; 1 where there are none."""
        return self.right / self.true if self.true else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of the two, 0..1; 1 where nothing is to be joined and nothing is."""
        return 2 * self.right / (self.true + self.found) if self.true + self.found else 1.0


def pair_scores(truth: Sequence[Hashable], found: Sequence[Hashable]) -> PairScores:
    """Compare two ways to group the same things.

    Source: W. M. Rand, "Objective criteria for the evaluation of clustering methods", JASA 66, 1971, section 2.

    Args:
        truth: The true group of each.
        found: The group of each in the answer.

    Raises:
        InvalidInputError: They differ in length.
    """
    if len(truth) != len(found):
        raise InvalidInputError(f"{len(truth)} true groups and {len(found)} found ones; one each is needed")
    return PairScores(
        right=_pairs(Counter(zip(truth, found, strict=True))),
        true=_pairs(Counter(truth)),
        found=_pairs(Counter(found)),
    )


def _pairs(sizes: Counter[Hashable] | Counter[tuple[Hashable, Hashable]]) -> int:
    return sum(size * (size - 1) // 2 for size in sizes.values())
