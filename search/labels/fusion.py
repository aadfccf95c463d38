"""The label of a photo, from the network's logits and the verified photos that look like it.

The two are independent experts, each of which knows only some labels. Their evidence is added as log-odds (a
product of experts: Hinton, Neural Computation 14, 2002), and an expert that does not know a label says about
it what a constant says, fitted like the rest: for a label c of a photo with unit-norm embedding z,

    n(c) = log softmax(r a logits)(c)
    e(c) = w log(1 + sum_i [y_i = c] exp((s_i - s0) / tau)) + v (z.m_c - c0)

    score(c) = n(c) + e(c)           if c is a class of the model and has verified photos,
               n(c) / r + b          if it is a class and has none,
               outside + g e(c)      if it has verified photos and is no class,
    p = softmax(score)

over the k nearest verified photos i with similarities s_i and labels y_i; m_c is the unit-norm mean of the
verified photos of c (nearest class mean: Mensink et al., TPAMI 35, 2013). A label that is neither a class nor
verified has no part. Similarities are measured from their background: s = (cosine - mu) / (1 - mu) with mu the
mean cosine of two photos of different groups, so that one set of defaults suits networks whose vectors are spread
differently.

The two experts see the same embedding, so that what they say is not independent: where both know a label, the
network's say is discounted by r < 1. Where only one of them knows it, it speaks undiscounted (n / r is a logits up
to a constant), the photos by the factor g. Without any verified photo, p is softmax(a logits). On real photos of 50
species, fitted and measured on separate halves, r, b and g took the log loss from 0.49 to 0.45 with everything
verified, and from 0.88 to 0.79 where each expert knew only some species.

NOTE: a mixture (1 - lambda) p_model + lambda p_knn cannot say that both experts agree on the second choice, and
needs a lambda for each combination of what is known to whom. On real photos of 50 species, fitted and measured
on separate halves, it was behind by 1 to 3 points of top-1 in every setting. What lambda expresses is kept: the
part of the decision that the neighbours made (`knn_weight`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import faiss
import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.search.query.background import above_background, background_cosine
from birdsearch.search.query.hits import LabelEstimate
from birdsearch.search.query.softmax import softmax

__all__ = [
    "VOTE_TAU",
    "Estimates",
    "FusionParameters",
    "NeighbourEvidence",
    "References",
    "fuse",
    "neighbour_evidence",
    "top_labels",
]

VOTE_TAU = 0.07
"""Temperature of `p_knn`, the usual one of weighted k-NN (Wu et al., arXiv 1805.01978)."""

_NEIGHBOURS = 20
# Neighbours fetched beyond k before those of the own group are dropped.
_SPARE = 44
_ROWS = 512
# How far FAISS's cosine in float32 may be from the exact one.
_SLACK = 1e-4


def top_labels(logits: NDArray[np.float32], classes: Sequence[str], k: int = 5) -> tuple[LabelEstimate, ...]:
    """Return the likeliest classes of one photo, by the network alone.

    Args:
        logits: (classes,) float32.
        classes: Class names in the order of the logits.
        k: How many; fewer if there are fewer classes.

    Returns:
        Likeliest first; of equal logits, the lower class index first.

    Raises:
        InvalidInputError: Logits and classes differ in number, `k` is negative, or a logit is not finite.
    """
    if logits.shape != (len(classes),):
        raise InvalidInputError(f"logits must have the shape ({len(classes)},), got {logits.shape}")
    if k < 0:
        raise InvalidInputError(f"k must be at least 0, got {k}")
    probabilities = softmax(logits)
    # By logit: distinct small logits can have the same probability of 0.
    order = np.argsort(-logits.astype(np.float64), kind="stable")[:k]
    return tuple(
        LabelEstimate(
            name=classes[index],
            scientific_name=None,
            rank="species",
            probability=float(probabilities[index]),
            p_model=float(probabilities[index]),
        )
        for index in order
    )


@dataclass(frozen=True, slots=True)
class FusionParameters:
    """The constants of the estimate; see the module's formula.

    Attributes:
        sharpness: a, 1 / T of the logits: above 1 sharpens them.
        discount: r, how much of the network's say is left for a label that has verified photos, above 0.
        alone: b, added for a class without verified photos.
        outside: Score of a label that the model has no class for.
        outside_factor: g, by how much the verified photos of such a label count more.
        neighbour_weight: w.
        neighbour_floor: s0, background-free similarity from which a neighbour counts.
        neighbour_scale: tau.
        mean_weight: v.
        mean_floor: c0.
        background: mu, or None to take it from the references.
    """

    sharpness: float = 1.0
    discount: float = 1.0
    alone: float = 0.0
    outside: float = -3.0
    outside_factor: float = 1.0
    neighbour_weight: float = 0.3
    neighbour_floor: float = 0.05
    neighbour_scale: float = 0.06
    mean_weight: float = 5.0
    mean_floor: float = 0.25
    background: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not np.isfinite(value):
                raise InvalidInputError(f"{field.name} is {value}; it has to be a finite number")
        for name in ("sharpness", "discount", "neighbour_scale"):
            if getattr(self, name) <= 0:
                raise InvalidInputError(f"{name} is {getattr(self, name)}; it has to be above 0")
        if self.background is not None and self.background >= 1:
            raise InvalidInputError(f"background is {self.background}; it has to be below 1")


@dataclass(frozen=True, eq=False)
class References:
    """Verified photos: the only ones that vote, since predictions are no independent evidence.

    Attributes:
        unit: (V, C) float32, unit-norm.
        labels: (V,) int64, numbers of the labels in a `LabelSpace`.
        groups: (V,) int64; photos of a group do not vote for each other.
        background: Mean cosine of two of the photos that are not of one group; 0 for fewer than two groups.
        view_ids: (V,) int64, whose the vectors are.
    """

    unit: NDArray[np.float32]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    view_ids: NDArray[np.int64]
    background: float

    @classmethod
    def build(
        cls,
        unit: NDArray[np.float32],
        labels: NDArray[np.int64],
        groups: NDArray[np.int64],
        view_ids: NDArray[np.int64] | None = None,
    ) -> References:
        """Build references; their background is worked out from themselves."""
        if not len(unit) == len(labels) == len(groups):
            raise InvalidInputError(
                f"{len(unit)} vectors need as many labels and groups, got {len(labels)} and {len(groups)}"
            )
        ids = np.arange(len(unit), dtype=np.int64) if view_ids is None else view_ids
        return cls(
            np.ascontiguousarray(unit, np.float32), labels, groups, ids, background_cosine(unit, groups)
        )

    def __len__(self) -> int:
        return len(self.unit)

    @cached_property
    def by_group(self) -> dict[int, NDArray[np.int64]]:
        """Rows of the photos of each group."""
        order = np.argsort(self.groups, kind="stable")
        values, starts = np.unique(self.groups[order], return_index=True)
        return dict(zip(values.tolist(), np.split(order, starts[1:]), strict=True))

    @cached_property
    def sums(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Sum of the vectors of each label (n, C) float64, and how many there are (n,); labels beyond have none."""
        sizes = np.bincount(self.labels)
        sums = np.zeros((len(sizes), self.unit.shape[1]))
        np.add.at(sums, self.labels, self.unit.astype(np.float64))
        return sums, sizes

    @cached_property
    def centres(self) -> NDArray[np.float64]:
        """(n, C) float64: the sums as unit vectors; zeros for a label that has no photo."""
        lengths = np.linalg.norm(self.sums[0], axis=1)
        return np.asarray(self.sums[0] / np.where(lengths > 0, lengths, 1.0)[:, None])

    def where(self, keep: NDArray[np.bool_]) -> References:
        """Return some of the photos, with the same background."""
        return replace(
            self,
            unit=np.ascontiguousarray(self.unit[keep]),
            labels=self.labels[keep],
            groups=self.groups[keep],
            view_ids=self.view_ids[keep],
        )


@dataclass(frozen=True, slots=True, eq=False)
class NeighbourEvidence:
    """Evidence of the verified photos about some photos, before any parameter is applied.

    Attributes:
        nearest: (B, k) int64 rows of the nearest references, nearest first; -1 where there are no more.
        cosines: (B, k) float32; -1 where there is none.
        votes: (B, k) int64, the labels of the nearest; -1 where there is none.
        means: (B, L) float32, cosine to the mean of a label's references; 0 for a label without any.
        verified: (B, L) bool, labels that have a reference outside the photo's own group.
    """

    nearest: NDArray[np.int64]
    cosines: NDArray[np.float32]
    votes: NDArray[np.int64]
    means: NDArray[np.float32]
    verified: NDArray[np.bool_]


def neighbour_evidence(
    unit: NDArray[np.float32],
    groups: NDArray[np.int64],
    references: References,
    labels: int,
    k: int = _NEIGHBOURS,
) -> NeighbourEvidence:
    """Find the nearest references of photos and the cosine to the mean of each label, own groups left out.

    Args:
        unit: (B, C) float32, unit-norm.
        groups: (B,) int64; a reference of the same group has no part. -1 is a group of its own.
        references: The verified photos.
        labels: L, how many labels there are.
        k: How many neighbours.

    Returns:
        The evidence; of equally near references the first counts.

    Raises:
        InvalidInputError: The numbers of vectors and groups differ.
    """
    count = len(unit)
    if len(groups) != count:
        raise InvalidInputError(f"{count} vectors need as many groups, got {len(groups)}")
    nearest = np.full((count, k), -1, np.int64)
    cosines = np.full((count, k), -1.0, np.float32)
    means = np.zeros((count, labels), np.float32)
    verified = np.zeros((count, labels), bool)
    if len(references) == 0 or count == 0:
        return NeighbourEvidence(nearest, cosines, nearest.copy(), means, verified)
    sums, sizes = references.sums
    for start in range(0, count, _ROWS):
        rows = slice(start, min(start + _ROWS, count))
        # (B, C) @ (C, n) -> (B, n)
        means[rows, : len(sizes)] = unit[rows] @ references.centres.T
        verified[rows, : len(sizes)] = sizes > 0
        nearest[rows], cosines[rows] = _nearest(unit[rows], groups[rows], references, k)
    for row, group in enumerate(groups.tolist()):
        if group == -1:
            continue  # A group of its own.
        own = references.by_group.get(group, np.zeros(0, np.int64))
        for label in np.unique(references.labels[own]).tolist():
            mine = own[references.labels[own] == label]
            rest = sums[label] - references.unit[mine].astype(np.float64).sum(axis=0)
            length = float(np.linalg.norm(rest))
            verified[row, label] = sizes[label] > len(mine)
            means[row, label] = unit[row] @ rest / length if verified[row, label] and length > 0 else 0.0
    votes = np.where(nearest >= 0, references.labels[nearest], -1)
    return NeighbourEvidence(nearest, cosines, votes, means, verified)


def _nearest(
    unit: NDArray[np.float32], groups: NDArray[np.int64], references: References, k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return rows and cosines of the k nearest of other groups: (B, k) each, filled up with -1."""
    count, total = len(unit), len(references)
    nearest = np.full((count, k), -1, np.int64)
    cosines = np.full((count, k), -1.0, np.float32)
    waiting, fetch = np.arange(count), k + _SPARE
    while len(waiting):
        fetch = min(fetch, total)
        scores, found = faiss.knn(unit[waiting], references.unit, fetch, metric=faiss.METRIC_INNER_PRODUCT)
        unfinished = []
        for row, candidates, last in zip(waiting.tolist(), found, scores[:, -1].tolist(), strict=True):
            usable = candidates[(references.groups[candidates] != groups[row]) | (groups[row] == -1)]
            # In float64 and summed row by row, which a matrix product does not promise, so that the order does
            # not depend on the batch that the photo came in.
            exact = (references.unit[usable].astype(np.float64) * unit[row].astype(np.float64)).sum(axis=1)
            order = np.lexsort((usable, -exact))[:k]
            # What was not fetched may be as near as the k-th, of many that are nearly the same.
            if fetch < total and (len(order) < k or (k and exact[order[-1]] <= last + _SLACK)):
                unfinished.append(row)
                continue
            nearest[row, : len(order)] = usable[order]
            cosines[row, : len(order)] = exact[order]
        waiting, fetch = np.array(unfinished, np.int64), 4 * fetch
    return nearest, cosines


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """Fused labels of some photos.

    Attributes:
        probabilities: (B, L) float64; each row sums to 1.
        p_model: (B, L) float64, the network alone at the fitted sharpness; 0 for labels it has no class for.
        p_knn: (B, L) float64, the weighted vote of the nearest alone; all 0 where none voted.
        knn_weight: (B,) float64, 0..1: how much of the log-odds between the two likeliest labels is from
            the verified photos; 0 is the network alone.
    """

    probabilities: NDArray[np.float64]
    p_model: NDArray[np.float64]
    p_knn: NDArray[np.float64]
    knn_weight: NDArray[np.float64]


def fuse(
    logits: NDArray[np.float32],
    evidence: NeighbourEvidence,
    parameters: FusionParameters,
    background: float,
    allowed: NDArray[np.bool_] | None = None,
) -> Estimates:
    """Fuse logits and the verified photos' evidence into labels; see the module's formula.

    Args:
        logits: (B, M) float32 of the model's classes, which are the first M labels.
        evidence: What the verified photos say, over L >= M labels.
        parameters: The constants.
        background: mu, used where the parameters have none.
        allowed: (M,) classes that the model is held to know; all by default. Used to measure what happens where
            it does not know one.

    Returns:
        The estimates. A row without any label that is known to the model or verified is impossible: L >= 1.

    Raises:
        InvalidInputError: There is no label at all, or a logit is not finite.
    """
    count, total = evidence.means.shape
    classes = logits.shape[1]
    if total == 0 or total < classes:
        raise InvalidInputError(
            f"{total} labels for {classes} classes; there has to be one at least for each"
        )
    if not np.isfinite(logits).all():
        raise InvalidInputError("logits must be finite, got NaN or infinity; the embedding is damaged")
    known = np.zeros(total, bool)
    known[:classes] = True if allowed is None else allowed
    sharp = np.full((count, total), -np.inf)
    sharp[:, :classes] = np.where(known[:classes], parameters.sharpness * logits.astype(np.float64), -np.inf)
    p_model = np.exp(_log_softmax(sharp)) if known.any() else np.zeros_like(sharp)
    said = _log_softmax(parameters.discount * sharp) if known.any() else sharp
    said = np.where(evidence.verified, said, said / parameters.discount + parameters.alone)
    from_model = np.where(known, said, parameters.outside)
    from_photos = _from_photos(evidence, parameters, background)
    from_photos[:, ~known] *= parameters.outside_factor
    score = np.where(known | evidence.verified, from_model + from_photos, -np.inf)
    # Neither expert has a say: every label is as likely.
    score[~np.isfinite(score).any(axis=1)] = 0.0
    probabilities = np.exp(score - score.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return Estimates(
        probabilities,
        p_model,
        _vote(evidence),
        _share(probabilities, from_model, from_photos, evidence),
    )


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    below = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(below - np.log(np.exp(below).sum(axis=1, keepdims=True)))


def _from_photos(
    evidence: NeighbourEvidence, parameters: FusionParameters, background: float
) -> NDArray[np.float64]:
    """Return log-odds of each label by the verified photos: (B, L)."""
    mu = background if parameters.background is None else parameters.background
    alike = above_background(evidence.cosines, mu)
    mass = _by_label(evidence, np.exp((alike - parameters.neighbour_floor) / parameters.neighbour_scale))
    means = above_background(evidence.means, mu)
    found = parameters.neighbour_weight * np.log1p(mass) + parameters.mean_weight * (
        means - parameters.mean_floor
    )
    return np.where(evidence.verified, found, 0.0)


def _by_label(evidence: NeighbourEvidence, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum the weights of the neighbours, (B, k), by label: (B, L)."""
    present = evidence.nearest >= 0
    sums = np.zeros(evidence.means.shape)
    np.add.at(sums, (np.nonzero(present)[0], evidence.votes[present]), weights[present])
    return sums


def _vote(evidence: NeighbourEvidence) -> NDArray[np.float64]:
    vote = _by_label(evidence, np.exp((evidence.cosines.astype(np.float64) - 1.0) / VOTE_TAU))
    sums = vote.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(vote, sums, out=np.zeros_like(vote), where=sums > 0))


def _share(
    probabilities: NDArray[np.float64],
    from_model: NDArray[np.float64],
    from_photos: NDArray[np.float64],
    evidence: NeighbourEvidence,
) -> NDArray[np.float64]:
    rows = np.arange(len(probabilities))
    if probabilities.shape[1] < 2:
        return np.where(evidence.verified.any(axis=1), 1.0, 0.0)
    # The two likeliest; of equals the lower label.
    first, second = np.argsort(-probabilities, axis=1, kind="stable")[:, :2].T
    by_model = np.abs(from_model[rows, first] - from_model[rows, second])
    by_photos = np.abs(from_photos[rows, first] - from_photos[rows, second])
    both = by_model + by_photos
    return np.asarray(np.divide(by_photos, both, out=np.zeros_like(both), where=both > 0))
