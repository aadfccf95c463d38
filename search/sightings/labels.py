"""Labels of sightings, and the photo that shows each best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdsearch.indexer.catalog.embeddings import normalised, stored_vectors
from birdsearch.indexer.catalog.filtered_photos import allowed_views
from birdsearch.indexer.catalog.filters import Where
from birdsearch.indexer.catalog.frames import Frames, largest_boxes
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.search.labels.estimator import LabelEstimator
from birdsearch.search.labels.fusion import References
from birdsearch.search.labels.unknown import roll_up
from birdsearch.search.query.vote_groups import join_groups
from birdsearch.search.sightings.pooling import likeness, pool_labels, pool_scores

__all__ = ["FusedLabel", "bird_sizes", "fused_labels", "representatives"]

# Exposures whose probabilities are held at a time, and those of one sighting that are asked: a longer one is
# asked in equal steps.
_CHUNK, _MOST = 2048, 512
# Two bursts of one sighting are of one bird in one place: however different they look, errors are shared.
_LEAST_SHARED = 0.5


@dataclass(frozen=True, slots=True)
class FusedLabel:
    """The label of several frames together.

    Attributes:
        name: The label at the finest rank that is as sure as asked.
        rank: `species`, `genus`, `family`, `order` or `bird`.
        probability: That it is right, 0..1.
        species: The likeliest label.
        unknown: Probability that the bird is of no known label, 0..1.
    """

    name: str
    rank: str
    probability: float
    species: str
    unknown: float


def fused_labels(
    store: CatalogStore,
    estimator: LabelEstimator,
    frames: Frames,
    events: NDArray[np.int64],
    sightings: NDArray[np.int64],
    bursts: NDArray[np.int64],
    rows: NDArray[np.int64],
    confidence: float,
) -> tuple[dict[int, FusedLabel], NDArray[np.float64]]:
    """Label sightings by their exposures, from the stored vectors.

    The exposures of a burst are pooled with the dependence that their likeness tells, then the bursts with what
    theirs tells, but at least a half (see `birdsearch.search.sightings.pooling`). No verified photo votes for
    its own event.

    Args:
        store: An open catalog.
        estimator: Its label estimate; it has a label at least.
        frames: N frames.
        events: (N,) int64.
        sightings: (N,) int64.
        bursts: (N,) int64.
        rows: (E,) int64, the exposures that are asked, by the rows of their frames.
        confidence: What a rank has to reach, 0..1.

    Returns:
        The labels by sighting; and (N,) float64, for each exposure asked how probable it makes the likeliest label
        of its sighting, NaN for the others.
    """
    references, groups = _groups(store, estimator, frames, events)
    row = rows[np.lexsort((rows, bursts[rows], sightings[rows]))]
    starts = np.flatnonzero(np.diff(sightings[row], prepend=-1))
    members = [_spaced(part) for part in np.split(row, starts[1:])] if len(row) else []
    found: dict[int, FusedLabel] = {}
    sure = np.full(len(frames), np.nan)
    waiting: list[NDArray[np.int64]] = []
    for index, some in enumerate(members):
        waiting.append(some)
        if index + 1 == len(members) or sum(map(len, waiting)) + len(members[index + 1]) > _CHUNK:
            _label(
                store,
                estimator,
                frames,
                sightings,
                bursts,
                waiting,
                (references, groups),
                confidence,
                found,
                sure,
            )
            waiting = []
    return found, sure


def _spaced(members: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(members) <= _MOST:
        return members
    return members[np.arange(_MOST) * len(members) // _MOST]


def _groups(
    store: CatalogStore, estimator: LabelEstimator, frames: Frames, events: NDArray[np.int64]
) -> tuple[References, NDArray[np.int64]]:
    """Return the references, and the group of each frame: what votes for it is neither of its event nor near it."""
    if not len(estimator.references):
        return estimator.references, np.full(len(frames), -1, np.int64)
    view_ids = allowed_views(store, estimator.record.id, Where())
    references, groups = estimator.groups_for(store, view_ids.tolist(), with_links=False)
    ids = np.unique(np.concatenate([view_ids, groups, references.groups, frames.view_ids]))
    labels = np.arange(len(ids))
    join_groups(labels, np.searchsorted(ids, view_ids), np.searchsorted(ids, groups))
    own = np.searchsorted(ids, frames.view_ids)
    join_groups(labels, own, own[events])
    joined = References(
        references.unit,
        references.labels,
        ids[labels[np.searchsorted(ids, references.groups)]],
        references.view_ids,
        references.background,
    )
    return joined, ids[labels[own]]


def _label(
    store: CatalogStore,
    estimator: LabelEstimator,
    frames: Frames,
    sightings: NDArray[np.int64],
    bursts: NDArray[np.int64],
    members: list[NDArray[np.int64]],
    grouped: tuple[References, NDArray[np.int64]],
    confidence: float,
    found: dict[int, FusedLabel],
    sure: NDArray[np.float64],
) -> None:
    """Label some sightings, into `found` and `sure`."""
    references, groups = grouped
    rows = np.concatenate(members)
    vectors, usable = stored_vectors(store, estimator.record.id, frames.view_ids[rows])
    usable &= np.isfinite(estimator.logits(vectors)).all(axis=1)
    rows, vectors = rows[usable], vectors[usable]
    if not len(rows):
        return
    answers = estimator.answer(vectors, groups[rows], confidence, references)
    unit, all_probabilities = normalised(vectors), answers.estimates.probabilities
    parameters = estimator.calibration.unknown
    prior = 1.0 / (1.0 + float(np.exp(-np.clip(parameters.intercept, -20.0, 20.0))))
    names, pooled, unknown = [], [], []
    edges = np.flatnonzero(np.diff(sightings[rows], prepend=-1, append=-1))
    for at, upto in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        part = slice(at, upto)
        p, score = _pooled(
            all_probabilities[part], answers.unknown[part], unit[part], bursts[rows[part]],
            references.background, prior,
        )  # fmt: skip
        names.append(int(sightings[rows[at]]))
        pooled.append(p)
        unknown.append(score)
        sure[rows[part]] = all_probabilities[part, int(p.argmax())]
    rolled = roll_up(np.stack(pooled), np.array(unknown), estimator.space, confidence, parameters)
    for name, one, score in zip(names, rolled, unknown, strict=True):
        found[name] = FusedLabel(
            one.name, one.rank, one.probability, estimator.space.names[one.species], score
        )


def _pooled(
    probabilities: NDArray[np.float64],
    unknown: NDArray[np.float64],
    unit: NDArray[np.float32],
    bursts: NDArray[np.int64],
    background: float,
    prior: float,
) -> tuple[NDArray[np.float64], float]:
    """Return one sighting's probabilities (L,), and that its bird is of no known label."""
    shared = likeness(unit, bursts, background)
    p, scores, means = [], [], []
    for burst in np.unique(bursts):
        own = bursts == burst
        one = np.zeros(int(own.sum()), np.int64)
        p.append(pool_labels(probabilities[own], one, shared[own]))
        scores.append(pool_scores(unknown[own], one, shared[own], prior))
        means.append(unit[own].astype(np.float64).mean(axis=0))
    together = np.zeros(len(p), np.int64)
    between = likeness(normalised(np.stack(means).astype(np.float32)), together, background)
    rho = np.maximum(between, _LEAST_SHARED)
    return pool_labels(np.stack(p), together, rho), pool_scores(np.array(scores), together, rho, prior)


def bird_sizes(store: CatalogStore, frames: Frames) -> NDArray[np.float64]:
    """Return the part of each frame that its largest box takes, (N,) float64, 0..1; NaN where there is none."""
    found = np.full(len(frames), np.nan)
    if len(frames):
        boxed, sizes = largest_boxes(store)
        order = np.argsort(frames.photo_ids)
        ids = frames.photo_ids[order]
        at = np.minimum(np.searchsorted(ids, boxed), len(ids) - 1)
        known = ids[at] == boxed
        found[order[at[known]]] = sizes[known]
    return found


def representatives(
    sightings: NDArray[np.int64], rows: NDArray[np.int64], signs: tuple[NDArray[np.float64], ...]
) -> dict[int, int]:
    """Return the exposure that shows each sighting best, by Borda's count.

    For each sign (sharpness, size of the bird, how sure the label is), an exposure gets the share of the others of
    its sighting that it exceeds, ties half; one that does not tell the sign gets a half. The highest mean wins; of
    equal ones the higher in the first sign, then the next, then the first by content.

    Args:
        sightings: (N,) int64.
        rows: (E,) int64, the exposures, by the rows of their frames.
        signs: (N,) float64 each, higher is better, NaN where unknown.

    Returns:
        The row of the frame, by sighting.
    """
    score = np.zeros(len(rows))
    group = sightings[rows]
    for sign in signs:
        score += _shares(sign[rows], group)
    keys = [np.nan_to_num(sign[rows], nan=-np.inf) for sign in signs]
    order = np.lexsort((rows, *(-key for key in keys[::-1]), -np.round(score, 9), group))
    first = order[np.flatnonzero(np.diff(group[order], prepend=-1))]
    return dict(zip(group[first].tolist(), rows[first].tolist(), strict=True))


def _shares(values: NDArray[np.float64], group: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for each value the share of the others of its group, as far as known, that it exceeds, ties half."""
    found = np.full(len(values), 0.5)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.lexsort((values[known], group[known]))]
    if not len(order):
        return found
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sizes = np.diff(starts, append=len(order))
    begin, size = np.repeat(starts, sizes), np.repeat(sizes, sizes)
    is_new = (np.diff(group[order], prepend=-1) != 0) | (np.diff(values[order], prepend=np.inf) != 0)
    ties = np.flatnonzero(is_new)
    lengths = np.diff(ties, append=len(order))
    # The mean rank of a run of equal values, from 0.
    rank = np.repeat(ties + (lengths - 1) / 2.0, lengths) - begin
    found[order] = np.where(size > 1, rank / np.maximum(size - 1, 1), 0.5)
    return found
