"""Suggestions of photos to verify next: those that would teach the most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.embeddings import unit_vectors
from birdsearch.indexer.catalog.filtered_photos import allowed_views
from birdsearch.indexer.catalog.filters import Where
from birdsearch.indexer.catalog.records import Prediction
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.search.labels.estimator import Answers, LabelEstimator
from birdsearch.search.labels.predict import Grouped, answered, predict
from birdsearch.search.query.vote_groups import vote_groups

__all__ = ["Candidates", "suggest"]

# Of the most doubtful photos so many times what is asked for are looked at for variety.
_POOL = 10


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The photos without a verified label, and how doubtful each is.

    Reading them labels all of the catalog; choosing among them does not, so that they can be read once and be asked
    often. Whatever is asked for, one of a group (event, copies) is enough, and none of a group that has a verified
    photo.

    Attributes:
        estimator: The label estimate that they were read with.
        grouped: The groups of the catalog.
        view_ids: (N,) int64, rising.
        groups: (N,) int64.
        is_new: (N,) bool, no photo of its group is verified.
        margins: (N,) float64, probability of the likeliest label less that of the second one, 0..1.
        unknown: (N,) float64, probability that the bird is of no known label.
    """

    estimator: LabelEstimator
    grouped: Grouped
    view_ids: NDArray[np.int64]
    groups: NDArray[np.int64]
    is_new: NDArray[np.bool_]
    margins: NDArray[np.float64]
    unknown: NDArray[np.float64]

    @classmethod
    def read(cls, store: CatalogStore, estimator: LabelEstimator, where: Where | None = None) -> Candidates:
        """Read the photos of an open catalog that meet some conditions.

        Args:
            store: An open catalog.
            estimator: Its label estimate.
            where: Conditions on the photos.
        """
        allowed = allowed_views(store, estimator.record.id, Where() if where is None else where)
        grouped = Grouped.read(store, estimator)
        if not len(grouped.references):
            # Without voters the groups were not read so far.
            groups = vote_groups(store, estimator.record.id, grouped.view_ids)
            grouped = replace(grouped, groups=groups)
        asked = allowed[~np.isin(allowed, estimator.references.view_ids)]
        view_ids, margins, unknown = [asked[:0]], [np.zeros(0)], [np.zeros(0)]
        for ids, answers in answered(store, estimator, asked, grouped, 0.0):
            probabilities = answers.estimates.probabilities
            # Of a single label the second probability is 0.
            two = np.partition(np.pad(probabilities, ((0, 0), (1, 0))), -2, axis=1)[:, -2:]
            view_ids.append(ids)
            margins.append(two[:, 1] - two[:, 0])
            unknown.append(answers.unknown)
        found = np.concatenate(view_ids)
        own = grouped.of(found)
        return cls(
            estimator=estimator,
            grouped=grouped,
            view_ids=found,
            groups=own,
            is_new=~np.isin(own, grouped.references.groups),
            margins=np.concatenate(margins),
            unknown=np.concatenate(unknown),
        )

    def without(self, view_ids: Sequence[int]) -> Candidates:
        """Return the same without some views and their groups, as if these were verified by now."""
        gone = np.isin(self.view_ids, np.asarray(view_ids, dtype=np.int64))
        return replace(self, is_new=self.is_new & ~np.isin(self.groups, self.groups[gone]))

    def informative(
        self, store: CatalogStore, count: int, allowed: NDArray[np.int64] | None = None
    ) -> NDArray[np.int64]:
        """Return doubtful views that have little in common.

        Doubtful is a small margin, or a bird that is likely of no known label. The photos are gone through
        greedily: each next one is the most doubtful after what it has in common with those already taken is taken
        off.

        Args:
            store: The catalog that they were read from.
            count: How many.
            allowed: (M,) int64, only of these views.

        Returns:
            At most `count` views, in the order in which to verify them.
        """
        doubts = 1.0 - self.margins * (1.0 - self.unknown)
        pool = self._ranked(doubts, self._new_rows(allowed))[: _POOL * count]
        if not len(pool):
            return self.view_ids[:0]
        unit, _ = unit_vectors(store, self.estimator.record.id, self.view_ids[pool].tolist())
        common = np.zeros(len(pool))
        is_left = np.ones(len(pool), bool)
        chosen: list[int] = []
        for _ in range(min(count, len(pool))):
            best = int(np.argmax(np.where(is_left, doubts[pool] * (1.0 - common), -1.0)))
            chosen.append(best)
            is_left[best] = False
            common = np.maximum(common, np.clip(unit @ unit[best], 0.0, 1.0))
        return self.view_ids[pool[chosen]]

    def doubtful(self, count: int, allowed: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Return the views with the smallest margins; see `informative`."""
        return self.view_ids[self._ranked(-self.margins, self._new_rows(allowed))[:count]]

    def strange(self, count: int, allowed: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Return the views of birds that are likeliest of no known label; see `informative`."""
        return self.view_ids[self._ranked(self.unknown, self._new_rows(allowed))[:count]]

    def answers(
        self, store: CatalogStore, view_ids: NDArray[np.int64], confidence: float
    ) -> Iterator[tuple[NDArray[np.int64], Answers]]:
        """Yield labels of some of the views with evidence; see `birdsearch.search.labels.predict.answered`."""
        return answered(store, self.estimator, view_ids, self.grouped, confidence)

    def predictions(self, store: CatalogStore, view_ids: NDArray[np.int64]) -> list[Prediction]:
        """Return predictions of some of the views, in the order given."""
        chunks = predict(store, self.estimator, view_ids, self.grouped, 0.0)
        return [one for chunk in chunks for one in chunk]

    def _new_rows(self, allowed: NDArray[np.int64] | None) -> NDArray[np.int64]:
        is_wanted = self.is_new
        if allowed is not None:
            is_wanted = is_wanted & np.isin(self.view_ids, allowed)
        return np.flatnonzero(is_wanted)

    def _ranked(self, scores: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row of the best of each group, the best first; of equally good ones the lower view."""
        by_group = rows[np.lexsort((rows, -scores[rows], self.groups[rows]))]
        _, first = np.unique(self.groups[by_group], return_index=True)
        heads = by_group[first]
        return heads[np.lexsort((heads, -scores[heads]))]


def suggest(
    store: CatalogStore, estimator: LabelEstimator, count: int, where: Where | None = None
) -> list[Prediction]:
    """Return the photos whose verification would teach the most; see `Candidates.informative`.

    Args:
        store: An open catalog.
        estimator: Its label estimate.
        count: How many.
        where: Conditions on the photos.

    Returns:
        At most `count` predictions, in the order in which to verify them.

    Raises:
        InvalidInputError: `count` is below 1.
    """
    if count < 1:
        raise InvalidInputError(f"suggest is {count}; ask for 1 photo or more")
    candidates = Candidates.read(store, estimator, where)
    return candidates.predictions(store, candidates.informative(store, count))
