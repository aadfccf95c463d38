"""ROC scores against going through all pairs and thresholds, and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest

from birdsearch.errors import InvalidInputError
from birdsearch.search.metrics.roc import auroc, fpr_at_tpr, roc_curve


def test_auroc_is_the_share_of_pairs_in_order(rng: np.random.Generator) -> None:
    from sklearn.metrics import roc_auc_score

    for levels in (2, 5, 1000):
        scores = rng.integers(0, levels, 120).astype(float)
        positive = rng.random(120) < 0.3
        pairs = [
            1.0 if high > low else 0.5 if high == low else 0.0
            for high in scores[positive]
            for low in scores[~positive]
        ]
        assert auroc(scores, positive) == pytest.approx(sum(pairs) / len(pairs))
        assert auroc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))
        assert auroc(-scores, positive) == pytest.approx(1 - auroc(scores, positive))
    assert auroc(np.array([-np.inf, 0, np.inf]), np.array([False, False, True])) == 1.0
    for flags in ([True, True], [False, False]):
        assert math.isnan(auroc(np.array([1.0, 2.0]), np.array(flags)))
        assert math.isnan(fpr_at_tpr(np.array([1.0, 2.0]), np.array(flags)))


@pytest.mark.parametrize("tpr", [0.05, 0.35, 0.6, 0.95, 1.0])
def test_fpr_at_tpr_is_what_trying_every_threshold_gives(rng: np.random.Generator, tpr: float) -> None:
    for levels, count in ((4, 60), (1000, 60), (1000, 41)):
        scores = rng.integers(0, levels, count).astype(float)
        positive = np.arange(count) % 3 != 0
        passing = [
            (scores[~positive] >= threshold).mean()
            for threshold in np.unique(scores)
            if (scores[positive] >= threshold).mean() >= tpr
        ]
        assert fpr_at_tpr(scores, positive, tpr) == pytest.approx(min(passing))


def test_a_share_of_positives_that_is_whole_is_not_rounded_up() -> None:
    # 0.07 * 100 is 7.000000000000001 in float64: seven positives are enough.
    scores = np.concatenate([np.arange(100.0), [92.5]])
    positive = np.arange(101) < 100
    assert 0.07 * 100 > 7
    assert fpr_at_tpr(scores, positive, 0.07) == 0.0
    assert fpr_at_tpr(scores, positive, 0.08) == 1.0


def test_the_roc_curve_is_what_trying_every_threshold_gives(rng: np.random.Generator) -> None:
    scores, positive = rng.integers(0, 20, 80).astype(float), rng.random(80) < 0.4
    scores[:3] = np.inf, -np.inf, np.inf
    found = roc_curve(scores, positive)
    assert found.thresholds.tolist() == [np.inf, *sorted(set(scores.tolist()), reverse=True)]
    for rate, kind in ((found.false_positive_rate, ~positive), (found.true_positive_rate, positive)):
        passing = [(scores[kind] >= threshold).mean() for threshold in found.thresholds[1:]]
        assert rate == pytest.approx(np.array([0.0, *passing]))
    area = np.trapezoid(found.true_positive_rate, found.false_positive_rate)
    assert auroc(scores, positive) == pytest.approx(float(area))
    assert np.isnan(roc_curve(scores, np.ones(80, bool)).false_positive_rate).all()


@pytest.mark.parametrize(
    ("scores", "positive", "tpr"),
    [
        ([np.nan], [True], 0.95),
        ([0.5], [1], 0.95),
        ([], [], 0.95),
        ([0.5], [True], 0.0),
        ([0.5], [True], 1.5),
    ],
)
def test_scores_are_refused_where_they_are_none(
    scores: list[float], positive: list[bool], tpr: float
) -> None:
    with pytest.raises(InvalidInputError):
        fpr_at_tpr(np.array(scores), np.array(positive), tpr)
    if tpr == 0.95:
        with pytest.raises(InvalidInputError):
            auroc(np.array(scores), np.array(positive))
