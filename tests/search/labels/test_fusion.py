"""Labels from logits and from verified photos, against the formula and against brute force."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.vectors.index import normalised
from birdsearch.search.labels.fusion import (
    VOTE_TAU,
    FusionParameters,
    NeighbourEvidence,
    References,
    fuse,
    neighbour_evidence,
    top_labels,
)
from birdsearch.search.query.softmax import softmax


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


# -- verified neighbours -----------------------------------------------------------------------------------


def unit_rows(rng: np.random.Generator, count: int, dim: int = 16) -> NDArray[np.float32]:
    return normalised(rng.normal(size=(count, dim)).astype(np.float32))


def slow_evidence(
    unit: NDArray[np.float32], groups: NDArray[np.int64], references: References, labels: int, k: int
) -> tuple[list[list[int]], list[list[float]], NDArray[np.float64], NDArray[np.bool_]]:
    """Places, cosines, means and verified labels, one photo and one reference after the other."""
    places, cosines = [], []
    means = np.zeros((len(unit), labels))
    verified = np.zeros((len(unit), labels), bool)
    wide = references.unit.astype(np.float64)
    for row, (vector, group) in enumerate(zip(unit.astype(np.float64), groups.tolist(), strict=True)):
        others = [
            place for place in range(len(references)) if group == -1 or references.groups[place] != group
        ]
        cosine = {place: float((wide[place] * vector).sum()) for place in others}
        nearest = sorted(others, key=lambda place: (-cosine[place], place))[:k]
        places.append(nearest + [-1] * (k - len(nearest)))
        cosines.append([cosine[place] for place in nearest] + [-1.0] * (k - len(nearest)))
        for label in range(labels):
            members = [place for place in others if references.labels[place] == label]
            if members:
                mean = sum(wide[place] for place in members) / len(members)
                means[row, label] = float(vector @ mean) / float(np.linalg.norm(mean))
                verified[row, label] = True
    return places, cosines, means, verified


def assert_evidence_is_brute_force(
    unit: NDArray[np.float32], groups: NDArray[np.int64], references: References, labels: int, k: int = 20
) -> NeighbourEvidence:
    found = neighbour_evidence(unit, groups, references, labels, k)
    places, cosines, means, verified = slow_evidence(unit, groups, references, labels, k)
    assert found.nearest.tolist() == places
    assert found.cosines == pytest.approx(np.array(cosines).reshape(len(unit), k), abs=1e-6)
    assert found.means == pytest.approx(means, abs=1e-6)
    assert found.verified.tolist() == verified.tolist()
    assert found.votes.tolist() == [
        [-1 if place < 0 else int(references.labels[place]) for place in row] for row in places
    ]
    return found


@pytest.mark.parametrize("k", [1, 20, 300])
def test_the_evidence_is_that_of_brute_force_without_the_own_group(k: int) -> None:
    rng = np.random.default_rng(3)
    # Group 0 is larger than what is fetched at first, and like the others it holds several labels.
    groups = np.concatenate([np.zeros(90, np.int64), rng.integers(1, 12, 110)])
    references = References.build(unit_rows(rng, 200), rng.integers(0, 5, 200), groups)
    crowd = references.unit[0] + 0.3 * unit_rows(rng, 90)
    references = replace(references, unit=np.concatenate([normalised(crowd), references.unit[90:]]))
    asked = np.concatenate([references.unit[::5], unit_rows(rng, 30)])
    own = np.concatenate([groups[::5], rng.integers(-1, 14, 30)])
    # Label 6 is nobody's, label 5 only that of a group.
    references.labels[groups == 3] = 5
    assert_evidence_is_brute_force(asked, own, references, 7, k)


def test_a_label_that_only_the_own_group_has_is_not_verified_for_it() -> None:
    rng = np.random.default_rng(4)
    references = References.build(
        unit_rows(rng, 6), np.array([0, 0, 1, 1, 2, 2]), np.array([1, 1, 1, 2, 2, 3])
    )
    found = assert_evidence_is_brute_force(references.unit, references.groups, references, 3)
    assert found.verified.tolist()[0] == [False, True, True]
    assert found.means[0, 0] == 0.0
    assert found.verified.tolist()[5] == [True, True, True]


def test_fewer_references_than_neighbours_leave_places_empty() -> None:
    rng = np.random.default_rng(5)
    references = References.build(unit_rows(rng, 3), np.array([0, 1, 0]), np.array([7, 8, 9]))
    found = assert_evidence_is_brute_force(unit_rows(rng, 2), np.array([8, -1]), references, 2)
    assert (found.nearest >= 0).sum(axis=1).tolist() == [2, 3]
    assert found.cosines[:, 3:].tolist() == [[-1.0] * 17] * 2
    nobody = neighbour_evidence(unit_rows(rng, 2), np.array([1, 2]), references.where(np.zeros(3, bool)), 2)
    assert (nobody.nearest == -1).all()
    assert not nobody.verified.any()
    assert neighbour_evidence(unit_rows(rng, 0), np.zeros(0, np.int64), references, 2).nearest.shape == (
        0,
        20,
    )
    assert neighbour_evidence(unit_rows(rng, 2), np.array([1, 2]), references, 2, k=0).nearest.shape == (2, 0)


def test_group_minus_1_is_no_group_of_anybody_else() -> None:
    rng = np.random.default_rng(6)
    references = References.build(
        unit_rows(rng, 9), np.arange(9) % 2, np.array([-1, -1, 1, 1, 2, 3, 4, 5, 6])
    )
    found = assert_evidence_is_brute_force(references.unit[:3], np.array([-1, -1, 1]), references, 2)
    assert (found.nearest >= 0).sum(axis=1).tolist() == [9, 9, 7]


@pytest.mark.parametrize("spread", [0.0, 1e-4])
def test_of_many_photos_that_are_nearly_the_same_the_nearest_count_and_of_equals_the_first(
    spread: float,
) -> None:
    # Many more than are fetched at first, and nearer to each other than float32 can tell.
    rng = np.random.default_rng(7)
    base = unit_rows(rng, 1, 64)
    alike = normalised(base + spread * unit_rows(rng, 400, 64))
    references = References.build(alike, rng.integers(0, 3, 400), np.arange(400) // 2)
    asked = normalised(base + spread * unit_rows(rng, 30, 64))
    own = np.arange(-1, 29)
    found = assert_evidence_is_brute_force(asked, own, references, 3)
    if not spread:
        assert found.nearest[0].tolist() == list(range(20))
        assert found.nearest[5].tolist() == [*range(8), *range(10, 22)]


def test_the_evidence_does_not_depend_on_the_batch() -> None:
    rng = np.random.default_rng(8)
    references = References.build(unit_rows(rng, 150), rng.integers(0, 4, 150), rng.integers(0, 30, 150))
    asked, own = unit_rows(rng, 60), rng.integers(-1, 30, 60)
    together = neighbour_evidence(asked, own, references, 5)
    for row in range(60):
        alone = neighbour_evidence(asked[row : row + 1], own[row : row + 1], references, 5)
        for name in ("nearest", "cosines", "votes", "means", "verified"):
            assert getattr(alone, name)[0].tolist() == getattr(together, name)[row].tolist()


def test_the_background_is_the_mean_cosine_of_photos_of_different_groups() -> None:
    rng = np.random.default_rng(9)
    unit, groups = normalised(unit_rows(rng, 40) + 0.3), rng.integers(0, 8, 40)
    pairs = [
        float(unit[i].astype(np.float64) @ unit[j].astype(np.float64))
        for i in range(40)
        for j in range(40)
        if groups[i] != groups[j]
    ]
    assert References.build(unit, groups, groups).background == pytest.approx(np.mean(pairs))
    assert References.build(unit, groups, np.ones(40, np.int64)).background == 0.0
    assert References.build(unit[:0], groups[:0], groups[:0]).background == 0.0
    same = np.repeat(unit[:1], 5, axis=0)
    assert References.build(same, groups[:5], np.arange(5)).background == 0.99
    kept = References.build(unit, groups, groups)
    assert kept.where(np.arange(40) < 5).background == kept.background


def test_lengths_that_differ_are_refused() -> None:
    rng = np.random.default_rng(10)
    two = np.zeros(2, np.int64)
    with pytest.raises(InvalidInputError, match="3 vectors need as many labels and groups, got 2 and 2"):
        References.build(unit_rows(rng, 3), two, two)
    references = References.build(unit_rows(rng, 2), two, two)
    with pytest.raises(InvalidInputError, match="3 vectors need as many groups, got 2"):
        neighbour_evidence(unit_rows(rng, 3), two, references, 1)


# -- the fusion --------------------------------------------------------------------------------------------


def slow_fuse(
    logits: NDArray[np.float32],
    evidence: NeighbourEvidence,
    parameters: FusionParameters,
    background: float,
    allowed: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The module's formula, label by label: probabilities, p_model, p_knn and the part of the neighbours."""
    count, total = evidence.means.shape
    classes = logits.shape[1]
    known = [label < classes and (allowed is None or bool(allowed[label])) for label in range(total)]
    mu = background if parameters.background is None else parameters.background
    answers: tuple[list[list[float]], ...] = ([], [], [])
    parts = []
    for row in range(count):
        sharp = {c: parameters.sharpness * float(logits[row, c]) for c in range(total) if known[c]}
        alone = math.fsum(math.exp(value) for value in sharp.values()) if sharp else 1.0
        discount = parameters.discount
        partition = math.fsum(math.exp(discount * value) for value in sharp.values()) if sharp else 1.0
        by_model, by_photos = [], []
        for c in range(total):
            if not known[c]:
                by_model.append(parameters.outside)
            elif evidence.verified[row, c]:
                by_model.append(discount * sharp[c] - math.log(partition))
            else:
                by_model.append(sharp[c] - math.log(partition) / discount + parameters.alone)
            if not evidence.verified[row, c]:
                by_photos.append(0.0)
                continue
            mass = 0.0
            for place, cosine, vote in zip(
                evidence.nearest[row], evidence.cosines[row], evidence.votes[row], strict=True
            ):
                if place >= 0 and vote == c:
                    alike = (float(cosine) - mu) / (1 - mu)
                    mass += math.exp((alike - parameters.neighbour_floor) / parameters.neighbour_scale)
            mean = (float(evidence.means[row, c]) - mu) / (1 - mu)
            heard = parameters.neighbour_weight * math.log(1 + mass)
            heard += parameters.mean_weight * (mean - parameters.mean_floor)
            by_photos.append(heard if known[c] else parameters.outside_factor * heard)
        has_part = [known[c] or bool(evidence.verified[row, c]) for c in range(total)]
        powers = [math.exp(by_model[c] + by_photos[c]) if has_part[c] else 0.0 for c in range(total)]
        if not any(has_part):
            powers = [1.0] * total
        p = [power / math.fsum(powers) for power in powers]
        votes = [0.0] * total
        for place, cosine, vote in zip(
            evidence.nearest[row], evidence.cosines[row], evidence.votes[row], strict=True
        ):
            if place >= 0:
                votes[vote] += math.exp(float(cosine) / VOTE_TAU)
        cast = math.fsum(votes)
        answers[0].append(p)
        answers[1].append([math.exp(sharp[c]) / alone if known[c] else 0.0 for c in range(total)])
        answers[2].append([vote / cast if cast else 0.0 for vote in votes])
        if total == 1:
            parts.append(float(evidence.verified[row].any()))
            continue
        first, second = sorted(range(total), key=lambda c: (-p[c], c))[:2]
        model, photos = abs(by_model[first] - by_model[second]), abs(by_photos[first] - by_photos[second])
        parts.append(photos / (model + photos) if model + photos else 0.0)
    return np.array(answers[0]), np.array(answers[1]), np.array(answers[2]), np.array(parts)


@dataclass
class Case:
    classes: int
    labels: int
    verified: tuple[int, ...]
    allowed: tuple[bool, ...] | None = None
    parameters: FusionParameters = field(default_factory=FusionParameters)


CASES = {
    "labels without verified photos": Case(5, 5, (0, 2, 3)),
    "labels outside the model": Case(4, 7, (1, 4, 5, 6)),
    "a label that nobody knows": Case(2, 4, (0, 3)),
    "nothing verified": Case(5, 5, ()),
    "no classes": Case(0, 3, (0, 1, 2)),
    "hidden classes": Case(4, 6, (0, 1, 4, 5), (True, False, False, True)),
    "all classes hidden": Case(3, 4, (0, 3), (False, False, False)),
    "all hidden and nothing verified": Case(3, 3, (), (False, False, False)),
    "a single label of the model": Case(1, 1, ()),
    "a single verified label": Case(0, 1, (0,)),
    "other constants": Case(
        3,
        5,
        (0, 1, 3, 4),
        None,
        FusionParameters(0.4, 0.7, 1.2, -1.0, 1.6, 0.9, 0.2, 0.1, 2.0, 0.4, background=0.3),
    ),
}


def made(case: Case, seed: int = 11) -> tuple[NDArray[np.float32], NeighbourEvidence, float]:
    rng = np.random.default_rng(seed)
    labels = np.array(
        [case.verified[n % len(case.verified)] for n in range(60)] if case.verified else [], np.int64
    )
    references = References.build(
        normalised(unit_rows(rng, len(labels)) + 0.2), labels, rng.integers(0, 25, len(labels))
    )
    asked = normalised(unit_rows(rng, 25) + 0.2)
    evidence = neighbour_evidence(asked, rng.integers(-1, 25, 25), references, case.labels)
    return rng.normal(size=(25, case.classes)).astype(np.float32) * 4, evidence, references.background


@pytest.mark.parametrize("name", CASES)
def test_the_fused_label_is_that_of_the_formula(name: str) -> None:
    case = CASES[name]
    logits, evidence, background = made(case)
    allowed = None if case.allowed is None else np.array(case.allowed)
    found = fuse(logits, evidence, case.parameters, background, allowed)
    p, p_model, p_knn, part = slow_fuse(logits, evidence, case.parameters, background, allowed)
    assert found.probabilities == pytest.approx(p, rel=1e-9, abs=1e-14)
    assert found.p_model == pytest.approx(p_model, rel=1e-9, abs=1e-14)
    assert found.p_knn == pytest.approx(p_knn, rel=1e-9, abs=1e-14)
    assert found.knn_weight == pytest.approx(part, rel=1e-6, abs=1e-9)
    assert found.probabilities.sum(axis=1) == pytest.approx(np.ones(25))
    unheard = [
        c
        for c in range(case.labels)
        if c not in case.verified
        and (c >= case.classes or (case.allowed is not None and not case.allowed[c]))
    ]
    if len(unheard) < case.labels:
        assert not found.probabilities[:, unheard].any()


def test_without_verified_photos_the_answer_is_the_networks_alone() -> None:
    logits, evidence, background = made(CASES["nothing verified"])
    for sharpness, discount, alone in ((0.3, 1.0, 0.0), (1.0, 0.4, 2.0), (2.5, 1.5, -1.0)):
        parameters = FusionParameters(sharpness=sharpness, discount=discount, alone=alone)
        found = fuse(logits, evidence, parameters, background)
        assert found.probabilities == pytest.approx(softmax(sharpness * logits.astype(np.float64)), rel=1e-12)
        assert found.p_model == pytest.approx(found.probabilities, rel=1e-12)
        assert not found.p_knn.any()
        assert not found.knn_weight.any()


def test_a_photos_label_does_not_depend_on_the_batch() -> None:
    case = CASES["labels outside the model"]
    logits, evidence, background = made(case)
    together = fuse(logits, evidence, case.parameters, background)
    for row in range(25):
        one = NeighbourEvidence(
            *(
                getattr(evidence, name)[row : row + 1]
                for name in ("nearest", "cosines", "votes", "means", "verified")
            )
        )
        alone = fuse(logits[row : row + 1], one, case.parameters, background)
        for name in ("probabilities", "p_model", "p_knn", "knn_weight"):
            assert getattr(alone, name)[0].tolist() == getattr(together, name)[row].tolist()


def test_two_experts_that_agree_on_the_second_choice_make_it_the_first() -> None:
    # The network: a before b, c out of the question. The photos: c before b, a out of the question.
    logits = np.array([[4.0, 3.5, -4.0]], np.float32)
    directions = np.eye(4, dtype=np.float32)
    references = References(directions[:3], np.arange(3), np.arange(3), np.arange(3), background=0.0)
    asked = normalised(np.array([[0.0, 0.6, 0.65, 0.4]], np.float32))
    evidence = neighbour_evidence(asked, np.array([-1]), references, 3)
    found = fuse(logits, evidence, FusionParameters(), 0.0)
    assert found.p_model[0].argmax() == 0
    assert found.p_knn[0].argmax() == 2
    assert found.probabilities[0].argmax() == 1


def test_huge_logits_leave_finite_scores() -> None:
    evidence = neighbour_evidence(
        np.eye(2, dtype=np.float32)[:1],
        np.array([-1]),
        References.build(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64)),
        3,
    )
    found = fuse(np.array([[3e38, -3e38, 0]], np.float32), evidence, FusionParameters(), 0.0)
    assert found.probabilities.tolist() == [[1.0, 0.0, 0.0]]


def test_a_fusion_that_makes_no_sense_is_refused() -> None:
    logits, evidence, background = made(CASES["labels without verified photos"])
    for bad in (np.nan, np.inf):
        broken = logits.copy()
        broken[3, 4] = bad
        for allowed in (None, np.array([True, True, True, True, False])):
            with pytest.raises(InvalidInputError, match="finite"):
                fuse(broken, evidence, FusionParameters(), background, allowed)
    with pytest.raises(InvalidInputError, match="5 labels for 6 classes"):
        fuse(np.zeros((25, 6), np.float32), evidence, FusionParameters(), background)
    nothing = neighbour_evidence(
        np.eye(2, dtype=np.float32),
        np.array([1, 2]),
        References.build(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64)),
        0,
    )
    with pytest.raises(InvalidInputError, match="0 labels for 0 classes"):
        fuse(np.zeros((2, 0), np.float32), nothing, FusionParameters(), 0.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sharpness": 0.0}, "has to be above 0"),
        ({"neighbour_scale": -0.1}, "has to be above 0"),
        ({"mean_weight": float("nan")}, "mean_weight is nan"),
        ({"outside": float("-inf")}, "outside is -inf"),
        ({"background": 1.0}, "background is 1.0; it has to be below 1"),
    ],
)
def test_constants_that_make_no_sense_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        FusionParameters(**values)
