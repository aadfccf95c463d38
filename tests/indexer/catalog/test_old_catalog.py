"""Catalogs of schema 4 open, answer as they did, and learn what their photos are as they are indexed."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from birdsearch.cli import cli
from birdsearch.errors import CatalogError, OldCatalogError
from birdsearch.indexer.catalog.lock import JOB_LOCK, WriterLock
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.verified_labels import history
from birdsearch.indexer.options import IndexOptions
from birdsearch.indexer.pipeline import IndexSummary, index_archive
from birdsearch.indexer.verify import check_catalog
from birdsearch.model import load_model
from birdsearch.model.checkpoint import save_checkpoint
from birdsearch.model.config import RgbStats, variant
from birdsearch.model.inference import Model
from birdsearch.model.xcit import XCiT

FIXTURE = Path(__file__).parent / "old_catalogs" / "schema4.zip"
CLASSES = ["Mallard", "Gadwall", "Eurasian wren", "European robin", "Grey heron"]


@pytest.fixture(scope="session")
def old_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The network of `make_schema4.py`."""
    path = tmp_path_factory.mktemp("weights") / "tiny.pt"
    network = XCiT(variant("xcit_nano12_p16"), len(CLASSES))
    network.initialise(4)
    save_checkpoint(path, network, CLASSES, (32, 32), RgbStats((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return load_model(path, device="cpu", runtime="torch")


class OldArchive:
    """The archive and the catalog of the fixture, unpacked as if they had always been here."""

    def __init__(self, folder: Path, model: Model) -> None:
        with zipfile.ZipFile(FIXTURE) as packed:
            packed.extractall(folder)
        self.archive, self.catalog = folder / "archive", folder / "catalog"
        self.model = model
        self.questions = json.loads((folder / "questions.json").read_text())
        known = json.loads((folder / "files.json").read_text())
        database = sqlite3.connect(self.catalog / "birdsearch.sqlite")
        assert database.execute("PRAGMA user_version").fetchone() == (4,)
        with database:
            old, new = os.fsencode(known["root"]), os.fsencode(self.archive)
            database.execute("UPDATE root SET path = ?", (new,))
            for name, folder_path in database.execute("SELECT name, folder FROM deployment").fetchall():
                moved = folder_path.replace(old, new)
                database.execute("UPDATE deployment SET folder = ? WHERE name = ?", (moved, name))
            # How a checkpoint is written may differ between releases of torch; its numbers do not.
            database.execute("UPDATE model SET sha256 = ?", (model.sha256,))
            for name, mtime_ns in known["mtime_ns"].items():
                path = self.archive / name
                os.utime(path, ns=(mtime_ns, mtime_ns))
                status = path.stat()
                database.execute(
                    "UPDATE file SET ctime_ns = ?, device = ?, inode = ? WHERE path = ?",
                    (status.st_ctime_ns, status.st_dev, status.st_ino, os.fsencode(name)),
                )
        database.close()

    def ask(self, question: list[str]) -> Any:
        where = {"archive": str(self.archive), "catalog": str(self.catalog)}
        arguments = [part.format(**where) for part in question]
        found = CliRunner().invoke(cli, [*arguments, "--catalog", str(self.catalog)])
        assert found.exit_code == 0, found.output + found.stderr
        text = found.stdout
        for name, path in where.items():
            text = text.replace(path, f"{{{name}}}")
        return json.loads(text)

    def index(self) -> IndexSummary:
        with CatalogStore.open(self.catalog, "write") as store:
            return index_archive(store, self.model, [self.archive], IndexOptions(workers=1))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        database = sqlite3.connect(self.catalog / "birdsearch.sqlite")
        try:
            return database.execute(sql).fetchall()
        finally:
            database.close()

    def photo_at(self, name: str) -> int | None:
        with CatalogStore.open(self.catalog) as store:
            return store.photo_at(os.fsencode(self.archive / name))

    def labels(self) -> dict[int, set[tuple[str, str]]]:
        """Photo id -> the names and verdicts that were ever given to it."""
        found: dict[int, set[tuple[str, str]]] = {}
        with CatalogStore.open(self.catalog) as store:
            for entry in history(store):
                found.setdefault(entry.label.photo_id, set()).add((entry.label.name, entry.label.verdict))
        return found


@pytest.fixture
def old(tmp_path: Path, old_model: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[OldArchive]:
    made = OldArchive(tmp_path, old_model)
    monkeypatch.setenv("BIRDSEARCH_CATALOG", str(made.catalog))
    # Bringing it up to date reads nothing of the archive, which is not even there.
    away = made.archive.rename(tmp_path / "away")
    CatalogStore.open(made.catalog, "write").close()
    away.rename(made.archive)
    yield made
    with CatalogStore.open(made.catalog) as store:
        assert check_catalog(store, files=True).problems == ()


def same(one: Any, other: Any, where: str = "") -> None:
    """Two answers are alike: numbers up to rounding, and what the old one told."""
    if isinstance(one, dict):
        for key, value in one.items():
            same(value, other[key], f"{where}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for place, (value, its) in enumerate(zip(one, other, strict=True)):
            same(value, its, f"{where}[{place}]")
    elif isinstance(one, float):
        assert other == pytest.approx(one, abs=1e-5), where
    else:
        assert one == other, where


def with_time(path: Path, old: bytes, new: bytes) -> None:
    """Edit the time in a file's EXIF, as cameras' clocks are corrected."""
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


def test_an_old_catalog_answers_as_it_did_before_its_archive_is_read(old: OldArchive) -> None:
    assert old.rows("SELECT count(*), min(reading), max(reading) FROM photo") == [(16, 0, 0)]
    for asked in old.questions:
        if asked["ask"][0] in ("query", "annotate", "deployments") or asked["ask"][1] == "rejected":
            same(asked["answer"], old.ask(asked["ask"]), " ".join(asked["ask"]))
    clusters = next(each["answer"] for each in old.questions if each["ask"][:2] == ["cluster", "list"])
    now = old.ask(["cluster", "list", "--format", "json"])
    # Their numbers of photos are less by the one without a file, which takes no part any more.
    kept = ("cluster_id", "name")
    assert [[one[key] for key in kept] for one in now["clusters"]] == [
        [one[key] for key in kept] for one in clusters["clusters"]
    ]


def test_an_old_catalog_is_brought_up_to_date_by_the_first_command_that_can(
    tmp_path: Path, old_model: Model
) -> None:
    made = OldArchive(tmp_path, old_model)
    with (
        WriterLock(made.catalog / JOB_LOCK, "birdsearch index"),
        pytest.raises(OldCatalogError, match="has schema version 4"),
    ):
        CatalogStore.open(made.catalog)
    with CatalogStore.open(made.catalog) as store:
        assert store.counts().photos == 15


@pytest.mark.parametrize("mode", ["read", "edit"])
def test_an_empty_file_is_not_made_a_catalog_by_looking_at_it(
    tmp_path: Path, mode: Literal["read", "edit"]
) -> None:
    file = tmp_path / "birdsearch.sqlite"
    file.touch()
    with pytest.raises(CatalogError, match="has schema version 0"):
        CatalogStore.open(tmp_path, mode)
    assert file.stat().st_size == 0


def test_the_next_run_learns_the_pictures_without_decoding_any(old: OldArchive) -> None:
    before = {photo_id: labels for photo_id, labels in old.labels().items() if photo_id not in (3, 8)}
    sql = "SELECT view_id, vector FROM embedding WHERE view_id != 8"
    vectors = dict(old.rows(sql))
    summary = old.index()
    assert (summary.reread, summary.embedded, summary.reembedded) == (16, 0, 0)
    assert (summary.new, summary.changed, summary.edited) == (0, 0, 0)
    assert dict(old.rows(sql)) == vectors
    # Only of the photo that lost its file before nothing more can be known.
    assert old.rows("SELECT id FROM photo WHERE reading = 0") == [(5,)]
    assert old.rows("SELECT count(*) FROM file WHERE reading = 0 AND state = 'present'") == [(0,)]
    for photo_id, labels in before.items():
        assert old.labels()[photo_id] == labels
    assert old.index().unchanged == 16
    for asked in old.questions:
        if asked["ask"][:2] == ["query", "#7"]:
            found, told = old.ask(asked["ask"]), asked["answer"]
            same(next(each for each in told[0]["hits"] if each["photo_id"] != 8), found[0]["hits"][0])


def test_two_old_photos_that_are_one_picture_become_one_and_lose_nothing(old: OldArchive) -> None:
    before = old.labels()
    members = dict(old.rows("SELECT view_id, cluster_id FROM cluster_member WHERE run_id = 15"))
    assert old.photo_at("ducks/edited.jpg") == 8
    old.index()
    assert old.photo_at("ducks/edited.jpg") == old.photo_at("ducks/d2.jpg") == 3
    assert old.labels()[3] == before[3] | before[8] == {("Gadwall", "positive"), ("Mallard", "positive")}
    assert old.rows("SELECT id FROM photo WHERE id = 8") == []
    assert old.rows("SELECT into_id FROM merged_photo WHERE photo_id = 8") == [(3,)]
    # Whoever noted its former id finds it.
    assert old.ask(["query", "#8", "-k", "3", "--format", "json"])[0]["query"]["photo_id"] == 3
    del members[8]
    assert dict(old.rows("SELECT view_id, cluster_id FROM cluster_member WHERE run_id = 15")) == members
    # Photo 1 is no copy of 10; that 3 is none of itself is not to be remembered.
    assert old.rows("SELECT first_id, second_id FROM distinct_pair") == [(1, 10)]
    runs = {run for (run,) in old.rows("SELECT DISTINCT run_id FROM event")}
    assert runs
    for run in runs:
        for column in ("burst", "event", "sighting"):
            names = old.rows(
                f"SELECT {column}, min(photo_id) FROM event WHERE run_id = {run} GROUP BY {column}"
            )
            assert all(name == first for name, first in names)
    # Its id is never used again.
    new = Image.new("RGB", (64, 48), (200, 10, 10))
    new.save(old.archive / "new.jpg")
    old.index()
    assert old.photo_at("new.jpg") == 17


def test_a_run_that_learns_pictures_and_is_cut_short_goes_on(
    old: OldArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    from birdsearch.indexer import stages, writer

    monkeypatch.setattr(stages, "COMMIT_PHOTOS", 1)
    commit = writer.CatalogWriter.commit
    done: list[int] = []

    def cut_short(self: writer.CatalogWriter, outcomes: Any) -> None:
        commit(self, outcomes[:5])
        done.append(len(outcomes))
        raise KeyboardInterrupt

    monkeypatch.setattr(writer.CatalogWriter, "commit", cut_short)
    with pytest.raises(KeyboardInterrupt):
        old.index()
    monkeypatch.setattr(writer.CatalogWriter, "commit", commit)
    ((left,),) = old.rows("SELECT count(*) FROM file WHERE reading = 0 AND state = 'present'")
    assert 0 < left < 16
    summary = old.index()
    assert (summary.reread, summary.unchanged, summary.embedded) == (left, 16 - left, 0)
    assert old.rows("SELECT id FROM photo WHERE reading = 0") == [(5,)]


def test_a_file_that_was_edited_after_the_last_old_run_keeps_its_label(old: OldArchive) -> None:
    with_time(old.archive / "ducks/d3.jpg", b"06:30:03", b"07:30:03")
    before = old.labels()[4]
    summary = old.index()
    assert (summary.edited, summary.changed, summary.new) == (1, 0, 0)
    assert old.photo_at("ducks/d3.jpg") == 4
    assert old.labels()[4] == before
    assert old.rows("SELECT captured_at FROM photo WHERE id = 4") == [("2023-05-01T07:30:03",)]


def test_a_file_that_shows_another_picture_since_the_last_old_run_is_another_photo(old: OldArchive) -> None:
    shutil.copy(old.archive / "garden/g13.jpg", old.archive / "ducks/d3.jpg")
    summary = old.index()
    assert (summary.changed, summary.edited) == (1, 0)
    assert old.photo_at("ducks/d3.jpg") == old.photo_at("garden/g13.jpg") != 4
    assert old.labels()[4] == {("Gadwall", "positive")}


def test_files_that_were_moved_copied_or_touched_after_the_last_old_run_are_known(old: OldArchive) -> None:
    (old.archive / "ducks/d5.jpg").rename(old.archive / "garden/moved.jpg")
    shutil.copy2(old.archive / "ducks/d6.jpg", old.archive / "copies/d6.jpg")
    os.utime(old.archive / "garden/g14.jpg")
    touched = old.photo_at("garden/g14.jpg")
    moved = old.photo_at("ducks/d5.jpg")
    summary = old.index()
    assert (summary.moved, summary.copies, summary.new, summary.edited) == (1, 1, 0, 0)
    assert (summary.missing, summary.embedded) == (0, 0)
    assert old.photo_at("garden/moved.jpg") == moved
    assert old.photo_at("copies/d6.jpg") == old.photo_at("ducks/d6.jpg") == 7
    assert old.photo_at("garden/g14.jpg") == touched


def test_a_table_that_names_photos_by_the_sha256_of_old_catalogs_is_understood(old: OldArchive) -> None:
    names = dict(old.rows("SELECT id, digest FROM photo"))
    old.index()
    with CatalogStore.open(old.catalog) as store:
        found = store.photo_ids(digests=list(names.values()))
    assert {found[digest] for digest in names.values()} == set(names) - {8}
    assert found[names[8]] == 3


def test_pictures_with_a_colour_profile_are_embedded_again(old: OldArchive) -> None:
    from birdsearch.model.images.color import ADOBE_RGB

    path = old.archive / "garden/plain.png"
    photo_id = old.photo_at("garden/plain.png")
    Image.open(path).save(path, icc_profile=ADOBE_RGB)
    status = path.stat()
    database = sqlite3.connect(old.catalog / "birdsearch.sqlite")
    with database:
        # As if it had always had one, and had been embedded as if it had none.
        database.execute(
            "UPDATE file SET size = ?, mtime_ns = ?, ctime_ns = ? WHERE path = ?",
            (status.st_size, status.st_mtime_ns, status.st_ctime_ns, b"garden/plain.png"),
        )
    database.close()
    sql = f"SELECT vector FROM embedding JOIN view ON id = view_id WHERE photo_id = {photo_id}"
    (before,) = old.rows(sql)
    summary = old.index()
    assert (summary.embedded, summary.reembedded, summary.reread) == (1, 1, 15)
    (after,) = old.rows(sql)
    assert not np.allclose(np.frombuffer(before[0], "<f4"), np.frombuffer(after[0], "<f4"), atol=1e-3)
    assert old.photo_at("garden/plain.png") == photo_id
    assert old.index().unchanged == 16
