"""Moving copies to quarantine and back: on real files, killed at every step, and never losing one."""

from __future__ import annotations

import errno
import functools
import hashlib
import itertools
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from birdsearch.errors import CatalogError, CatalogReadOnlyError, InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.annotations import record
from birdsearch.indexer.catalog.outcomes import EmbeddedFile
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.taxa import new_taxon
from birdsearch.indexer.catalog.verified_labels import labels_in_force
from birdsearch.indexer.plan import Plan, make_plan
from birdsearch.indexer.vectors.index import VectorIndex
from birdsearch.indexer.verify import check_catalog
from birdsearch.indexer.writer import CatalogWriter
from birdsearch.model.images.decode import decode_photo, digest_file
from birdsearch.search.dedup.distinct import reject
from birdsearch.search.dedup.groups import CopyFile, CopyGroup
from birdsearch.search.dedup.quarantine import apply_groups, recover, undo
from tests.soak import repeats

DIM = 4
MakePhoto = Callable[..., Path]


class Library:
    """An archive with its catalog, indexed in this process."""

    def __init__(self, folder: Path, made: Any) -> None:
        self.folder = folder
        self.store: CatalogStore = made.store
        self.model_id: int = made.model_id

    def index(self) -> tuple[int, int]:
        """Index as `birdsearch index` does; how many files it read, and how many it found missing."""
        with self._plan() as plan:
            writer = CatalogWriter(self.store, self.model_id, "index")
            for task in plan.tasks():
                content = Path(os.fsdecode(task.absolute)).read_bytes()
                photo = decode_photo(content, input_size=(4, 4))
                vector = np.frombuffer(digest_file(content).picture[:DIM], np.uint8).astype(np.float32) + 1
                writer.commit([EmbeddedFile(task, digest_file(content), photo, vector)])
            writer.reconcile(plan, confirm_missing=True)
            writer.finish("done", {})
            return plan.to_read, writer.counts["missing"]

    def _plan(self) -> Any:
        options: Any = {
            "follow_links": False,
            "retry_failed": False,
            "confirm_missing": True,
            "on_scan": lambda _: None,
        }
        plan: Plan = make_plan(self.store, [os.fsencode(self.folder)], self.model_id, **options)
        return _closing(plan)

    def group(self, *names: str) -> CopyGroup:
        """A group of indexed files, the first to be kept, all others to be moved."""
        files = [self._file(name) for name in names]
        return CopyGroup(replace(files[0], role="keep"), tuple(files[1:]))

    def _file(self, name: str) -> CopyFile:
        path = os.fsencode(self.folder / name)
        photo_id = self.store.photo_at(path)
        assert photo_id is not None
        photo = self.store.photos([photo_id])[photo_id]
        with self.store.reading() as connection:
            digest = connection.execute(
                sa.select(schema.file.c.digest).where(schema.file.c.path == os.fsencode(name))
            ).scalar_one()
        size = (photo.size, photo.width, photo.height)
        return CopyFile(photo_id, path, (), digest, *size, "move", 1.0, "same content")

    def states(self) -> dict[str, str]:
        file = schema.file.c
        with self.store.reading() as connection:
            rows = connection.execute(sa.select(file.path, file.state).order_by(file.path))
            return {os.fsdecode(row.path): row.state for row in rows}

    def log(self) -> list[str]:
        row = schema.quarantine.c
        with self.store.reading() as connection:
            return list(connection.execute(sa.select(row.state).order_by(row.id)).scalars())

    def searchable(self) -> int:
        return len(VectorIndex.open(self.store, self.model_id, DIM))


class _closing:  # noqa: N801
    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __enter__(self) -> Plan:
        return self._plan

    def __exit__(self, *_: object) -> None:
        self._plan.close()


@pytest.fixture
def library(tmp_path: Path, make_photo: MakePhoto, make_catalog: Any) -> Library:
    """Three pictures; `a.png` has a copy beside it and one in another folder, `c.png` is a near-copy of `b.png`."""
    return make_library(tmp_path, make_photo, make_catalog)


def make_library(tmp_path: Path, make_photo: MakePhoto, make_catalog: Any, name: str = "catalog") -> Library:
    folder = tmp_path / f"{name}-archive"
    for seed, each in enumerate(("2023/a.png", "2023/b.png", "2024/c.png")):
        make_photo(folder / each, seed)
    shutil.copy2(folder / "2023/a.png", folder / "2023/a (1).png")
    shutil.copy2(folder / "2023/a.png", folder / "2024/a.png")
    made = Library(folder, make_catalog(DIM, name))
    made.index()
    return made


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of change of every file."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def contents(*folders: Path) -> set[str]:
    return {
        hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }


def both_groups(library: Library) -> list[CopyGroup]:
    return [
        library.group("2023/a.png", "2023/a (1).png", "2024/a.png"),
        library.group("2023/b.png", "2024/c.png"),
    ]


# -- moving and moving back ----------------------------------------------------------------------------------


def test_copies_go_to_quarantine_under_their_relative_paths_and_come_back_as_they_were(
    library: Library,
) -> None:
    before = everything(library.folder)
    report = apply_groups(library.store, both_groups(library))
    folder = Path(os.fsdecode(report.folder))
    assert folder == library.store.path / "quarantine" / f"run-{report.run_id}"
    assert set(everything(library.folder)) == {"2023/a.png", "2023/b.png"}
    moved = everything(folder / "catalog-archive")
    assert moved == {name: before[name] for name in ("2023/a (1).png", "2024/a.png", "2024/c.png")}
    assert [os.fsdecode(path).removeprefix(f"{library.folder}/") for path in report.moved] == list(moved)
    assert report.moved_bytes == sum(len(content) for content, _ in moved.values())
    assert report.refused == ()
    assert library.log() == ["moved"] * 3
    back = undo(library.store)
    assert (back.undone_run_id, back.restored, back.refused) == (report.run_id, 3, ())
    assert everything(library.folder) == before
    assert library.log() == ["restored"] * 3
    assert not folder.exists()
    with pytest.raises(InvalidInputError, match="no file is in quarantine"):
        undo(library.store)
    with pytest.raises(InvalidInputError, match="put back what it moved already"):
        undo(library.store, report.run_id)


def test_the_catalog_agrees_with_what_was_moved_without_indexing_again(library: Library) -> None:
    assert library.searchable() == 3
    # From here on the vector index follows by what the moves say of themselves.
    VectorIndex.open(library.store, library.model_id, DIM).save(library.store)
    report = apply_groups(library.store, both_groups(library))
    assert library.states() == {
        "2023/a (1).png": "missing",
        "2023/a.png": "present",
        "2023/b.png": "present",
        "2024/a.png": "missing",
        "2024/c.png": "missing",
    }
    # The near-copy's photo has no file any more; that of the exact copies has.
    assert library.searchable() == 2
    assert library.index() == (0, 0)
    undo(library.store, report.run_id)
    assert set(library.states().values()) == {"present"}
    assert library.searchable() == 3
    assert library.index() == (0, 0)
    assert check_catalog(library.store, files=True).problems == ()


def test_labels_and_vectors_of_what_was_moved_survive(library: Library) -> None:
    photo_id = library.group("2024/c.png").kept.photo_id
    view_id = library.store.whole_views([photo_id])[photo_id]
    record(library.store, [(view_id, new_taxon("Moss owl"), "positive")], "ada", "test")
    apply_groups(library.store, both_groups(library))
    # Without a file the photo takes no part; with it, its label is in force again.
    assert [label.name for label in labels_in_force(library.store, with_lost=True)] == ["Moss owl"]
    assert view_id in library.store.embeddings(library.model_id, [view_id])
    undo(library.store)
    assert [label.name for label in labels_in_force(library.store)] == ["Moss owl"]


def test_a_run_without_anything_to_move_moves_nothing(library: Library) -> None:
    assert apply_groups(library.store, []).moved == ()
    with pytest.raises(InvalidInputError, match="moved no files"):
        undo(library.store, 1)


def test_the_last_run_with_files_away_is_undone_unless_another_is_named(library: Library) -> None:
    groups = both_groups(library)
    first = apply_groups(library.store, groups[:1])
    second = apply_groups(library.store, groups[1:])
    with pytest.raises(InvalidInputError, match=f"run {second.run_id} did"):
        undo(library.store, 999)
    assert undo(library.store).undone_run_id == second.run_id
    assert undo(library.store).undone_run_id == first.run_id


def test_a_catalog_that_is_read_moves_nothing(library: Library) -> None:
    before = everything(library.folder)
    groups = both_groups(library)
    with CatalogStore.open(library.store.path) as reader, pytest.raises(CatalogReadOnlyError):
        apply_groups(reader, groups)
    assert everything(library.folder) == before


# -- refusals ------------------------------------------------------------------------------------------------


def change_unseen(path: Path) -> None:
    """Other content, of the same size and the same time of change."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("harm", [Path.unlink, change_unseen], ids=["missing", "changed"])
def test_a_group_whose_file_to_keep_is_missing_or_changed_is_refused(
    library: Library, harm: Callable[[Path], None]
) -> None:
    groups = both_groups(library)
    harm(library.folder / "2023/a.png")
    report = apply_groups(library.store, groups)
    assert len(report.refused) == 2
    assert all(f"the file to keep, {library.folder / '2023/a.png'}, " in one.reason for one in report.refused)
    assert (library.folder / "2023/a (1).png").exists()
    assert (library.folder / "2024/a.png").exists()
    assert not (library.folder / "2024/c.png").exists()


def test_photos_that_a_person_told_apart_while_copies_were_sought_are_not_moved(library: Library) -> None:
    groups = both_groups(library)
    group = next(group for group in groups if any(b"c.png" in file.path for file in group.files))
    other = next(file for file in group.others if file.photo_id != group.kept.photo_id)
    with CatalogStore.open(library.store.path, "edit") as meanwhile:
        reject(meanwhile, [group.kept.photo_id, other.photo_id], "ada")
    report = apply_groups(library.store, groups)
    assert [one.path for one in report.refused] == [other.path]
    assert "was said meanwhile to be no copy" in report.refused[0].reason
    assert Path(os.fsdecode(other.path)).exists()


def test_a_file_that_changed_since_it_was_indexed_is_refused(library: Library) -> None:
    groups = both_groups(library)
    change_unseen(library.folder / "2024/a.png")
    (library.folder / "2024/c.png").unlink()
    report = apply_groups(library.store, groups)
    assert [(Path(os.fsdecode(one.path)).name, one.reason) for one in report.refused] == [
        ("a.png", "changed since it was indexed; run `birdsearch index` first"),
        ("c.png", "is not there any more"),
    ]
    assert (library.folder / "2024/a.png").exists()
    assert not (library.folder / "2023/a (1).png").exists()


def test_the_file_to_keep_under_another_name_is_refused(library: Library) -> None:
    groups = both_groups(library)
    copy = library.folder / "2024/a.png"
    copy.unlink()
    copy.hardlink_to(library.folder / "2023/a.png")
    (library.folder / "2023/a (1).png").unlink()
    (library.folder / "2023/a (1).png").symlink_to(library.folder / "2023/a.png")
    report = apply_groups(library.store, groups[:1])
    assert sorted(one.reason for one in report.refused) == [
        "is a link or no regular file",
        "is the file to keep, under another name",
    ]
    assert report.moved == ()


def test_a_file_is_put_back_if_the_one_to_keep_goes_while_it_is_moved(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = both_groups(library)[1]
    real = os.unlink

    def unlink(path: Any) -> None:
        real(path)
        if os.path.basename(path) == b"c.png":  # noqa: PTH119
            (library.folder / "2023/b.png").unlink(missing_ok=True)

    monkeypatch.setattr(os, "unlink", unlink)
    report = apply_groups(library.store, [group])
    assert "changed meanwhile" in report.refused[0].reason
    assert report.moved == ()
    assert (library.folder / "2024/c.png").exists()
    assert library.states()["2024/c.png"] == "present"


def test_nothing_is_overwritten_in_either_direction(library: Library, tmp_path: Path) -> None:
    report = apply_groups(library.store, both_groups(library), tmp_path / "away")
    for name in ("2024/a.png", "2024/c.png"):
        (library.folder / name).write_text("mine")
    back = undo(library.store)
    assert back.restored == 1
    assert len(back.refused) == 2
    assert all("there is another file in its place" in one.reason for one in back.refused)
    assert (library.folder / "2024/c.png").read_text() == "mine"
    assert (tmp_path / f"away/run-{report.run_id}/catalog-archive/2024/c.png").exists()
    (library.folder / "2024/c.png").unlink()
    assert undo(library.store).restored == 1
    assert (library.folder / "2024/c.png").read_bytes() != b"mine"


def test_a_quarantined_file_that_was_tampered_with_is_not_put_back(library: Library) -> None:
    report = apply_groups(library.store, both_groups(library))
    away = Path(os.fsdecode(report.folder)) / "catalog-archive"
    change_unseen(away / "2024/c.png")
    (away / "2024/a.png").unlink()
    back = undo(library.store)
    assert back.restored == 1
    assert [Path(os.fsdecode(one.path)).name for one in back.refused] == ["c.png", "a.png"]
    assert not (library.folder / "2024/c.png").exists()


@pytest.mark.parametrize("bring", [os.link, shutil.copy2])
def test_a_file_that_is_back_already_leaves_the_quarantine(
    library: Library, bring: Callable[[Path, Path], object]
) -> None:
    report = apply_groups(library.store, both_groups(library))
    away = Path(os.fsdecode(report.folder))
    bring(away / "catalog-archive/2024/c.png", library.folder / "2024/c.png")
    assert undo(library.store).restored == 3
    assert not away.exists()
    assert set(library.states().values()) == {"present"}


def test_a_folder_of_another_catalog_is_left_alone(library: Library, tmp_path: Path) -> None:
    groups = both_groups(library)
    first = apply_groups(library.store, [], tmp_path / "away")
    (tmp_path / f"away/run-{first.run_id + 1}").mkdir()
    report = apply_groups(library.store, groups, tmp_path / "away")
    assert report.folder.endswith(b"run-%d-2" % (first.run_id + 1))
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError, match="cannot be made"):
        apply_groups(library.store, groups, tmp_path / "file")


def test_a_quarantine_inside_the_archive_is_not_indexed(library: Library) -> None:
    apply_groups(library.store, both_groups(library), library.folder / "away")
    assert library.index() == (0, 0)
    assert undo(library.store).restored == 3


# -- sidecars ------------------------------------------------------------------------------------------------


def test_what_belongs_to_a_photo_goes_and_comes_back_with_it(library: Library) -> None:
    goes = [
        *("2023/a (1).png.xmp", "2023/a (1).xmp", "2023/A (1).MOV", "2023/a (1).mov.xmp"),
        *("2024/c.AAE", "2024/c.mp4", "2024/c.wav", "2024/c.THM", "2024/c.png.json"),
        *("2024/a.xmp", "2024/a.png.XMP"),
    ]
    stays = ["2024/c2.xmp", "2024/c.txt", "2023/a.xmp", "2023/b.mov", "2024/a.txt"]
    for name in (*goes, *stays):
        (library.folder / name).write_text(name)
    before = everything(library.folder)
    report = apply_groups(library.store, both_groups(library))
    assert (len(report.moved), report.sidecars, report.refused) == (3, len(goes), ())
    assert set(everything(library.folder)) == {"2023/a.png", "2023/b.png", *stays}
    assert undo(library.store).restored == 3 + len(goes)
    assert everything(library.folder) == before


def test_what_belongs_to_a_photo_that_stays_as_well_stays_until_the_last_goes(
    library: Library, make_photo: MakePhoto
) -> None:
    shutil.copy2(library.folder / "2023/a.png", library.folder / "2024/c.tif.png")
    make_photo(library.folder / "2024/c.tif", 9)
    library.index()
    for name in ("2024/c.mov", "2024/c.xmp", "2024/c.png.xmp"):
        (library.folder / name).write_text(name)
    before = everything(library.folder)
    report = apply_groups(library.store, [library.group("2023/b.png", "2024/c.png")])
    # The TIFF of that name is a photo of its own, never a companion.
    assert report.sidecars == 1
    assert {"2024/c.mov", "2024/c.xmp", "2024/c.tif"} <= set(everything(library.folder))
    assert apply_groups(library.store, [library.group("2023/b.png", "2024/c.tif")]).sidecars == 2
    assert not {"2024/c.mov", "2024/c.xmp"} & set(everything(library.folder))
    undo(library.store)
    undo(library.store)
    assert everything(library.folder) == before


def test_a_photo_whose_companion_cannot_follow_stays_with_all_that_belongs_to_it(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("2024/c.mov", "2024/c.xmp"):
        (library.folder / name).write_text(name)
    before = everything(library.folder)
    real = os.link

    def link(source: Any, target: Any, **options: Any) -> None:
        if source.endswith(b"2024/c.xmp"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target, **options)

    monkeypatch.setattr(os, "link", link)
    report = apply_groups(library.store, both_groups(library)[1:])
    assert report.moved == ()
    (refused,) = report.refused
    assert refused.path.endswith(b"2024/c.png")
    assert "c.xmp, which belongs to it, was not moved" in refused.reason
    assert "No space left" in refused.reason
    assert everything(library.folder) == before
    assert library.log() == ["restored", "restored", "failed"]
    assert library.states()["2024/c.png"] == "present"


def test_what_belongs_to_a_photo_is_not_put_beside_another_one(library: Library) -> None:
    (library.folder / "2024/c.xmp").write_text("species of c")
    apply_groups(library.store, both_groups(library)[1:])
    (library.folder / "2024/c.png").write_text("another photo")
    back = undo(library.store)
    assert back.restored == 0
    assert [one.reason.rpartition(": ")[2] for one in back.refused] == [
        "there is another file in its place",
        "the photo that it belongs to was not",
    ]
    assert not (library.folder / "2024/c.xmp").exists()
    (library.folder / "2024/c.png").unlink()
    assert undo(library.store).restored == 2
    assert (library.folder / "2024/c.xmp").read_text() == "species of c"


def test_new_folders_are_on_the_disk_before_an_original_goes(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut after the unlink must not lose the only other name of the file."""
    done: list[tuple[str, bytes]] = []

    def named(descriptor: Any) -> bytes:
        return os.readlink(f"/proc/self/fd/{descriptor}").encode()  # noqa: PTH115

    def noted(name: str, subject: Callable[..., bytes]) -> None:
        real = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            done.append((name, subject(*arguments)))
            return real(*arguments, **options)

        monkeypatch.setattr(os, name, call)

    noted("mkdir", lambda path: path)
    noted("unlink", lambda path: path)
    noted("fsync", named)
    noted("link", lambda _, target: target)
    report = apply_groups(library.store, both_groups(library)[1:])
    unlinked = done.index(("unlink", os.fsencode(library.folder / "2024/c.png")))
    made = [path for what, path in done[:unlinked] if what == "mkdir"]
    assert [path.removeprefix(os.path.dirname(report.folder)) for path in made] == [  # noqa: PTH120
        b"",
        b"/run-%d" % report.run_id,
        b"/run-%d/catalog-archive" % report.run_id,
        b"/run-%d/catalog-archive/2024" % report.run_id,
    ]
    for path in made:
        parent = os.path.dirname(path)  # noqa: PTH120
        assert ("fsync", parent) in done[done.index(("mkdir", path)) : unlinked], path
    linked = done.index(("link", report.folder + b"/catalog-archive/2024/c.png"))
    assert ("fsync", report.folder + b"/catalog-archive/2024") in done[linked:unlinked]


def test_a_catalog_that_fails_while_files_move_says_what_was_moved_and_what_is_kept(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = CatalogStore.writing
    count = itertools.count()

    def writing(store: CatalogStore) -> Any:
        # The start of the run, then two transactions a file; it fails when the second file has just moved.
        if next(count) >= 4:
            raise CatalogError("/catalog: the disk is full")
        return real(store)

    whole = contents(library.folder)
    with monkeypatch.context() as patch:
        patch.setattr(CatalogStore, "writing", writing)
        with pytest.raises(CatalogError) as caught:
            apply_groups(library.store, both_groups(library))
    text = str(caught.value)
    assert text.startswith("/catalog: the disk is full. Before that, 1 photo files moved to ")
    assert "dedup undo" in text
    assert "every file to keep is where it was" in text
    assert "2024/a.png was at work: it is whole" in text
    assert whole <= contents(library.folder, library.store.path)
    assert undo(library.store).restored == 2
    assert contents(library.folder) == whole


def test_apply_on_a_disk_that_takes_no_more_names_it_and_says_what_is_kept(
    library: Library, tmp_path: Path
) -> None:
    """A limit on the size of files makes SQLite fail as a disk over its quota does."""
    groups, whole = both_groups(library), contents(library.folder)
    library.store.close()
    told = tmp_path / "told"
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with CatalogStore.open(library.store.path, "write") as store:

            def full(done: int, total: int) -> None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

            try:
                apply_groups(store, groups, progress=full)
            except CatalogError as error:
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                told.write_text(str(error))
        os._exit(0)
    os.waitpid(child, 0)
    text = told.read_text()
    assert f"{library.store.path}/birdsearch.sqlite: the disk that holds the catalog" in text
    assert "disk I/O error" in text
    assert "Before that, 1 photo files moved to" in text
    library.store = CatalogStore.open(library.store.path, "write")
    assert undo(library.store).restored == 1
    assert contents(library.folder) == whole


# -- file systems --------------------------------------------------------------------------------------------


def no_links(code: int) -> Callable[..., None]:
    def link(source: Any, target: Any, **_: Any) -> None:
        # Within the target's folder, as the last step of a copy, links work.
        if code != errno.EXDEV or os.path.dirname(source) != os.path.dirname(target):  # noqa: PTH120
            raise OSError(code, os.strerror(code))
        os.rename(source, target)  # noqa: PTH104

    return link


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP])
def test_other_file_systems_and_those_without_hard_links_are_moved_to_as_well(
    library: Library, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    before = everything(library.folder)
    monkeypatch.setattr(os, "link", no_links(code))
    report = apply_groups(library.store, both_groups(library))
    assert len(report.moved) == 3
    assert not list(Path(os.fsdecode(report.folder)).rglob("*.part"))
    assert undo(library.store).restored == 3
    assert everything(library.folder) == before


def test_a_copy_to_another_file_system_that_went_wrong_leaves_the_original(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(library.folder)
    monkeypatch.setattr(os, "link", no_links(errno.EXDEV))
    monkeypatch.setattr(shutil, "copyfileobj", lambda _, writer, __: writer.write(b"short"))
    report = apply_groups(library.store, both_groups(library))
    assert {one.reason for one in report.refused} == {"was not moved: its copy is not what was read"}
    assert everything(library.folder) == before
    assert set(library.log()) == {"failed"}
    assert set(library.states().values()) == {"present"}

    def full(reader: Any, writer: Any, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    report = apply_groups(library.store, both_groups(library))
    assert "No space left on device" in report.refused[0].reason
    assert everything(library.folder) == before


def test_a_file_that_cannot_be_taken_away_stays_whole(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(library.folder)
    real = os.unlink

    def unlink(path: Any) -> None:
        if os.fsencode(path).startswith(os.fsencode(library.folder)):
            raise PermissionError(errno.EACCES, "Permission denied")
        real(path)

    monkeypatch.setattr(os, "unlink", unlink)
    report = apply_groups(library.store, both_groups(library))
    assert len(report.refused) == 3
    assert everything(library.folder) == before
    assert list(Path(os.fsdecode(report.folder)).rglob("*.png")) == []


def test_a_file_that_was_written_anew_meanwhile_is_not_taken_away(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def link(source: Any, target: Any, **options: Any) -> None:
        real(source, target, **options)
        path = Path(os.fsdecode(source))
        path.unlink()
        path.write_text("new")

    monkeypatch.setattr(os, "link", link)
    report = apply_groups(library.store, both_groups(library)[1:])
    assert [one.reason for one in report.refused] == ["was not moved: it changed meanwhile"]
    assert (library.folder / "2024/c.png").read_text() == "new"


# -- cut short -----------------------------------------------------------------------------------------------


def test_a_run_that_is_told_to_stop_finishes_its_file_and_can_go_on(library: Library) -> None:
    answers = iter([False, True, True])
    report = apply_groups(library.store, both_groups(library), should_stop=lambda: next(answers))
    assert report.interrupted
    assert len(report.moved) == 1
    assert library.log() == ["moved"]
    with library.store.reading() as connection:
        outcomes = connection.execute(sa.select(schema.run.c.outcome).order_by(schema.run.c.id)).scalars()
        assert list(outcomes)[-1] == "interrupted"
    answers = iter([True])
    assert undo(library.store, should_stop=lambda: next(answers)).interrupted
    assert undo(library.store).restored == 1


STEPS = ("link", "unlink", "fsync", "mkdir")


def killed_at(step: int, work: Callable[[CatalogStore], object], catalog: Path) -> bool:
    """Do some work in a fork that dies by SIGKILL before its n-th step on disk; False if it had fewer steps."""
    child = os.fork()
    if child == 0:
        count = itertools.count()

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                if next(count) == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments, **options)

            return call

        try:
            for name in STEPS:
                setattr(os, name, counted(getattr(os, name)))
            real_begin = CatalogStore.writing
            CatalogStore.writing = counted(real_begin)  # type: ignore[method-assign]
            with CatalogStore.open(catalog, "write") as store:
                work(store)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.fixture
def libraries(tmp_path: Path, make_photo: MakePhoto, make_catalog: Any) -> Callable[[int], Library]:
    """Makes libraries that are like each other."""
    template = make_library(tmp_path, make_photo, make_catalog)
    (template.folder / "2024/c.xmp").write_text("sidecar")
    template.store.close()

    def make(number: int) -> Library:
        catalog, folder = tmp_path / f"catalog-{number}", tmp_path / f"archive-{number}"
        shutil.copytree(template.store.path, catalog)
        shutil.copytree(template.folder, folder)
        store = CatalogStore.open(catalog, "write")
        with store.writing() as connection:
            connection.execute(sa.update(schema.root).values(path=os.fsencode(folder)))
        return Library(folder, SimpleNamespace(store=store, model_id=template.model_id))

    return make


def kill_steps(
    libraries: Callable[[int], Library],
    work: Callable[..., object],
    before: Callable[[CatalogStore, list[CopyGroup]], object] | None = None,
    *,
    first: int,
) -> Iterator[tuple[Library, list[CopyGroup], dict[str, tuple[bytes, int]]]]:
    """A library for each step that some work takes (every fifth one, but for a soak), killed there."""
    for step in itertools.count(repeats(first, 0), repeats(5, 1)):
        library = libraries(step)
        groups = both_groups(library)
        whole = everything(library.folder)
        if before is not None:
            before(library.store, groups)
        library.store.close()
        was_killed = killed_at(step, functools.partial(work, groups=groups), library.store.path)
        library.store = CatalogStore.open(library.store.path, "write")
        # However far it got, no content is gone.
        assert {hashlib.sha256(content).hexdigest() for content, _ in whole.values()} <= contents(
            library.folder, library.store.path
        )
        yield library, groups, whole
        library.store.close()
        if not was_killed:
            assert step > 20
            return


def test_after_a_kill_at_any_step_undo_puts_everything_back(libraries: Callable[[int], Library]) -> None:
    for library, _, whole in kill_steps(libraries, apply_groups, first=0):
        try:
            assert undo(library.store).refused == ()
        except InvalidInputError as error:
            assert "no file is in quarantine" in str(error)  # noqa: PT017
        assert everything(library.folder) == whole
        assert set(library.log()) <= {"restored", "failed"}
        assert set(library.states().values()) == {"present"}
        assert library.searchable() == 3


def test_after_a_kill_at_any_step_the_next_run_goes_on(libraries: Callable[[int], Library]) -> None:
    for library, groups, whole in kill_steps(libraries, apply_groups, first=2):
        # What moved is known to the catalog or is found out now; what is gone from its place is not asked for.
        told = recover(library.store)
        assert len(told) <= 2
        assert all("was cut short" in line for line in told)
        states = library.states()
        left = [
            CopyGroup(
                group.kept,
                tuple(
                    file
                    for file in group.others
                    if states[os.fsdecode(file.path).removeprefix(f"{library.folder}/")] == "present"
                ),
            )
            for group in groups
        ]
        assert apply_groups(library.store, left).refused == ()
        kept = set(everything(library.folder))
        # A sidecar whose file went just before the kill has to stay behind.
        assert {"2023/a.png", "2023/b.png"} <= kept <= {"2023/a.png", "2023/b.png", "2024/c.xmp"}
        assert library.index()[1] == 0
        for _ in range(2):
            try:
                undo(library.store)
            except InvalidInputError:
                break
        assert everything(library.folder) == whole


def test_an_undo_killed_at_any_step_is_finished_by_the_next(libraries: Callable[[int], Library]) -> None:
    def put_back(store: CatalogStore, groups: list[CopyGroup]) -> None:
        undo(store)

    for library, _, whole in kill_steps(libraries, put_back, apply_groups, first=4):
        try:
            assert undo(library.store).refused == ()
        except InvalidInputError as error:
            assert "no file is in quarantine" in str(error)  # noqa: PT017
        assert everything(library.folder) == whole
        assert set(library.log()) == {"restored"}
        assert set(library.states().values()) == {"present"}
