"""Fitting the estimate on verified photos, where the truth is known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray

from birdsearch.errors import CatalogError, InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.vectors.index import normalised
from birdsearch.model.taxonomy import Taxonomy
from birdsearch.search.labels import calibration
from birdsearch.search.labels.calibration import Calibration, fit, load_calibration, save_calibration
from birdsearch.search.labels.fusion import FusionParameters, References, fuse, neighbour_evidence
from birdsearch.search.labels.space import LabelSpace
from birdsearch.search.labels.unknown import UnknownParameters
from birdsearch.search.metrics.calibration import expected_calibration_error
from birdsearch.search.query.softmax import softmax


@dataclass
class Data:
    logits: NDArray[np.float32]
    references: References
    space: LabelSpace


def clusters(
    groups: int = 240,
    species: int = 8,
    classes: int = 5,
    *,
    spread: float = 0.35,
    sharp: float = 30.0,
    seed: int = 5,
) -> Data:
    """Groups of one or two photos around the centres of species, and a head that is far too sure of itself."""
    rng = np.random.default_rng(seed)
    centres = normalised(rng.normal(size=(species, 16)).astype(np.float32))
    group = np.sort(np.concatenate([np.arange(groups), rng.integers(0, groups, groups // 4)]))
    truth = rng.integers(0, species, groups)[group]
    vectors = normalised(centres[truth] + spread * rng.normal(size=(len(group), 16)).astype(np.float32))
    logits = sharp * (vectors @ centres[:classes].T + 0.15 * rng.normal(size=(len(group), classes)))
    names = [f"species {number:02d}" for number in range(species)]
    space = LabelSpace.build(names[:classes], names[classes:], Taxonomy([]))
    return Data(logits.astype(np.float32), References.build(vectors, truth, group), space)


def fitted(data: Data, **options: Any) -> Calibration:
    return fit(data.logits, data.references, data.space, **options)


@pytest.fixture(scope="module")
def data() -> Data:
    return clusters()


@pytest.fixture(scope="module")
def whole(data: Data) -> Calibration:
    return fitted(data)


def test_calibration_is_better_after_the_fit_on_photos_that_it_did_not_see(whole: Calibration) -> None:
    assert whole.ece_before is not None
    assert whole.ece_after is not None
    assert whole.ece_after < 0.5 * whole.ece_before
    assert whole.top1_before is not None
    assert whole.top1_after is not None
    assert whole.top1_after >= whole.top1_before - 0.01
    assert whole.is_fitted
    assert whole.fusion.sharpness < 0.5


def test_it_is_better_on_other_photos_of_the_species_too() -> None:
    everything = clusters(480)
    fresh = everything.references.groups >= 240
    kept = everything.references.where(~fresh)
    again = fit(everything.logits[~fresh], kept, everything.space, judge=False)
    assert again.ece_after is None
    evidence = neighbour_evidence(
        everything.references.unit[fresh], np.full(int(fresh.sum()), -1), kept, len(everything.space)
    )
    errors = []
    for fusion in (FusionParameters(), again.fusion):
        p = fuse(everything.logits[fresh], evidence, fusion, kept.background).probabilities
        errors.append(
            expected_calibration_error(p.max(axis=1), p.argmax(axis=1) == everything.references.labels[fresh])
        )
    assert errors[1] < 0.5 * errors[0]


def test_the_measured_errors_are_those_of_leaving_each_group_out(data: Data, whole: Calibration) -> None:
    mine = data.references
    evidence = neighbour_evidence(mine.unit, mine.groups, mine, len(data.space))
    p = fuse(data.logits, evidence, FusionParameters(), mine.background).probabilities
    right = p.argmax(axis=1) == mine.labels
    assert whole.ece_before == pytest.approx(expected_calibration_error(p.max(axis=1), right))
    assert whole.top1_before == pytest.approx(right.mean())
    assert (whole.photos, whole.groups, whole.labels) == (len(mine), 240, 8)
    # After the fit each half of the groups is judged by what was fitted on the other.
    halves = calibration.halves(np.arange(len(mine)), mine.groups, 2)
    assert not set(mine.groups[halves[0]].tolist()) & set(mine.groups[halves[1]].tolist())
    assert sorted(np.concatenate(halves).tolist()) == list(range(len(mine)))
    for judged, seen in (halves, halves[::-1]):
        on = np.isin(np.arange(len(mine)), seen)
        found = fuse(data.logits, evidence, fitted(data, on=on, judge=False).fusion, mine.background)
        p[judged] = found.probabilities[judged]
    right = p.argmax(axis=1) == mine.labels
    assert whole.ece_after == pytest.approx(expected_calibration_error(p.max(axis=1), right))
    assert whole.top1_after == pytest.approx(right.mean())


def objective(data: Data, fusion: FusionParameters, start: FusionParameters) -> float:
    """What the fit minimises, by `fuse` and for all labels: mean negative log-likelihood, and the prior."""
    task = calibration._Task(data.logits, data.references, data.references, data.space, None, 0)
    truth = data.references.labels
    rows = np.arange(len(truth))
    present = np.unique(truth)
    rng = np.random.default_rng(0)
    third = max(1, len(present) // 3)
    some, others = rng.permutation(present)[:third], rng.permutation(present)[:third]
    total, most = 0.0, 0
    for evidence, known, weight in (
        (task.evidence(rows), task.known(), 2.0),
        (task.evidence(rows, some), task.known(), 1.0),
        (task.evidence(rows), task.known(others), 1.0),
    ):
        p = fuse(data.logits, evidence, fusion, data.references.background, known).probabilities
        in_model = np.concatenate([known, np.zeros(len(data.space) - len(known), bool)])
        judged = in_model[truth] | evidence.verified[rows, truth]
        with np.errstate(divide="ignore"):
            total -= weight / 4.0 * np.log(p[rows, truth][judged]).mean()
        most = max(most, int(judged.sum()))
    for name, is_log, deviation in calibration._FITTED:
        new, old = getattr(fusion, name), getattr(start, name)
        moved = (math.log(new / old) if is_log else new - old) / deviation
        total += 0.5 * moved**2 / most
    return float(total)


def test_the_parameters_are_at_the_maximum_of_their_posterior(data: Data, whole: Calibration) -> None:
    assert_at_maximum(data, whole.fusion)


def assert_at_maximum(data: Data, found: FusionParameters) -> None:
    start = FusionParameters()
    best = objective(data, found, start)
    assert best < objective(data, start, start) - 0.1
    for name, is_log, deviation in calibration._FITTED:
        for step in (-0.1, 0.1):
            value = getattr(found, name)
            moved = value * math.exp(step * deviation) if is_log else value + step * deviation
            assert objective(data, replace(found, **{name: moved}), start) > best - 1e-7, name


def test_the_fit_is_the_same_every_time_and_has_a_seed(data: Data, whole: Calibration) -> None:
    assert fitted(data) == whole
    assert fitted(data, seed=1, judge=False).fusion != whole.fusion


def test_few_labels_leave_the_parameters_near_the_defaults_and_many_move_them() -> None:
    def distance(found: Calibration) -> float:
        moved = []
        for name, is_log, deviation in calibration._FITTED:
            new, old = getattr(found.fusion, name), getattr(FusionParameters(), name)
            moved.append((math.log(new / old) if is_log else new - old) / deviation)
        return float(np.linalg.norm(moved))

    few, many = (fitted(clusters(groups), judge=False) for groups in (20, 640))
    assert distance(few) < 0.75 * distance(many)
    # A prior of nine times as many standard deviations would not hold 20 photos.
    assert distance(few) < 3.0
    assert few.unknown.weights != UnknownParameters().weights


@pytest.mark.parametrize("true", [2.0, 4.0])
def test_the_temperature_of_the_head_is_found(true: float) -> None:
    # Labels are drawn from the network's own probabilities, and its logits are then made too sharp; the vectors
    # say nothing about them.
    rng = np.random.default_rng(7)
    calm = rng.normal(size=(900, 6)) * 2
    truth = np.array([rng.choice(6, p=p) for p in softmax(calm)])
    references = References.build(
        normalised(rng.normal(size=(900, 32)).astype(np.float32)), truth, np.arange(900)
    )
    space = LabelSpace.build([f"species {n}" for n in range(6)], [], Taxonomy([]))
    found = fit((true * calm).astype(np.float32), references, space, judge=False)
    assert 1 / found.fusion.sharpness == pytest.approx(true, rel=0.15)
    # What says nothing is not listened to.
    assert found.fusion.mean_weight < 0.5 * FusionParameters().mean_weight


def test_only_the_photos_that_it_is_to_be_fitted_on_count(data: Data) -> None:
    on = data.references.groups % 2 == 0
    found = fitted(data, on=on, judge=False)
    assert (found.photos, found.groups) == (int(on.sum()), 120)
    # What the network says of the others is nothing to it; that they vote is.
    noise = data.logits.copy()
    noise[~on] = 0
    assert fit(noise, data.references, data.space, on=on, judge=False) == found
    alone = fit(data.logits[on], data.references.where(on), data.space, judge=False)
    assert alone.fusion != found.fusion
    by_voters = fitted(data, on=on, voters=on, judge=False)
    assert by_voters.fusion == alone.fusion


def test_classes_that_the_model_is_held_not_to_know_are_hidden(data: Data) -> None:
    allowed = np.array([True, True, False, False, True])
    found = fitted(data, allowed=allowed, judge=False)
    broken = data.logits.copy()
    broken[:, ~allowed] = 99
    assert fit(broken, data.references, data.space, allowed=allowed, judge=False) == found


def test_of_many_photos_some_of_every_group_are_taken(monkeypatch: pytest.MonkeyPatch, data: Data) -> None:
    monkeypatch.setattr(calibration, "_MOST_ROWS", 100)
    # One group is nearly everything.
    groups = np.where(np.arange(len(data.references)) < 150, -5, data.references.groups)
    references = replace(data.references, groups=groups)
    rows = calibration._sample(np.arange(len(references)), groups, 0)
    assert len(rows) == 100
    assert (np.diff(rows) > 0).all()
    counts = np.unique(groups[rows], return_counts=True)[1]
    assert len(np.unique(groups)) > 100
    assert counts.max() == 1
    found = fit(data.logits, references, data.space, judge=False)
    assert (found.photos, found.groups) == (100, len(counts))
    assert found.labels == len(np.unique(references.labels[rows]))


def test_too_few_photos_are_refused_with_what_is_needed(data: Data) -> None:
    few = data.references.groups < 19
    with pytest.raises(InvalidInputError, match=r"in 19 groups with \d labels are too few .* at least 20"):
        fitted(data, on=few)
    one = data.references.labels == 2
    with pytest.raises(
        InvalidInputError, match=r"with 1 labels are too few .* 2 species \(`birdsearch annotate`\)"
    ):
        fitted(data, on=one)
    with pytest.raises(InvalidInputError, match="0 verified photos in 0 groups"):
        fit(data.logits[:0], data.references.where(np.zeros(len(data.references), bool)), data.space)


def test_labels_that_nobody_else_knows_are_nothing_to_fit_on() -> None:
    rng = np.random.default_rng(8)
    unit = normalised(rng.normal(size=(25, 8)).astype(np.float32))
    names = [f"species {n:02d}" for n in range(25)]
    space = LabelSpace.build([], names, Taxonomy([]))
    lonely = References.build(unit, np.arange(25), np.arange(25))
    with pytest.raises(InvalidInputError, match="none has photos of two events"):
        fit(np.zeros((25, 0), np.float32), lonely, space)
    # Photos of one event are no second opinion.
    twins = References.build(np.repeat(unit, 2, axis=0), np.arange(25).repeat(2), np.arange(25).repeat(2))
    with pytest.raises(InvalidInputError, match="none has photos of two events"):
        fit(np.zeros((50, 0), np.float32), twins, space)
    # A single pair is little, but something; one half of the photos has nothing.
    pair = References.build(unit, np.array([0, 0, *range(2, 25)]), np.arange(25))
    found = fit(np.zeros((25, 0), np.float32), pair, space)
    assert found.photos == 25
    assert all(np.isfinite(getattr(found.fusion, name)) for name, _, _ in calibration._FITTED)


@pytest.mark.parametrize("classes", [0, 8])
def test_a_model_of_no_class_or_of_every_class_is_fitted(classes: int) -> None:
    found = fitted(clusters(60, classes=classes))
    assert found.is_fitted
    assert found.ece_after is not None
    assert all(np.isfinite(getattr(found.fusion, field.name) or 0.0) for field in fields(FusionParameters))


# -- kept in the catalog -----------------------------------------------------------------------------------


def test_a_calibration_comes_back_from_json_bit_for_bit(whole: Calibration) -> None:
    text = whole.to_json()
    assert Calibration.from_json(text) == whole
    assert Calibration.from_json(text, 7) == replace(whole, id=7)
    assert Calibration.from_json(replace(whole, id=7).to_json()).id is None
    assert Calibration.from_json(Calibration().to_json()) == Calibration()
    assert not Calibration().is_fitted
    assert json.loads(text)["photos"] == whole.photos


def damaged(whole: Calibration) -> dict[str, str]:
    good = json.loads(whole.to_json())

    def with_(**changes: object) -> str:
        return json.dumps({**good, **changes})

    return {
        "empty": "",
        "cut off": whole.to_json()[:-20],
        "null": "null",
        "a number": "3",
        "a list": "[]",
        "another key": with_(colour="red"),
        "no fusion": json.dumps({key: value for key, value in good.items() if key != "fusion"}),
        "a fusion that is a list": with_(fusion=[1, 2]),
        "text for a number": with_(fusion={**good["fusion"], "sharpness": "much"}),
        "a negative temperature": with_(fusion={**good["fusion"], "neighbour_scale": -1}),
        "not a number": with_(fusion={**good["fusion"], "outside": float("nan")}),
        "too few weights": with_(unknown={**good["unknown"], "weights": [1, 2]}),
        "weights that are text": with_(unknown={**good["unknown"], "weights": "abcdef"}),
        "weights of nothing": with_(unknown={**good["unknown"], "weights": [None] * 6}),
        "an infinite intercept": with_(unknown={**good["unknown"], "intercept": float("inf")}),
        "a scale of 0": with_(unknown={**good["unknown"], "scale": [0] * 6}),
        "photos that are text": with_(photos="many"),
        "no number of photos": with_(photos=None),
    }


def test_a_damaged_calibration_is_an_error_that_says_what_to_do(whole: Calibration) -> None:
    for what, text in damaged(whole).items():
        with pytest.raises(CatalogError, match=r"cannot be read .*; run `birdsearch label --fit`"):
            pytest.fail(f"{what}: {Calibration.from_json(text)}")


def test_the_newest_calibration_of_the_model_is_in_use(
    make_catalog: Callable[..., Any], whole: Calibration
) -> None:
    store = make_catalog().store
    other = make_catalog(name="other").store
    assert load_calibration(store, 1) == Calibration()
    first, second = whole, replace(whole, photos=77)
    saved = [save_calibration(store, 1, one) for one in (first, second)]
    assert saved[0].id is not None
    assert load_calibration(store, 1) == saved[1]
    assert load_calibration(store, 2) == Calibration()
    assert load_calibration(other, 1) == Calibration()
    with store.writing() as connection:
        connection.execute(sa.update(schema.calibration).values(parameters='{"photos": 3}'))
    with pytest.raises(CatalogError, match="birdsearch label --fit"):
        load_calibration(store, 1)


def test_the_fit_ends_at_the_maximum_where_labels_are_nearly_separable() -> None:
    # A network that is sure and wrong beside photos that tell the species apart: far from the defaults the
    # likelihood is flat, and a step of the optimiser there may go beyond all numbers.
    rng = np.random.default_rng(304767144)
    centres = rng.normal(size=(3, 16))
    truth = np.repeat(np.arange(3), 120)
    embeddings = (centres[truth] + 0.3 * rng.normal(size=(360, 16))).astype(np.float32)
    head = np.roll(np.concatenate([centres[:2], rng.normal(size=(20, 16))]), 1, axis=0)
    names = ["species 0", "species 1", *(f"other {number:02d}" for number in range(20))]
    space = LabelSpace.build(names, ["species 2"], Taxonomy([]))
    labels = np.array([0, 1, 22])[truth]
    references = References.build(normalised(embeddings), labels, np.arange(360))
    made = Data((71.08865384993274 * embeddings @ head.T).astype(np.float32), references, space)
    assert_at_maximum(made, fitted(made, judge=False).fusion)
