"""Clusters as the service shows them, kept for as long as nothing changes."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict

import numpy as np
from numpy.typing import NDArray

from birdsearch.indexer.catalog.clusters import (
    OUTLIER,
    ClusterState,
    StateSummary,
    current_run,
    list_states,
    state_of,
)
from birdsearch.indexer.catalog.events import last_sightings_run
from birdsearch.indexer.catalog.label_state import LabelState, label_state
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.search.clusters.report import Members, Overview, overview
from birdsearch.search.query.location_privacy.coarsening import SensitivePhotos

__all__ = ["ClusterViews", "odd_members", "ordered_members", "typical_photos"]

_HELD = 2
# A member that fits less than so much as the middle one of its cluster does is odd.
_ODD_STRENGTH = 0.5
# From this share of the labelled members on, those with another label are odd.
_ODD_LABEL = 0.5


class ClusterViews:
    """Describes states of the clusters. Several threads may ask at once.

    Args:
        sensitive: Knows the photos whose place, and so their deployment's name, is not shown; None to show all.
    """

    def __init__(self, sensitive: SensitivePhotos | None) -> None:
        self._sensitive = sensitive
        self._lock = threading.Lock()
        self._overviews: OrderedDict[tuple[int, int, LabelState], Overview] = OrderedDict()
        self._states: tuple[int | None, list[StateSummary]] = (None, [])

    def overview(self, store: CatalogStore, run_id: int) -> Overview:
        """Return what the clusters of a run look like, with the labels that photos have now.

        Args:
            store: The catalog.
            run_id: The run.

        Raises:
            InvalidInputError: The run made no clusters.
        """
        # Sites are those of the deployments that the last `sightings` run saw.
        key = (run_id, last_sightings_run(store) or 0, label_state(store))
        with self._lock:
            found = self._overviews.get(key)
            if found is None:
                found = self._overviews[key] = overview(store, state_of(store, run_id), self._sensitive)
                if len(self._overviews) > _HELD:
                    self._overviews.popitem(last=False)
            self._overviews.move_to_end(key)
            return found

    def states(self, store: CatalogStore) -> list[StateSummary]:
        """Return the newest states, the one in force first."""
        run_id = current_run(store)
        with self._lock:
            if self._states[0] != run_id:
                self._states = (run_id, list_states(store))
            return self._states[1]


def ordered_members(state: ClusterState, members: Members, cluster_id: int) -> NDArray[np.int64]:
    """Return where the members of a cluster are, or those of none (`OUTLIER`); the strongest first.

    Args:
        state: The clusters.
        members: Facts about their members.
        cluster_id: The cluster.

    Returns:
        (M,) int64 rows, empty if there is no such cluster.
    """
    rows = np.flatnonzero(state.cluster_ids == cluster_id)
    return rows[np.argsort(members.order[rows], kind="stable")]


def typical_photos(members: Members, ordered: NDArray[np.int64], most: int) -> list[int]:
    """Return photos that show what a cluster is: the strongest, one an event.

    Args:
        members: Facts about the members.
        ordered: (M,) int64, rows of the cluster's members, the strongest first.
        most: How many.
    """
    _, first = np.unique(members.events[ordered], return_index=True)
    return [int(photo_id) for photo_id in members.photo_ids[ordered[np.sort(first)[:most]]]]


def odd_members(state: ClusterState, members: Members, ordered: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which members may not belong to their cluster.

    They fit it less than half as well as the middle one does, or most labelled members bear one label and they bear
    another one. Of those in no cluster none is odd.

    Args:
        state: The clusters.
        members: Facts about their members.
        ordered: (M,) int64, rows of one cluster's members.

    Returns:
        (M,) bool.
    """
    odd = np.zeros(len(ordered), bool)
    if not len(ordered) or state.cluster_ids[ordered[0]] == OUTLIER:
        return odd
    strengths = state.strengths[ordered]
    odd |= strengths < _ODD_STRENGTH * float(np.median(strengths))
    labels = [members.label(row) for row in ordered.tolist()]
    counts = Counter(label for label in labels if label is not None)
    if counts:
        commonest, count = counts.most_common(1)[0]
        if count > _ODD_LABEL * counts.total():
            odd |= np.array([label is not None and label != commonest for label in labels], bool)
    return odd
