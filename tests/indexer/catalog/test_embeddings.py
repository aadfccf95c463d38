"""Stored vectors read at once, against the rows as they are."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.embeddings import (
    drop_damaged_vectors,
    normalised,
    stored_vectors,
    unit_vectors,
)
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.stored_views import stored_photos, stored_views
from birdsearch.search.query.retrieval import _top_labels

DIM = 6


def vector_of(view_id: int) -> np.ndarray:
    return np.random.default_rng(abs(view_id)).normal(size=DIM).astype("<f4")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CatalogStore]:
    """Views 1 to 30 in a row and 5 far apart; some are damaged: 4 too short, 5 not finite, 6 zero, 7 not there."""
    with CatalogStore.open(tmp_path / "catalog", "create") as opened:
        with opened.writing() as connection:
            for model_id in (1, 2):
                connection.execute(
                    sa.insert(schema.model).values(
                        id=model_id,
                        name="m",
                        network="n",
                        sha256=str(model_id),
                        preprocessing="p",
                        embedding_size=DIM,
                        classes="[]",
                        head_weight=b"",
                        head_bias=b"",
                    )
                )
            for view_id in [*range(1, 31), 1000, 20_000, 300_000, 4_000_000, 50_000_000]:
                connection.execute(
                    sa.insert(schema.photo).values(
                        id=view_id,
                        digest=view_id.to_bytes(32, "big"),
                        size=1,
                        format="PNG",
                        width=1,
                        height=1,
                    )
                )
                connection.execute(
                    sa.insert(schema.view).values(
                        id=view_id, photo_id=view_id, kind="whole", x=0, y=0, w=1, h=1
                    )
                )
                blob = {
                    4: b"short",
                    5: np.full(DIM, np.nan, "<f4").tobytes(),
                    6: bytes(4 * DIM),
                }.get(view_id, vector_of(view_id).tobytes())
                for model_id, content in ((1, blob), (2, (-vector_of(view_id)).tobytes())):
                    if view_id != 7:
                        connection.execute(
                            sa.insert(schema.embedding).values(
                                view_id=view_id, model_id=model_id, vector=content, crc32=zlib.crc32(content)
                            )
                        )
        yield opened


@pytest.mark.parametrize(
    "ids",
    [
        list(range(1, 31)),
        [30, 2, 2, 50_000_000, 4, 7, 1000, 5, 6, 1],
        [4_000_000, 20_000],
        [7],
        [-3, 0, 31, 10**15],
        [],
    ],
)
def test_vectors_are_those_of_the_rows_in_the_order_asked(store: CatalogStore, ids: list[int]) -> None:
    there = {*range(1, 31), 1000, 20_000, 300_000, 4_000_000, 50_000_000} - {4, 5, 7}
    vectors, whole = stored_vectors(store, 1, ids)
    units, usable = unit_vectors(store, 1, ids)
    assert vectors.shape == units.shape == (len(ids), DIM)
    assert vectors.dtype == units.dtype == np.float32
    assert whole.tolist() == [view_id in there for view_id in ids]
    assert usable.tolist() == [view_id in there - {6} for view_id in ids]
    for row, view_id in enumerate(ids):
        expected = vector_of(view_id) if usable[row] else np.zeros(DIM, np.float32)
        np.testing.assert_array_equal(vectors[row], expected)
        np.testing.assert_array_equal(units[row], normalised(expected[None])[0])


def test_vectors_are_of_the_model_asked_for(store: CatalogStore) -> None:
    vectors, _ = stored_vectors(store, 2, [9, 8])
    np.testing.assert_array_equal(vectors, [-vector_of(9), -vector_of(8)])
    vectors, whole = stored_vectors(store, 3, [9, 8])
    assert vectors.shape == (2, 0)
    assert not whole.any()


def flip(store: CatalogStore, view_id: int) -> None:
    """Flip one bit of a stored vector, which stays finite and of its length."""
    embedding = schema.embedding.c
    mine = (embedding.view_id == view_id) & (embedding.model_id == 1)
    with store.writing() as connection:
        blob = bytearray(connection.execute(sa.select(embedding.vector).where(mine)).scalar_one())
        blob[9] ^= 1
        assert np.isfinite(np.frombuffer(blob, "<f4")).all()
        connection.execute(sa.update(schema.embedding).where(mine).values(vector=bytes(blob)))


def test_a_flipped_bit_in_a_vector_is_noticed_wherever_vectors_are_read(
    store: CatalogStore, caplog: pytest.LogCaptureFixture
) -> None:
    with store.writing() as connection:
        values = {"classes": '["crow", "rook"]', "head_weight": bytes(8 * DIM), "head_bias": bytes(8)}
        connection.execute(sa.update(schema.model).where(schema.model.c.id == 1).values(**values))
        connection.execute(sa.insert(schema.meta).values(key="model", value="1"))
    flip(store, 9)
    record = store.active_model()
    assert record is not None
    with caplog.at_level(logging.WARNING):
        assert stored_vectors(store, 1, [8, 9, 10])[1].tolist() == [True, False, True]
        assert unit_vectors(store, 1, [8, 9, 10])[1].tolist() == [True, False, True]
        assert set(store.embeddings(1, [8, 9, 10])) == {8, 10}
        by_photo = stored_photos(store, record, [8, 9])
        by_view = stored_views(store, record, [8, 9])
        with store.snapshot() as connection:
            assert set(_top_labels(connection, record, [8, 9])) == {8}
    for found in (by_photo, by_view):
        assert found[8].embedding is not None
        assert found[9].embedding is None
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "the stored vector is damaged and left out: photo 9; the next `birdsearch index` embeds it again"
    ]


def test_damaged_vectors_are_dropped_and_the_change_log_says_so(store: CatalogStore) -> None:
    flip(store, 9)
    assert drop_damaged_vectors(store) == ("photo 4", "photo 5", "photo 6", "photo 9")
    assert drop_damaged_vectors(store) == ()
    with store.reading() as connection:
        changes = connection.execute(sa.select(schema.change.c.op, schema.change.c.view_id)).all()
    assert changes == [("remove", 4), ("remove", 5), ("remove", 6), ("remove", 9)]
    assert stored_vectors(store, 2, [9])[1].tolist() == [True]
