"""Forgetting photos whose files are gone, and taking that back."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from birdsearch import Catalog
from birdsearch.cli.cluster import cluster
from birdsearch.cli.dedup import dedup
from birdsearch.cli.forget import forget
from birdsearch.cli.label import label
from birdsearch.cli.sightings import sightings
from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.annotations import record
from birdsearch.indexer.catalog.copies import read_distinct_pairs
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.taxa import new_taxon
from birdsearch.indexer.catalog.verified_labels import history, labels_in_force
from birdsearch.indexer.vectors.index import VectorIndex
from birdsearch.indexer.verify import check_catalog
from birdsearch.search.dedup.distinct import reject

if TYPE_CHECKING:
    from birdsearch.model.inference import Model

MakePhoto = Callable[..., Path]
Rows = dict[str, list[tuple[Any, ...]]]


class Place:
    """An archive of six photos, with labels and pairs that are no copies."""

    def __init__(self, folder: Path, model: Model) -> None:
        self.archive, self.catalog = folder / "archive", folder / "catalog"
        self._model = model

    def index(self, **options: Any) -> Any:
        with Catalog.open(self.catalog, "create") as opened:
            return opened.index([self.archive], model=self._model, workers=1, **options)

    def run(self, command: Any, *arguments: object) -> Result:
        return CliRunner().invoke(command, [*map(str, arguments), "--catalog", str(self.catalog)])

    def ok(self, command: Any, *arguments: object) -> Result:
        result = self.run(command, *arguments)
        assert result.exit_code == 0, (result.output, result.exception)
        return result

    def delete(self, *names: str) -> None:
        for name in names:
            (self.archive / name).unlink()
        self.index(confirm_missing=True)

    def id_of(self, name: str) -> int:
        with CatalogStore.open(self.catalog) as store:
            photo_id = store.photo_at(os.fsencode(self.archive / name))
        assert photo_id is not None
        return photo_id

    def rows(self) -> Rows:
        """Every row of every table but those that tell what was run."""
        with CatalogStore.open(self.catalog) as store, store.reading() as connection:
            return {
                name: sorted(map(tuple, connection.execute(sa.select(table))), key=repr)
                for name, table in schema.metadata.tables.items()
                if name not in ("run", "change", "snapshot", "forgotten", "meta")
            }

    def is_sound(self) -> bool:
        with CatalogStore.open(self.catalog) as store:
            return check_catalog(store, files=True).problems == ()


@pytest.fixture
def place(tmp_path: Path, make_photo: MakePhoto, tiny_model: Model) -> Place:
    made = Place(tmp_path, tiny_model)
    for number in range(6):
        make_photo(made.archive / f"{'ab'[number % 2]}/{number}.png", number, size=(320, 240))
    shutil.copy2(made.archive / "a/0.png", made.archive / "a/0 (1).png")
    assert made.index().new == 6
    with CatalogStore.open(made.catalog, "write") as store:
        gone, *others = (made.id_of(name) for name in ("b/1.png", "a/0.png", "a/2.png"))
        for name in ("Moss owl", "Fen owl"):
            record(store, [(store.whole_views([gone])[gone], new_taxon(name), "positive")], "ada", "t")
        reject(store, [gone, *others], "ada")
    return made


def test_a_photo_without_a_file_is_forgotten_with_all_that_is_known_of_it_and_comes_back(
    place: Place,
) -> None:
    for command in (dedup, label, sightings, cluster):
        place.ok(command)
    gone = {place.id_of(name) for name in ("b/1.png", "b/3.png")}
    place.delete("b/1.png", "b/3.png")
    with CatalogStore.open(place.catalog, "write") as store, store.writing() as connection:
        # What a catalog of before knew the photo by, and one that turned out to be the same picture.
        photo_id = min(gone)
        connection.execute(sa.insert(schema.merged_photo).values(photo_id=90, into_id=photo_id))
        for digest, owner in ((bytes(32), photo_id), (bytes([1]) * 32, 90)):
            connection.execute(sa.insert(schema.former_digest).values(digest=digest, photo_id=owner))
    before = place.rows()
    for table in ("prediction", "event", "cluster_member", "distinct_pair", "annotation"):
        assert before[table], table
    dry = place.ok(forget)
    assert str(place.archive / "b/1.png") in dry.stdout
    assert "2 photos without a file could be forgotten, 1 of them with a verified label" in dry.stderr
    assert place.rows() == before
    done = place.ok(forget, "--apply").stderr
    assert "2 photos forgotten" in done
    after = place.rows()
    assert {row[0] for row in before["photo"]} - {row[0] for row in after["photo"]} == gone
    with CatalogStore.open(place.catalog) as store:
        (pair,) = read_distinct_pairs(store)
        assert gone.isdisjoint((pair.first_id, pair.second_id))
        assert history(store) == []
    assert after["merged_photo"] == after["former_digest"] == []
    assert place.is_sound()
    assert "1 photos" not in place.ok(forget).stderr
    undone = place.ok(forget, "undo")
    assert "2 photos are back" in undone.stdout
    assert place.rows() == before
    assert place.is_sound()
    assert isinstance(place.run(forget, "undo").exception, InvalidInputError)


def test_ids_of_forgotten_photos_are_never_used_again(place: Place, make_photo: MakePhoto) -> None:
    with CatalogStore.open(place.catalog) as store:
        path = os.fsdecode(store.photos([6])[6].path)
    place.delete(path)
    place.ok(forget, "--apply")
    make_photo(place.archive / "new.png", 50)
    place.index()
    assert place.id_of("new.png") == 7
    assert "1 photo is back" in place.ok(forget, "undo").stdout
    assert place.is_sound()


def test_a_photo_that_was_indexed_again_meanwhile_gets_back_what_was_known_of_it(
    place: Place, make_photo: MakePhoto
) -> None:
    place.ok(label)
    photo_id = place.id_of("b/1.png")
    place.delete("b/1.png", "b/5.png")
    place.ok(forget, "--apply")
    make_photo(place.archive / "b/again.png", 1, size=(320, 240))
    place.index()
    anew = place.id_of("b/again.png")
    with CatalogStore.open(place.catalog, "write") as store:
        assert anew > photo_id
        newest = (store.whole_views([anew])[anew], new_taxon("Reed owl"), "positive")
        record(store, [newest], "ada", "t")
    result = place.ok(forget, "undo")
    assert "2 photos are back with all that was known; 1 had been indexed again meanwhile" in result.stdout
    assert place.id_of("b/again.png") == photo_id
    with CatalogStore.open(place.catalog) as store:
        assert store.current_id(anew) == photo_id
        assert [(each.photo_id, each.name) for each in labels_in_force(store)] == [(photo_id, "Reed owl")]
        assert {each.label.name for each in history(store)} == {"Moss owl", "Fen owl", "Reed owl"}
        assert len(read_distinct_pairs(store)) == 3
        model = store.active_model()
        assert model is not None
        vectors = VectorIndex.open(store, model.id, model.embedding_size)
        assert len(vectors) == 5
    assert place.is_sound()
    summary = place.index()
    assert (summary.unchanged, summary.embedded, summary.new) == (6, 0, 0)


def test_conditions_choose_what_is_forgotten(place: Place) -> None:
    place.delete("b/1.png", "a/2.png", "b/3.png")

    def chosen(*arguments: object) -> list[int]:
        shown = json.loads(place.ok(forget, *arguments, "--format", "json").stdout)
        return [row["photo_id"] for row in shown["photos"]]

    found = sorted([*chosen("--under", place.archive / "b"), *chosen("--under", place.archive / "a")])
    assert chosen() == found
    assert len(found) == 3
    assert len(chosen("--under", place.archive / "b")) == 2
    assert chosen("--photo", found[0]) == [found[0]]
    assert chosen("--under", f"{place.archive}/") == found
    assert chosen("--under", place.archive / "b2") == []


def test_a_photo_with_a_file_or_of_a_folder_that_is_not_there_is_left_alone(place: Place) -> None:
    live = place.id_of("a/4.png")
    before = place.rows()
    refused = place.run(forget, "--photo", live, "--apply")
    assert isinstance(refused.exception, InvalidInputError)
    assert "the photo has a file" in str(refused.exception)
    assert "there is no such photo" in str(place.run(forget, "--photo", 99, "--apply").exception)
    place.delete("b/1.png")
    after = place.rows()
    disk = place.archive.rename(place.archive.with_name("unmounted"))
    told = place.ok(forget, "--apply").stderr
    assert "No photo can be forgotten" in told
    assert "1 photo left alone: a folder of theirs is not there" in told
    assert place.rows() == after != before
    # Unless it is asked for.
    assert "6 photos forgotten" in place.ok(forget, "--away", "--apply").stderr
    with CatalogStore.open(place.catalog) as store:
        model = store.active_model()
        assert model is not None
        assert len(VectorIndex.open(store, model.id, model.embedding_size)) == 0
    disk.rename(place.archive)
    place.ok(forget, "undo")
    assert place.rows() == after
    assert place.is_sound()


def test_what_dedup_can_bring_back_is_left_alone_until_the_quarantine_is_emptied(
    place: Place,
) -> None:
    place.ok(dedup, "--apply", "--keep", "path:(1)")
    place.delete("a/0 (1).png")
    told = place.ok(forget, "--apply").stderr
    assert "1 photo left alone: in quarantine, or kept for one" in told
    shutil.rmtree(place.catalog / "quarantine")
    assert "1 photo forgotten" in place.ok(forget, "--apply").stderr
    assert place.is_sound()
    place.ok(forget, "undo")
    assert place.is_sound()
