"""A catalog of very many photos, written row by row, of which those that are looked at have a file."""

from __future__ import annotations

import hashlib
import io
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from PIL import Image

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.store import CatalogStore

_DIM, _CLASSES = 8, ("common wren", "marsh tit")
_SEED, _PICTURES = 7, 16
_ROWS = 10_000
# Photos that are there on each side of a place that is looked at.
_NEAR = 600


def make_catalog(path: Path, photos: Path, *, count: int, shares: Sequence[float]) -> None:
    """Make a catalog as `index` would have, with photos taken an hour apart.

    Args:
        path: The catalog's folder.
        photos: Folder for the pictures.
        count: Photos.
        shares: Where in the list, newest first, somebody will look: 0 is its begin, 1 its end.
    """
    generator = np.random.default_rng(_SEED)
    looked_at = {
        count - place
        for share in shares
        for place in range(int(share * count) - _NEAR, int(share * count) + _NEAR)
        if 0 <= place < count
    }
    digests = _write_pictures(photos, generator, looked_at)
    vectors = generator.normal(size=(count, _DIM)).astype("<f4")
    with CatalogStore.open(path, "create") as store, store.writing() as connection:
        connection.execute(
            sa.insert(schema.model).values(
                id=1,
                name="made up",
                network="none",
                sha256="0" * 64,
                preprocessing="none",
                embedding_size=_DIM,
                classes='["common wren", "marsh tit"]',
                head_weight=np.eye(len(_CLASSES), _DIM, dtype="<f4").tobytes(),
                head_bias=np.zeros(len(_CLASSES), "<f4").tobytes(),
            )
        )
        connection.execute(sa.insert(schema.meta).values(key="model", value="1"))
        connection.execute(sa.insert(schema.root).values(id=1, path=os.fsencode(photos), added_at="now"))
        for start in range(0, count, _ROWS):
            ids = range(start + 1, min(start + _ROWS, count) + 1)
            blobs = [row.tobytes() for row in vectors[start : start + _ROWS]]
            taken = [str(np.datetime64("2012-01-01T06:00:00") + np.timedelta64(each, "h")) for each in ids]
            for statement, values in (
                (
                    """
                    INSERT INTO photo (id, digest, size, format, width, height, captured_at)
                    VALUES (?, ?, 1, 'JPEG', 320, 240, ?)
                    """,
                    [
                        (each, digests.get(each) or each.to_bytes(32, "big"), at)
                        for each, at in zip(ids, taken, strict=True)
                    ],
                ),
                (
                    """
                    INSERT INTO file
                    (root_id, path, state, photo_id, size, mtime_ns, ctime_ns, device, inode, transient)
                    VALUES (1, ?, 'present', ?, 1, 0, 0, 0, 0, 0)
                    """,
                    [(b"%06d.jpg" % each, each) for each in ids],
                ),
                (
                    "INSERT INTO view (id, photo_id, kind, x, y, w, h) VALUES (?, ?, 'whole', 0, 0, 1, 1)",
                    [(each, each) for each in ids],
                ),
                (
                    "INSERT INTO embedding (view_id, model_id, vector, crc32) VALUES (?, 1, ?, ?)",
                    [(each, blob, zlib.crc32(blob)) for each, blob in zip(ids, blobs, strict=True)],
                ),
                (
                    "INSERT INTO change (op, view_id, model_id) VALUES ('add', ?, 1)",
                    [(each,) for each in ids],
                ),
            ):
                connection.exec_driver_sql(statement, values)


def _write_pictures(folder: Path, generator: np.random.Generator, ids: set[int]) -> dict[int, bytes]:
    """Write a picture for each of some photos; gives the hash of each."""
    folder.mkdir()
    encoded = []
    for _ in range(_PICTURES):
        coarse = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC).save(file, "JPEG")
        encoded.append(file.getvalue())
    digests = {}
    for each in sorted(ids):
        # What follows the end of a JPEG is not looked at, but makes it another file.
        content = encoded[each % _PICTURES] + each.to_bytes(8, "big")
        (folder / f"{each:06d}.jpg").write_bytes(content)
        digests[each] = hashlib.sha256(content).digest()
    return digests
