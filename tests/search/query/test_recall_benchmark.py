"""Recall and speed of search, measured."""

from __future__ import annotations

import numpy as np
import pytest

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.vectors.index import VectorIndex, normalised
from birdsearch.search.query.recall_benchmark import EFFORTS, measure_search


def index_of(count: int) -> VectorIndex:
    rng = np.random.default_rng(4)
    centres = rng.normal(size=(30, 16))
    vectors = centres[rng.integers(0, 30, count)] + 0.5 * rng.normal(size=(count, 16))
    # Copies: a vector need not be the first of its own neighbours.
    vectors[1:count:5] = vectors[0 : count - 1 : 5]
    return VectorIndex.of(np.arange(1, count + 1), normalised(vectors.astype(np.float32)))


def test_an_index_without_lists_is_searched_exactly() -> None:
    (only,) = measure_search(index_of(300), 5, 40)
    assert (only.search, only.effort, only.recall) == ("exact", None, 1.0)
    assert only.alone_ms > 0
    assert only.per_second > 0


def test_with_lists_more_effort_finds_more_and_enough_finds_all() -> None:
    exact, *lists = measure_search(index_of(3000), 20, 60, make_lists=True)
    assert exact.recall == 1.0
    assert [found.effort for found in lists] == list(EFFORTS)
    recalls = [found.recall for found in lists]
    assert recalls == sorted(recalls)
    assert recalls[0] < recalls[3]
    assert recalls[3] >= 0.97


def test_more_neighbours_than_there_are_vectors_are_all_found() -> None:
    assert {found.recall for found in measure_search(index_of(40), 100, 100, make_lists=True)} == {1.0}


@pytest.mark.parametrize(("count", "k", "queries"), [(1, 5, 5), (10, 0, 5), (10, 5, 0)])
def test_what_cannot_be_measured_is_refused(count: int, k: int, queries: int) -> None:
    with pytest.raises(InvalidInputError, match=r"at least 1|too few"):
        measure_search(index_of(count), k, queries)
