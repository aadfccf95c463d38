"""Catalogs made row by row."""

from __future__ import annotations

import hashlib
import itertools
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.store import CatalogStore, now
from birdsearch.indexer.vectors.index import VectorIndex


@dataclass
class MadeCatalog:
    """A catalog whose rows a test writes itself, with the real schema."""

    store: CatalogStore
    dim: int
    model_id: int
    roots: dict[bytes, int] = field(default_factory=dict)
    number: Any = field(default_factory=lambda: itertools.count(1))

    def root(self, path: bytes) -> int:
        if path not in self.roots:
            with self.store.writing() as connection:
                self.roots[path] = connection.execute(
                    sa.insert(schema.root).values(path=path, added_at=now()).returning(schema.root.c.id)
                ).scalar_one()
        return self.roots[path]

    def photo(
        self,
        vectors: Sequence[np.ndarray],
        files: Sequence[tuple[bytes, bytes, str]] = (),
        *,
        digest: bytes | None = None,
        boxes: Sequence[tuple[float, float, float, float]] = (),
        **facts: object,
    ) -> tuple[int, list[int]]:
        """Add a photo; the first vector is that of the whole frame, the others of the boxes.

        Returns its id and those of its views.
        """
        number = next(self.number)
        given = files or [(b"/archive", b"%06d.jpg" % number, "present")]
        root_ids = {root: self.root(root) for root, _, _ in given}
        with self.store.writing() as connection:
            photo_id = connection.execute(
                sa.insert(schema.photo)
                .values(
                    digest=digest or hashlib.sha256(b"%d" % number).digest(),
                    size=1,
                    format="JPEG",
                    width=4,
                    height=3,
                    **facts,
                )
                .returning(schema.photo.c.id)
            ).scalar_one()
            for root, path, state in given:
                connection.execute(
                    sa.insert(schema.file).values(
                        root_id=root_ids[root],
                        path=path,
                        state=state,
                        photo_id=photo_id,
                        size=1,
                        mtime_ns=0,
                        ctime_ns=0,
                        device=0,
                        inode=0,
                        transient=0,
                    )
                )
            is_live = any(state != "missing" for _, _, state in given)
            view_ids = []
            for place, vector in enumerate(vectors):
                x, y, w, h = (0.0, 0.0, 1.0, 1.0) if place == 0 else boxes[place - 1]
                view_id = connection.execute(
                    sa.insert(schema.view)
                    .values(photo_id=photo_id, kind="box" if place else "whole", x=x, y=y, w=w, h=h)
                    .returning(schema.view.c.id)
                ).scalar_one()
                view_ids.append(view_id)
                self._embedding(connection, view_id, self.model_id, vector, is_live=is_live)
        return photo_id, view_ids

    def _embedding(
        self, connection: sa.Connection, view_id: int, model_id: int, vector: np.ndarray, *, is_live: bool
    ) -> None:
        blob = np.ascontiguousarray(vector, dtype="<f4").tobytes()
        connection.execute(
            sa.insert(schema.embedding).values(
                view_id=view_id, model_id=model_id, vector=blob, crc32=zlib.crc32(blob)
            )
        )
        if is_live:
            connection.execute(sa.insert(schema.change).values(op="add", view_id=view_id, model_id=model_id))

    def index(self) -> VectorIndex:
        return VectorIndex.open(self.store, self.model_id, self.dim)


def add_model(store: CatalogStore, dim: int, classes: Sequence[str], sha256: str, seed: int = 0) -> int:
    rng = np.random.default_rng(seed)
    with store.writing() as connection:
        model_id: int = connection.execute(
            sa.insert(schema.model)
            .values(
                name="made-up",
                network="xcit_nano12_p16",
                sha256=sha256,
                preprocessing="none",
                embedding_size=dim,
                classes=json.dumps(list(classes)),
                head_weight=rng.normal(size=(len(classes), dim)).astype("<f4").tobytes(),
                head_bias=rng.normal(size=len(classes)).astype("<f4").tobytes(),
            )
            .returning(schema.model.c.id)
        ).scalar_one()
        connection.execute(
            sa.insert(schema.meta).prefix_with("OR REPLACE").values(key="model", value=str(model_id))
        )
    return model_id


@pytest.fixture
def make_catalog(tmp_path: Path) -> Iterator[Callable[..., MadeCatalog]]:
    """Makes catalogs; closed after the test."""
    made: list[CatalogStore] = []

    def make(dim: int = 8, name: str = "catalog") -> MadeCatalog:
        store = CatalogStore.open(tmp_path / name, "create")
        made.append(store)
        return MadeCatalog(store, dim, add_model(store, dim, ["crow", "wren", "rook"], "0" * 64))

    yield make
    for store in made:
        store.close()
