"""Labels from logits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from birdsearch.errors import InvalidInputError
from birdsearch.search.labels import softmax, top_labels


def test_the_likeliest_classes_come_first_with_their_probabilities() -> None:
    labels = top_labels(np.array([0.0, 2.0, 1.0], np.float32), ["crow", "wren", "rook"], 2)
    total = 1 + math.e**2 + math.e
    assert [label.name for label in labels] == ["wren", "rook"]
    assert [label.probability for label in labels] == pytest.approx([math.e**2 / total, math.e / total])
    assert labels[0].p_model == labels[0].probability
    assert labels[0].p_knn is None
    assert labels[0].rank == "species"


def test_equal_logits_are_ordered_by_class_index() -> None:
    labels = top_labels(np.array([1, 3, 3, 1, 3], np.float32), list("abcde"))
    assert [label.name for label in labels] == ["b", "c", "e", "a", "d"]
    # Many: an unstable sort keeps the order of few.
    many = np.tile(np.array([0, 1], np.float32), 200)
    assert [label.name for label in top_labels(many, [str(n) for n in range(400)])] == [
        "1",
        "3",
        "5",
        "7",
        "9",
    ]


def test_huge_logits_do_not_overflow() -> None:
    logits = np.array([3e38, -3e38, 0], np.float32)
    assert softmax(logits).tolist() == [1.0, 0.0, 0.0]
    # Both others have the probability 0; the greater logit still comes first.
    assert [label.name for label in top_labels(logits, "abc")] == ["a", "c", "b"]


def test_there_are_no_more_labels_than_classes_and_none_for_k_0() -> None:
    assert len(top_labels(np.zeros(2, np.float32), ["crow", "wren"])) == 2
    assert top_labels(np.zeros(2, np.float32), ["crow", "wren"], 0) == ()
    assert top_labels(np.zeros(0, np.float32), []) == ()


def test_rows_of_probabilities_sum_to_one() -> None:
    rows = softmax(np.random.default_rng(2).normal(size=(50, 371)).astype(np.float32) * 30)
    assert rows.sum(axis=1) == pytest.approx(np.ones(50))


@pytest.mark.parametrize(
    ("logits", "k", "message"),
    [
        (np.zeros(3, np.float32), 5, r"shape \(2,\), got \(3,\)"),
        (np.array([0, np.nan], np.float32), 5, "finite"),
        (np.zeros(2, np.float32), -1, "k must be at least 0"),
    ],
)
def test_logits_that_make_no_sense_are_refused(logits: np.ndarray, k: int, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        top_labels(logits, ["crow", "wren"], k)
