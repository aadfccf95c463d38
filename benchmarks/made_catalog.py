"""A catalog of many photos that never were: rows and vectors like those of real ones, without any file.

The vectors are clustered like those of real photos: 400 species, events of 5 frames. One photo in 20 is verified.
"""

from __future__ import annotations

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

__all__ = ["PHOTOS", "SPECIES", "VERIFIED_EVERY", "fill"]

PHOTOS = 100_000
SPECIES = 400
VERIFIED_EVERY = 20
_EVENT = 5
_CLASSES = 371


def fill(store: CatalogStore, weights: Path) -> None:
    """Fill an empty catalog with `PHOTOS` photos, and write the weights file that it says it was made with."""
    rng = np.random.default_rng(5)
    network = XCiT(variant("xcit_nano12_p16"), _CLASSES).initialise(5)
    names = [f"species {number:03d}" for number in range(SPECIES)]
    stats = RgbStats((0.5,) * 3, (0.5,) * 3)
    save_checkpoint(weights, network.eval(), names[:_CLASSES], (256, 256), stats)
    model = store.use_model(load_model(weights, runtime="torch"))
    centres = rng.normal(size=(SPECIES, 128))
    events = PHOTOS // _EVENT
    species = rng.integers(0, SPECIES, events)
    birds = centres[species] + 0.8 * rng.normal(size=(events, 128))
    vectors = np.repeat(birds, _EVENT, axis=0) + 0.3 * rng.normal(size=(PHOTOS, 128))
    with store.writing() as connection:
        root = connection.execute(
            sa.insert(tables.root).values(path=b"/nowhere", added_at="2024-01-01").returning(tables.root.c.id)
        ).scalar_one()
        for part in chunks(range(PHOTOS), 5000):
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
        for place in range(0, PHOTOS, VERIFIED_EVERY)
    ]
    record(store, items, "benchmark", "benchmark")
