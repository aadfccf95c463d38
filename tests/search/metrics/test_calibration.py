"""Scores of confidences against slow and plain ways of counting."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from birdsearch.errors import InvalidInputError
from birdsearch.search.metrics.calibration import (
    coverage_risk,
    expected_calibration_error,
    reliability,
)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_is_what_going_through_the_bins_gives(rng: np.random.Generator, bins: int) -> None:
    confidence = np.concatenate([rng.random(300), np.arange(bins + 1) / bins, [0.0, 1.0]])
    right = rng.random(len(confidence)) < confidence**2
    error, found = 0.0, reliability(confidence, right, bins)
    for place in range(bins):
        low, high = place / bins, (place + 1) / bins
        inside = [
            (value, hit)
            for value, hit in zip(confidence.tolist(), right.tolist(), strict=True)
            if low < value <= high or value == low == 0
        ]
        mean = sum(value for value, _ in inside) / len(inside)
        accuracy = sum(hit for _, hit in inside) / len(inside)
        error += len(inside) / len(confidence) * abs(accuracy - mean)
        assert found.counts[place] == len(inside)
        assert (found.confidence[place], found.accuracy[place]) == pytest.approx((mean, accuracy))
    assert expected_calibration_error(confidence, right, bins) == pytest.approx(error)
    assert found.expected_calibration_error == pytest.approx(error)
    assert found.edges.tolist() == [place / bins for place in range(bins + 1)]


def test_an_empty_bin_has_no_mean_and_counts_nothing() -> None:
    found = reliability(np.array([0.95, 0.95, 0.95, 0.95]), np.array([True, True, True, False]), 10)
    assert found.counts.tolist() == [0] * 9 + [4]
    assert np.isnan(found.confidence[:9]).all()
    assert np.isnan(found.accuracy[:9]).all()
    assert found.expected_calibration_error == pytest.approx(0.2)
    assert math.isnan(expected_calibration_error(np.zeros(0), np.zeros(0, bool)))


def test_risk_is_its_mean_over_all_orders_of_equal_confidences(rng: np.random.Generator) -> None:
    confidence, right = np.array([0.9, 0.5, 0.5, 0.5, 0.2, 0.2]), np.array([1, 1, 0, 0, 1, 0]) > 0
    risks = [
        [sum(not right[place] for place in order[:given]) / given for given in range(1, 7)]
        for order in itertools.permutations(range(6))
        if all(confidence[a] >= confidence[b] for a, b in itertools.pairwise(order))
    ]
    curve = coverage_risk(confidence, right)
    assert len(risks) == math.factorial(3) * math.factorial(2)
    assert curve.risk == pytest.approx(np.mean(risks, axis=0))
    assert curve.coverage == pytest.approx(np.arange(1, 7) / 6)
    assert curve.aurc == pytest.approx(np.mean(risks))
    order = rng.permutation(6)
    assert np.array_equal(coverage_risk(confidence[order], right[order]).risk, curve.risk)


def test_risk_without_ties_is_the_share_of_errors_so_far(rng: np.random.Generator) -> None:
    confidence, right = rng.random(50), rng.random(50) < 0.6
    order = np.argsort(-confidence)
    expected = np.cumsum(~right[order]) / np.arange(1, 51)
    assert coverage_risk(confidence, right).risk == pytest.approx(expected)
    nothing = coverage_risk(np.zeros(0), np.zeros(0, bool))
    assert len(nothing.risk) == 0
    assert math.isnan(nothing.aurc)


def test_confidences_are_refused_where_they_are_none() -> None:
    half, yes = np.array([0.5]), np.array([True])
    for call in (
        lambda: reliability(np.array([1.5]), yes),
        lambda: reliability(np.array([-0.5]), yes),
        lambda: reliability(half, yes, 0),
        lambda: reliability(np.array([np.nan]), yes),
        # Labels in the place of flags.
        lambda: reliability(half, np.array([3])),
        lambda: reliability(half, np.array([True, False])),
        lambda: reliability(np.zeros((1, 1)), yes),
        lambda: coverage_risk(np.array([np.nan]), yes),
    ):
        with pytest.raises(InvalidInputError):
            call()
