"""Stored vectors read at once, against the rows as they are."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from birdsearch.indexer import tables
from birdsearch.indexer.catalog import CatalogStore
from birdsearch.indexer.embeddings import normalised, stored_vectors, unit_vectors

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
                    sa.insert(tables.model).values(
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
                    sa.insert(tables.photo).values(
                        id=view_id,
                        digest=view_id.to_bytes(32, "big"),
                        size=1,
                        format="PNG",
                        width=1,
                        height=1,
                    )
                )
                connection.execute(
                    sa.insert(tables.view).values(
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
                            sa.insert(tables.embedding).values(
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
