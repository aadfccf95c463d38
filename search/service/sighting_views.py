"""Sightings as the service shows them, kept for as long as nothing changes."""

from __future__ import annotations

import threading
from collections.abc import Callable

from birdsearch.indexer.catalog.changes import last_change_and_run
from birdsearch.indexer.catalog.events import last_sightings_run
from birdsearch.indexer.catalog.label_state import LabelState, label_state
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.search.labels.estimator import LabelEstimator
from birdsearch.search.query.location_privacy.coarsening import SensitivePhotos
from birdsearch.search.sightings.listed import SeenPhotos, StoredSighting, list_sightings, read_seen

__all__ = ["SightingViews"]

_Key = tuple[int, ...]


class SightingViews:
    """Keeps the sightings that were stored last, as they are shown. Several threads may ask at once.

    Args:
        sensitive: Knows the photos of sensitive species, whose places are coarsened; None shows all exactly.
    """

    def __init__(self, sensitive: SensitivePhotos | None) -> None:
        self._sensitive = sensitive
        self._lock = threading.Lock()
        self._seen: tuple[_Key, SeenPhotos] | None = None
        self._shown: tuple[tuple[_Key, LabelState], tuple[StoredSighting, ...]] | None = None

    def get(
        self, store: CatalogStore, record: ModelRecord, estimator: Callable[[], LabelEstimator]
    ) -> tuple[int, tuple[StoredSighting, ...]] | None:
        """Return the newest `sightings` run and what it found, or None before the first.

        Args:
            store: The catalog.
            record: Its model.
            estimator: Gives its label estimate; asked only if labels have changed.
        """
        run_id = last_sightings_run(store)
        if run_id is None:
            return None
        labels = label_state(store)
        photos = (run_id, record.id, *last_change_and_run(store, prefix="deployments"))
        with self._lock:
            if self._seen is None or self._seen[0] != photos:
                self._seen = (photos, read_seen(store, record, run_id))
            key = (photos, labels)
            if self._shown is None or self._shown[0] != key:
                shown = list_sightings(store, self._seen[1], estimator(), sensitive=self._sensitive)
                self._shown = (key, shown)
            return run_id, self._shown[1]
