"""k-NN against brute force."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.vectors.build import write_index
from birdsearch.indexer.vectors.index import VectorIndex, normalised
from birdsearch.indexer.vectors.snapshot import read_snapshot
from birdsearch.search.query.knn import nearest


def index_of(vectors: np.ndarray, ids: np.ndarray) -> VectorIndex:
    return VectorIndex.of(ids, vectors)


def in_lists(vectors: np.ndarray, ids: np.ndarray, folder: Path) -> VectorIndex:
    written = write_index(index_of(vectors, ids), folder / "lists", 0)
    dim = vectors.shape[1]
    return VectorIndex(dim, 1, 0, read_snapshot(folder / "lists", written, dim))


def brute_force(
    vectors: np.ndarray, ids: np.ndarray, query: np.ndarray, k: int, keep: np.ndarray
) -> tuple[list[int], list[float]]:
    similarities = np.clip(vectors.astype(np.float64) @ query.astype(np.float64), -1, 1).astype(np.float32)
    ranked = sorted((-float(similarities[place]), int(ids[place])) for place in np.flatnonzero(keep))[:k]
    return [view_id for _, view_id in ranked], [-score for score, _ in ranked]


def random_vectors(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    """Unit vectors with exact duplicates and with neighbours that float32 scores cannot tell apart."""
    vectors = rng.normal(size=(count, dim))
    for place in range(count):
        if place and rng.random() < 0.3:
            vectors[place] = vectors[rng.integers(place)]
            if rng.random() < 0.5:
                vectors[place] += rng.normal(size=dim) * 1e-7
    return normalised(vectors.astype(np.float32))


@pytest.fixture
def threads() -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    yield
    faiss.omp_set_num_threads(before)


@pytest.mark.parametrize("seed", range(12))
def test_neighbours_are_those_of_brute_force_under_any_filter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, dim = int(rng.integers(1, 400)), int(rng.choice([3, 16, 128]))
    vectors = random_vectors(rng, count, dim)
    ids = np.sort(rng.choice(np.arange(1, 5 * count + 1), count, replace=False)).astype(np.int64)
    ids = ids[rng.permutation(count)]
    index = index_of(vectors, ids)
    queries = normalised(np.concatenate([rng.normal(size=(5, dim)).astype(np.float32), vectors[:30]]))
    for kept in (None, 0, 1, 3, count // 2, count):
        allowed = None if kept is None else np.sort(rng.choice(ids, kept, replace=False))
        if allowed is not None:
            allowed = np.append(allowed, 10 * count + 7)  # No view of this id: ignored.
        exclude = rng.choice(ids, int(rng.integers(0, 3)), replace=True)
        keep = np.ones(count, bool) if allowed is None else np.isin(ids, allowed)
        keep &= ~np.isin(ids, exclude)
        for k in (0, 1, 5, count, count + 50):
            found = nearest(index, queries, k, allowed, exclude)
            width = min(k, int(keep.sum()))
            assert found.view_ids.shape == found.similarities.shape == (len(queries), width), f"seed {seed}"
            assert found.view_ids.dtype == np.int64
            assert found.similarities.dtype == np.float32
            for row, query in enumerate(queries):
                expected = brute_force(vectors, ids, query, k, keep)
                got = (found.view_ids[row].tolist(), found.similarities[row].tolist())
                assert got == expected, f"seed {seed}, kept {kept}, k {k}, row {row}"


def test_equal_views_beyond_the_kth_place_are_resolved_by_id() -> None:
    rng = np.random.default_rng(5)
    one = normalised(rng.normal(size=(1, 16)).astype(np.float32))
    others = normalised(rng.normal(size=(50, 16)).astype(np.float32))
    # More equal vectors than one search fetches, inserted with the highest id first.
    vectors = np.concatenate([np.repeat(one, 300, axis=0), others])
    ids = np.arange(350, 0, -1, dtype=np.int64)
    found = nearest(index_of(vectors, ids), one, 7)
    assert found.view_ids.tolist() == [[51, 52, 53, 54, 55, 56, 57]]
    assert len(set(found.similarities[0].tolist())) == 1


@pytest.mark.parametrize("seed", range(5))
def test_the_best_of_many_near_ties_is_found_where_float32_cannot_tell_them_apart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(1, 128))
    vectors = normalised((base + rng.normal(size=(800, 128)) * 3e-4).astype(np.float32))
    ids = np.arange(1, 801, dtype=np.int64)
    index = index_of(vectors, ids)
    # Nearly the common direction: the similarities lie closer together than float32 sums are exact.
    queries = normalised((base + rng.normal(size=(20, 128)) * 3e-4).astype(np.float32))
    found = nearest(index, queries, 3)
    for row, query in enumerate(queries):
        expected = brute_force(vectors, ids, query, 3, np.ones(800, bool))
        got = (found.view_ids[row].tolist(), found.similarities[row].tolist())
        assert got == expected, f"seed {seed}, row {row}"


def test_a_query_is_answered_alike_alone_in_a_batch_and_with_any_number_of_threads(threads: None) -> None:
    rng = np.random.default_rng(11)
    vectors = random_vectors(rng, 3000, 128)
    ids = np.arange(1, 3001, dtype=np.int64)
    index = index_of(vectors, ids)
    queries = vectors[rng.choice(3000, 40)]
    allowed = ids[::3]
    answers = []
    for count in (1, 2):
        faiss.omp_set_num_threads(count)
        answers.append(nearest(index, queries, 10))
        single = [nearest(index, queries[row : row + 1], 10) for row in range(40)]
        for row, alone in enumerate(single):
            assert alone.view_ids[0].tolist() == answers[0].view_ids[row].tolist()
            assert alone.similarities[0].tolist() == answers[0].similarities[row].tolist()
        batch, alone = nearest(index, queries, 10, allowed), nearest(index, queries[:1], 10, allowed)
        assert batch.view_ids[0].tolist() == alone.view_ids[0].tolist()
    assert np.array_equal(answers[0].view_ids, answers[1].view_ids)
    assert np.array_equal(answers[0].similarities, answers[1].similarities)


def test_a_similarity_is_never_above_one() -> None:
    rng = np.random.default_rng(3)
    vectors = normalised(rng.normal(size=(500, 128)).astype(np.float32))
    found = nearest(index_of(vectors, np.arange(1, 501, dtype=np.int64)), vectors, 1)
    assert found.view_ids[:, 0].tolist() == list(range(1, 501))
    assert found.similarities.max() <= 1.0
    assert found.similarities.min() > 0.999999


def test_an_empty_index_and_no_queries_give_empty_answers() -> None:
    empty = index_of(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    assert nearest(empty, np.ones((2, 4), np.float32), 5).view_ids.shape == (2, 0)
    one = index_of(np.eye(4, dtype=np.float32), np.arange(1, 5, dtype=np.int64))
    assert nearest(one, np.zeros((0, 4), np.float32), 5).view_ids.shape == (0, 4)


def test_views_that_were_removed_are_not_found() -> None:
    index = index_of(np.eye(4, dtype=np.float32), np.arange(1, 5, dtype=np.int64))
    index.remove(np.array([2, 9], np.int64))
    found = nearest(index, np.eye(4, dtype=np.float32)[1:2], 9, np.array([1, 2, 3], np.int64))
    assert found.view_ids.tolist() == [[1, 3]]


def test_a_catalog_of_rows_is_searched(make_catalog: Callable[..., Any]) -> None:
    catalog = make_catalog(4)
    vectors = np.eye(4, dtype=np.float32)
    views = [catalog.photo([vector * 3])[1][0] for vector in vectors]
    found = nearest(catalog.index(), vectors[2:3], 1)
    assert found.view_ids.tolist() == [[views[2]]]
    assert found.similarities.tolist() == [[1.0]]


@pytest.mark.parametrize(
    ("queries", "k", "message"),
    [
        (np.ones((1, 3), np.float32), 1, r"\(Q, 4\), got \(1, 3\)"),
        (np.ones(4, np.float32), 1, r"\(Q, 4\), got \(4,\)"),
        (np.ones((1, 4), np.float32), -1, "k must be at least 0, got -1"),
        (np.full((1, 4), np.nan, np.float32), 1, "finite"),
    ],
)
def test_queries_that_make_no_sense_are_refused(queries: np.ndarray, k: int, message: str) -> None:
    index = index_of(np.eye(4, dtype=np.float32), np.arange(1, 5, dtype=np.int64))
    with pytest.raises(InvalidInputError, match=message):
        nearest(index, queries, k)


@pytest.mark.parametrize("effort", [0.0, -1.0, float("nan")])
def test_an_effort_that_makes_no_sense_is_refused(effort: float) -> None:
    index = index_of(np.eye(4, dtype=np.float32), np.arange(1, 5, dtype=np.int64))
    with pytest.raises(InvalidInputError, match="effort must be above 0"):
        nearest(index, np.eye(4, dtype=np.float32), 1, effort=effort)


# -- many vectors, in lists --------------------------------------------------------------------------------


def species_vectors(rng: np.random.Generator, count: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors about the directions of 40 species, some of them copies; and the species."""
    species = rng.integers(0, 40, count)
    centres = np.random.default_rng(1).normal(size=(40, dim))
    vectors = centres[species] + 0.5 * rng.normal(size=(count, dim))
    copies = rng.choice(count - 1, count // 20, replace=False)
    vectors[copies + 1], species[copies + 1] = vectors[copies], species[copies]
    return normalised(vectors.astype(np.float32)), species


class Listed:
    """An index in lists with the truth beside it; some views were added and removed since it was written."""

    def __init__(self, folder: Path, seed: int, count: int = 4000, dim: int = 16) -> None:
        self.rng = np.random.default_rng(seed)
        self.vectors, self.species = species_vectors(self.rng, count, dim)
        self.ids = self.rng.permutation(3 * count)[:count].astype(np.int64) + 1
        written = count - count // 50
        self.index = in_lists(self.vectors[:written], self.ids[:written], folder)
        self.index.add(self.ids[written:], self.vectors[written:])
        self.is_there = self.rng.random(count) > 0.02
        self.index.remove(self.ids[~self.is_there])
        self.queries, self.asked = species_vectors(self.rng, 200, dim)

    def expected(self, query: np.ndarray, k: int, keep: np.ndarray) -> tuple[list[int], list[float]]:
        return brute_force(self.vectors, self.ids, query, k, keep & self.is_there)

    def recall(self, keep: np.ndarray, k: int = 20) -> float:
        """Share of the true neighbours found, of ids that say exactly how similar they are."""
        allowed = None if keep.all() else self.ids[keep]
        found = nearest(self.index, self.queries, k, allowed)
        shares = []
        for row, query in enumerate(self.queries):
            ids, similarities = self.expected(query, len(self.ids), keep)
            known = dict(zip(ids, similarities, strict=True))
            got = list(zip((-found.similarities[row]).tolist(), found.view_ids[row].tolist(), strict=True))
            assert got == sorted(got)
            assert len({view_id for _, view_id in got}) == k
            assert all(known[view_id] == -negative for negative, view_id in got)
            shares.append(np.isin(ids[:k], found.view_ids[row]).mean())
        return float(np.mean(shares))


@pytest.mark.parametrize("seed", range(3))
def test_looking_into_all_lists_finds_what_brute_force_finds_under_any_filter(
    tmp_path: Path, seed: int
) -> None:
    made = Listed(tmp_path, seed, count=1200)
    everything = np.ones(1200, bool)
    for share in (1.0, 0.6, 0.3, 0.02, 0.0):
        keep = everything if share == 1.0 else made.rng.random(1200) < share
        allowed = None if share == 1.0 else np.append(made.ids[keep], 10**9)
        exclude = made.rng.choice(made.ids, 5)
        for excluded in (None, exclude):
            left = keep if excluded is None else keep & ~np.isin(made.ids, exclude)
            for options in ({"exact": True}, {"effort": 1e9}):
                for k in (1, 20, 1300):
                    found = nearest(made.index, made.queries[:10], k, allowed, excluded, **options)
                    for row, query in enumerate(made.queries[:10]):
                        got = (found.view_ids[row].tolist(), found.similarities[row].tolist())
                        assert got == made.expected(query, k, left), f"seed {seed}, {share}, {options}, k {k}"


@pytest.mark.parametrize("seed", range(3))
def test_lists_find_nearly_all_true_neighbours_with_exact_similarities_whatever_is_allowed(
    tmp_path: Path, seed: int
) -> None:
    made = Listed(tmp_path, seed)
    assert made.index.nprobe is not None
    assert made.index.nprobe.recall >= 0.98, f"seed {seed}"
    assert made.recall(np.ones(4000, bool)) >= 0.97, f"seed {seed}"
    for share in (0.01, 0.1, 0.5, 0.9):
        assert made.recall(made.rng.random(4000) < share) >= 0.97, f"seed {seed}, {share}"
    # A filter that leaves out what is like the query.
    for kept in (2, 20, 36):
        assert made.recall(np.isin(made.species, np.arange(kept))) >= 0.97, f"seed {seed}, {kept} species"


def test_lists_look_at_few_vectors_and_the_stated_recall_is_that_of_others(tmp_path: Path) -> None:
    made = Listed(tmp_path, 5)
    nprobe = made.index.nprobe
    assert nprobe is not None
    assert 1 < nprobe.lists[0] < nprobe.count // 2
    assert list(nprobe.lists) == sorted(nprobe.lists)
    less = nearest(made.index, made.queries, 20, effort=0.02)
    truth = nearest(made.index, made.queries, 20, exact=True)
    # However little is looked at, there are as many neighbours as were asked for.
    for allowed in (None, made.ids[made.rng.random(4000) < 0.5]):
        least = nearest(made.index, made.queries, 300, allowed, effort=1e-9).view_ids
        assert least.shape == (200, 300)
        assert np.isin(least, made.ids[made.is_there] if allowed is None else allowed).all()
    lost = np.mean([np.isin(truth.view_ids[row], less.view_ids[row]).mean() for row in range(200)])
    assert lost < 0.9 < made.recall(np.ones(4000, bool))


def test_lists_answer_alike_alone_in_a_batch_and_with_any_number_of_threads(
    tmp_path: Path, threads: None
) -> None:
    made = Listed(tmp_path, 7)
    half = made.ids[made.rng.random(4000) < 0.5]
    for allowed, exclude in ((None, None), (half, None), (None, half[:40]), (half[:30], half[:3])):
        answers = []
        for count in (1, 2):
            faiss.omp_set_num_threads(count)
            answers.append(nearest(made.index, made.queries, 10, allowed, exclude, effort=0.3))
        for row in range(len(made.queries)):
            alone = nearest(made.index, made.queries[row : row + 1], 10, allowed, exclude, effort=0.3)
            for answer in answers:
                assert alone.view_ids[0].tolist() == answer.view_ids[row].tolist()
                assert alone.similarities[0].tolist() == answer.similarities[row].tolist()


def test_more_copies_than_are_fetched_are_told_apart_by_id_in_lists_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    vectors, _ = species_vectors(rng, 1000, 16)
    vectors[:300] = vectors[0]
    ids = rng.permutation(1000).astype(np.int64) + 1
    index = in_lists(vectors, ids, tmp_path)
    for allowed in (None, ids[100:], ids[200:330]):
        keep = np.ones(1000, bool) if allowed is None else np.isin(ids, allowed)
        found = nearest(index, vectors[:1], 7, allowed)
        assert found.view_ids[0].tolist() == brute_force(vectors, ids, vectors[0], 7, keep)[0]
