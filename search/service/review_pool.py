"""The photos to review: read once, and again in the background when labels change."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from birdsearch.indexer.catalog.label_state import LabelState, label_state
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.verified_labels import labels_in_force
from birdsearch.search.labels.estimator import LabelEstimator
from birdsearch.search.labels.suggest import Candidates

__all__ = ["ReviewPool"]

log = logging.getLogger(__name__)

# A read that is under way when the service ends is waited for so long, in seconds; it writes nothing.
_LAST_S = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    state: LabelState
    candidates: Candidates


class ReviewPool:
    """Keeps the photos that may be verified next. Several threads may ask at once.

    Reading them takes seconds, and people who verify photos change labels every few seconds. So what was read
    before the last labels is given out, without what is verified by now, while it is read anew.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._read: _Read | None = None
        self._refresh: threading.Thread | None = None
        self._closed = False

    def get(self, store: CatalogStore, estimator: Callable[[], LabelEstimator]) -> Candidates:
        """Return the photos without a verified label, and how doubtful each is, by the labels of a moment ago.

        Args:
            store: The catalog.
            estimator: Gives its label estimate; asked only if labels have changed.
        """
        state = label_state(store)
        with self._lock:
            read = self._read
        if read is None or read.state.photos != state.photos:
            return self._read_now(store, estimator)
        if read.state == state:
            return read.candidates
        with self._lock:
            if not self._closed and (self._refresh is None or not self._refresh.is_alive()):
                self._refresh = threading.Thread(
                    target=self._read_again, args=(store, estimator), name="birdsearch-review", daemon=True
                )
                self._refresh.start()
        return read.candidates.without([label.view_id for label in labels_in_force(store)])

    def close(self) -> None:
        """Wait a little for what is being read."""
        with self._lock:
            self._closed, refresh = True, self._refresh
        if refresh is not None:
            refresh.join(_LAST_S)

    def _read_again(self, store: CatalogStore, estimator: Callable[[], LabelEstimator]) -> None:
        try:
            self._read_now(store, estimator)
        except Exception:
            # The service may be ending, and the catalog closed; else the next request tries again.
            if not self._closed:
                log.exception("what to verify next could not be read")

    def _read_now(self, store: CatalogStore, estimator: Callable[[], LabelEstimator]) -> Candidates:
        with self._reading:
            state = label_state(store)
            with self._lock:
                if self._read is not None and self._read.state == state:
                    return self._read.candidates
            candidates = Candidates.read(store, estimator())
            with self._lock:
                self._read = _Read(state, candidates)
            return candidates
