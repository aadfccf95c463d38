"""What is doubtful in the catalog, read once and kept until labels change."""

from __future__ import annotations

import threading
from collections.abc import Callable

from birdsearch.indexer.catalog import CatalogStore
from birdsearch.search.labels.estimator import LabelEstimator
from birdsearch.search.labels.suggest import Candidates
from birdsearch.search.service.label_state import label_state

__all__ = ["ReviewPool"]


class ReviewPool:
    """Keeps the photos that may be verified next. Several threads may ask at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read: tuple[tuple[int, ...], Candidates] | None = None

    def get(self, store: CatalogStore, estimator: Callable[[], LabelEstimator]) -> Candidates:
        """The photos without a verified label, and how doubtful each is.

        Args:
            store: The catalog.
            estimator: Gives its label estimate; asked only if labels have changed.
        """
        state = label_state(store)
        with self._lock:
            if self._read is None or self._read[0] != state:
                self._read = (state, Candidates.read(store, estimator()))
            return self._read[1]
