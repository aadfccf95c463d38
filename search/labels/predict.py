"""Labels for a whole catalog: from stored embeddings, in chunks, with no picture decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.embeddings import stored_vectors
from birdsearch.indexer.catalog.filtered_photos import allowed_views
from birdsearch.indexer.catalog.filters import Where
from birdsearch.indexer.catalog.predictions import add_predictions
from birdsearch.indexer.catalog.records import Prediction
from birdsearch.indexer.catalog.runs import recorded_run
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.verified_labels import labels_in_force
from birdsearch.search.labels.calibration import Calibration, fit, save_calibration
from birdsearch.search.labels.checklist import FLAGS, Checklist, flag_predictions
from birdsearch.search.labels.estimator import Answers, LabelEstimator
from birdsearch.search.labels.fusion import References
from birdsearch.settings import DEFAULT_CONFIDENCE

__all__ = [
    "Doubt",
    "Grouped",
    "LabelSummary",
    "answered",
    "fit_catalog",
    "label_catalog",
    "mislabelled",
    "predict",
]

# Views that are labelled at a time: bounds memory (a few tens of MB at 400 labels), not the answer.
_CHUNK = 2048

Progress = Callable[[int, int], None]
"""Called with the number of views that are done and of all views."""


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """Summary of a `label` run.

    Attributes:
        run_id: The run, which the predictions carry.
        views: Views that were labelled.
        skipped: Views whose stored vector is damaged.
        ranks: Answers by rank.
        names: Answers by name, most frequent first.
        is_calibrated: True if the parameters were fitted on verified photos.
        flags: Number of answers by the flag that the checklist gave them, the gravest first.
    """

    run_id: int
    views: int
    skipped: int
    ranks: dict[str, int]
    names: dict[str, int]
    is_calibrated: bool
    flags: dict[str, int]


def label_catalog(
    store: CatalogStore,
    estimator: LabelEstimator,
    where: Where | None = None,
    confidence: float = DEFAULT_CONFIDENCE,
    progress: Progress | None = None,
    checklist: Checklist | None = None,
) -> LabelSummary:
    """Label every view that meets some conditions, and write the predictions.

    Verified photos are labelled too, without their own vote, so that the two can be compared.

    Args:
        store: A catalog open for writing.
        estimator: Its label estimate.
        where: Conditions on the photos; all of them if None.
        confidence: What a rank has to reach, 0..1.
        progress: Called after each chunk.
        checklist: Flags the answers by when and where their photos were taken; it changes no label.

    Returns:
        The summary.

    Raises:
        InvalidInputError: The confidence is outside its limits, or there is no label to choose.
    """
    if not 0 <= confidence <= 1:
        raise InvalidInputError(f"confidence is {confidence}; it has to be 0 to 1")
    if not len(estimator.space):
        raise InvalidInputError(
            "there is no label to choose: the model has no classes and nothing is verified"
        )
    record = estimator.record
    view_ids = allowed_views(store, record.id, Where() if where is None else where)
    ranks: Counter[str] = Counter()
    names: Counter[str] = Counter()
    flags: Counter[str] = Counter()
    done = 0
    with recorded_run(store, "label", record.id) as (run_id, counts):
        for chunk in predict(store, estimator, view_ids, Grouped.read(store, estimator), confidence):
            if checklist is not None:
                chunk = flag_predictions(store, checklist, chunk, None if where is None else where.coarse_by)
                flags.update(one.flags for one in chunk)
            add_predictions(store, run_id, chunk)
            ranks.update(one.rank for one in chunk)
            names.update(one.name for one in chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, len(view_ids))
        flagged = {flag: flags[flag] for flag in FLAGS if flags[flag]}
        counts.update(views=done, confidence=confidence, ranks=dict(ranks))
        if checklist is not None:
            counts.update(checklist=checklist.source, flags=flagged)
    ordered = dict(sorted(names.items(), key=lambda item: (-item[1], item[0])))
    return LabelSummary(
        run_id,
        done,
        len(view_ids) - done,
        dict(ranks),
        ordered,
        estimator.calibration.is_fitted,
        flagged,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Grouped:
    """Every searchable view with its group; groups do not depend on which views are labelled.

    Attributes:
        references: The verified photos that vote, with their groups.
        view_ids: (N,) int64, rising.
        groups: (N,) int64.
    """

    references: References
    view_ids: NDArray[np.int64]
    groups: NDArray[np.int64]

    @classmethod
    def read(cls, store: CatalogStore, estimator: LabelEstimator) -> Grouped:
        """Read the groups of an open catalog."""
        view_ids = allowed_views(store, estimator.record.id, Where())
        references, groups = estimator.groups_for(store, view_ids.tolist(), with_links=False)
        return cls(references, view_ids, groups)

    def of(self, view_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the groups of some of the views."""
        return self.groups[np.searchsorted(self.view_ids, view_ids)]


def answered(
    store: CatalogStore,
    estimator: LabelEstimator,
    view_ids: NDArray[np.int64],
    grouped: Grouped,
    confidence: float,
) -> Iterator[tuple[NDArray[np.int64], Answers]]:
    """Label stored views, some at a time, so that memory is bounded.

    Args:
        store: An open catalog.
        estimator: Its label estimate.
        view_ids: (N,) int64, searchable views.
        grouped: The groups of the catalog.
        confidence: What a rank has to reach, 0..1.

    Yields:
        Views, in the order given, with their labels; views whose stored vector is damaged are left out.
    """
    for start in range(0, len(view_ids), _CHUNK):
        ids, embeddings, _ = _stored(store, estimator, view_ids[start : start + _CHUNK])
        if len(ids):
            yield ids, estimator.answer(embeddings, grouped.of(ids), confidence, grouped.references)


def predict(
    store: CatalogStore,
    estimator: LabelEstimator,
    view_ids: NDArray[np.int64],
    grouped: Grouped,
    confidence: float,
) -> Iterator[list[Prediction]]:
    """Yield predictions of stored views, some at a time; see `answered`."""
    for ids, answers in answered(store, estimator, view_ids, grouped, confidence):
        yield [_prediction(estimator, answers, row, view_id) for row, view_id in enumerate(ids.tolist())]


def _stored(
    store: CatalogStore, estimator: LabelEstimator, view_ids: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Return the views whose vectors are whole, the vectors (B, C), and the rows of these views in `view_ids`."""
    found, whole = stored_vectors(store, estimator.record.id, view_ids)
    rows, found = np.flatnonzero(whole), found[whole]
    # A flipped bit can make a number so large that its logits overflow.
    usable = np.isfinite(estimator.logits(found)).all(axis=1)
    rows, found = rows[usable], found[usable]
    return view_ids[rows], found, rows


def _prediction(estimator: LabelEstimator, answers: Answers, row: int, view_id: int) -> Prediction:
    estimates, rolled = answers.estimates, answers.rolled[row]
    probabilities = estimates.probabilities[row]
    best = rolled.species
    second = float(np.partition(probabilities, -2)[-2]) if len(probabilities) > 1 else 0.0
    voted = bool((answers.evidence.nearest[row] >= 0).any())
    return Prediction(
        view_id=view_id,
        name=rolled.name,
        rank=rolled.rank,
        probability=rolled.probability,
        species=estimator.space.names[best],
        species_probability=float(probabilities[best]),
        margin=float(probabilities[best]) - second,
        p_model=float(estimates.p_model[row, best]),
        p_knn=float(estimates.p_knn[row, best]) if voted else None,
        knn_weight=float(estimates.knn_weight[row]),
        unknown=float(answers.unknown[row]),
    )


def fit_catalog(store: CatalogStore, estimator: LabelEstimator, on: Where | None = None) -> Calibration:
    """Fit the estimate on a catalog's verified photos, and store it.

    Args:
        store: A catalog open for writing.
        estimator: Its label estimate.
        on: Conditions on the photos that it is fitted on. Photos that the network was trained on should be left
            out: it is surer of those than of any other. They vote all the same.

    Returns:
        The calibration, which is in use from now on.

    Raises:
        InvalidInputError: Too few photos are verified.
    """
    references = Grouped.read(store, estimator).references
    ids, embeddings, _ = _stored(store, estimator, references.view_ids)
    if len(ids) < len(references):
        references = references.where(np.isin(references.view_ids, ids))
    chosen = None if on is None or on.is_empty else allowed_views(store, estimator.record.id, on)
    mask = None if chosen is None else np.isin(references.view_ids, chosen)
    found = fit(estimator.logits(embeddings), references, estimator.space, on=mask)
    return save_calibration(store, estimator.record.id, found)


@dataclass(frozen=True, slots=True)
class Doubt:
    """A verified label that the other verified photos and the network contradict.

    Attributes:
        view_id: The view.
        label: What it was verified to be.
        p_label: Probability of that label without this photo's own say, 0..1.
        better: The likeliest label.
        p_better: Its probability, 0..1.
        knn_label: What the vote of the neighbours gives the label, 0..1.
        knn_better: What it gives the likelier one.
    """

    view_id: int
    label: str
    p_label: float
    better: str
    p_better: float
    knn_label: float
    knn_better: float


def mislabelled(store: CatalogStore, estimator: LabelEstimator, least: float = 0.5) -> list[Doubt]:
    """Return verified labels that are probably wrong, the surest first.

    Args:
        store: An open catalog.
        estimator: Its label estimate.
        least: By how much the likeliest label has to be more probable than the verified one, 0..1.

    Returns:
        The doubts; of equally sure ones the lower view first. A label that the model has no class for and that no
        photo of another group has cannot be judged, and is none.
    """
    grouped = Grouped.read(store, estimator)
    # Copies are not merged here: each of their labels has to be mended.
    verified = labels_in_force(store, "positive")
    view_ids = np.array([one.view_id for one in verified], dtype=np.int64)
    labels = estimator.space.find((one.name for one in verified), estimator.taxonomy)
    known = np.isin(view_ids, grouped.view_ids) & (labels >= 0)
    view_ids, labels = view_ids[known], labels[known]
    found: list[Doubt] = []
    for start in range(0, len(view_ids), _CHUNK):
        rows = slice(start, start + _CHUNK)
        ids, embeddings, kept = _stored(store, estimator, view_ids[rows])
        if not len(ids):
            continue
        truth = labels[rows][kept]
        answers = estimator.answer(embeddings, grouped.of(ids), 0.0, grouped.references)
        p, votes = answers.estimates.probabilities, answers.estimates.p_knn
        best = p.argmax(axis=1)
        rows_in = np.arange(len(p))
        can_judge = (truth < estimator.space.classes) | answers.evidence.verified[rows_in, truth]
        is_doubtful = can_judge & (best != truth) & (p[rows_in, best] - p[rows_in, truth] >= least)
        found += [
            Doubt(
                view_id=int(ids[row]),
                label=estimator.space.names[truth[row]],
                p_label=float(p[row, truth[row]]),
                better=estimator.space.names[best[row]],
                p_better=float(p[row, best[row]]),
                knn_label=float(votes[row, truth[row]]),
                knn_better=float(votes[row, best[row]]),
            )
            for row in np.flatnonzero(is_doubtful).tolist()
        ]
    return sorted(found, key=lambda one: (one.p_label - one.p_better, one.view_id))
