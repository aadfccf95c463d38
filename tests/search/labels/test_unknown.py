"""How likely a bird is of no known label, and at which rank something can still be said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.vectors.index import normalised
from birdsearch.model.taxonomy import Taxon, Taxonomy
from birdsearch.search.labels.calibration import fit
from birdsearch.search.labels.fusion import FusionParameters, References, fuse, neighbour_evidence
from birdsearch.search.labels.space import LabelSpace
from birdsearch.search.labels.unknown import (
    SIGNS,
    UnknownParameters,
    fit_logistic,
    roll_up,
    signs,
    unknown_score,
)
from birdsearch.search.metrics.roc import auroc

SPACE = LabelSpace.build(
    ["crow", "rook", "magpie", "heron"],
    ["ghost"],
    Taxonomy(
        [
            Taxon("crow", "Corvus corone", "Corvus", "Corvidae", "Passeriformes", (), sensitive=False),
            Taxon("rook", "Corvus frugilegus", "Corvus", "Corvidae", "Passeriformes", (), sensitive=False),
            Taxon("magpie", "Pica pica", "Pica", "Corvidae", "Passeriformes", (), sensitive=False),
            Taxon("heron", "Ardea cinerea", "Ardea", "Ardeidae", "Pelecaniformes", (), sensitive=False),
        ]
    ),
)


def rolled(
    p: list[float], confidence: float, unknown: float = 0.0, above: tuple[float, ...] = (0.0, 0.0, 0.0)
) -> tuple[str, str, float]:
    answer = roll_up(
        np.array([p]), np.array([unknown]), SPACE, confidence, replace(UnknownParameters(), above=above)
    )[0]
    assert answer.species == int(np.argmax(p))
    return answer.name, answer.rank, round(answer.probability, 9)


def test_the_finest_rank_that_reaches_the_confidence_is_answered() -> None:
    p = [0.4, 0.3, 0.15, 0.1, 0.05]
    assert rolled(p, 0.4) == ("crow", "species", 0.4)
    assert rolled(p, 0.41) == ("Corvus", "genus", 0.7)
    assert rolled(p, 0.71) == ("Corvidae", "family", 0.85)
    assert rolled(p, 0.86) == ("bird", "bird", 1.0)
    # The order says no more than the family here; another one does.
    assert rolled([0.2, 0.2, 0.2, 0.4, 0.0], 0.5) == ("Corvidae", "family", 0.6)


def test_confidence_0_is_always_a_species_and_1_only_what_is_certain() -> None:
    assert rolled([0.3, 0.2, 0.2, 0.2, 0.1], 0.0, unknown=0.999)[:2] == ("crow", "species")
    assert rolled([0.3, 0.2, 0.2, 0.2, 0.1], 1.0) == ("bird", "bird", 1.0)
    assert rolled([1.0, 0.0, 0.0, 0.0, 0.0], 1.0) == ("crow", "species", 1.0)
    assert rolled([0.5, 0.5, 0.0, 0.0, 0.0], 1.0) == ("Corvus", "genus", 1.0)
    for confidence in (-0.1, 1.1, float("nan")):
        with pytest.raises(InvalidInputError, match="it has to be 0 to 1"):
            rolled([1.0, 0.0, 0.0, 0.0, 0.0], confidence)


def test_a_bird_of_no_known_label_counts_against_every_rank_but_for_the_clade_it_may_have() -> None:
    p = [0.9, 0.05, 0.05, 0.0, 0.0]
    assert rolled(p, 0.45, unknown=0.5) == ("crow", "species", 0.45)
    assert rolled(p, 0.46, unknown=0.5) == ("Corvus", "genus", 0.475)
    assert rolled(p, 0.6, unknown=0.5) == ("bird", "bird", 1.0)
    assert rolled(p, 0.6, unknown=0.5, above=(0.2, 0.6, 0.8)) == ("Corvidae", "family", 0.8)
    assert rolled(p, 0.85, unknown=0.5, above=(0.2, 0.6, 0.8)) == ("Passeriformes", "order", 0.9)


def test_a_label_without_lineage_is_a_species_or_a_bird() -> None:
    assert rolled([0.1, 0.0, 0.0, 0.0, 0.9], 0.9) == ("ghost", "species", 0.9)
    assert rolled([0.1, 0.0, 0.0, 0.0, 0.9], 0.95) == ("bird", "bird", 1.0)
    nameless = LabelSpace.build([], ["ghost", "moss"], Taxonomy([]))
    answer = roll_up(np.array([[0.6, 0.4]]), np.zeros(1), nameless, 0.7, UnknownParameters())[0]
    assert (answer.name, answer.rank, answer.species) == ("bird", "bird", 0)


def test_equal_probabilities_are_settled_by_order() -> None:
    assert rolled([0.25, 0.25, 0.25, 0.25, 0.0], 0.2)[0] == "crow"
    assert rolled([0.0, 0.0, 0.5, 0.5, 0.0], 0.3)[0] == "magpie"
    # Ardea and Pica have as much; clades are in alphabetical order.
    assert rolled([0.0, 0.0, 0.45, 0.45, 0.1], 0.45)[0] == "magpie"
    assert roll_up(np.zeros((0, 5)), np.zeros(0), SPACE, 0.5, UnknownParameters()) == []


# -- the signs ---------------------------------------------------------------------------------------------


def test_the_signs_are_what_they_say() -> None:
    rng = np.random.default_rng(2)
    references = References(
        normalised(rng.normal(size=(12, 6)).astype(np.float32)),
        np.arange(12) % 3,
        np.arange(12),
        np.arange(12),
        background=0.1,
    )
    asked = normalised(rng.normal(size=(5, 6)).astype(np.float32))
    logits = (rng.normal(size=(5, 4)) * 3).astype(np.float32)
    evidence = neighbour_evidence(asked, np.full(5, -1), references, 4)
    estimates = fuse(logits, evidence, FusionParameters(), 0.1)
    for allowed in (None, np.array([True, False, True, True])):
        found = signs(logits, evidence, estimates, 0.1, allowed)
        assert found.shape == (5, len(SIGNS))
        for row in range(5):
            top = estimates.probabilities[row].max()
            assert found[row, 0] == pytest.approx(np.log(top / (1 - top)))
            alike = sorted(((references.unit @ asked[row]).astype(float) - 0.1) / 0.9, reverse=True)
            assert found[row, 1] == pytest.approx(alike[0], abs=1e-6)
            assert found[row, 2] == pytest.approx(np.mean(alike[:10]), abs=1e-6)
            assert found[row, 3] == pytest.approx((evidence.means[row, :3].max() - 0.1) / 0.9, abs=1e-6)
            used = logits[row].astype(float) if allowed is None else logits[row][allowed].astype(float)
            energy = np.log(np.exp(used).sum())
            first = np.exp(used.max() - energy)
            assert found[row, 4] == pytest.approx(np.log(first / (1 - first)))
            assert found[row, 5] == pytest.approx(energy)


def test_without_verified_photos_or_classes_their_signs_say_nothing() -> None:
    nobody = References.build(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))
    asked, group = np.eye(4, dtype=np.float32)[:2], np.array([-1, -1])
    logits = np.array([[5, 0, 0], [0, 0, 0]], np.float32)
    evidence = neighbour_evidence(asked, group, nobody, 3)
    plain = UnknownParameters()
    found = signs(logits, evidence, fuse(logits, evidence, FusionParameters(), 0.0), 0.0)
    assert found[:, 1:4].tolist() == [list(plain.centre[1:4])] * 2
    assert np.isfinite(found).all()
    # The less sure the network is, the likelier it does not know the bird.
    score = unknown_score(found, plain)
    assert 0 < score[0] < score[1] < 1
    somebody = References.build(asked, np.array([0, 1]), np.array([5, 6]))
    evidence = neighbour_evidence(asked, group, somebody, 2)
    nothing = np.zeros((2, 0), np.float32)
    found = signs(nothing, evidence, fuse(nothing, evidence, FusionParameters(), 0.0), 0.0)
    assert found[:, 4:].tolist() == [[0.0, 0.0]] * 2


def test_certainty_has_a_finite_sign() -> None:
    evidence = neighbour_evidence(
        np.eye(2, dtype=np.float32)[:1],
        np.array([-1]),
        References.build(np.eye(2, dtype=np.float32), np.array([0, 0]), np.array([1, 2])),
        1,
    )
    logits = np.array([[3e38]], np.float32)
    found = signs(logits, evidence, fuse(logits, evidence, FusionParameters(), 0.0), 0.0)
    assert np.isfinite(found).all()
    assert found[0, 0] == 12.0
    assert 0 <= unknown_score(found, UnknownParameters())[0] <= 1


def test_the_default_score_rises_as_each_sign_falls() -> None:
    plain = UnknownParameters()
    average = np.array([plain.centre])
    base = unknown_score(average, plain)[0]
    assert base == pytest.approx(1 / (1 + np.exp(1.5)))
    for place, weight in enumerate(plain.weights):
        moved = average.copy()
        moved[0, place] -= plain.scale[place]
        assert (unknown_score(moved, plain)[0] > base) == (weight != 0)


@pytest.mark.parametrize(
    "values",
    [
        {"weights": (1.0, 2.0)},
        {"above": (0.1,)},
        {"scale": (1.0, 1.0, 0.0, 1.0, 1.0, 1.0)},
        {"intercept": float("nan")},
        {"centre": (0.0, 0.0, 0.0, 0.0, 0.0, float("inf"))},
    ],
)
def test_a_model_that_makes_no_sense_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="unknown model"):
        UnknownParameters(**values)


# -- the logistic model ------------------------------------------------------------------------------------


def objective(
    theta: NDArray[np.float64], rows: NDArray[np.float64], y: NDArray[np.bool_], weights: NDArray[np.float64]
) -> float:
    odds = rows @ theta[1:] + theta[0]
    loss = np.logaddexp(0, odds) - y * odds
    return float((weights * loss).sum() + 0.5 * (theta[1:] ** 2).sum() + 0.5e-6 * theta[0] ** 2)


def test_the_logistic_model_is_at_the_maximum_of_its_posterior() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, 3)) * [1.0, 5.0, 0.1] + [0.0, 3.0, -1.0]
    y = rng.random(300) < 1 / (1 + np.exp(-(x[:, 0] * 2 - 1)))
    weights = rng.random(300) + 0.5
    intercept, theta, centre, scale = fit_logistic(x, y, weights)
    assert centre == pytest.approx(np.average(x, axis=0, weights=weights))
    assert scale == pytest.approx(np.sqrt(np.average((x - centre) ** 2, axis=0, weights=weights)))
    rows = (x - centre) / scale
    at = np.array([intercept, *theta])
    best = objective(at, rows, y, weights)
    for step in np.concatenate([np.eye(4), -np.eye(4)]) * 0.01:
        assert objective(at + step, rows, y, weights) > best
    # A weight of 2 is a row that comes twice.
    twice = fit_logistic(np.concatenate([x, x]), np.concatenate([y, y]), np.concatenate([weights, weights]))
    double = fit_logistic(x, y, 2 * weights)
    assert np.array([twice[0], *twice[1]]) == pytest.approx(np.array([double[0], *double[1]]), abs=1e-6)


def test_features_that_part_the_two_or_never_change_do_no_harm() -> None:
    x = np.stack([np.concatenate([np.full(20, -1.0), np.full(20, 1.0)]), np.full(40, 7.0)], axis=1)
    y = x[:, 0] > 0
    intercept, theta, _, scale = fit_logistic(x, y, np.ones(40))
    assert np.isfinite([intercept, *theta]).all()
    assert scale[1] == 1.0
    assert theta[1] == pytest.approx(0.0)
    assert theta[0] > 1
    none, _, _, _ = fit_logistic(x, np.zeros(40, bool), np.ones(40))
    assert none < -3


# -- the score on birds that nobody knows ------------------------------------------------------------------


def birds(seed: int = 4) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Vectors around the centres of 24 species, their species, and logits of a network that knows 12 of these."""
    rng = np.random.default_rng(seed)
    centres = normalised(rng.normal(size=(24, 24)).astype(np.float32))
    truth = np.arange(24).repeat(14)
    vectors = normalised(centres[truth] + 0.14 * rng.normal(size=(len(truth), 24)).astype(np.float32))
    logits = 14 * vectors @ centres[:12].T + rng.normal(size=(len(truth), 12)) * 0.7
    return vectors, truth, logits.astype(np.float32)


@pytest.mark.parametrize("fitted", [False, True])
def test_birds_of_hidden_species_are_told_from_known_ones(fitted: bool) -> None:
    vectors, truth, logits = birds()
    # Species 9 to 11 are hidden from the network too, 18 to 23 have no photo: 9 species nobody knows.
    hidden = np.array([9, 10, 11, *range(18, 24)])
    shown = LabelSpace.build(
        [f"species {n:02d}" for n in range(9)], [f"species {n:02d}" for n in range(12, 18)], Taxonomy([])
    )
    place = {species: number for number, species in enumerate([*range(9), *range(12, 18)])}
    is_reference = ~np.isin(truth, hidden) & (np.arange(len(truth)) % 14 < 8)
    labels = np.array([place[species] for species in truth[is_reference].tolist()])
    references = References.build(vectors[is_reference], labels, np.arange(int(is_reference.sum())))
    fusion, unknown = FusionParameters(), UnknownParameters()
    if fitted:
        found = fit(logits[is_reference][:, :9], references, shown, judge=False)
        fusion, unknown = found.fusion, found.unknown
    asked = ~is_reference
    evidence = neighbour_evidence(vectors[asked], np.full(int(asked.sum()), -1), references, len(shown))
    estimates = fuse(logits[asked][:, :9], evidence, fusion, references.background)
    each = signs(logits[asked][:, :9], evidence, estimates, references.background)
    is_hidden = np.isin(truth[asked], hidden)
    whole = auroc(unknown_score(each, unknown), is_hidden)
    singles = {name: auroc(-each[:, number], is_hidden) for number, name in enumerate(SIGNS)}
    assert whole > 0.9, singles
    if fitted:
        assert whole >= max(singles.values()) - 0.01, singles
        # And the score is a probability: with as many unknown as there are, it is not far off on the whole.
        score = unknown_score(each, unknown)
        assert score[is_hidden].mean() > 0.5 > 0.2 > score[~is_hidden].mean()
