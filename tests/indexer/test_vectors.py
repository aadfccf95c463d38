"""The FAISS follower: it holds what the catalog says, whatever happened to its files."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest
import sqlalchemy as sa

from birdsearch.errors import CatalogError
from birdsearch.indexer import tables
from birdsearch.indexer.catalog import CatalogStore
from birdsearch.indexer.vectors import VectorIndex, normalised
from birdsearch.indexer.verify import check_catalog, rebuild_catalog

DIM = 8


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CatalogStore]:
    with CatalogStore.open(tmp_path / "catalog", "create") as opened:
        with opened.writing() as connection:
            connection.execute(
                sa.insert(tables.model).values(
                    name="m",
                    network="n",
                    sha256="0",
                    preprocessing="p",
                    embedding_size=DIM,
                    classes='["a"]',
                    head_weight=np.zeros(DIM, "<f4").tobytes(),
                    head_bias=np.zeros(1, "<f4").tobytes(),
                )
            )
            connection.execute(sa.insert(tables.meta).values(key="model", value="1"))
            connection.execute(sa.insert(tables.root).values(path=b"/photos", added_at="now"))
        yield opened


def add_photos(store: CatalogStore, ids: range) -> None:
    """Photos as an index run leaves them: photo and view `i`, a vector that depends on `i`, a file."""
    with store.writing() as connection:
        for number in ids:
            connection.execute(
                sa.insert(tables.photo).values(
                    id=number, digest=number.to_bytes(32, "big"), size=1, format="JPEG", width=1, height=1
                )
            )
            connection.execute(
                sa.insert(tables.view).values(id=number, photo_id=number, kind="whole", x=0, y=0, w=1, h=1)
            )
            vector = np.random.default_rng(number).normal(size=DIM).astype("<f4").tobytes()
            connection.execute(
                sa.insert(tables.embedding).values(
                    view_id=number, model_id=1, vector=vector, crc32=zlib.crc32(vector)
                )
            )
            connection.execute(
                sa.insert(tables.file).values(
                    root_id=1,
                    path=f"{number}.jpg".encode(),
                    state="present",
                    photo_id=number,
                    size=1,
                    mtime_ns=0,
                    ctime_ns=0,
                    device=0,
                    inode=0,
                    transient=0,
                )
            )
            connection.execute(sa.insert(tables.change).values(op="add", view_id=number, model_id=1))


def remove_photo(store: CatalogStore, number: int) -> None:
    with store.writing() as connection:
        connection.execute(
            sa.update(tables.file).where(tables.file.c.photo_id == number).values(state="missing")
        )
        connection.execute(sa.insert(tables.change).values(op="remove", view_id=number, model_id=1))


def assert_equals_the_catalog(index: VectorIndex, ids: set[int]) -> None:
    assert set(index.view_ids.tolist()) == ids
    for position, view_id in enumerate(index.view_ids.tolist()):
        vector = np.random.default_rng(view_id).normal(size=DIM).astype(np.float32)
        np.testing.assert_array_equal(index.vectors[position], normalised(vector[None])[0])


def test_normalised_vectors_have_unit_length_and_zero_stays_zero() -> None:
    vectors = np.array([[3.0, 4.0], [0.0, 0.0], [1e-20, 0.0], [1e30, 1e30]], dtype=np.float32)
    lengths = np.linalg.norm(normalised(vectors), axis=1)
    np.testing.assert_allclose(lengths, [1, 0, 1, 1], atol=1e-6)


def test_without_a_snapshot_the_index_is_made_from_the_stored_vectors(store: CatalogStore) -> None:
    add_photos(store, range(1, 8))
    index = VectorIndex.open(store, 1, DIM)
    assert_equals_the_catalog(index, set(range(1, 8)))
    assert not index.is_saved
    assert index.warnings == ()


def test_a_snapshot_catches_up_with_what_was_added_removed_and_brought_back(store: CatalogStore) -> None:
    add_photos(store, range(1, 8))
    VectorIndex.open(store, 1, DIM).save(store)
    assert VectorIndex.open(store, 1, DIM).is_saved
    add_photos(store, range(8, 12))
    remove_photo(store, 3)
    remove_photo(store, 9)
    remove_photo(store, 5)
    with store.writing() as connection:
        connection.execute(sa.update(tables.file).where(tables.file.c.photo_id == 5).values(state="present"))
        connection.execute(sa.insert(tables.change).values(op="add", view_id=5, model_id=1))
    index = VectorIndex.open(store, 1, DIM)
    assert_equals_the_catalog(index, set(range(1, 12)) - {3, 9})
    assert not index.is_saved
    assert index.replay(store) == 0


def test_an_open_index_catches_up_while_it_is_in_use(store: CatalogStore) -> None:
    add_photos(store, range(1, 4))
    index = VectorIndex.open(store, 1, DIM)
    add_photos(store, range(4, 6))
    assert index.replay(store) == 2
    assert_equals_the_catalog(index, set(range(1, 6)))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "zeroed", "deleted", "another catalog's"])
def test_a_damaged_snapshot_is_noticed_and_made_again_with_a_warning(
    store: CatalogStore, damage: str
) -> None:
    add_photos(store, range(1, 8))
    path = VectorIndex.open(store, 1, DIM).save(store)
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[:-20])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "zeroed":
        path.write_bytes(bytes(len(content)))
    elif damage == "deleted":
        path.unlink()
    else:
        other = faiss.IndexIDMap2(faiss.IndexFlatIP(DIM))
        other.add_with_ids(np.ones((7, DIM), np.float32), np.arange(1, 8))
        faiss.write_index(other, str(path))
    index = VectorIndex.open(store, 1, DIM)
    assert_equals_the_catalog(index, set(range(1, 8)))
    assert len(index.warnings) == 1
    assert path.name in index.warnings[0]
    index.save(store)
    assert VectorIndex.open(store, 1, DIM).warnings == ()


def test_only_the_newest_two_snapshots_and_no_leftovers_are_kept(store: CatalogStore) -> None:
    for number in range(1, 6):
        add_photos(store, range(number, number + 1))
        VectorIndex.open(store, 1, DIM).save(store)
    (store.path / "vectors" / "crashed.tmp").write_bytes(b"half")
    VectorIndex.open(store, 1, DIM).save(store)
    assert sorted(path.name for path in (store.path / "vectors").iterdir()) == [
        "model1-000005.faiss",
        "model1-000006.faiss",
    ]


def test_a_snapshot_that_cannot_be_written_leaves_the_old_one_in_use(store: CatalogStore) -> None:
    add_photos(store, range(1, 4))
    VectorIndex.open(store, 1, DIM).save(store)
    add_photos(store, range(4, 6))
    index = VectorIndex.open(store, 1, DIM)
    # A full disk, as the system reports it: the file cannot grow.
    (store.path / "vectors" / "model1-000002.tmp").symlink_to("/dev/full")
    with pytest.raises(CatalogError, match="could not be written"):
        index.save(store)
    assert_equals_the_catalog(VectorIndex.open(store, 1, DIM), set(range(1, 6)))
    assert not (store.path / "vectors" / "model1-000002.tmp").is_symlink()


def test_check_finds_nothing_wrong_with_a_sound_catalog(store: CatalogStore) -> None:
    add_photos(store, range(1, 8))
    VectorIndex.open(store, 1, DIM).save(store)
    report = check_catalog(store)
    assert report.vectors == 7
    assert report.problems == ()


def test_check_names_the_photo_whose_stored_vector_was_damaged_and_rebuild_drops_it(
    store: CatalogStore,
) -> None:
    add_photos(store, range(1, 8))
    flipped = bytearray(np.random.default_rng(4).normal(size=DIM).astype("<f4").tobytes())
    flipped[5] ^= 4
    embedding = tables.embedding.c
    with store.writing() as connection:
        connection.execute(
            sa.update(tables.embedding).where(embedding.view_id == 4).values(vector=bytes(flipped))
        )
        connection.execute(sa.update(tables.embedding).where(embedding.view_id == 6).values(vector=b"short"))
    report = check_catalog(store)
    assert [problem.where for problem in report.problems if problem.part == "vector"] == [
        "/photos/4.jpg (photo 4)",
        "/photos/6.jpg (photo 6)",
    ]
    rebuilt = rebuild_catalog(store)
    assert rebuilt.dropped == ("/photos/4.jpg", "/photos/6.jpg")
    assert rebuilt.vectors == 5
    assert check_catalog(store).problems == ()
    assert_equals_the_catalog(VectorIndex.open(store, 1, DIM), {1, 2, 3, 5, 7})


def test_check_notices_a_snapshot_that_is_not_what_the_catalog_says(store: CatalogStore) -> None:
    add_photos(store, range(1, 8))
    index = VectorIndex.open(store, 1, DIM)
    index.index.remove_ids(np.array([2], dtype=np.int64))
    index.save(store)
    assert [problem.part for problem in check_catalog(store).problems] == ["index"]
