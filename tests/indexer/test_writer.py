"""What the writer leaves in the catalog, held against a plain account of the same files."""

from __future__ import annotations

import hashlib
import os
import random
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from birdsearch.errors import CatalogError, PhotoError
from birdsearch.indexer.catalog.outcomes import EmbeddedFile, FailedFile, KnownFile, Outcome
from birdsearch.indexer.catalog.records import FileTask
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.plan import Plan, make_plan
from birdsearch.indexer.writer import CatalogWriter
from birdsearch.model.images.decode import DecodedPhoto, FileDigests
from birdsearch.model.images.exif import read_exif

SEED = int(os.environ.get("BIRDSEARCH_TEST_SEED", "20240501"))
DIM = 3
BAD = b"bad"


class Fake:
    """What the catalog asks of a model."""

    name, network, sha256, preprocessing, classes = "fake", "fake", "0" * 64, "rgb-4x4/", ("crow",)
    embedding_size = DIM
    path = Path("fake.pt")
    head_weight, head_bias = np.zeros((1, DIM), np.float32), np.zeros(1, np.float32)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CatalogStore]:
    with CatalogStore.open(tmp_path / "catalog", "create") as opened:
        opened.use_model(Fake())  # type: ignore[arg-type]
        yield opened


def vector_of(content: bytes) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(content).digest()[:DIM], np.uint8).astype(np.float32) + 1


def photo_of(content: bytes) -> DecodedPhoto:
    pixels = np.zeros((1, 1, 3), np.uint8)
    return DecodedPhoto("PNG", len(content), 1, pixels, read_exif(None), content[:8].ljust(8), 0.5)


def planned(store: CatalogStore, folder: Path, model_id: int = 1) -> Plan:
    return make_plan(
        store,
        [os.fsencode(folder)],
        model_id,
        follow_links=False,
        retry_failed=False,
        confirm_missing=True,
        on_scan=lambda _: None,
    )


def index(store: CatalogStore, folder: Path, generator: random.Random | None = None) -> CatalogWriter:
    """Index a folder as a run does, in batches of random sizes; files that begin with `bad` fail."""
    generator = generator or random.Random(0)
    plan = planned(store, folder)
    writer = CatalogWriter(store, 1, "index", {"runtime": "none"})
    outcomes: list[Outcome] = []
    known = {row[0] for row in rows(store, "SELECT digest FROM photo JOIN view ON photo_id = photo.id")}
    for task in plan.tasks():
        outcomes.append(outcome(task, known))
        if generator.random() < 0.2:
            writer.commit(outcomes)
            outcomes = []
    writer.commit(outcomes)
    writer.reconcile(plan, confirm_missing=True)
    writer.finish("done", {"embedded": writer.embedded})
    plan.close()
    return writer


def outcome(task: FileTask, known: set[bytes]) -> Outcome:
    content = Path(os.fsdecode(task.absolute)).read_bytes()
    digest = hashlib.sha256(content).digest()
    digests = FileDigests(digest, b"\x01" + digest)
    if content.startswith(BAD):
        return FailedFile(task, PhotoError("decode", "truncated", "it ends early"))
    if digest in known:
        return KnownFile(task, digests)
    known.add(digest)
    return EmbeddedFile(task, digests, photo_of(content), vector_of(content))


def rows(store: CatalogStore, sql: str) -> list[tuple[Any, ...]]:
    with store.reading() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql)]


def replayed(store: CatalogStore) -> set[int]:
    """Views that a follower holds which has read the whole change log; every row has to change something."""
    held: set[int] = set()
    for op, view_id in rows(store, "SELECT op, view_id FROM change ORDER BY seq"):
        assert (view_id in held) == (op == "remove")
        held ^= {view_id}
    return held


def assert_tells(store: CatalogStore, folder: Path) -> None:
    """The catalog says of a folder what is in it, no more and no less."""
    there = {os.fsencode(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}
    sql = "SELECT path, state, photo.digest, file.size FROM file LEFT JOIN photo ON photo.id = photo_id"
    told = {row[0]: row[1:] for row in rows(store, sql + " WHERE state != 'missing'")}
    assert told == {
        path: ("error", None, len(content))
        if content.startswith(BAD)
        else ("present", hashlib.sha256(content).digest(), len(content))
        for path, content in there.items()
    }
    live = {hashlib.sha256(content).digest() for content in there.values() if not content.startswith(BAD)}
    sql = "SELECT view.id, digest FROM view JOIN photo ON photo.id = photo_id"
    assert replayed(store) == {view_id for view_id, digest in rows(store, sql) if digest in live}
    for content in there.values():
        if not content.startswith(BAD):
            vector = vector_of(content).tobytes()
            digest = hashlib.sha256(content).hexdigest()
            sql = "SELECT vector, crc32 FROM embedding JOIN view ON view.id = view_id JOIN photo ON"
            stored = rows(store, f"{sql} photo.id = photo_id WHERE digest = x'{digest}'")
            assert stored == [(vector, zlib.crc32(vector))]
    assert rows(store, "PRAGMA foreign_key_check") == []


def test_whatever_happens_to_an_archive_the_catalog_tells_what_is_there(
    store: CatalogStore, tmp_path: Path
) -> None:
    print(f"seed {SEED}")
    generator = random.Random(SEED)
    folder = tmp_path / "archive"
    for place in ("a", "b", "c/d"):
        (folder / place).mkdir(parents=True)
    photos: dict[bytes, int] = {}
    for turn in range(40):
        for number in range(generator.randrange(12)):
            change(folder, generator, turn * 100 + number)
        index(store, folder, generator)
        assert_tells(store, folder)
        now = dict(rows(store, "SELECT digest, id FROM photo"))
        # A photo keeps its id for ever, and no id comes to mean another one.
        assert photos.items() <= now.items()
        photos = now
        assert [row[0] for row in rows(store, "SELECT settings FROM run ORDER BY id DESC LIMIT 1")] == [
            '{"runtime": "none"}'
        ]


def change(folder: Path, generator: random.Random, number: int) -> None:
    """Do something that people do: add, copy, move, exchange, damage, delete."""
    files = sorted(folder.rglob("*.png"))
    target = folder / generator.choice(["a", "b", "c/d"]) / f"{number}.png"
    content = generator.choice([b"photo %d" % generator.randrange(30), b"one %d" % number, BAD])
    what = generator.randrange(5)
    if what == 0 or not files:
        target.write_bytes(content)
    elif what == 1:
        target.write_bytes(generator.choice(files).read_bytes())
    elif what == 2:
        generator.choice(files).rename(target)
    elif what == 3:
        generator.choice(files).write_bytes(content)
    else:
        generator.choice(files).unlink()


def test_tasks_are_the_same_after_their_time_in_the_plan(store: CatalogStore, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    # More than are looked up together, the last of them in a block that is not full.
    for number in range(1201):
        (folder / f"{number:04d}.png").write_bytes(b"%d" % number)
    writer = index(store, folder)
    assert writer.counts["new"] == 1201
    ids = dict(rows(store, "SELECT path, id FROM file"))
    photos = dict(rows(store, "SELECT path, photo_id FROM file"))
    for number in range(0, 1201, 2):
        (folder / f"{number:04d}.png").write_bytes(b"changed %d" % number)
    plan = planned(store, folder)
    tasks = list(plan.tasks())
    plan.close()
    assert (plan.to_read, plan.unchanged, plan.new_paths) == (601, 600, 0)
    assert [task.found.path for task in tasks] == [b"%04d.png" % number for number in range(0, 1201, 2)]
    for task in tasks:
        status = Path(os.fsdecode(task.absolute)).stat()
        assert (task.found.size, task.found.mtime_ns) == (status.st_size, status.st_mtime_ns)
        assert (task.found.device, task.found.inode) == (status.st_dev, status.st_ino)
        assert (task.file_id, task.photo_id) == (ids[task.found.path], photos[task.found.path])


def test_a_batch_that_fails_leaves_nothing_behind(store: CatalogStore, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    (folder / "1.png").write_bytes(b"one")
    plan = planned(store, folder)
    (task,) = plan.tasks()
    plan.close()
    writer = CatalogWriter(store, 1, "index")
    writer.model_id = 99  # no such model: the vector cannot be written
    with pytest.raises(CatalogError, match="FOREIGN KEY"):
        writer.commit([outcome(task, set())])
    for table in ("photo", "view", "embedding", "file", "change"):
        assert rows(store, f"SELECT * FROM {table}") == []
    assert (writer.embedded, writer.counts.total()) == (0, 0)


def test_a_vector_of_a_second_model_is_added_to_the_photo_that_is_there(
    store: CatalogStore, tmp_path: Path
) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    (folder / "1.png").write_bytes(b"one")
    index(store, folder)
    other = Fake()
    other.sha256 = "1" * 64
    second = store.use_model(other).id  # type: ignore[arg-type]
    plan = planned(store, folder, second)
    writer = CatalogWriter(store, second, "index")
    writer.commit([outcome(task, set()) for task in plan.tasks()])
    writer.reconcile(plan, confirm_missing=True)
    plan.close()
    assert (writer.counts["reembedded"], writer.embedded) == (1, 1)
    assert rows(store, "SELECT view_id, model_id, run_id FROM embedding") == [(1, 1, 1), (1, second, 2)]
    assert rows(store, "SELECT op, view_id, model_id FROM change") == [("add", 1, 1), ("add", 1, second)]
    assert len(rows(store, "SELECT * FROM photo")) == len(rows(store, "SELECT * FROM view")) == 1
