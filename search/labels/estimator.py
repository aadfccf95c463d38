"""The label estimate of a catalog: its model's head, its verified photos and its calibration, ready to be asked."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from birdsearch.display_path import display_path
from birdsearch.indexer.catalog.label_state import EstimateState, has_labelled_change
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.taxa import catalog_taxonomy
from birdsearch.indexer.catalog.views import ViewTimes, photos_of_views, view_times
from birdsearch.indexer.vectors.index import normalised
from birdsearch.model.taxonomy import Taxonomy
from birdsearch.search.labels.calibration import Calibration, load_calibration
from birdsearch.search.labels.fusion import Estimates, NeighbourEvidence, References, fuse, neighbour_evidence
from birdsearch.search.labels.space import LabelSpace
from birdsearch.search.labels.unknown import Rolled, roll_up, signs, unknown_score
from birdsearch.search.labels.witnesses import read_witnesses
from birdsearch.search.query.hits import LabelEstimate, LabelEvidence, Voter
from birdsearch.search.query.vote_groups import GroupRules, near_hashes, vote_groups

__all__ = ["Answers", "LabelEstimator", "views_near"]

_TOP = 5


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Labels of some photos.

    Attributes:
        estimates: Probabilities over the labels.
        unknown: (B,) float64, probability that the bird is of no known label.
        rolled: For each, the label at the finest rank that is sure enough.
        evidence: The verified photos that voted.
    """

    estimates: Estimates
    unknown: NDArray[np.float64]
    rolled: list[Rolled]
    evidence: NeighbourEvidence


def views_near(known: ViewTimes, view_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return copies of some views, and what was taken near in time to the views or to these copies.

    Args:
        known: Times and hashes of all views.
        view_ids: (B,) int64.

    Returns:
        (n,) int64, rising, without `view_ids`. What links two photos of one event lies between them in time, so it
        is among these; mirrored copies are not, and count only where they are asked about.
    """
    rules = GroupRules()
    asked = np.isin(known.view_ids, view_ids)
    hashed = np.flatnonzero(known.has_hash)
    near = asked.copy()
    for _, right, _ in near_hashes(known.hashes[asked & known.has_hash], known.hashes[hashed], rules.bits):
        near[hashed[right]] = True
    times = np.sort(known.times[near & ~np.isnat(known.times)])
    longest = np.timedelta64(round(rules.longest_s), "s")
    # A time lies within the span of one of these if more of them end after it than begin after it.
    near |= np.searchsorted(times, known.times - longest) < np.searchsorted(
        times, known.times + longest, side="right"
    )
    return known.view_ids[near & ~asked]


class TimesReader:
    """Times and hashes of a catalog's views, read when first needed: labels by the network alone need none."""

    def __init__(self, store: CatalogStore) -> None:
        self._store = store

    @functools.cached_property
    def times(self) -> ViewTimes:
        """Times and hashes as they were when first asked for."""
        return view_times(self._store)


@dataclass(frozen=True, slots=True, eq=False)
class LabelEstimator:
    """Labels photos by one state of a catalog.

    Attributes:
        record: The catalog's model.
        space: The labels.
        taxonomy: The names behind them.
        references: The verified photos that vote.
        calibration: The parameters.
        times: Times and hashes of all views, by which a photo may be linked to a verified one.
    """

    record: ModelRecord
    space: LabelSpace
    taxonomy: Taxonomy
    references: References
    calibration: Calibration
    times: TimesReader

    @classmethod
    def open(
        cls, store: CatalogStore, record: ModelRecord, calibration: Calibration | None = None
    ) -> LabelEstimator:
        """Read what a catalog knows.

        Args:
            store: An open catalog; reading is enough.
            record: Its model.
            calibration: What to use in place of the calibration that is stored, which is not read then.

        Raises:
            CatalogError: What is stored is damaged.
        """
        taxonomy = catalog_taxonomy(store)
        verified = read_witnesses(store, record.id)
        space = LabelSpace.build(record.classes, verified.names, taxonomy)
        return cls(
            record=record,
            space=space,
            taxonomy=taxonomy,
            references=References.build(
                verified.unit,
                space.find((one.name for one in verified.labels), taxonomy),
                verified.groups,
                verified.view_ids,
            ),
            calibration=load_calibration(store, record.id) if calibration is None else calibration,
            times=TimesReader(store),
        )

    def for_state(
        self, store: CatalogStore, mine: EstimateState, now: EstimateState
    ) -> LabelEstimator | None:
        """Return this estimator for a later state, if only photos without verified labels came or went.

        Args:
            store: The catalog.
            mine: The state that it was made from.
            now: The state of the catalog.

        Returns:
            The estimator, which reads what links photos anew; None if it has to be made anew.
        """
        if mine[:2] != now[:2]:
            return None
        return None if has_labelled_change(store, mine.change) else replace(self, times=TimesReader(store))

    def logits(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits of stored embeddings, each independent of the others in the batch.

        Args:
            embeddings: (B, C) float32, un-normalised.

        Returns:
            (B, classes) float32, rounded once from float64; infinite where an embedding is damaged.
        """
        return np.asarray(self.record.logits_of_each(embeddings), dtype=np.float32)

    def groups_for(
        self, store: CatalogStore, view_ids: Sequence[int], *, with_links: bool = True
    ) -> tuple[References, NDArray[np.int64]]:
        """Return the references and stored views with the groups that they form together.

        Args:
            store: The catalog.
            view_ids: Stored views that are to be labelled; 0 for a photo that is not in the catalog, which is a
                group of its own.
            with_links: Also look at copies of the views and at what was taken around their times, which may be
                what links a view to a verified photo. Not needed where all of the catalog is asked about.

        Returns:
            References and (B,) int64, -1 for a photo that is not in the catalog.
        """
        asked = np.asarray(view_ids, dtype=np.int64)
        groups = np.full(len(asked), -1, np.int64)
        stored = asked > 0
        if not stored.any() or not len(self.references):
            return self.references, groups
        mine = self.references
        near = views_near(self.times.times, asked[stored]) if with_links else np.zeros(0, np.int64)
        found = vote_groups(store, self.record.id, np.concatenate([mine.view_ids, asked[stored], near]))
        groups[stored] = found[len(mine) : len(mine) + int(stored.sum())]
        own = References(mine.unit, mine.labels, found[: len(mine)], mine.view_ids, mine.background)
        return own, groups

    def answer(
        self,
        embeddings: NDArray[np.float32],
        groups: NDArray[np.int64],
        confidence: float,
        references: References | None = None,
    ) -> Answers:
        """Label photos.

        Args:
            embeddings: (B, C) float32, un-normalised.
            groups: (B,) int64, as `groups_for` gives them.
            confidence: What a rank has to reach, 0..1.
            references: As `groups_for` gives them.

        Returns:
            The labels with their evidence.

        Raises:
            InvalidInputError: An embedding is not finite, or the confidence is outside its limits.
        """
        shown = self.references if references is None else references
        logits = self.logits(embeddings)
        evidence = neighbour_evidence(normalised(embeddings), groups, shown, len(self.space))
        estimates = fuse(logits, evidence, self.calibration.fusion, shown.background)
        found = signs(logits, evidence, estimates, shown.background)
        unknown = unknown_score(found, self.calibration.unknown)
        rolled = roll_up(estimates.probabilities, unknown, self.space, confidence, self.calibration.unknown)
        return Answers(estimates, unknown, rolled, evidence)

    def labels(self, answers: Answers, row: int, k: int = _TOP) -> tuple[LabelEstimate, ...]:
        """Return the likeliest labels of one photo, likeliest first; of equals the first in order."""
        probabilities = answers.estimates.probabilities[row]
        order = np.argsort(-probabilities, kind="stable")[:k]
        voted = bool((answers.evidence.nearest[row] >= 0).any())
        return tuple(
            LabelEstimate(
                name=self.space.names[label],
                scientific_name=self.space.scientific_names[label],
                rank="species",
                probability=float(probabilities[label]),
                p_model=float(answers.estimates.p_model[row, label]),
                p_knn=float(answers.estimates.p_knn[row, label]) if voted else None,
            )
            for label in order
        )

    def evidence(self, store: CatalogStore, answers: Answers) -> list[LabelEvidence]:
        """Return the evidence behind the label of each photo."""
        nearest = answers.evidence.nearest
        # Not `np.unique`, which loads NumPy's masked arrays: a query would wait for them.
        voting = self.references.view_ids[sorted(set(nearest[nearest >= 0].tolist()))].tolist()
        photos = photos_of_views(store, voting)

        def voter(reference: int, similarity: float, label: int) -> Voter:
            photo = photos[int(self.references.view_ids[reference])]
            return Voter(photo.id, display_path(photo.path), similarity, self.space.names[label], photo.path)

        return [
            LabelEvidence(
                name=rolled.name,
                rank=rolled.rank,
                probability=rolled.probability,
                knn_weight=float(answers.estimates.knn_weight[row]),
                calibrated=self.calibration.is_fitted,
                neighbours=tuple(
                    voter(reference, similarity, label)
                    for reference, similarity, label in zip(
                        nearest[row].tolist(),
                        answers.evidence.cosines[row].tolist(),
                        answers.evidence.votes[row].tolist(),
                        strict=True,
                    )
                    if reference >= 0
                ),
            )
            for row, rolled in enumerate(answers.rolled)
        ]
