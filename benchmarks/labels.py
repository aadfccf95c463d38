"""Labelling a large catalog from its stored vectors; see `made_catalog`."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path

from made_catalog import PHOTOS, SPECIES, VERIFIED_EVERY, fill

from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.search.labels.estimator import LabelEstimator
from birdsearch.search.labels.predict import label_catalog


def main(results: Path, scratch: Path) -> None:
    """Print how long it takes to label 100,000 photos, and the peak memory."""
    with CatalogStore.open(scratch / "labels", "create") as store:
        fill(store, scratch / "labels.pt")
        model = store.active_model()
        assert model is not None
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        started = time.monotonic()
        summary = label_catalog(store, LabelEstimator.open(store, model))
        took = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(
        f"labels: {summary.views} photos, {PHOTOS // VERIFIED_EVERY} verified, {SPECIES} labels: {took:.1f} s, "
        f"{summary.views / took:.0f} photos/s; memory {before:.0f} MB before, {peak:.0f} MB at the peak"
    )
    results.mkdir(exist_ok=True)
    (results / "labels.json").write_text(
        json.dumps({"photos": summary.views, "seconds": took, "peak_mb": peak})
    )
