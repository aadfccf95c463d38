"""Labelling a large catalog from its stored vectors.

The vectors are clustered like those of real photos: 400 species, events of 5 frames. One photo in 20 is verified.
"""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from birdsearch.indexer import tables
from birdsearch.indexer.annotations import record
from birdsearch.indexer.catalog import CatalogStore, chunks
from birdsearch.indexer.taxa import new_taxon
from birdsearch.model.checkpoint import save_checkpoint
from birdsearch.model.config import RgbStats, variant
from birdsearch.model.runtime import load_model
from birdsearch.model.xcit import XCiT
from birdsearch.search.labels.estimator import LabelEstimator
from birdsearch.search.labels.predict import label_catalog

_PHOTOS, _SPECIES, _EVENT, _VERIFIED = 100_000, 400, 5, 20
_CLASSES = 371


def _fill(store: CatalogStore, folder: Path) -> None:
    rng = np.random.default_rng(5)
    weights = folder / "labels.pt"
    network = XCiT(variant("xcit_nano12_p16"), _CLASSES).initialise(5)
    names = [f"species {number:03d}" for number in range(_SPECIES)]
    stats = RgbStats((0.5,) * 3, (0.5,) * 3)
    save_checkpoint(weights, network.eval(), names[:_CLASSES], (256, 256), stats)
    model = store.use_model(load_model(weights, device="cpu"))
    centres = rng.normal(size=(_SPECIES, 128))
    events = _PHOTOS // _EVENT
    species = rng.integers(0, _SPECIES, events)
    birds = centres[species] + 0.8 * rng.normal(size=(events, 128))
    vectors = np.repeat(birds, _EVENT, axis=0) + 0.3 * rng.normal(size=(_PHOTOS, 128))
    with store.writing() as connection:
        root = connection.execute(
            sa.insert(tables.root).values(path=b"/nowhere", added_at="2024-01-01").returning(tables.root.c.id)
        ).scalar_one()
        for part in chunks(range(_PHOTOS), 5000):
            seconds = [place // _EVENT * 600 + place % _EVENT for place in part]
            times = np.datetime64("2020-01-01T00:00:00") + np.array(seconds, "timedelta64[s]")
            connection.execute(
                sa.insert(tables.photo),
                [
                    {"id": place + 1, "digest": place.to_bytes(32, "big"), "size": 1, "format": "JPEG", "width": 1,
                     "height": 1, "captured_at": str(at), "camera": "benchmark",
                     "phash": rng.bytes(8)}
                    for place, at in zip(part, times, strict=True)
                ],
            )  # fmt: skip
            connection.execute(
                sa.insert(tables.file),
                [
                    {"root_id": root, "path": b"%d.jpg" % place, "state": "present", "photo_id": place + 1,
                     "size": 1, "mtime_ns": 0, "ctime_ns": 0, "device": 0, "inode": place, "transient": 0}
                    for place in part
                ],
            )  # fmt: skip
            connection.execute(
                sa.insert(tables.view),
                [
                    {
                        "id": place + 1,
                        "photo_id": place + 1,
                        "kind": "whole",
                        "x": 0.0,
                        "y": 0.0,
                        "w": 1.0,
                        "h": 1.0,
                    }
                    for place in part
                ],
            )
            connection.execute(
                sa.insert(tables.embedding),
                [
                    {"view_id": place + 1, "model_id": model.id, "vector": vectors[place].astype("<f4").tobytes(),
                     "crc32": 0}
                    for place in part
                ],
            )  # fmt: skip
            connection.execute(
                sa.insert(tables.change),
                [{"op": "add", "view_id": place + 1, "model_id": model.id} for place in part],
            )
    items = [
        (place + 1, new_taxon(names[species[place // _EVENT]]), "positive")
        for place in range(0, _PHOTOS, _VERIFIED)
    ]
    record(store, items, "benchmark", "benchmark")


def main(results: Path, scratch: Path) -> None:
    """Print how long it takes to label 100,000 photos, and the peak memory."""
    with CatalogStore.open(scratch / "labels", "create") as store:
        _fill(store, scratch)
        model = store.active_model()
        assert model is not None
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        started = time.monotonic()
        summary = label_catalog(store, LabelEstimator.open(store, model))
        took = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(
        f"labels: {summary.views} photos, {_PHOTOS // _VERIFIED} verified, {_SPECIES} labels: {took:.1f} s, "
        f"{summary.views / took:.0f} photos/s; memory {before:.0f} MB before, {peak:.0f} MB at the peak"
    )
    results.mkdir(exist_ok=True)
    (results / "labels.json").write_text(
        json.dumps({"photos": summary.views, "seconds": took, "peak_mb": peak})
    )
