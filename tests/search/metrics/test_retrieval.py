"""Retrieval scores against slow and plain ways of counting, and against scikit-learn."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from birdsearch.errors import InvalidInputError
from birdsearch.search.evaluation.scores import recall_at_k
from birdsearch.search.metrics import retrieval
from birdsearch.search.metrics.retrieval import as_codes, knn_scores, retrieval_scores


def unit(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    vectors = rng.normal(size=(rows, columns)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def ranking(query: np.ndarray, group: int, references: np.ndarray, groups: np.ndarray) -> list[int]:
    """References outside a group, nearest first, in plain Python."""
    exact = [
        math.fsum(float(a) * float(b) for a, b in zip(query, reference, strict=True))
        for reference in references
    ]
    others = [place for place in range(len(references)) if groups[place] != group]
    return sorted(others, key=lambda place: (-exact[place], place))


def plain_retrieval(
    queries: np.ndarray, query_labels: np.ndarray, query_groups: np.ndarray,
    references: np.ndarray, labels: np.ndarray, groups: np.ndarray, ks: tuple[int, ...],
) -> tuple[list[int], list[list[bool]], list[float], list[int]]:  # fmt: skip
    asked, recall, precision, counts = [], [], [], []
    for place, query in enumerate(queries):
        ranked = ranking(query, query_groups[place], references, groups)
        is_relevant = [labels[other] == query_labels[place] for other in ranked]
        total = sum(is_relevant)
        if not total:
            continue
        asked.append(place)
        counts.append(total)
        recall.append([any(is_relevant[:k]) for k in ks])
        summed = 0.0
        for rank in range(1, total + 1):
            if is_relevant[rank - 1]:
                summed += sum(is_relevant[:rank]) / rank
        precision.append(summed / total)
    return asked, recall, precision, counts


def archive(rng: np.random.Generator, *, has_ties: bool) -> tuple[Any, Any, Any, Any, Any, Any]:
    """Queries and references with labels and groups; with ties, of few distinct similarities."""
    if has_ties:
        references = rng.integers(-1, 2, (90, 4)).astype(np.float32)
        queries = rng.integers(-1, 2, (40, 4)).astype(np.float32)
    else:
        references, queries = unit(rng, 90, 5), unit(rng, 40, 5)
    return (
        queries, rng.integers(0, 9, 40), rng.integers(0, 20, 40),
        references, rng.integers(0, 8, 90), rng.integers(0, 20, 90),
    )  # fmt: skip


@pytest.mark.parametrize("has_ties", [False, True])
def test_retrieval_is_what_plain_ranking_gives(rng: np.random.Generator, has_ties: bool) -> None:
    task = archive(rng, has_ties=has_ties)
    ks = (1, 3, 10, 200)
    scores = retrieval_scores(*task, ks=ks)
    asked, recall, precision, counts = plain_retrieval(*task, ks=ks)
    assert 0 < len(asked) < 40
    assert scores.query.tolist() == asked
    assert scores.recall.tolist() == recall
    assert scores.average_precision == pytest.approx(np.array(precision))
    assert scores.relevant.tolist() == counts
    assert scores.recall_at_k(3) == pytest.approx(np.mean(recall, axis=0)[1])
    assert scores.mean_average_precision_at_r == pytest.approx(np.mean(precision))
    assert scores.found(200).all()


def test_average_precision_at_r_by_hand() -> None:
    # Nearest first: owl, hawk, owl, hawk, owl; R = 3, of which two are among the first three.
    references = np.array([[1 - step / 10, 0] for step in range(5)], dtype=np.float32)
    labels = ["owl", "hawk", "owl", "hawk", "owl"]
    query = np.array([[1, 0]], dtype=np.float32)
    scores = retrieval_scores(query, ["owl"], ["q"], references, labels, list("abcde"))
    assert scores.average_precision.tolist() == pytest.approx([(1 / 1 + 2 / 3) / 3])
    assert scores.relevant.tolist() == [3]
    # Its own group is as if it were not there: hawk, owl, hawk, owl remain, and R = 2.
    scores = retrieval_scores(query, ["owl"], ["a"], references, labels, list("abcde"))
    assert scores.average_precision.tolist() == pytest.approx([(1 / 2) / 2])
    assert scores.recall[0].tolist() == [False, True, True]


def test_recall_within_one_set_is_that_of_evaluate(rng: np.random.Generator) -> None:
    vectors = unit(rng, 120, 8)
    labels = [f"species {value}" for value in rng.integers(0, 15, 120)]
    groups = [f"event {value}" for value in rng.integers(0, 30, 120)]
    scores = retrieval_scores(vectors, labels, groups, vectors, labels, groups, ks=(1, 5))
    for k in (1, 5):
        expected = recall_at_k(vectors, labels, groups, k)
        assert scores.recall_at_k(k) == pytest.approx(expected.value)
        assert len(scores.query) == expected.queries


def test_equal_vectors_tie_exactly_however_rows_are_blocked(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    distinct = unit(rng, 37, 61)
    references = distinct[rng.integers(0, 37, 203)]
    queries = unit(rng, 31, 61)
    labels, groups = rng.integers(0, 12, 203), np.arange(203)
    task = (queries, rng.integers(0, 12, 31), np.full(31, -1), references, labels, groups)
    whole, whole_votes = retrieval_scores(*task), knn_scores(*task)
    asked, recall, precision, _ = plain_retrieval(*task, ks=(1, 5, 10))
    assert whole.query.tolist() == asked
    assert whole.recall.tolist() == recall
    assert whole.average_precision == pytest.approx(np.array(precision))
    for cells in (1, 203, 7 * 203):
        monkeypatch.setattr(retrieval, "_CELLS", cells)
        parts, votes = retrieval_scores(*task), knn_scores(*task)
        assert np.array_equal(parts.recall, whole.recall)
        assert np.array_equal(parts.average_precision, whole.average_precision)
        assert np.array_equal(votes.right, whole_votes.right)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e15])
def test_similarities_are_exact_at_any_length_of_the_vectors(scale: float) -> None:
    # The sums differ by one part in 2^24 and would be lost in float32.
    near, far = np.array([1, 2**-24]), np.array([1, 0])
    references = (np.stack([far, near]) * scale).astype(np.float32)
    query = np.array([[1, 1]], dtype=np.float32)
    scores = retrieval_scores(query, ["a"], ["q"], references, ["b", "a"], ["x", "y"], ks=(1,))
    assert scores.recall_at_k(1) == 1.0


@pytest.mark.parametrize("has_ties", [False, True])
def test_votes_are_what_plain_counting_gives(rng: np.random.Generator, has_ties: bool) -> None:
    task = archive(rng, has_ties=has_ties)
    queries, query_labels, query_groups, references, labels, groups = task
    ks = (1, 10, 500)
    scores = knn_scores(*task, temperature=0.5, ks=ks)
    assert scores.query.tolist() == plain_retrieval(*task, ks=(1,))[0]
    for row, place in enumerate(scores.query):
        ranked = ranking(queries[place], query_groups[place], references, groups)
        for column, k in enumerate(ks):
            votes: defaultdict[int, float] = defaultdict(float)
            for other in ranked[:k]:
                similarity = float(queries[place].astype(float) @ references[other].astype(float))
                votes[int(labels[other])] += math.exp(similarity / 0.5)
            best = max(votes.values())
            winner = min(label for label, vote in votes.items() if vote >= best * (1 - 1e-12))
            assert scores.right[row, column] == (winner == query_labels[place])
    assert scores.accuracy(10) == pytest.approx(scores.right[:, 1].mean())
    assert scores.named(10).tolist() == scores.right[:, 1].tolist()


def test_votes_agree_with_scikit_learn(rng: np.random.Generator) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    centres = unit(rng, 10, 16)
    labels, query_labels = rng.integers(0, 10, 300), rng.integers(0, 10, 100)
    references = unit(rng, 300, 16) + 0.5 * centres[labels]
    queries = unit(rng, 100, 16) + 0.5 * centres[query_labels]
    references = (references / np.linalg.norm(references, axis=1, keepdims=True)).astype(np.float32)
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    scores = knn_scores(queries, query_labels, np.full(100, -1), references, labels, np.arange(300))
    for k in (10, 20, 100):
        classifier = KNeighborsClassifier(
            k, metric="cosine", algorithm="brute", weights=lambda distances: np.exp((1 - distances) / 0.07)
        )
        expected = classifier.fit(references, labels).score(queries, query_labels)
        assert 0.3 < expected < 1
        assert scores.accuracy(k) == pytest.approx(expected)


def test_with_nothing_to_find_there_are_no_queries() -> None:
    vectors = np.eye(3, dtype=np.float32)
    none = retrieval_scores(
        vectors, ["a", "b", "c"], ["x", "y", "z"], vectors, ["a", "b", "c"], ["x", "y", "z"]
    )
    assert len(none.query) == 0
    assert math.isnan(none.recall_at_k(1))
    assert math.isnan(none.mean_average_precision_at_r)
    empty = np.zeros((0, 3), np.float32)
    tasks: list[Any] = [
        (empty, [], [], vectors, ["a"] * 3, ["x"] * 3),
        (vectors, ["a"] * 3, ["x"] * 3, empty, [], []),
    ]
    for task in tasks:
        assert retrieval_scores(*task).recall.shape == (0, 3)
        assert knn_scores(*task).right.shape == (0, 3)
    assert math.isnan(knn_scores(empty, [], [], empty, [], []).accuracy(20))
    # Vectors of zeros are all alike.
    zeros = np.zeros((3, 2), np.float32)
    scores = retrieval_scores(zeros, ["a"] * 3, [1, 2, 3], zeros, ["b", "a", "a"], [1, 2, 3])
    assert scores.found(1).tolist() == [True, False, False]


def test_retrieval_refuses_what_does_not_fit() -> None:
    # What does not fit is refused at run time too.
    search: Any = retrieval_scores
    vote: Any = knn_scores
    one: Any = np.ones((1, 2), np.float32)
    names: Any = (["a"], ["x"])
    other: Any = (one, ["a"], ["y"])
    calls: list[Any] = [
        lambda: search(one, *names, np.ones((1, 3), np.float32), *names),
        lambda: search(one, ["a", "b"], ["x"], *other),
        lambda: search(one, ["a"], [], *other),
        lambda: search(one, *names, one, ["a"], ["x", "y"]),
        lambda: search(one * np.inf, *names, *other),
        lambda: search(one, *names, *other, ks=(0,)),
        lambda: search(one, *names, *other, ks=()),
        lambda: search(one, *names, one, [1], ["y"]),
        lambda: search(one, *names, *other).found(7),
        lambda: vote(one, *names, *other, temperature=0.0),
        lambda: vote(one, *names, *other).accuracy(7),
    ]
    for call in calls:
        with pytest.raises(InvalidInputError):
            call()


def test_codes_are_the_same_for_the_same_name_in_every_column() -> None:
    first, second = as_codes(["owl", "hawk", "owl"], np.array(["swan", "hawk"]))
    assert (first.tolist(), second.tolist()) == ([1, 0, 1], [2, 0])
    assert as_codes(np.array([30, -1, 4]))[0].tolist() == [2, 0, 1]
    for mixed in (["owl", 1], [None], [0.5], [(1,)]):
        with pytest.raises(InvalidInputError, match="all texts or all integers"):
            as_codes(mixed)  # type: ignore[arg-type]
