"""An archive that moved to another disk: what says so, what is shown, and re-homing it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from PIL import Image

from birdsearch import Catalog
from birdsearch.cli.annotate import annotate
from birdsearch.cli.catalog import status
from birdsearch.cli.dedup import dedup
from birdsearch.cli.query import query
from birdsearch.cli.roots import roots
from birdsearch.errors import InvalidInputError, MissingFilesError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.annotations import record
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.taxa import new_taxon
from birdsearch.indexer.catalog.verified_labels import labels_in_force
from birdsearch.indexer.verify import check_catalog

if TYPE_CHECKING:
    from birdsearch.model.inference import Model

MakePhoto = Callable[..., Path]


class Place:
    """An archive of five photos on a disk that can be moved away, with its catalog."""

    def __init__(self, folder: Path, model: Model) -> None:
        self.old, self.new, self.catalog = folder / "usb/archive", folder / "nas/archive", folder / "catalog"
        self._model = model

    def index(self, folder: Path) -> Any:
        with Catalog.open(self.catalog, "create") as opened:
            return opened.index([folder], model=self._model, workers=1)

    def move(self) -> None:
        self.new.parent.mkdir(exist_ok=True)
        self.old.rename(self.new)

    def run(self, command: Any, *arguments: object) -> Result:
        return CliRunner().invoke(command, [*map(str, arguments), "--catalog", str(self.catalog)])

    def ok(self, command: Any, *arguments: object) -> Result:
        result = self.run(command, *arguments)
        assert result.exit_code == 0, (result.output, result.exception)
        return result

    def store(self) -> CatalogStore:
        return CatalogStore.open(self.catalog)

    def paths(self) -> list[str]:
        with self.store() as store:
            return sorted(os.fsdecode(one.path) for one in store.photos(range(1, 9)).values())


@pytest.fixture
def place(tmp_path: Path, make_photo: MakePhoto, tiny_model: Model) -> Place:
    made = Place(tmp_path, tiny_model)
    for number in range(5):
        make_photo(made.old / f"{number % 2}" / f"{number}.png", number)
    assert made.index(made.old).new == 5
    return made


def test_a_folder_that_is_not_there_is_said_by_status_query_and_index(
    place: Place, make_photo: MakePhoto
) -> None:
    place.move()
    line = f"{place.old} is not there: 5 indexed files, 5 photos of them with no other file. Mount its disk"
    shown = place.ok(status)
    assert line in shown.stderr
    assert f"`birdsearch roots move {place.old} NEW`" in shown.stderr
    assert line in place.ok(query, "#1").stderr
    other = make_photo(place.catalog.parent / "other/x.png", 50).parent
    assert any(line in warning for warning in place.index(other).warnings)
    told = json.loads(place.ok(status, "--format", "json").stdout)
    # An unmounted disk is no deletion.
    assert (told["photos"], told["files"], told["files_away"], told["missing_files"]) == (6, 1, 5, 0)
    assert told["folders_away"] == [str(place.old)]


def test_a_mount_point_without_its_disk_is_not_there(place: Place) -> None:
    place.move()
    place.old.mkdir(parents=True)
    assert "is not there" in place.ok(status).stderr
    shutil.rmtree(place.old)
    place.new.rename(place.old)
    assert "is not there" not in place.ok(status).stderr


def test_hits_and_sheets_show_the_path_that_is_there(place: Place, tmp_path: Path) -> None:
    place.move()
    summary = place.index(place.new)
    assert (summary.new, summary.embedded) == (0, 0)
    assert place.paths() == sorted(str(path) for path in place.new.rglob("*.png"))
    hits = json.loads(place.ok(query, "#1", "--under", place.new, "--format", "json").stdout)[0]["hits"]
    assert len(hits) == 4
    assert all(hit["path"].startswith(f"{place.new}/") for hit in hits)
    sheet = tmp_path / "sheet.html"
    place.ok(query, "#1", "--sheet", sheet)
    assert str(place.old) not in sheet.read_text()
    # The old disk is back, and the new one is away.
    place.new.rename(place.old)
    assert place.paths() == sorted(str(path) for path in place.old.rglob("*.png"))


def test_a_path_that_is_gone_below_a_folder_that_is_there_is_not_shown_while_another_is(
    place: Place,
) -> None:
    shutil.copytree(place.old, place.new)
    place.index(place.new)
    (place.new / "0/0.png").unlink()
    assert str(place.old / "0/0.png") in place.paths()
    assert str(place.new / "0/2.png") in place.paths()


def test_dedup_passes_over_what_is_not_there_with_one_line(place: Place) -> None:
    shutil.copy2(place.old / "0/0.png", place.old / "0/0 (1).png")
    place.index(place.old)
    place.move()
    place.index(place.new)
    result = place.ok(dedup, "--format", "json")
    (group,) = json.loads(result.stdout)
    assert [file["path"] for file in (group["kept"], *group["others"])] == [
        str(place.new / "0/0.png"),
        str(place.new / "0/0 (1).png"),
    ]
    (line,) = [line for line in result.stderr.splitlines() if str(place.old) in line]
    assert line == (
        f"Warning: {place.old} is not there: 6 indexed files, 0 photos of them with no other file. Mount its "
        f"disk; or, if it moved, `birdsearch roots move {place.old} NEW`. Its files take no part"
    )


@pytest.mark.parametrize("indexed", [False, True])
def test_a_root_is_re_homed_whether_or_not_its_new_place_was_indexed(place: Place, indexed: bool) -> None:
    with CatalogStore.open(place.catalog, "write") as store:
        record(store, [(store.whole_views([1])[1], new_taxon("Moss owl"), "positive")], "ada", "t")
    place.move()
    if indexed:
        place.index(place.new)
    dry = place.ok(roots, "move", place.old, place.new).stdout
    assert f"5 of 5 files of {place.old} are in {place.new}; 5 of them were read" in dry
    assert "Nothing was changed" in dry
    assert f"{place.old} is not there" in place.ok(status).stderr
    done = place.ok(roots, "move", place.old, place.new, "--apply").stdout
    assert f"The catalog uses {place.new} from now on" in done
    assert "is not there" not in place.ok(status).stderr
    rows = json.loads(place.ok(roots, "--format", "json").stdout)
    assert rows == [{"folder": str(place.new), "there": True, "files": 5, "photos_only_here": 5}]
    assert place.paths() == sorted(str(path) for path in place.new.rglob("*.png"))
    summary = place.index(place.new)
    assert (summary.unchanged, summary.new, summary.missing, summary.embedded) == (5, 0, 0, 0)
    with place.store() as store:
        assert [(one.photo_id, one.name) for one in labels_in_force(store)] == [(1, "Moss owl")]
        assert check_catalog(store, files=True).problems == ()


def test_a_root_is_re_homed_below_a_larger_folder_that_was_indexed(place: Place) -> None:
    place.move()
    place.index(place.new.parent)
    (place.new / "0/0.png").unlink()
    shutil.copy2(place.new / "0/2.png", place.new / "1/1.png")
    place.index(place.new.parent)
    done = place.ok(roots, "move", place.old, place.new, "--apply").stdout
    assert "3 of 5 files" in done
    assert "says which files are missing" in done
    rows = json.loads(place.ok(roots, "--format", "json").stdout)
    assert rows[0]["folder"] == str(place.new.parent)
    with place.store() as store:
        assert store.counts().photos == 3
        assert check_catalog(store, files=True).problems == ()


def test_keywords_are_read_from_the_file_that_is_there(place: Place, tmp_path: Path) -> None:
    # By path, the one that is not there comes first.
    place.new = tmp_path / "zfs/archive"
    place.move()
    (place.new / "0/0.xmp").write_text(
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag><rdf:li>Mallard'
        "</rdf:li></rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    place.index(place.new)
    result = place.ok(annotate, "keywords")
    assert "usb" not in result.stderr
    with place.store() as store:
        assert [one.name for one in labels_in_force(store)] == ["Mallard"]


def test_deployments_and_the_undo_log_follow_a_root(place: Place) -> None:
    shutil.copy2(place.old / "0/0.png", place.old / "0/0 (1).png")
    place.index(place.old)
    place.ok(dedup, "--apply")
    with CatalogStore.open(place.catalog, "write") as store, store.writing() as connection:
        run_id = connection.execute(sa.select(sa.func.max(schema.run.c.id))).scalar_one()
        for number, folder in enumerate((place.old / "0", place.old.with_name("archive-2"))):
            connection.execute(
                sa.insert(schema.deployment).values(
                    name=f"{number}", site="s", folder=os.fsencode(folder), run_id=run_id
                )
            )
    place.move()
    place.ok(roots, "move", place.old, place.new, "--apply")
    place.ok(dedup, "undo")
    assert (place.new / "0/0 (1).png").exists()
    assert not place.old.exists()
    with place.store() as store, store.reading() as connection:
        folders = connection.execute(sa.select(schema.deployment.c.folder)).scalars().all()
    # A folder whose name merely begins like the root's is another one.
    assert [os.fsdecode(each) for each in folders] == [
        str(place.new / "0"),
        str(place.old.with_name("archive-2")),
    ]


def test_what_is_no_move_is_refused_and_changes_nothing(
    place: Place, tmp_path: Path, make_photo: MakePhoto
) -> None:
    def refused(kind: type[Exception], message: str, *arguments: object) -> None:
        result = place.run(roots, "move", *arguments, "--apply")
        assert isinstance(result.exception, kind), result.output
        assert message in str(result.exception)

    refused(InvalidInputError, "is still there", place.old, place.new)
    refused(InvalidInputError, "no indexed folder; the indexed folders are", place.new, place.old)
    place.move()
    refused(MissingFilesError, "there is no such folder, or it is empty", place.old, tmp_path / "nowhere")
    refused(InvalidInputError, "overlap", place.old, place.old.parent)
    refused(InvalidInputError, "overlap", place.old, place.old / "0")
    make_photo(tmp_path / "else/0/9.png", 9)
    refused(MissingFilesError, "only 0 of 5 files", place.old, tmp_path / "else")
    place.index(place.new / "0")
    refused(InvalidInputError, "holds the indexed folder", place.old, place.new)
    copy = shutil.copytree(place.new, tmp_path / "copy")
    content = bytearray((copy / "0/2.png").read_bytes())
    content[-20] ^= 1
    (copy / "0/2.png").write_bytes(content)
    refused(MissingFilesError, "2.png: holds other content than the file that was indexed", place.old, copy)
    assert f"{place.old} is not there: 5" in place.ok(status).stderr


def test_photos_that_were_edited_and_indexed_in_the_new_place_say_what_they_say_there(
    tmp_path: Path, tiny_model: Model
) -> None:
    place = Place(tmp_path, tiny_model)
    place.old.mkdir(parents=True)
    pixels = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).resize((320, 240))

    def write(camera: str, *, has_time: bool) -> None:
        tags = Image.Exif()
        # Of one length.
        tags[271], tags[306 if has_time else 315] = camera, "2023:05:01 06:30:00"
        picture.save(place.old / "0.jpg", exif=tags)

    write("Nikon", has_time=True)
    size = (place.old / "0.jpg").stat().st_size
    place.index(place.old)
    write("Canon", has_time=False)
    assert (place.old / "0.jpg").stat().st_size == size
    place.move()
    assert place.index(place.new).copies == 1
    place.ok(roots, "move", place.old, place.new, "--apply")
    with place.store() as store:
        photo = store.photos([1])[1]
    assert (photo.path, photo.camera) == (os.fsencode(place.new / "0.jpg"), "Canon")
    assert photo.captured_at is None
    summary = place.index(place.new)
    assert (summary.unchanged, summary.embedded) == (1, 0)
