"""A catalog of many photos that never were: rows and vectors like those of real ones, without any file.

The vectors are clustered like those of real photos: 400 species, events of 5 frames. One photo in 20 is verified.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import sqlalchemy as sa
from made_photos import add_photos

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.annotations import record
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.taxa import new_taxon
from birdsearch.model.checkpoint import save_checkpoint
from birdsearch.model.config import RgbStats, variant
from birdsearch.model.inference import load_model
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
    store.use_model(load_model(weights, runtime="torch"))
    centres = rng.normal(size=(SPECIES, 128))
    events = PHOTOS // _EVENT
    species = rng.integers(0, SPECIES, events)
    birds = centres[species] + 0.8 * rng.normal(size=(events, 128))
    vectors = np.repeat(birds, _EVENT, axis=0) + 0.3 * rng.normal(size=(PHOTOS, 128))
    places = np.arange(PHOTOS)
    seconds = places // _EVENT * 600 + places % _EVENT
    taken = (np.datetime64("2020-01-01T00:00:00") + seconds.astype("timedelta64[s]")).astype(str)
    with store.writing() as connection:
        connection.execute(sa.insert(schema.root).values(id=1, path=b"/nowhere", added_at="2024-01-01"))
        add_photos(connection, vectors, 1, taken.tolist())
    items = [
        (place + 1, new_taxon(names[species[place // _EVENT]]), "positive")
        for place in range(0, PHOTOS, VERIFIED_EVERY)
    ]
    record(store, items, "benchmark", "benchmark")
