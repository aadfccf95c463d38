"""Retrieval and label scores against a slow and plain way of counting."""

from __future__ import annotations

import math

import numpy as np
import pytest

from birdsearch.errors import InvalidInputError
from birdsearch.search.evaluation.scores import recall_at_k, top1

SEED = 11


def _plainly(
    vectors: np.ndarray, labels: list[str], groups: list[str], k: int, asked: list[bool]
) -> tuple[int, int]:
    found = total = 0
    for query in range(len(vectors)):
        others = [other for other in range(len(vectors)) if groups[other] != groups[query]]
        if not asked[query] or not any(labels[other] == labels[query] for other in others):
            continue
        total += 1
        ranked = sorted(others, key=lambda other: (-float(vectors[query] @ vectors[other]), other))
        found += any(labels[other] == labels[query] for other in ranked[:k])
    return found, total


@pytest.mark.parametrize("k", [1, 3, 50])
def test_recall_is_what_plain_counting_gives(k: int) -> None:
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    vectors = rng.normal(size=(60, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = [str(value) for value in rng.integers(0, 12, 60)]
    groups = [str(value) for value in rng.integers(0, 20, 60)]
    asked = rng.random(60) < 0.7
    recall = recall_at_k(vectors, labels, groups, k, asked)
    found, total = _plainly(vectors, labels, groups, k, asked.tolist())
    assert (recall.k, recall.queries) == (k, total)
    assert recall.value == pytest.approx(found / total)


def test_a_photo_never_finds_its_own_group() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
    labels = ["owl", "owl", "owl", "hawk"]
    together = recall_at_k(vectors, labels, ["a", "a", "b", "c"])
    # The twin in the same event does not count, and the hawk is nearer than the other owl.
    assert (together.value, together.queries) == (0.0, 3)
    apart = recall_at_k(vectors, labels, ["a", "d", "b", "c"])
    assert apart.value == pytest.approx(2 / 3)
    assert apart.queries == 3


def test_with_nothing_to_find_there_is_no_recall() -> None:
    recall = recall_at_k(np.eye(3, dtype=np.float32), ["a", "b", "c"], ["x", "y", "z"])
    assert math.isnan(recall.value)
    assert recall.queries == 0
    assert recall_at_k(np.zeros((0, 4), np.float32), [], []).queries == 0


def test_top1_counts_the_photos_whose_label_is_a_class() -> None:
    logits = np.array([[3, 1], [1, 3], [3, 1], [0, 9]], dtype=np.float32)
    accuracy, photos = top1(logits, ["owl", "hawk"], ["owl", "owl", "owl", "swan"])
    assert accuracy == pytest.approx(2 / 3)
    assert photos == 3
    assert math.isnan(top1(logits, ["owl", "hawk"], ["swan"] * 4)[0])


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="as many labels"):
        recall_at_k(np.eye(3, dtype=np.float32), ["a"], ["x", "y", "z"])
    with pytest.raises(InvalidInputError, match="at least 1"):
        recall_at_k(np.eye(1, dtype=np.float32), ["a"], ["x"], 0)
    with pytest.raises(InvalidInputError, match="logits must be"):
        top1(np.zeros((2, 3), np.float32), ["a"], ["a", "b"])
