"""Means, intervals and samples against slow and plain ways of drawing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from birdsearch.errors import InvalidInputError
from birdsearch.search.metrics.sampling import (
    bootstrap_interval,
    estimate,
    few_shot,
    macro_mean,
    paired_bootstrap,
)


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
