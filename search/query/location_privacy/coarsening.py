"""Coarsening of the places of sensitive species: the photos whose place is hidden, and the cell shown instead.

Nests and roosts of some species are persecuted or protected, so where one was photographed is shown as a cell of
0.1 degree (about 11 km from north to south) unless exact places are asked for. What shows a sensitive species,
`birdsearch.search.query.location_privacy.sensitive_photos` says; the same holds for every photo whose place would
tell that of such a one, by the rules of `birdsearch.search.query.location_privacy.reach`. Every output asks here:
what it tells of a place, what it filters by, and whether it hands out a file that may tell it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from birdsearch.indexer.catalog.location_facts import location_key, photo_label_key
from birdsearch.indexer.catalog.store import CatalogStore, Snapshot
from birdsearch.search.query.deployed import Assignment
from birdsearch.search.query.hits import Hit, QueryResult
from birdsearch.search.query.location_privacy.facts import read_facts
from birdsearch.search.query.location_privacy.reach import COARSE_DEGREES, PhotoFacts, Reach
from birdsearch.search.query.location_privacy.sensitive_photos import FEW, SensitiveLabels, SensitiveNames
from birdsearch.search.query.sorted_sets import distinct, is_in

__all__ = [
    "COARSE_DEGREES",
    "SensitiveNames",
    "SensitivePhotos",
    "coarse",
    "coarse_place",
    "coarse_places",
    "hidden_sites",
    "with_coarse_places",
    "without_names",
]


def coarse(degrees: float) -> float:
    """Return a latitude or longitude as it is shown of a sensitive species: the middle of its cell, one decimal."""
    return round(round(degrees / COARSE_DEGREES) * COARSE_DEGREES, 1)


def coarse_place(latitude: float | None, longitude: float | None) -> tuple[float | None, float | None]:
    """Return a place as it is shown of a sensitive species; what is not known stays unknown."""
    return (
        None if latitude is None else coarse(latitude),
        None if longitude is None else coarse(longitude),
    )


def coarse_places(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coarsen many as `coarse` does: (N,) float64 degrees, NaN where unknown."""
    return np.asarray(np.round(np.round(degrees / COARSE_DEGREES) * COARSE_DEGREES, 1))


@dataclass(frozen=True, slots=True, eq=False)
class _Surroundings:
    """All photos of a catalog as they were when `key` was."""

    key: object
    facts: PhotoFacts
    reach: Reach

    def mask(self, photo_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which photos, (N,) bool, have these ids; ids of no photo are left out."""
        return is_in(self.facts.ids, photo_ids)


class SensitivePhotos:
    """The photos of a catalog that would reveal where a sensitive species is. Several threads may ask at once.

    Args:
        store: An open catalog.
    """

    def __init__(self, store: CatalogStore) -> None:
        self._store = store
        self._labels = SensitiveLabels(store)
        self._lock = threading.Lock()
        self._surroundings: _Surroundings | None = None
        self._all: tuple[object, NDArray[np.int64]] | None = None

    def among(self, photo_ids: Sequence[int] | NDArray[np.int64]) -> frozenset[int]:
        """Return those of the photos whose exact places are hidden.

        Args:
            photo_ids: Ids; those of no photo are left out.
        """
        wanted = distinct(np.asarray(photo_ids, dtype=np.int64))
        with self._store.snapshot() as snapshot:
            return frozenset(self._among(snapshot, wanted).tolist())

    def are_hidden(self, photo_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return for each photo whether its exact place is hidden.

        Args:
            photo_ids: (N,) ids.

        Returns:
            (N,) bool.
        """
        with self._store.snapshot() as snapshot:
            return is_in(photo_ids, self._among(snapshot, distinct(photo_ids)))

    def prepare(self) -> None:
        """Look at all photos, so that the next questions are answered at once."""
        with self._store.snapshot() as snapshot:
            around = self._read(snapshot)
            self._all = ((around.key, photo_label_key(snapshot)), self._hidden(snapshot, around, None))

    def coarsened(
        self,
        snapshot: Snapshot,
        photo_ids: NDArray[np.int64],
        latitudes: NDArray[np.float64],
        longitudes: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return places of photos as they are shown to others.

        Args:
            snapshot: The state of the catalog.
            photo_ids: (N,) ids; one may occur twice.
            latitudes: (N,) degrees, NaN where unknown.
            longitudes: (N,) degrees.

        Returns:
            (N,) latitudes and longitudes, coarsened where they would tell that of a sensitive species.
        """
        hidden = is_in(photo_ids, self._among(snapshot, distinct(photo_ids)))
        return (
            np.where(hidden, coarse_places(latitudes), latitudes),
            np.where(hidden, coarse_places(longitudes), longitudes),
        )

    def _among(self, snapshot: Snapshot, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of the wanted photos (rising ids) that are hidden, rising."""
        if not len(wanted):
            return wanted
        around = self._read(snapshot)
        key = (around.key, photo_label_key(snapshot))
        every = self._all
        if every is None or every[0] != key:
            if len(wanted) <= FEW:
                # What reaches a photo is what it reaches: only of those the labels matter.
                near = around.facts.ids[around.reach.reached(around.mask(wanted))]
                return wanted[is_in(wanted, self._hidden(snapshot, around, near))]
            every = self._all = (key, self._hidden(snapshot, around, None))
        return wanted[is_in(wanted, every[1])]

    def _hidden(
        self, snapshot: Snapshot, around: _Surroundings, among: NDArray[np.int64] | None
    ) -> NDArray[np.int64]:
        """Return the photos that those of sensitive species reach, of all or of some."""
        sensitive = self._labels.among(snapshot, among)
        return around.facts.ids[around.reach.reached(around.mask(sensitive))]

    def _read(self, snapshot: Snapshot) -> _Surroundings:
        key = location_key(snapshot)
        with self._lock:
            if self._surroundings is None or self._surroundings.key != key:
                facts = read_facts(self._store, snapshot)
                self._surroundings = _Surroundings(key, facts, Reach(facts))
            return self._surroundings


def hidden_sites(
    assignment: Assignment, photo_ids: NDArray[np.int64], sensitive: SensitivePhotos
) -> frozenset[str]:
    """Return the sites of which a photo has a hidden place.

    Args:
        assignment: The deployments of photos.
        photo_ids: (N,) int64, these photos.
        sensitive: Says of which the place is not told.
    """
    hidden = sensitive.are_hidden(photo_ids) & (assignment.codes >= 0)
    return frozenset(assignment.deployments[code].site for code in distinct(assignment.codes[hidden]))


def without_names(names: Mapping[int, str], sensitive: SensitivePhotos) -> dict[int, str]:
    """Return names of places with numbers for those that are hidden.

    Args:
        names: What the place of each photo is called, by its id.
        sensitive: Says of which photos the place is not told.

    Returns:
        By photo id. A name is left out for all photos if it is for one.
    """
    hidden = sensitive.among(sorted(names))
    left_out = sorted({name for photo_id, name in names.items() if photo_id in hidden})
    told = {name: f"place {number}, not told" for number, name in enumerate(left_out, start=1)}
    return {photo_id: told.get(name, name) for photo_id, name in names.items()}


def with_coarse_places(sensitive: SensitivePhotos, results: Sequence[QueryResult]) -> list[QueryResult]:
    """Coarsen the places of sensitive species in answers, as they are shown to others.

    Args:
        sensitive: Tells the photos of the catalog that was asked.
        results: The answers.

    Returns:
        The same, but that hits which show a sensitive species and have a place have a coarse one.
    """
    placed = {hit.photo_id for result in results for hit in result.hits if hit.lat is not None}
    if not placed:
        return list(results)
    hidden = sensitive.among(sorted(placed))
    return [
        replace(
            result,
            hits=tuple(_coarse_hit(hit) if hit.photo_id in hidden else hit for hit in result.hits),
        )
        for result in results
    ]


def _coarse_hit(hit: Hit) -> Hit:
    latitude, longitude = coarse_place(hit.lat, hit.lon)
    return replace(hit, lat=latitude, lon=longitude, coarse=True)
