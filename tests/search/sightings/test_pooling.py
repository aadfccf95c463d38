"""One label for several frames: n that depend wholly count as one, independent ones as Bayes' rule has it."""

from __future__ import annotations

import numpy as np
import pytest

from birdsearch.errors import InvalidInputError
from birdsearch.search.sightings.pooling import frame_weights, likeness, pool_labels, pool_scores

ONE = np.array([[0.6, 0.3, 0.1]])


def zeros(count: int) -> np.ndarray:
    return np.zeros(count, np.int64)


@pytest.mark.parametrize("count", [1, 2, 7, 500])
def test_frames_that_are_the_same_and_wholly_dependent_count_as_one(count: int) -> None:
    np.testing.assert_allclose(pool_labels(ONE.repeat(count, 0), zeros(count), 1.0), ONE[0], atol=1e-12)


def test_independent_frames_are_pooled_by_bayes_rule() -> None:
    p = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    prior = np.array([0.5, 0.3, 0.2])
    product = p[0] * p[1] / prior
    np.testing.assert_allclose(pool_labels(p, zeros(2), 0.0, prior), product / product.sum())
    np.testing.assert_allclose(pool_labels(p, np.array([3, 9]), 1.0, prior), product / product.sum())


def test_one_frame_is_left_as_it_is_whatever_the_prior() -> None:
    for prior in (None, np.array([0.9, 0.05, 0.05])):
        np.testing.assert_allclose(pool_labels(ONE, zeros(1), 0.3, prior), ONE[0])


def test_frames_in_part_dependent_count_as_kish_has_it() -> None:
    weights = frame_weights(np.array([4, 4, 4, 7]), np.array([0.5, 0.5, 0.5, 0.5]))
    np.testing.assert_allclose(weights, [0.5, 0.5, 0.5, 1.0])
    four = pool_labels(ONE.repeat(4, 0), zeros(4), 1 / 3)
    two = pool_labels(ONE.repeat(2, 0), zeros(2), 0.0)
    np.testing.assert_allclose(four, two)


def test_the_order_of_frames_and_the_names_of_groups_do_not_matter() -> None:
    rng = np.random.default_rng(3)
    p = rng.dirichlet(np.ones(5), 9)
    groups = rng.integers(0, 3, 9)
    order = rng.permutation(9)
    np.testing.assert_allclose(
        pool_labels(p[order], 100 - groups[order], 0.4), pool_labels(p, groups, 0.4), atol=1e-12
    )


def test_a_frame_that_rules_a_label_out_is_not_beyond_appeal() -> None:
    p = np.array([[0.0, 1.0]] + [[0.999, 0.001]] * 9)
    pooled = pool_labels(p, np.arange(10), 0.0)
    assert np.isfinite(pooled).all()
    assert pooled.argmax() == 0


def test_scores_are_pooled_as_two_labels_are() -> None:
    assert pool_scores(np.array([0.8, 0.8]), zeros(2), 1.0) == pytest.approx(0.8)
    odds = (0.8 / 0.2) ** 2 / (0.2 / 0.8)
    assert pool_scores(np.array([0.8, 0.8]), zeros(2), 0.0, prior=0.2) == pytest.approx(odds / (1 + odds))


def test_likeness_is_the_mean_cosine_of_two_frames_above_background() -> None:
    rng = np.random.default_rng(5)
    unit = rng.normal(size=(6, 4)).astype(np.float32) + 1
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    groups = np.array([0, 1, 0, 0, 1, 2])
    found = likeness(unit, groups, 0.1)
    for group in (0, 1):
        own = np.flatnonzero(groups == group)
        pairs = [float(unit[i] @ unit[j]) for i in own for j in own if i < j]
        np.testing.assert_allclose(found[own], np.clip((np.mean(pairs) - 0.1) / 0.9, 0, 1), atol=1e-6)
    assert found[5] == 1.0
    assert likeness(unit[:1].repeat(4, 0), zeros(4)) == pytest.approx(1.0)
    assert likeness(np.eye(3, dtype=np.float32), zeros(3)) == pytest.approx(0.0)
    without = np.zeros((2, 3), np.float32)
    assert likeness(without, zeros(2)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("probabilities", "groups", "rho", "prior"),
    [
        (np.zeros((0, 3)), zeros(0), 0.5, None),
        (np.zeros((2, 0)), zeros(2), 0.5, None),
        (ONE, zeros(2), 0.5, None),
        (ONE, zeros(1), 1.5, None),
        (ONE, zeros(1), float("nan"), None),
        (ONE, zeros(1), np.array([0.5, 0.5]), None),
        (ONE, zeros(1), 0.5, np.array([0.5, 0.5])),
        (ONE, zeros(1), 0.5, np.array([0.5, 0.5, 0.0])),
    ],
)
def test_what_does_not_fit_is_refused(
    probabilities: np.ndarray, groups: np.ndarray, rho: float, prior: np.ndarray | None
) -> None:
    with pytest.raises(InvalidInputError):
        pool_labels(probabilities, groups, rho, prior)
