"""Index runs on real folders: what is found, what is done again, and what is never lost."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import sqlalchemy as sa

from birdsearch.errors import InvalidInputError, MissingFilesError, ModelMismatchError, WeightsError
from birdsearch.indexer import stages
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.runs import vector_settings
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.model_source import ModelSource
from birdsearch.indexer.options import IndexOptions
from birdsearch.indexer.pipeline import IndexSummary, index_archive
from birdsearch.indexer.vectors.index import VectorIndex, normalised
from birdsearch.indexer.verify import check_catalog

if TYPE_CHECKING:
    from birdsearch.model.inference import Model

Run = Callable[..., IndexSummary]
MakePhoto = Callable[..., Path]


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return tmp_path / "catalog"


@pytest.fixture
def archive(tmp_path: Path, make_photo: MakePhoto) -> Path:
    """Twelve photos in two folders."""
    folder = tmp_path / "archive"
    for number in range(12):
        make_photo(folder / ("north" if number % 2 else "south") / f"{number:02d}.jpg", number)
    return folder


@pytest.fixture
def run(catalog: Path, tiny_model: Model) -> Run:
    def index(*roots: Path, model: Model | ModelSource = tiny_model, **options: object) -> IndexSummary:
        with CatalogStore.open(catalog, "create") as store:
            settings = IndexOptions(workers=1, batch_size=5, **options)  # type: ignore[arg-type]
            return index_archive(store, model, roots, settings)

    return index


@pytest.fixture(autouse=True)
def _sound(catalog: Path) -> Iterator[None]:
    """After every test the catalog verifies, its vector index included."""
    yield
    if catalog.exists():
        with CatalogStore.open(catalog) as store:
            assert check_catalog(store).problems == ()


class IgnoredProgress:
    def scanned(self, files: int) -> None: ...

    def planned(self, files: int) -> None: ...

    def committed(self, files: int) -> None: ...


def rows(catalog: Path, table: str, columns: str = "*") -> list[tuple[object, ...]]:
    connection = sqlite3.connect(catalog / "birdsearch.sqlite")
    try:
        return sorted(connection.execute(f"SELECT {columns} FROM {table}"), key=repr)
    finally:
        connection.close()


def contents(catalog: Path) -> dict[str, list[tuple[object, ...]]]:
    return {name: rows(catalog, name) for name in schema.metadata.tables}


def searchable(catalog: Path) -> int:
    with CatalogStore.open(catalog) as store:
        model = store.active_model()
        assert model is not None
        return len(VectorIndex.open(store, model.id, model.embedding_size))


def test_photos_are_embedded_as_the_model_embeds_them(
    run: Run, archive: Path, catalog: Path, tiny_model: Model
) -> None:
    summary = run(archive)
    assert (summary.new, summary.embedded, summary.failed) == (12, 12, {})
    with CatalogStore.open(catalog) as store:
        for path in sorted(archive.rglob("*.jpg")):
            photo_id = store.photo_at(os.fsencode(path))
            assert photo_id is not None
            stored = store.embeddings(1, [photo_id])[photo_id]
            inference = tiny_model.infer([path])
            np.testing.assert_allclose(stored, inference.embeddings[0], atol=1e-5)
            model = store.active_model()
            assert model is not None
            np.testing.assert_allclose(model.logits(stored[None]), inference.logits, atol=1e-5)


def test_a_second_run_reads_nothing_and_changes_nothing_but_its_own_row(
    run: Run, archive: Path, catalog: Path
) -> None:
    run(archive)
    before = contents(catalog)
    summary = run(archive)
    assert (summary.new, summary.unchanged, summary.embedded) == (0, 12, 0)
    after = contents(catalog)
    assert len(after.pop("run")) == len(before.pop("run")) + 1
    assert after == before


def test_new_photos_are_added_to_what_is_there(run: Run, archive: Path, make_photo: MakePhoto) -> None:
    run(archive)
    make_photo(archive / "later.png", 100)
    summary = run(archive)
    assert (summary.new, summary.unchanged, summary.embedded) == (1, 12, 1)


def test_a_copy_and_a_hard_link_are_one_photo(run: Run, archive: Path, catalog: Path) -> None:
    shutil.copy(archive / "south" / "00.jpg", archive / "copy.jpg")
    os.link(archive / "south" / "02.jpg", archive / "north" / "link.jpg")
    summary = run(archive)
    assert (summary.new, summary.copies, summary.embedded) == (12, 2, 12)
    assert len(rows(catalog, "photo")) == 12
    assert len(rows(catalog, "file")) == 14
    assert searchable(catalog) == 12


def test_a_copy_that_comes_later_is_not_embedded_again(run: Run, archive: Path) -> None:
    run(archive)
    shutil.copy(archive / "south" / "00.jpg", archive / "copy.jpg")
    summary = run(archive)
    assert (summary.new, summary.copies, summary.embedded) == (0, 1, 0)


def test_a_renamed_photo_is_not_embedded_again_and_keeps_its_rows(
    run: Run, archive: Path, catalog: Path
) -> None:
    run(archive)
    kept = {name: rows(catalog, name) for name in ("photo", "view", "embedding", "change", "snapshot")}
    files = rows(catalog, "file", "id, photo_id")
    (archive / "south").rename(archive / "east")
    (archive / "north" / "01.jpg").rename(archive / "east" / "same name.jpg")
    summary = run(archive)
    assert (summary.moved, summary.new, summary.copies, summary.embedded, summary.missing) == (7, 0, 0, 0, 0)
    assert {name: rows(catalog, name) for name in kept} == kept
    assert rows(catalog, "file", "id, photo_id") == files
    with CatalogStore.open(catalog) as store:
        assert store.photo_at(os.fsencode(archive / "east" / "same name.jpg")) is not None
        assert store.photo_at(os.fsencode(archive / "north" / "01.jpg")) is None


def test_a_photo_moved_to_another_root_keeps_its_vector(
    run: Run, archive: Path, catalog: Path, tmp_path: Path, make_photo: MakePhoto
) -> None:
    other = tmp_path / "other"
    make_photo(other / "x.jpg", 50)
    run(archive, other)
    (archive / "south" / "00.jpg").rename(other / "moved.jpg")
    summary = run(archive, other)
    assert (summary.moved, summary.embedded, summary.missing) == (1, 0, 0)
    assert searchable(catalog) == 13


def test_an_edited_photo_is_embedded_again_even_if_size_and_time_stay(
    run: Run, archive: Path, catalog: Path, make_photo: MakePhoto
) -> None:
    path = make_photo(archive / "edited.bmp", 60)
    run(archive)
    status = path.stat()
    make_photo(path, 61)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    summary = run(archive)
    assert (summary.changed, summary.embedded, summary.new) == (1, 1, 0)
    assert len(rows(catalog, "photo")) == 14
    assert searchable(catalog) == 13


def test_a_touched_photo_is_read_but_not_embedded_again(run: Run, archive: Path) -> None:
    run(archive)
    (archive / "south" / "00.jpg").touch()
    summary = run(archive)
    assert (summary.unchanged, summary.embedded, summary.changed) == (12, 0, 0)


def test_a_deleted_photo_is_missing_and_comes_back_without_embedding(
    run: Run, archive: Path, catalog: Path, tmp_path: Path
) -> None:
    run(archive)
    away = tmp_path / "away.jpg"
    (archive / "south" / "00.jpg").rename(away)
    assert run(archive).missing == 1
    assert searchable(catalog) == 11
    with CatalogStore.open(catalog) as store:
        assert store.counts().missing_photos == 1
    away.rename(archive / "north" / "back.jpg")
    summary = run(archive)
    assert (summary.embedded, summary.copies) == (0, 1)
    assert searchable(catalog) == 12


def test_an_empty_root_is_an_error_and_not_one_row_changes(run: Run, archive: Path, catalog: Path) -> None:
    run(archive)
    before = contents(catalog)
    shutil.rmtree(archive)
    archive.mkdir()
    with pytest.raises(MissingFilesError, match=r"empty.*knows 12 files.*--confirm-missing"):
        run(archive)
    assert contents(catalog) == before


def test_a_missing_root_is_an_error_and_not_one_row_changes(run: Run, archive: Path, catalog: Path) -> None:
    run(archive)
    before = contents(catalog)
    archive.rename(archive.with_name("unplugged"))
    with pytest.raises(MissingFilesError, match="no such folder"):
        run(archive)
    assert contents(catalog) == before


def test_a_folder_that_was_emptied_below_its_root_is_noticed_too(
    run: Run, archive: Path, catalog: Path
) -> None:
    run(archive)
    before = contents(catalog)
    shutil.rmtree(archive / "south")
    (archive / "south").mkdir()
    with pytest.raises(MissingFilesError, match="empty"):
        run(archive / "south")
    assert contents(catalog) == before


def test_most_of_a_root_gone_asks_and_marks_nothing_until_confirmed(
    run: Run, archive: Path, catalog: Path
) -> None:
    run(archive)
    for number in (0, 1, 2, 3, 4, 5, 6):
        next(archive.rglob(f"{number:02d}.jpg")).unlink()
    before = rows(catalog, "file")
    with pytest.raises(MissingFilesError, match=r"7 of 12 .* gone.*--confirm-missing"):
        run(archive)
    assert rows(catalog, "file") == before
    assert searchable(catalog) == 12
    assert run(archive, confirm_missing=True).missing == 7
    assert searchable(catalog) == 5


def test_most_of_a_root_gone_is_noticed_among_as_many_new_photos(
    run: Run, archive: Path, catalog: Path, make_photo: MakePhoto
) -> None:
    run(archive)
    shutil.rmtree(archive / "south")
    (archive / "north" / "01.jpg").unlink()
    for number in range(100, 110):
        make_photo(archive / "new" / f"{number}.jpg", number)
    with pytest.raises(MissingFilesError, match="7 of 12"):
        run(archive)
    assert all(state == "present" for (state,) in rows(catalog, "file", "state"))
    assert searchable(catalog) == 22


def test_a_deleted_root_can_be_given_up(run: Run, archive: Path, catalog: Path) -> None:
    run(archive)
    shutil.rmtree(archive)
    assert run(archive, confirm_missing=True).missing == 12
    assert searchable(catalog) == 0


def test_a_bad_file_is_recorded_and_the_others_are_indexed(run: Run, archive: Path, catalog: Path) -> None:
    (archive / "empty.jpg").touch()
    (archive / "page.jpg").write_text("<html>not a photo</html>")
    whole = (archive / "south" / "00.jpg").read_bytes()
    (archive / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (archive / "notes.txt").write_text("a sidecar")
    summary = run(archive)
    assert summary.new == 12
    assert summary.failed == {"empty": 1, "not-a-picture": 1, "truncated": 1}
    assert summary.ignored == {".txt": 1}
    with CatalogStore.open(catalog) as store:
        failures = {os.path.basename(failure.path): failure for failure in store.failures()}  # noqa: PTH119
    assert {name: failure.code for name, failure in failures.items()} == {
        b"cut.jpg": "truncated",
        b"empty.jpg": "empty",
        b"page.jpg": "not-a-picture",
    }
    assert all(failure.reason and failure.stage for failure in failures.values())


def test_a_bad_file_is_not_read_again_until_it_changes_or_is_asked_for(run: Run, archive: Path) -> None:
    whole = (archive / "south" / "00.jpg").read_bytes()
    (archive / "cut.jpg").write_bytes(whole[:-300])
    assert run(archive).failed == {"truncated": 1}
    summary = run(archive)
    assert (summary.failed, summary.unchanged) == ({"truncated": 1}, 12)
    assert run(archive, retry_failed=True).failed == {"truncated": 1}
    # What follows the end of a JPEG is no part of its picture.
    (archive / "cut.jpg").write_bytes(whole + b"\0")
    summary = run(archive)
    assert (summary.failed, summary.copies) == ({}, 1)


def test_a_bad_file_that_was_removed_is_forgotten(run: Run, archive: Path, catalog: Path) -> None:
    (archive / "empty.jpg").touch()
    run(archive)
    (archive / "empty.jpg").unlink()
    assert run(archive).failed == {}
    assert len(rows(catalog, "file")) == 12


def test_a_photo_that_is_damaged_in_place_leaves_the_search(run: Run, archive: Path, catalog: Path) -> None:
    run(archive)
    path = archive / "south" / "00.jpg"
    path.write_bytes(path.read_bytes()[:200])
    assert sum(run(archive).failed.values()) == 1
    assert searchable(catalog) == 11


def test_a_photo_whose_stored_vector_is_damaged_is_embedded_again_and_named(
    run: Run, archive: Path, catalog: Path, tiny_model: Model
) -> None:
    run(archive)
    with CatalogStore.open(catalog, "write") as store:
        right = store.embeddings(1, [5])[5]
        blob = bytearray(right.astype("<f4").tobytes())
        blob[2] ^= 1
        with store.writing() as connection:
            connection.execute(
                sa.update(schema.embedding).where(schema.embedding.c.view_id == 5).values(vector=bytes(blob))
            )
    summary = run(archive)
    assert (summary.reembedded, summary.embedded, summary.unchanged) == (1, 1, 11)
    assert "(photo 5): its stored vector was damaged" in summary.warnings[0]
    with CatalogStore.open(catalog) as store:
        np.testing.assert_allclose(store.embeddings(1, [5])[5], right, atol=1e-5)
    assert searchable(catalog) == 12
    assert run(archive).warnings == ()


def test_two_bad_files_of_the_same_content_fail_for_the_same_reason(run: Run, archive: Path) -> None:
    whole = (archive / "south" / "00.jpg").read_bytes()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (archive / name).write_bytes(whole[:-300])
    assert run(archive).failed == {"truncated": 3}


def test_an_unreadable_folder_is_recorded_and_its_photos_stay(
    run: Run, archive: Path, catalog: Path, tmp_path: Path
) -> None:
    # It holds most of the photos: what cannot be looked at is not gone either.
    for number in (1, 3):
        (archive / "north" / f"{number:02d}.jpg").rename(archive / "south" / f"{number:02d}.jpg")
    run(archive)
    # A loop of links cannot be opened by anybody, root included.
    (archive / "south").rename(tmp_path / "south")
    (archive / "south").symlink_to(archive / "south")
    summary = run(archive)
    assert summary.missing == 0
    assert sum(summary.failed.values()) == 1
    assert searchable(catalog) == 12
    (archive / "south").unlink()
    (tmp_path / "south").rename(archive / "south")
    summary = run(archive)
    assert (summary.failed, summary.embedded) == ({}, 0)


def test_overlapping_roots_give_one_row_a_file(run: Run, archive: Path, catalog: Path) -> None:
    first = run(archive / "north", archive, archive / "north" / ".." / "north")
    assert (first.new, first.copies) == (12, 0)
    assert len(rows(catalog, "file")) == 12
    second = run(archive)
    assert (second.unchanged, second.new, second.missing) == (12, 0, 0)


def test_a_folder_named_inside_a_known_root_takes_its_files_over(
    run: Run, archive: Path, catalog: Path
) -> None:
    run(archive)
    ids = rows(catalog, "file", "id, photo_id")
    summary = run(archive / "south")
    assert (summary.unchanged, summary.embedded, summary.missing) == (6, 0, 0)
    assert rows(catalog, "file", "id, photo_id") == ids
    summary = run(archive)
    assert (summary.unchanged, summary.missing) == (12, 0)


def test_a_folder_given_through_a_link_is_the_folder_itself(
    run: Run, archive: Path, catalog: Path, tmp_path: Path
) -> None:
    run(archive)
    (tmp_path / "link").symlink_to(archive)
    assert run(tmp_path / "link").unchanged == 12
    assert len(rows(catalog, "root")) == 1


def test_the_catalogs_own_folder_is_not_crawled(
    tmp_path: Path, archive: Path, tiny_model: Model, make_photo: MakePhoto
) -> None:
    inside = archive / "catalog"
    for _ in range(2):
        with CatalogStore.open(inside, "create") as store:
            summary = index_archive(store, tiny_model, [archive], IndexOptions(workers=1))
        make_photo(inside / "thumbnail.jpg", 70)
    assert (summary.unchanged, summary.new, summary.ignored) == (12, 0, {})


def test_another_model_is_refused_and_reembed_accepts_it(
    run: Run, archive: Path, catalog: Path, tiny_model: Model, other_model: Model
) -> None:
    run(archive)
    before = contents(catalog)
    with pytest.raises(ModelMismatchError, match=r"made with tiny .*given is other .*--reembed"):
        run(archive, model=other_model)
    assert contents(catalog) == before
    summary = run(archive, model=other_model, reembed=True)
    assert (summary.reembedded, summary.embedded, summary.new) == (12, 12, 0)
    assert searchable(catalog) == 12
    # Going back needs no work: both models' vectors are kept.
    summary = run(archive, model=tiny_model, reembed=True)
    assert (summary.unchanged, summary.embedded) == (12, 0)
    assert searchable(catalog) == 12


def test_names_that_are_not_text_are_indexed_and_found(run: Run, catalog: Path, archive: Path) -> None:
    source = archive / "south" / "00.jpg"
    names = [
        b"\xff\xfe.jpg",
        "\u00e9.jpg".encode(),
        "e\u0301.jpg".encode(),
        b"two\nlines.jpg",
        b"=cmd().jpg",
        b"<b>.jpg",
    ]
    for number, name in enumerate(names):
        with open(os.path.join(os.fsencode(archive), name), "wb") as file:  # noqa: PTH118, PTH123
            file.write(source.read_bytes() + bytes([number]))
    assert run(archive).copies == len(names)
    with CatalogStore.open(catalog) as store:
        for name in names:
            assert store.photo_at(os.path.join(os.fsencode(archive), name)) is not None  # noqa: PTH118


def test_a_network_that_gives_no_number_records_the_photo_as_failed(
    run: Run, archive: Path, catalog: Path, tiny_model: Model
) -> None:
    class Broken:
        """The real model, but its vectors for every other photo are not finite or zero."""

        def __getattr__(self, name: str) -> object:
            return getattr(tiny_model, name)

        def infer_pixels(self, pixels: np.ndarray) -> object:
            inference = tiny_model.infer_pixels(pixels)
            inference.embeddings[::3] = np.nan
            inference.embeddings[1::3] = 0
            return inference

    summary = run(archive, model=Broken())
    assert summary.new + sum(summary.failed.values()) == 12
    assert set(summary.failed) == {"bad-embedding"}
    assert searchable(catalog) == summary.new < 12


def test_every_vector_of_the_index_is_the_stored_one(run: Run, archive: Path, catalog: Path) -> None:
    run(archive)
    with CatalogStore.open(catalog) as store:
        index = VectorIndex.open(store, 1, 128)
        stored = store.embeddings(1, index.view_ids.tolist())
        for position, view_id in enumerate(index.view_ids.tolist()):
            np.testing.assert_array_equal(index.vectors[position], normalised(stored[view_id][None])[0])


def test_no_file_is_lost_though_decoders_keep_dying(
    tmp_path: Path,
    catalog: Path,
    tiny_model: Model,
    make_photo: MakePhoto,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive = tmp_path / "many"
    for number in range(600):
        make_photo(archive / f"{number:04d}.png", number % 500, size=(8, 8))
    monkeypatch.setattr(stages, "COMMIT_SECONDS", 0.0)
    kills: list[int] = []

    class Killer(IgnoredProgress):
        done = 0

        def committed(self, files: int) -> None:
            self.done += files
            # The oldest one, which is at work: one that dies as it starts is another matter.
            if self.done // 40 > len(kills) and (decoders := decoders_of(os.getpid())):
                kills.append(decoders[0])
                os.kill(decoders[0], signal.SIGKILL)

    with CatalogStore.open(catalog, "create") as store:
        options = IndexOptions(workers=2, batch_size=5)
        first = index_archive(store, tiny_model, [archive], options, Killer())
        assert len(kills) > 5
        assert first.new + first.copies + sum(first.failed.values()) == 600
        # What was at work in a decoder that was killed is tried again.
        second = index_archive(store, tiny_model, [archive], options)
    assert second.failed == {}
    assert first.embedded + second.embedded == 500
    assert searchable(catalog) == 500
    print(f"{sum(first.failed.values())} photos failed with {len(kills)} decoders")


def decoders_of(process: int) -> list[int]:
    """Decoder processes of a process, the oldest first."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
            # Parent, and time of the start.
            if int(fields[1]) == process and b"worker.child" in (folder / "cmdline").read_bytes():
                found.append((int(fields[19]), int(folder.name)))
    return [number for _, number in sorted(found)]


def test_a_thousand_renamed_files_are_not_embedded_again(
    run: Run, tmp_path: Path, catalog: Path, make_photo: MakePhoto
) -> None:
    archive = tmp_path / "many"
    for number in range(1000):
        make_photo(archive / f"{number:04d}.png", number, size=(8, 8))
    assert run(archive).embedded == 1000
    kept = {name: rows(catalog, name) for name in ("photo", "view", "embedding", "change")}
    for number in range(1000):
        (archive / f"{number:04d}.png").rename(archive / f"renamed {number}.png")
    summary = run(archive)
    assert (summary.moved, summary.embedded, summary.missing, summary.new) == (1000, 0, 0, 0)
    assert {name: rows(catalog, name) for name in kept} == kept


@pytest.mark.parametrize("option", [{"workers": 0}, {"batch_size": 0}])
def test_options_that_make_no_sense_are_refused(option: dict[str, int]) -> None:
    with pytest.raises(InvalidInputError, match="at least 1"):
        IndexOptions(**option)  # type: ignore[arg-type]


def test_a_file_is_not_a_folder_to_index(run: Run, archive: Path) -> None:
    with pytest.raises(MissingFilesError, match="not a folder"):
        run(archive / "south" / "00.jpg")


def test_where_nothing_changed_no_model_is_loaded(run: Run, archive: Path, tiny_model: Model) -> None:
    def load() -> Model:
        raise AssertionError("there is nothing to embed")

    run(archive)
    summary = run(archive, model=ModelSource(load, tiny_model.sha256))
    assert (summary.unchanged, summary.embedded) == (12, 0)
    assert summary.timings.busy == {}


def test_an_empty_folder_needs_no_model_either(
    run: Run, catalog: Path, tmp_path: Path, tiny_model: Model
) -> None:
    def load() -> Model:
        raise AssertionError("there is nothing to embed")

    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", model=ModelSource(load)).embedded == 0
    with CatalogStore.open(catalog) as store:
        assert store.active_model() is None


@pytest.mark.parametrize("known", ["nothing", "hash", "all"])
def test_a_model_that_loads_beside_the_scan_embeds_like_one_that_was_loaded(
    run: Run, archive: Path, catalog: Path, tmp_path: Path, tiny_model: Model, known: str
) -> None:
    shutil.copy(archive / "south" / "00.jpg", archive / "copy.jpg")
    run(archive)
    with_loaded = contents(catalog)
    loads = []

    def load() -> Model:
        loads.append(threading.current_thread() is threading.main_thread())
        return tiny_model

    source = {
        "nothing": ModelSource(load),
        "hash": ModelSource(load, tiny_model.sha256),
        "all": ModelSource(load, tiny_model.sha256, tiny_model.path, tiny_model.input_size),
    }[known]
    with CatalogStore.open(tmp_path / "other", "create") as store:
        summary = index_archive(store, source, [archive], IndexOptions(workers=1, batch_size=5))
    assert (summary.new, summary.copies, summary.embedded) == (12, 1, 12)
    assert loads == [False]
    other = contents(tmp_path / "other")
    assert other["model"] == with_loaded["model"]
    for name in ("photo", "view", "file"):
        assert len(other[name]) == len(with_loaded[name])
    digests = "photo JOIN view ON photo_id = photo.id JOIN embedding ON view_id = view.id"
    vectors = rows(tmp_path / "other", digests, "digest, vector")
    stored = rows(catalog, digests, "digest, vector")
    assert [digest for digest, _ in vectors] == [digest for digest, _ in stored]
    # Batches may be made of other photos, so that the last bits may differ.
    for (_, ours), (_, theirs) in zip(vectors, stored, strict=True):
        assert isinstance(ours, bytes)
        assert isinstance(theirs, bytes)
        np.testing.assert_allclose(np.frombuffer(ours, "<f4"), np.frombuffer(theirs, "<f4"), atol=1e-5)


def test_a_model_that_cannot_be_loaded_ends_the_run_and_its_threads(
    run: Run, archive: Path, catalog: Path
) -> None:
    def load() -> Model:
        raise WeightsError("the weights are gone")

    before = set(threading.enumerate())
    with pytest.raises(WeightsError, match="gone"):
        run(archive, model=ModelSource(load))
    assert rows(catalog, "photo") == rows(catalog, "run") == []
    assert [thread.name for thread in threading.enumerate() if thread not in before] == []


def test_another_model_that_is_not_loaded_is_refused_naming_both(
    run: Run, archive: Path, catalog: Path, other_model: Model
) -> None:
    run(archive)
    before = contents(catalog)
    with pytest.raises(ModelMismatchError, match=r"made with tiny .*given is other .*--reembed"):
        run(archive, model=ModelSource(lambda: other_model, other_model.sha256))
    assert contents(catalog) == before


def test_weights_that_were_exchanged_before_they_were_loaded_are_refused(
    run: Run, archive: Path, catalog: Path, tiny_model: Model, other_model: Model, make_photo: MakePhoto
) -> None:
    run(archive)
    make_photo(archive / "new.jpg", 90)
    before = rows(catalog, "file")
    with pytest.raises(ModelMismatchError, match="given is other"):
        run(archive, model=ModelSource(lambda: other_model, tiny_model.sha256))
    assert rows(catalog, "file") == before


def test_photos_gone_from_two_roots_at_once_are_no_copies_of_each_other(
    run: Run, tmp_path: Path, catalog: Path, make_photo: MakePhoto
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for number in range(4):
        make_photo(first / f"{number}.jpg", number)
    shutil.copytree(first, second)
    run(first, second)
    before = rows(catalog, "file", "id, state")
    for number in range(3):
        (first / f"{number}.jpg").unlink()
        (second / f"{number}.jpg").unlink()
        # As many others, so that nothing is to be judged before they are read.
        make_photo(first / f"new {number}.jpg", 10 + number)
    with pytest.raises(MissingFilesError, match="3 of 4"):
        run(first, second)
    assert set(before) <= set(rows(catalog, "file", "id, state"))


def test_batches_that_come_fast_are_committed_together_and_each_is_acknowledged_after_its_commit(
    run: Run, archive: Path, catalog: Path, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "COMMIT_SECONDS", 1000.0)
    monkeypatch.setattr(stages, "COMMIT_PHOTOS", 4)
    acknowledged = []

    class Progress(IgnoredProgress):
        def committed(self, files: int) -> None:
            acknowledged.append((files, len(rows(catalog, "file"))))

    with CatalogStore.open(catalog, "create") as store:
        options = IndexOptions(workers=1, batch_size=1)
        index_archive(store, tiny_model, [archive], options, Progress())
    # The first at once, the others as soon as there are four.
    assert [files for files, _ in acknowledged] == [1, 4, 4, 3]
    assert [there for _, there in acknowledged] == [1, 5, 9, 12]


def test_every_vector_says_by_which_run_and_with_what_it_was_made(
    run: Run, archive: Path, catalog: Path, tiny_model: Model, make_photo: MakePhoto
) -> None:
    run(archive)
    make_photo(archive / "later.png", 100)
    run(archive, decode="full")
    run(archive)
    recorded = [json.loads(str(value)) for (value,) in rows(catalog, "run WHERE id < 3", "settings")]
    for settings, decode in zip(recorded, ("full", "scaled"), strict=True):
        assert settings["runtime"] == tiny_model.runtime
        assert (settings["decode"], settings["device"], settings["batch_size"]) == (decode, "cpu", 5)
        assert set(settings["versions"]) >= {"pillow"}
    # A run that reads nothing does nothing in any way.
    assert rows(catalog, "run WHERE id = 3", "settings") == [(None,)]
    assert rows(catalog, "embedding", "run_id") == [(1,)] * 12 + [(2,)]
    with CatalogStore.open(catalog) as store:
        made = vector_settings(store, 1)
    assert [(way.settings["decode"], way.vectors) for way in made] == [("scaled", 12), ("full", 1)]


def test_vectors_of_before_settings_were_recorded_are_told_apart(
    run: Run, archive: Path, catalog: Path, make_photo: MakePhoto
) -> None:
    run(archive)
    with CatalogStore.open(catalog, "write") as store, store.writing() as connection:
        connection.execute(sa.update(schema.run).values(settings=None))
        connection.execute(sa.update(schema.embedding).values(run_id=None))
    with CatalogStore.open(catalog) as store:
        assert [(way.settings, way.vectors) for way in vector_settings(store, 1)] == [({}, 12)]
    make_photo(archive / "later.png", 100)
    run(archive)
    with CatalogStore.open(catalog) as store:
        made = vector_settings(store, 1)
    assert [(bool(way.settings), way.vectors) for way in made] == [(False, 12), (True, 1)]


def test_a_run_says_where_its_time_went(run: Run, archive: Path) -> None:
    summary = run(archive)
    timings = dataclasses.asdict(summary.timings)
    assert all(seconds > 0 for seconds in timings.values()), timings
    parts = ("scanning", "starting", "working", "finishing")
    assert sum(timings[part] for part in parts) == pytest.approx(summary.seconds, abs=0.5)
    busy = summary.timings.busy
    assert set(busy) == {"the network", "the decoders", "writing"}
    assert list(busy.values()) == sorted(busy.values(), reverse=True)
    assert max(busy.values()) <= 1


def test_runs_are_recorded_with_their_outcome(run: Run, archive: Path, catalog: Path) -> None:
    run(archive)
    with CatalogStore.open(catalog) as store, store.reading() as connection:
        recorded = connection.execute(sa.select(schema.run)).one()
    assert (recorded.command, recorded.outcome, recorded.model_id) == ("index", "done", 1)
    assert recorded.finished_at is not None
