"""Metrics against slow and plain ways of counting, and against scikit-learn where it has them."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from birdsearch.errors import InvalidInputError
from birdsearch.search.evaluation.scores import recall_at_k
from birdsearch.search.metrics import retrieval
from birdsearch.search.metrics.calibration import (
    coverage_risk,
    expected_calibration_error,
    reliability,
)
from birdsearch.search.metrics.retrieval import as_codes, knn_scores, retrieval_scores
from birdsearch.search.metrics.roc import auroc, fpr_at_tpr, roc_curve
from birdsearch.search.metrics.sampling import (
    bootstrap_interval,
    estimate,
    few_shot,
    macro_mean,
    paired_bootstrap,
)

SEED = 20


@pytest.fixture
def rng() -> np.random.Generator:
    print(f"seed {SEED}")
    return np.random.default_rng(SEED)


def unit(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    vectors = rng.normal(size=(rows, columns)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


# Accuracy


def test_the_macro_mean_is_the_mean_of_the_means_of_the_classes(rng: np.random.Generator) -> None:
    from sklearn.metrics import balanced_accuracy_score

    answers, labels = rng.integers(0, 7, 300), rng.integers(0, 7, 300)
    expected = balanced_accuracy_score(labels, answers)
    assert macro_mean(answers == labels, labels) == pytest.approx(expected)
    right = np.array([True, False, False])
    assert macro_mean(right, [0, -1, -1]) == pytest.approx(1 / 2)
    assert macro_mean(right, ["owl", "swan", "emu"]) == pytest.approx(1 / 3)
    assert math.isnan(macro_mean(np.zeros(0), []))
    with pytest.raises(InvalidInputError):
        macro_mean(np.zeros(2), ["a"])


# Retrieval


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


# Calibration


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
        lambda: auroc(np.array([np.nan]), yes),
        lambda: auroc(half, np.array([1])),
        lambda: auroc(np.zeros(0), np.zeros(0, bool)),
        lambda: fpr_at_tpr(half, yes, 0.0),
        lambda: fpr_at_tpr(half, yes, 1.5),
        lambda: coverage_risk(np.array([np.nan]), yes),
    ):
        with pytest.raises(InvalidInputError):
            call()


# Intervals and samples


def test_intervals_are_quantiles_of_means_of_drawn_groups(rng: np.random.Generator) -> None:
    values, groups = rng.random(50), rng.integers(100, 112, 50)
    names = sorted(set(groups.tolist()))
    drawn = np.random.default_rng(3).integers(0, len(names), size=(200, len(names)))
    means = []
    for sample in drawn:
        pooled = [value for unit in sample for value in values[groups == names[unit]]]
        means.append(sum(pooled) / len(pooled))
    expected = tuple(np.quantile(means, [0.05, 0.95]))
    found = bootstrap_interval(values, groups=groups, samples=200, seed=3, level=0.9)
    assert found == pytest.approx(expected)
    # One group a value.
    alone = bootstrap_interval(values, samples=200, seed=3)
    assert alone == pytest.approx(bootstrap_interval(values, groups=np.arange(50), samples=200, seed=3))


def test_copies_in_a_group_do_not_make_an_interval_narrower(rng: np.random.Generator) -> None:
    values = rng.random(40)
    once = bootstrap_interval(values)
    copied = bootstrap_interval(np.repeat(values, 10), groups=np.repeat(np.arange(40), 10))
    assert copied == pytest.approx(once)
    careless = bootstrap_interval(np.repeat(values, 10))
    assert careless[1] - careless[0] < 0.5 * (once[1] - once[0])


def test_an_interval_holds_the_true_mean_about_as_often_as_it_says(rng: np.random.Generator) -> None:
    held = 0
    for seed in range(200):
        low, high = bootstrap_interval(rng.random(60) < 0.3, samples=400, seed=seed, level=0.9)
        held += low <= 0.3 <= high
    assert 0.82 < held / 200 < 0.96


def test_draws_do_not_depend_on_how_many_are_held(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from birdsearch.search.metrics import sampling

    values = rng.random(64)
    whole = bootstrap_interval(values, samples=101)
    assert bootstrap_interval(values, samples=101) == whole
    assert bootstrap_interval(values, samples=101, seed=1) != whole
    monkeypatch.setattr(sampling, "_DRAWS", 64 * 7)
    assert bootstrap_interval(values, samples=101) == whole


def test_of_one_value_or_one_group_nothing_is_known_about_the_spread() -> None:
    for found in (
        bootstrap_interval(np.zeros(0)),
        bootstrap_interval(np.array([0.5])),
        bootstrap_interval(np.array([0.5, 0.7]), groups=["a", "a"]),
    ):
        assert math.isnan(found[0])
        assert math.isnan(found[1])
    assert math.isnan(estimate(np.zeros(0)).value)
    assert estimate(np.array([0.5])).value == 0.5


def test_what_is_hard_for_both_cancels_out(rng: np.random.Generator) -> None:
    hardness = rng.random(100)
    better = hardness + 0.01 + 0.001 * rng.normal(size=100)
    found = paired_bootstrap(better, hardness)
    assert found.value == pytest.approx(float(better.mean() - hardness.mean()))
    assert 0 < found.low < found.value < found.high < 0.012
    turned = paired_bootstrap(hardness, better)
    assert (turned.value, turned.low, turned.high) == pytest.approx((-found.value, -found.high, -found.low))
    flags = paired_bootstrap(np.array([True, True, False]), np.array([True, False, False]), [1, 2, 3])
    assert flags.value == pytest.approx(1 / 3)


def test_bootstrap_refuses_what_it_cannot_draw_from() -> None:
    two = np.zeros(2)
    for call in (
        lambda: bootstrap_interval(np.array([0.5, np.nan])),
        lambda: bootstrap_interval(np.array(0.5)),
        lambda: bootstrap_interval(np.zeros((2, 2))),
        lambda: bootstrap_interval(two, groups=["a"]),
        lambda: bootstrap_interval(two, samples=0),
        lambda: bootstrap_interval(two, level=1.0),
        lambda: paired_bootstrap(two, np.zeros(3)),
        lambda: paired_bootstrap(np.zeros((2, 2)), np.zeros((2, 2))),
    ):
        with pytest.raises(InvalidInputError):
            call()


def test_few_shots_are_whole_groups_and_a_part_of_more_shots(rng: np.random.Generator) -> None:
    labels = np.array([f"l{value}" for value in rng.integers(0, 6, 200)])
    groups = rng.integers(0, 25, 200)
    before: set[int] = set()
    for shots in (1, 2, 5, 100):
        rows = few_shot(labels, groups, shots, seed=4)
        assert rows.tolist() == sorted(set(rows.tolist()))
        chosen = {(labels[row], groups[row]) for row in rows}
        for label in set(labels.tolist()):
            available = len(set(groups[labels == label].tolist()))
            assert len({group for name, group in chosen if name == label}) == min(shots, available)
        # All photos of a label in a chosen group come along, and nothing else.
        assert rows.tolist() == [row for row in range(200) if (labels[row], groups[row]) in chosen]
        assert before <= set(rows.tolist())
        before = set(rows.tolist())
    assert len(before) == 200
    assert few_shot(labels, groups, 1, seed=5).tolist() != few_shot(labels, groups, 1, seed=4).tolist()
    order = rng.permutation(200)
    assert sorted(order[few_shot(labels[order], groups[order], 2)]) == few_shot(labels, groups, 2).tolist()
    assert few_shot([], [], 1).tolist() == []


def test_every_group_is_as_likely_to_be_a_shot() -> None:
    labels, groups = ["a"] * 6, [0, 1, 2, 2, 2, 2]
    first = [int(few_shot(labels, groups, 1, seed)[0]) for seed in range(600)]
    assert all(150 < first.count(row) < 250 for row in (0, 1, 2))


def test_samples_refuse_what_does_not_fit() -> None:
    with pytest.raises(InvalidInputError):
        few_shot(["a"], ["x"], 0)
    with pytest.raises(InvalidInputError):
        few_shot(["a"], [], 1)
