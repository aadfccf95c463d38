"""The FAISS follower: it holds what the catalog says, whatever happened to its files."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from birdsearch.errors import CatalogError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.vectors.build import training_rows, write_index
from birdsearch.indexer.vectors.index import VectorIndex, normalised
from birdsearch.indexer.vectors.nprobe import Nprobe
from birdsearch.indexer.verify import check_catalog, rebuild_catalog
from birdsearch.search.query.knn import nearest

DIM = 8


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CatalogStore]:
    with CatalogStore.open(tmp_path / "catalog", "create") as opened:
        with opened.writing() as connection:
            connection.execute(
                sa.insert(schema.model).values(
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
            connection.execute(sa.insert(schema.meta).values(key="model", value="1"))
            connection.execute(sa.insert(schema.root).values(path=b"/photos", added_at="now"))
        yield opened


def add_photos(store: CatalogStore, ids: range) -> None:
    """Photos as an index run leaves them: photo and view `i`, a vector that depends on `i`, a file."""
    with store.writing() as connection:
        for number in ids:
            connection.execute(
                sa.insert(schema.photo).values(
                    id=number, digest=number.to_bytes(32, "big"), size=1, format="JPEG", width=1, height=1
                )
            )
            connection.execute(
                sa.insert(schema.view).values(id=number, photo_id=number, kind="whole", x=0, y=0, w=1, h=1)
            )
            vector = np.random.default_rng(number).normal(size=DIM).astype("<f4").tobytes()
            connection.execute(
                sa.insert(schema.embedding).values(
                    view_id=number, model_id=1, vector=vector, crc32=zlib.crc32(vector)
                )
            )
            connection.execute(
                sa.insert(schema.file).values(
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
            connection.execute(sa.insert(schema.change).values(op="add", view_id=number, model_id=1))


def remove_photo(store: CatalogStore, number: int) -> None:
    with store.writing() as connection:
        connection.execute(
            sa.update(schema.file).where(schema.file.c.photo_id == number).values(state="missing")
        )
        connection.execute(sa.insert(schema.change).values(op="remove", view_id=number, model_id=1))


def is_saved(index: VectorIndex) -> bool:
    """`index.is_saved`, which type checkers believe to stay as it was asked last."""
    return index.is_saved


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
        connection.execute(sa.update(schema.file).where(schema.file.c.photo_id == 5).values(state="present"))
        connection.execute(sa.insert(schema.change).values(op="add", view_id=5, model_id=1))
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


LISTED = pytest.mark.parametrize("exact_up_to", [1000, 0], ids=["one after the other", "in lists"])


@LISTED
@pytest.mark.parametrize("damage", ["truncated", "longer", "zeroed", "deleted", "another catalog's"])
def test_a_damaged_snapshot_is_noticed_and_made_again_with_a_warning(
    store: CatalogStore, tmp_path: Path, damage: str, exact_up_to: int
) -> None:
    add_photos(store, range(1, 41))
    path = VectorIndex.open(store, 1, DIM).save(store, exact_up_to=exact_up_to)
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[:-20])
    elif damage == "longer":
        path.write_bytes(content + b"more")
    elif damage == "zeroed":
        path.write_bytes(bytes(len(content)))
    elif damage == "deleted":
        path.unlink()
    else:
        strange = normalised(np.random.default_rng(0).normal(size=(40, DIM)).astype(np.float32))
        write_index(VectorIndex.of(np.arange(1, 41), strange), path, exact_up_to)
    index = VectorIndex.open(store, 1, DIM)
    assert_equals_the_catalog(index, set(range(1, 41)))
    assert len(index.warnings) == 1
    assert path.name in index.warnings[0]
    assert not index.is_saved
    index.save(store)
    assert VectorIndex.open(store, 1, DIM).warnings == ()


@LISTED
def test_a_bit_flipped_anywhere_in_a_snapshot_is_noticed_before_it_is_used(
    store: CatalogStore, exact_up_to: int
) -> None:
    add_photos(store, range(1, 41))
    path = VectorIndex.open(store, 1, DIM).save(store, exact_up_to=exact_up_to)
    content = path.read_bytes()
    rng = np.random.default_rng(8)
    places = [0, 9, 17, 25, len(content) - 1, *rng.integers(0, len(content), 60).tolist()]
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        index = VectorIndex.open(store, 1, DIM)
        queries = normalised(np.random.default_rng(place).normal(size=(3, DIM)).astype(np.float32))
        # Searched first: what is damaged is noticed by the search itself.
        assert nearest(index, queries, 40).view_ids.shape == (3, 40), f"byte {place}"
        assert_equals_the_catalog(index, set(range(1, 41)))
        assert len(index.warnings) == 1, f"byte {place}"
        assert path.name in index.warnings[0]
        assert not index.is_saved
    assert [problem.part for problem in check_catalog(store).problems] == ["index"]


def test_a_damaged_list_is_noticed_when_it_is_looked_into_and_all_is_read_from_the_catalog(
    store: CatalogStore,
) -> None:
    add_photos(store, range(1, 401))
    path = VectorIndex.open(store, 1, DIM).save(store, exact_up_to=0)
    sound = VectorIndex.open(store, 1, DIM)
    assert sound.base is not None
    queries = sound.vectors[::40].copy()
    expected = nearest(sound, queries, 5, exact=True)
    content = bytearray(path.read_bytes())
    lists = 400 * (4 * DIM + 8)
    begins = len(content) - lists - 400 * 8 - sound.base.lists * 4
    content[begins : begins + lists // 2] = bytes(lists // 2)
    path.write_bytes(content)
    index = VectorIndex.open(store, 1, DIM)
    assert not index.warnings
    found = nearest(index, queries, 5)
    np.testing.assert_array_equal(found.view_ids, expected.view_ids)
    np.testing.assert_array_equal(found.similarities, expected.similarities)
    assert_equals_the_catalog(index, set(range(1, 401)))
    assert len(index.warnings) == 1
    assert is_saved(index) is False
    # A stored vector that is damaged too is in neither.
    with store.writing() as connection:
        connection.execute(
            sa.update(schema.embedding).where(schema.embedding.c.view_id == 7).values(vector=b"short")
        )
    again = VectorIndex.open(store, 1, DIM)
    again.verify()
    assert_equals_the_catalog(again, set(range(1, 401)) - {7})
    assert "damaged and left out: /photos/7.jpg (photo 7)" in again.warnings[-1]


def test_a_few_changes_are_replayed_and_many_are_written(store: CatalogStore) -> None:
    add_photos(store, range(1, 401))
    VectorIndex.open(store, 1, DIM).save(store, exact_up_to=0)
    add_photos(store, range(401, 404))
    remove_photo(store, 7)
    index = VectorIndex.open(store, 1, DIM)
    assert index.is_saved
    assert_equals_the_catalog(index, set(range(1, 404)) - {7})
    add_photos(store, range(404, 405))
    index = VectorIndex.open(store, 1, DIM)
    assert not is_saved(index)
    index.save(store, exact_up_to=0)
    assert is_saved(index)
    assert_equals_the_catalog(index, set(range(1, 405)) - {7})
    assert_equals_the_catalog(VectorIndex.open(store, 1, DIM), set(range(1, 405)) - {7})


def test_the_same_vectors_give_the_same_file_and_centroids_are_kept_until_there_are_twice_as_many(
    store: CatalogStore, tmp_path: Path
) -> None:
    add_photos(store, range(1, 301))
    index = VectorIndex.build(store, 1, DIM)
    once, twice = write_index(index, tmp_path / "a", 0), write_index(index, tmp_path / "b", 0)
    assert once == twice
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    # The order in which they were added is no part of it.
    turned = VectorIndex.of(index.view_ids[::-1], index.vectors[::-1])
    assert write_index(turned, tmp_path / "c", 0) == once
    index.save(store, exact_up_to=0)
    first = index.base.centroids.copy() if index.base is not None else None
    add_photos(store, range(301, 500))
    index.replay(store)
    index.save(store, exact_up_to=0)
    assert first is not None
    assert index.base is not None
    np.testing.assert_array_equal(index.base.centroids, first)
    add_photos(store, range(500, 700))
    index.replay(store)
    index.save(store, exact_up_to=0)
    assert len(index.base.centroids) > len(first)


def test_what_measures_a_search_never_trained_it_even_when_there_were_fewer_vectors() -> None:
    ids = np.random.default_rng(2).permutation(40_000)[:20_000] + 1
    trained_then, _ = training_rows(ids[:9000], 60)
    _, measured_now = training_rows(ids, 60)
    assert len(trained_then) == 2400
    assert len(measured_now) == 2000
    assert not set(ids[:9000][trained_then].tolist()) & set(ids[measured_now].tolist())


def test_a_snapshot_is_mapped_and_says_how_it_is_searched(store: CatalogStore) -> None:
    add_photos(store, range(1, 401))
    VectorIndex.open(store, 1, DIM).save(store, exact_up_to=0)
    index = VectorIndex.open(store, 1, DIM)
    with store.reading() as connection:
        row = connection.execute(sa.select(schema.snapshot)).one()
    assert index.nprobe is not None
    assert (row.lists, row.recall) == (index.nprobe.count, index.nprobe.recall)
    assert Nprobe.from_json(row.effort) == index.nprobe
    assert (row.n, row.dim) == (400, DIM)


def test_a_snapshot_of_an_older_format_is_passed_over(store: CatalogStore) -> None:
    add_photos(store, range(1, 8))
    with store.writing() as connection:
        connection.execute(
            sa.insert(schema.snapshot).values(
                model_id=1,
                generation=1,
                seq=3,
                n=3,
                dim=DIM,
                sha256="0",
                file="model1-000001.faiss",
                created_at="now",
            )
        )
    index = VectorIndex.open(store, 1, DIM)
    assert index.warnings == ()
    assert_equals_the_catalog(index, set(range(1, 8)))


def test_views_with_sparse_ids_are_found_by_id() -> None:
    ids = np.array([5, 10**12, 3], np.int64)
    index = VectorIndex.of(ids, np.eye(3, dtype=np.float32))
    assert index.positions(np.array([10**12, 4, -1, 3], np.int64)).tolist() == [1, 2]
    index.remove(np.array([10**12], np.int64))
    index.add(np.array([10**12], np.int64), np.ones((1, 3), np.float32))
    assert index.positions(np.array([10**12], np.int64)).tolist() == [3]
    assert len(index) == 3


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
    embedding = schema.embedding.c
    with store.writing() as connection:
        connection.execute(
            sa.update(schema.embedding).where(embedding.view_id == 4).values(vector=bytes(flipped))
        )
        connection.execute(sa.update(schema.embedding).where(embedding.view_id == 6).values(vector=b"short"))
    report = check_catalog(store)
    assert [problem.where for problem in report.problems if problem.part == "vector"] == [
        "/photos/4.jpg (photo 4)",
        "/photos/6.jpg (photo 6)",
    ]
    rebuilt = rebuild_catalog(store)
    assert rebuilt.dropped == ("/photos/4.jpg (photo 4)", "/photos/6.jpg (photo 6)")
    assert rebuilt.vectors == 5
    assert check_catalog(store).problems == ()
    assert_equals_the_catalog(VectorIndex.open(store, 1, DIM), {1, 2, 3, 5, 7})


def test_check_notices_a_snapshot_that_is_not_what_the_catalog_says(store: CatalogStore) -> None:
    add_photos(store, range(1, 8))
    index = VectorIndex.open(store, 1, DIM)
    index.remove(np.array([2], dtype=np.int64))
    index.save(store)
    assert [problem.part for problem in check_catalog(store).problems] == ["index"]


def flip(store: CatalogStore, view_id: int) -> None:
    """Flip a bit of a stored vector's last number: it stays finite, of the right length, and wrong."""
    embedding = schema.embedding.c
    with store.writing() as connection:
        blob = bytearray(
            connection.execute(
                sa.select(embedding.vector).where(embedding.view_id == view_id, embedding.model_id == 1)
            ).scalar_one()
        )
        blob[-2] ^= 0x40
        assert np.isfinite(np.frombuffer(blob, "<f4")).all()
        connection.execute(
            sa.update(schema.embedding)
            .where(embedding.view_id == view_id, embedding.model_id == 1)
            .values(vector=bytes(blob))
        )


def test_a_flipped_vector_is_in_no_index_and_is_named_and_no_snapshot_of_it_is_written(
    store: CatalogStore,
) -> None:
    add_photos(store, range(1, 8))
    flip(store, 4)
    built = VectorIndex.build(store, 1, DIM)
    assert_equals_the_catalog(built, {1, 2, 3, 5, 6, 7})
    (warning,) = built.warnings
    assert warning.startswith("the stored vector is damaged and left out: /photos/4.jpg (photo 4); the next")
    built.save(store)
    add_photos(store, range(8, 11))
    flip(store, 9)
    replayed = VectorIndex.open(store, 1, DIM)
    assert_equals_the_catalog(replayed, {1, 2, 3, 5, 6, 7, 8, 10})
    assert "/photos/9.jpg (photo 9)" in replayed.warnings[-1]


def test_a_snapshot_from_before_the_damage_goes_on_answering_rightly(store: CatalogStore) -> None:
    add_photos(store, range(1, 8))
    VectorIndex.open(store, 1, DIM).save(store)
    before = VectorIndex.open(store, 1, DIM).vectors.copy()
    flip(store, 4)
    held = VectorIndex.open(store, 1, DIM)
    np.testing.assert_array_equal(held.vectors, before)
    assert [problem.where for problem in check_catalog(store).problems] == ["/photos/4.jpg (photo 4)"]
