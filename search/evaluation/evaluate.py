"""Evaluation of retrieval, labels and the unknown score on a user's own verified photos.

Everything that is fitted is fitted on other photos than those that it is judged on: the queries are halved by
group, and each half is judged with what was fitted on the other. A photo never finds, and is never voted for by, a
photo of its own group (copies, frames of an event, or the groups of the chosen split).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.search.evaluation.rankings import FrequencyScores, by_frequency, ranked, refined_unit
from birdsearch.search.labels.calibration import fit, fit_fusion, halves
from birdsearch.search.labels.fusion import (
    FusionParameters,
    NeighbourEvidence,
    References,
    fuse,
    neighbour_evidence,
)
from birdsearch.search.labels.space import LabelSpace
from birdsearch.search.labels.unknown import signs, unknown_score
from birdsearch.search.metrics.retrieval import KnnScores, RetrievalScores, knn_scores
from birdsearch.search.metrics.sampling import few_shot
from birdsearch.search.query.softmax import softmax

__all__ = ["Evaluation", "Labelled", "MethodScores", "Setting", "UnknownScores", "evaluate"]

_SHOTS = (1, 2, 5, 10)
_HIDDEN = 5  # every fifth species
_FEWEST = 40

Progress = Callable[[str], None]
"""Called with the name of what is measured next."""


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Verified photos that are to be judged on.

    Attributes:
        references: All of them, with their labels and groups.
        logits: (V, M) float32.
        voters: (V,) bool, those that may be found and that vote.
        queries: (V,) bool, those that are asked about.
        probe: (V, P) float64 probabilities by a linear probe that never saw the photo's group, over `probe_labels`;
            None without one.
        probe_labels: (P,) int64 numbers of the labels in the label space.
    """

    references: References
    logits: NDArray[np.float32]
    voters: NDArray[np.bool_]
    queries: NDArray[np.bool_]
    probe: NDArray[np.float64] | None = None
    probe_labels: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MethodScores:
    """Answers of one method to the queries.

    Attributes:
        right: (Q,) bool, whether its likeliest label is the verified one.
        right5: (Q,) bool, whether the verified label is among its five likeliest.
        confidence: (Q,) float64, the probability of its likeliest label.
        likelihood: (Q,) float64, the probability that it gave the verified label.
    """

    right: NDArray[np.bool_]
    right5: NDArray[np.bool_]
    confidence: NDArray[np.float64]
    likelihood: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """Answers to the queries under one state of knowledge.

    Attributes:
        name: Its name in the report.
        rows: (Q,) int64, the rows of the queries in the references.
        methods: Answers by method.
        knn_weight: (Q,) float64, the verified photos' part in the fused labels.
        fusion: What was fitted, on the first half of the queries.
    """

    name: str
    rows: NDArray[np.int64]
    methods: Mapping[str, MethodScores]
    knn_weight: NDArray[np.float64]
    fusion: FusionParameters


@dataclass(frozen=True, slots=True, eq=False)
class UnknownScores:
    """Scores for birds of no known label: species held out in turn, each photo judged by a fit without its species.

    Attributes:
        unknown: (N,) bool, whether the label was held out.
        scores: By method, (N,) float64; higher is more likely unknown.
        fold: (N,) int64, which species were held out: scores compare within a fold only.
    """

    unknown: NDArray[np.bool_]
    scores: Mapping[str, NDArray[np.float64]]
    fold: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Everything that was measured.

    Attributes:
        photos: Verified photos.
        groups: (Q,) int64, the groups of the queries.
        labels: (Q,) int64, their labels.
        retrieval: By ranking (`plain`, `refined`).
        frequencies: The same where species have few photos.
        knn: k-NN classification by the usual protocol, by ranking.
        settings: The first is the catalog as it is.
        unknown: None where there are too few species.
    """

    photos: int
    groups: NDArray[np.int64]
    labels: NDArray[np.int64]
    retrieval: Mapping[str, RetrievalScores]
    frequencies: tuple[FrequencyScores, ...]
    knn: Mapping[str, KnnScores]
    settings: tuple[Setting, ...]
    unknown: UnknownScores | None


def evaluate(
    data: Labelled, space: LabelSpace, *, seed: int = 0, progress: Progress | None = None
) -> Evaluation:
    """Measure retrieval, labels and the unknown score on verified photos.

    Args:
        data: The photos.
        space: The labels.
        seed: Decides halves, what is hidden, and which photos remain with few labels each.
        progress: Called before each step.

    Returns:
        Answers photo by photo, from which every score and its interval follow.

    Raises:
        InvalidInputError: Fewer than 40 photos are asked about, or they have fewer than 2 labels or 20 groups.
    """
    report = progress or (lambda _what: None)
    rows = np.flatnonzero(data.queries)
    references = data.references
    if len(rows) < _FEWEST or len(np.unique(references.labels[rows])) < 2:
        raise InvalidInputError(
            f"{len(rows)} verified photos with {len(np.unique(references.labels[rows]))} labels are too few to "
            f"measure on; verify at least {_FEWEST} photos of 2 species (`birdsearch annotate`)"
        )
    report("retrieval")
    refined = refined_unit(references.unit, data.voters)
    retrieval, knn = {}, {}
    for name, unit in (("plain", references.unit), ("refined", refined)):
        retrieval[name] = ranked(references, unit, data.voters, rows)
        knn[name] = knn_scores(
            unit[rows],
            references.labels[rows],
            references.groups[rows],
            unit[data.voters],
            references.labels[data.voters],
            references.groups[data.voters],
        )
    frequencies = by_frequency(references, data.voters, rows, seed)
    settings: list[Setting] = []
    for name, voters, hidden in _scenes(data, space, seed):
        report(name)
        settings.append(
            _setting(name, data, space, rows, voters, hidden, refined if not settings else None, seed)
        )
    unknown = None
    if len(np.unique(references.labels[rows])) >= 2 * _HIDDEN:
        report("unknown species")
        unknown = _unknown(data, space, rows, seed)
    return Evaluation(
        photos=len(references),
        groups=references.groups[rows],
        labels=references.labels[rows],
        retrieval=retrieval,
        frequencies=frequencies,
        knn=knn,
        settings=tuple(settings),
        unknown=unknown,
    )


def _scenes(
    data: Labelled, space: LabelSpace, seed: int
) -> list[tuple[str, NDArray[np.bool_], NDArray[np.int64]]]:
    """Return states of knowledge: name, voters, and the labels that the network is held not to know."""
    references = data.references
    asked = np.unique(references.labels[data.queries])
    none = np.zeros(0, np.int64)
    found = [("as it is", data.voters, none)]
    voting = np.flatnonzero(data.voters)
    labels, groups = references.labels[voting], references.groups[voting]

    def few(shots: int) -> NDArray[np.bool_]:
        chosen = np.zeros(len(references), bool)
        chosen[voting[few_shot(labels, groups, shots, seed)]] = True
        return chosen

    # The smallest first; as many labels as there are anyway are no setting of their own.
    most = max(np.unique(groups[labels == label]).size for label in np.unique(labels))
    found += [
        (f"{shots} label{'s' if shots > 1 else ''} a species", few(shots), none)
        for shots in _SHOTS
        if shots < most
    ]
    in_model = asked[asked < space.classes]
    if len(in_model) >= _HIDDEN:
        shuffled = np.random.default_rng(seed).permutation(in_model)
        hidden = np.sort(shuffled[: len(shuffled) // _HIDDEN])
        found.append(("1 species in 5 unknown to the network", data.voters, hidden))
        if most > 5:
            found.append(("1 in 5 unknown to the network, 5 labels each", few(5), hidden))
        unlabelled = np.sort(shuffled[len(hidden) : len(hidden) + len(shuffled) // 2])
        rest = ~np.isin(references.labels, unlabelled)
        found.append(("half the species without a label", data.voters & rest, none))
        if most > 5:
            found.append(
                ("1 in 5 unknown to the network, half without a label, 5 labels each", few(5) & rest, hidden)
            )
    return found


def _setting(
    name: str,
    data: Labelled,
    space: LabelSpace,
    rows: NDArray[np.int64],
    voters: NDArray[np.bool_],
    hidden: NDArray[np.int64],
    refined: NDArray[np.float32] | None,
    seed: int,
) -> Setting:
    allowed = np.ones(space.classes, bool)
    allowed[hidden] = False
    both = halves(rows, data.references.groups, seed)
    parts: dict[str, list[tuple[NDArray[np.int64], NDArray[np.float64]]]] = {}
    weights, fitted = [], []
    for fitted_on, judged in (both, both[::-1]):
        fusion = _fusion(data, data.references, space, fitted_on, voters, allowed, seed)
        fitted.append(fusion)
        truth = data.references.labels[judged]
        evidence = _evidence(data.references, data.references.where(voters), judged, len(space))
        background = data.references.background
        before = fuse(data.logits[judged], evidence, FusionParameters(), background, allowed)
        after = fuse(data.logits[judged], evidence, fusion, background, allowed)
        weights.append((judged, after.knn_weight))
        answers = {
            "network": after.p_model,
            "k-NN": after.p_knn,
            "fused": after.probabilities,
            "fused, not fitted": before.probabilities,
        }
        if refined is not None:
            moved = replace(data.references, unit=refined)
            refit = _fusion(data, moved, space, fitted_on, voters, allowed, seed)
            sharp = _evidence(moved, moved.where(voters), judged, len(space))
            better = fuse(data.logits[judged], sharp, refit, background, allowed)
            answers |= {"k-NN, refined": better.p_knn, "fused, refined": better.probabilities}
            if data.probe is not None and data.probe_labels is not None:
                wide = np.zeros((len(judged), len(space)))
                wide[:, data.probe_labels] = data.probe[judged]
                answers["probe"] = wide
        for method, probabilities in answers.items():
            parts.setdefault(method, []).append((judged, _judged(probabilities, truth)))
    methods = {}
    for method, found in parts.items():
        table = _in_order(found, rows)
        methods[method] = MethodScores(table[:, 0] > 0, table[:, 1] > 0, table[:, 2], table[:, 3])
    return Setting(name, rows, methods, _in_order(weights, rows), fitted[0])


def _fusion(
    data: Labelled,
    references: References,
    space: LabelSpace,
    rows: NDArray[np.int64],
    voters: NDArray[np.bool_],
    allowed: NDArray[np.bool_],
    seed: int,
) -> FusionParameters:
    on = _mask(rows, len(references))
    return fit_fusion(data.logits, references, space, on=on, voters=voters, allowed=allowed, seed=seed)


def _mask(rows: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    mask = np.zeros(count, bool)
    mask[rows] = True
    return mask


def _evidence(
    references: References, voters: References, rows: NDArray[np.int64], labels: int
) -> NeighbourEvidence:
    return neighbour_evidence(references.unit[rows], references.groups[rows], voters, labels)


def _judged(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (Q, 4): right, among the five likeliest, confidence, likelihood of the truth; no answer is wrong."""
    rows = np.arange(len(truth))
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
    silent = ~(probabilities > 0).any(axis=1)
    right5 = (order == truth[:, None]).any(axis=1) & (probabilities[rows, truth] > 0)
    right = (order[:, 0] == truth) & ~silent
    return np.stack([right, right5, probabilities.max(axis=1), probabilities[rows, truth]], axis=1).astype(
        float
    )


def _in_order(
    parts: list[tuple[NDArray[np.int64], NDArray[np.float64]]], rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    found_rows = np.concatenate([part for part, _ in parts])
    values = np.concatenate([found for _, found in parts])
    order = np.argsort(found_rows, kind="stable")
    return np.asarray(values[order][np.searchsorted(found_rows[order], rows)])


def _unknown(data: Labelled, space: LabelSpace, rows: NDArray[np.int64], seed: int) -> UnknownScores:
    """Hold every fifth species out in turn, from the fit, the voters and the classes."""
    references = data.references
    order = np.random.default_rng(seed).permutation(np.unique(references.labels[rows]))
    both = halves(rows, references.groups, seed)
    unknown, folds = [], []
    scores: dict[str, list[NDArray[np.float64]]] = {}
    for fold in range(_HIDDEN):
        hidden = order[fold::_HIDDEN]
        is_hidden = np.isin(references.labels, hidden)
        allowed = np.ones(space.classes, bool)
        allowed[hidden[hidden < space.classes]] = False
        voters = data.voters & ~is_hidden
        for fitted_on, judged in (both, both[::-1]):
            known = fitted_on[~is_hidden[fitted_on]]
            calibration = fit(
                data.logits,
                references,
                space,
                on=_mask(known, len(references)),
                voters=voters,
                allowed=allowed,
                seed=seed,
                judge=False,
            )
            evidence = _evidence(references, references.where(voters), judged, len(space))
            logits, background = data.logits[judged], references.background
            found = fuse(logits, evidence, calibration.fusion, background, allowed)
            shown = signs(logits, evidence, found, background, allowed)
            plain = softmax(logits[:, allowed]) if allowed.any() else np.ones((len(judged), 1))
            for name, score in (
                ("combined", unknown_score(shown, calibration.unknown)),
                ("max-softmax", -plain.max(axis=1)),
                ("energy", -shown[:, 5]),
                ("k-NN distance", -evidence.cosines[:, 9].astype(np.float64)),
                ("nearest distance", -evidence.cosines[:, 0].astype(np.float64)),
                ("fused probability", -found.probabilities.max(axis=1)),
            ):
                scores.setdefault(name, []).append(score)
            unknown.append(is_hidden[judged])
            folds.append(np.full(len(judged), 2 * fold + (judged is both[0])))
    return UnknownScores(
        np.concatenate(unknown),
        {name: np.concatenate(found) for name, found in scores.items()},
        np.concatenate(folds),
    )
