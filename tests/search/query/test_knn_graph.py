"""The k-NN graph against brute force."""

from __future__ import annotations

from collections.abc import Iterator

import faiss
import numpy as np
import pytest

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.vectors.index import normalised
from birdsearch.search.query.knn_graph import knn_graph, near_pairs


def brute_force(unit: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    wide = unit.astype(np.float64)
    exact = np.clip((wide[:, None, :] * wide[None, :, :]).sum(axis=2), -1, 1).astype(np.float32)
    neighbours, cosines = np.full((len(unit), k), -1), np.full((len(unit), k), -1.0, np.float32)
    for row in range(len(unit)):
        ranked = sorted((-float(exact[row, other]), other) for other in range(len(unit)) if other != row)[:k]
        neighbours[row, : len(ranked)] = [other for _, other in ranked]
        cosines[row, : len(ranked)] = [-score for score, _ in ranked]
    return neighbours, cosines


def random_vectors(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    """Unit vectors with exact copies and with neighbours that float32 sums cannot tell apart."""
    vectors = rng.normal(size=(count, dim))
    for place in range(1, count):
        if rng.random() < 0.5:
            vectors[place] = vectors[rng.integers(place)]
            if rng.random() < 0.3:
                vectors[place] += rng.normal(size=dim) * 1e-7
    return normalised(vectors.astype(np.float32))


def clustered_vectors(rng: np.random.Generator, count: int, dim: int = 32) -> np.ndarray:
    centres = rng.normal(size=(20, dim))
    return normalised(
        (centres[rng.integers(20, size=count)] + rng.normal(size=(count, dim))).astype(np.float32)
    )


@pytest.fixture
def threads() -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    yield
    faiss.omp_set_num_threads(before)


@pytest.mark.parametrize("seed", range(40))
def test_the_exact_graph_is_that_of_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    unit = random_vectors(rng, int(rng.integers(2, 90)), int(rng.choice([2, 8, 128])))
    k = int(rng.integers(1, 30))
    graph = knn_graph(unit, k)
    neighbours, cosines = brute_force(unit, k)
    assert np.array_equal(graph.neighbours, neighbours), f"seed {seed}"
    assert np.array_equal(graph.cosines, cosines), f"seed {seed}"
    assert graph.recall == 1.0
    assert graph.neighbours.dtype == np.dtype(np.int64)
    assert graph.cosines.dtype == np.dtype(np.float32)


def test_many_near_ties_at_the_last_place_are_settled_exactly() -> None:
    rng = np.random.default_rng(3)
    unit = normalised((rng.normal(size=(1, 128)) + rng.normal(size=(300, 128)) * 3e-4).astype(np.float32))
    graph = knn_graph(unit, 4)
    neighbours, cosines = brute_force(unit, 4)
    assert np.array_equal(graph.neighbours, neighbours)
    assert np.array_equal(graph.cosines, cosines)


def test_copies_of_one_picture_are_each_others_neighbours_but_never_their_own() -> None:
    unit = normalised(np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32))
    unit[10:50] = unit[10]
    graph = knn_graph(unit, 6)
    assert not (graph.neighbours == np.arange(60)[:, None]).any()
    assert graph.neighbours[10].tolist() == [11, 12, 13, 14, 15, 16]
    assert graph.neighbours[13].tolist() == [10, 11, 12, 14, 15, 16]
    assert graph.neighbours[49].tolist() == [10, 11, 12, 13, 14, 15]


@pytest.mark.parametrize(("count", "dim"), [(0, 8), (1, 8), (3, 8), (5, 0)])
def test_few_vectors_have_few_neighbours(count: int, dim: int) -> None:
    unit = normalised(np.random.default_rng(0).normal(size=(count, dim)).astype(np.float32))
    graph = knn_graph(unit, 5)
    assert graph.neighbours.shape == graph.cosines.shape == (count, 5)
    there = min(count - 1, 5) if count > 1 and dim else 0
    assert (graph.neighbours >= 0).sum(axis=1).tolist() == [there] * count
    assert (graph.cosines[graph.neighbours < 0] == -1).all()


def test_an_inverted_file_finds_most_neighbours_and_says_how_many() -> None:
    rng = np.random.default_rng(1)
    unit = clustered_vectors(rng, 3000)
    truth = knn_graph(unit, 10, exact=True)
    graph = knn_graph(unit, 10, exact=False)
    shared = [
        len(np.intersect1d(one, other)) / 10
        for one, other in zip(truth.neighbours, graph.neighbours, strict=True)
    ]
    assert 0.95 <= graph.recall <= 1.0
    assert abs(np.mean(shared) - graph.recall) < 0.02
    same = truth.neighbours == graph.neighbours
    assert np.array_equal(truth.cosines[same], graph.cosines[same])
    assert (np.diff(graph.cosines, axis=1) <= 0).all()


@pytest.mark.parametrize("exact", [True, False])
def test_the_graph_does_not_depend_on_the_number_of_threads(exact: bool, threads: None) -> None:
    unit = clustered_vectors(np.random.default_rng(2), 2500)
    found = []
    for count in (1, 2, 2):
        faiss.omp_set_num_threads(count)
        found.append(knn_graph(unit, 8, exact=exact))
        assert faiss.omp_get_max_threads() == count
    for other in found[1:]:
        assert np.array_equal(found[0].neighbours, other.neighbours)
        assert np.array_equal(found[0].cosines, other.cosines)


def test_an_inverted_file_of_few_vectors_and_of_copies_still_answers() -> None:
    unit = normalised(np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32))
    unit[3:] = unit[3]
    graph = knn_graph(unit, 10, exact=False)
    assert (graph.neighbours >= 0).sum(axis=1).tolist() == [6] * 7
    assert graph.neighbours[5, :3].tolist() == [3, 4, 6]


def test_near_pairs_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(4)
    unit = random_vectors(rng, 80, 16)
    left, right, cosines = near_pairs(knn_graph(unit, 79), 0.5)
    wide = unit.astype(np.float64)
    exact = np.clip((wide[:, None, :] * wide[None, :, :]).sum(axis=2), -1, 1).astype(np.float32)
    expected = [(i, j) for i in range(80) for j in range(i + 1, 80) if exact[i, j] >= 0.5]
    assert list(zip(left.tolist(), right.tolist(), strict=True)) == expected
    assert np.array_equal(cosines, exact[left, right])


def test_a_graph_without_neighbours_has_no_pairs() -> None:
    left, right, cosines = near_pairs(knn_graph(np.ones((1, 1), np.float32), 3), -1.0)
    assert len(left) == len(right) == len(cosines) == 0


def test_progress_ends_at_the_number_of_vectors() -> None:
    told: list[tuple[str, int, int]] = []
    knn_graph(clustered_vectors(np.random.default_rng(0), 2100), 3, progress=lambda *each: told.append(each))
    assert told == [("neighbours", 2048, 2100), ("neighbours", 2100, 2100)]


@pytest.mark.parametrize(
    ("unit", "k", "text"),
    [
        (np.zeros(3, np.float32), 2, r"vectors are \(3,\)"),
        (np.ones((3, 2), np.float32), 0, "k is 0"),
        (np.full((3, 2), np.nan, np.float32), 1, "finite"),
    ],
)
def test_what_cannot_be_searched_is_refused(unit: np.ndarray, k: int, text: str) -> None:
    with pytest.raises(InvalidInputError, match=text):
        knn_graph(unit, k)
