"""Pairs joined and to be joined, against counting them one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from birdsearch.errors import InvalidInputError
from birdsearch.search.metrics.pairs import pair_scores


@pytest.mark.parametrize("seed", range(6))
def test_pairs_are_counted_as_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, found = rng.integers(0, 5, (2, 30)).tolist()
    pairs = list(itertools.combinations(range(30), 2))
    scores = pair_scores(truth, found)
    true = {(i, j) for i, j in pairs if truth[i] == truth[j]}
    joined = {(i, j) for i, j in pairs if found[i] == found[j]}
    assert (scores.right, scores.true, scores.found) == (len(true & joined), len(true), len(joined))
    assert scores.precision == len(true & joined) / len(joined)
    assert scores.recall == len(true & joined) / len(true)
    assert scores.f1 == pytest.approx(
        2 * scores.precision * scores.recall / (scores.precision + scores.recall)
    )


def test_nothing_to_join_and_nothing_joined_is_right() -> None:
    scores = pair_scores(["a", "b"], [1, 2])
    assert (scores.precision, scores.recall, scores.f1) == (1.0, 1.0, 1.0)
    assert pair_scores([], []).f1 == 1.0
    assert pair_scores(["a", "a"], [1, 2]).f1 == 0.0


def test_groups_of_other_things_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="2 true groups and 1 found"):
        pair_scores(["a", "b"], [1])
