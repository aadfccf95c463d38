"""Verified labels: what is in force after any sequence of recording and undoing, and that it survives moves."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from birdsearch.errors import CatalogReadOnlyError, InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.annotations import (
    AnnotationItem,
    AnnotationSummary,
    UndoSummary,
    preview,
    record,
    undo,
    undoable,
)
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.taxa import catalog_taxonomy, new_taxon
from birdsearch.indexer.catalog.verified_labels import VERDICTS, history, labels_in_force
from birdsearch.indexer.options import IndexOptions
from birdsearch.indexer.pipeline import index_archive
from birdsearch.indexer.verify import check_catalog
from birdsearch.model.taxonomy import Taxon, Taxonomy

if TYPE_CHECKING:
    from birdsearch.model.inference import Model

MakePhoto = Callable[..., Path]
Fact = tuple[int, str, str]
"""View, name of the taxon, verdict."""


def bird(name: str) -> Taxon:
    taxon = Taxonomy.load().find(name)
    assert taxon is not None
    return taxon


HOOPOE, STORK, VULTURE = bird("Eurasian hoopoe"), bird("White stork"), bird("Griffon vulture")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CatalogStore]:
    """A catalog of ten photos with one view each; view n shows photo n."""
    with CatalogStore.open(tmp_path / "catalog", "create") as opened:
        add_photos(opened, 1, 10)
        yield opened


def add_photos(store: CatalogStore, first: int, last: int) -> None:
    """Add photos of these ids, each with a view and a file."""
    numbers = range(first, last + 1)
    with store.writing() as connection:
        root = {"path": b"/archive%d" % first, "added_at": "2023-05-01"}
        root_id = connection.execute(
            sa.insert(schema.root).values(root).returning(schema.root.c.id)
        ).scalar_one()
        connection.execute(
            sa.insert(schema.photo),
            [
                {
                    "id": number,
                    "digest": b"%032d" % number,
                    "size": 1,
                    "format": "JPEG",
                    "width": 4,
                    "height": 3,
                }
                for number in numbers
            ],
        )
        connection.execute(
            sa.insert(schema.view),
            [
                {"id": number, "photo_id": number, "kind": "whole", "x": 0.0, "y": 0.0, "w": 1.0, "h": 1.0}
                for number in numbers
            ],
        )
        facts = dict.fromkeys(("size", "mtime_ns", "ctime_ns", "device", "inode", "transient"), 0)
        connection.execute(
            sa.insert(schema.file),
            [
                {"root_id": root_id, "path": b"%d.jpg" % number, "state": "present", "photo_id": number}
                | facts
                for number in numbers
            ],
        )


def in_force(store: CatalogStore, verdict: Any = None) -> list[Fact]:
    return [(label.view_id, label.name, label.verdict) for label in labels_in_force(store, verdict)]


def count(store: CatalogStore, table: sa.Table) -> int:
    with store.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def test_a_label_says_what_who_when_and_from_where(store: CatalogStore) -> None:
    summary = record(store, [(3, HOOPOE, "positive")], "Ada", "table birds.csv")
    assert summary == AnnotationSummary(run_id=1, added=1, replaced=0, unchanged=0)
    (label,) = labels_in_force(store)
    assert (label.view_id, label.photo_id, label.name) == (3, 3, "Eurasian hoopoe")
    assert (label.scientific_name, label.genus) == ("Upupa epops", "Upupa")
    assert (label.family, label.order) == ("Upupidae", "Bucerotiformes")
    assert (label.verdict, label.who, label.source) == ("positive", "Ada", "table birds.csv")
    assert label.at.endswith("+00:00")
    with store.reading() as connection:
        run = connection.execute(sa.select(schema.run)).one()
    assert (run.command, run.outcome, run.finished_at is not None) == ("annotate", "done", True)
    assert '"added": 1' in run.counts


def test_a_new_positive_label_ends_the_one_before(store: CatalogStore) -> None:
    record(store, [(1, HOOPOE, "positive")], "Ada", "set")
    summary = record(store, [(1, STORK, "positive")], "Bo", "set")
    assert (summary.added, summary.replaced) == (1, 1)
    assert in_force(store) == [(1, "White stork", "positive")]
    first, second = history(store, [1])
    assert (first.in_force, second.in_force) == (False, True)
    assert second.replaces == first.label.annotation_id


def test_negative_and_uncertain_labels_are_per_taxon(store: CatalogStore) -> None:
    record(store, [(1, HOOPOE, "negative"), (1, STORK, "uncertain"), (1, VULTURE, "positive")], "Ada", "set")
    assert len(in_force(store)) == 3
    assert in_force(store, "negative") == [(1, "Eurasian hoopoe", "negative")]
    assert in_force(store, "uncertain") == [(1, "White stork", "uncertain")]
    assert in_force(store, "positive") == [(1, "Griffon vulture", "positive")]


def test_a_verdict_ends_another_one_on_the_same_taxon_and_view(store: CatalogStore) -> None:
    record(store, [(1, HOOPOE, "negative"), (2, HOOPOE, "positive")], "Ada", "set")
    summary = record(store, [(1, HOOPOE, "positive"), (2, HOOPOE, "uncertain")], "Ada", "set")
    assert (summary.added, summary.replaced) == (2, 2)
    assert in_force(store) == [(1, "Eurasian hoopoe", "positive"), (2, "Eurasian hoopoe", "uncertain")]


def test_one_positive_label_may_end_two_and_both_come_back(store: CatalogStore) -> None:
    record(store, [(1, HOOPOE, "positive"), (1, STORK, "negative")], "Ada", "set")
    summary = record(store, [(1, STORK, "positive")], "Ada", "set")
    assert (summary.added, summary.replaced) == (1, 2)
    assert in_force(store) == [(1, "White stork", "positive")]
    # The positive one is what it is said to replace.
    assert history(store, [1])[-1].replaces == 1
    assert undo(store).restored == 2
    assert in_force(store) == [(1, "Eurasian hoopoe", "positive"), (1, "White stork", "negative")]


def test_a_repeat_adds_nothing(store: CatalogStore) -> None:
    items = [(1, HOOPOE, "positive"), (1, STORK, "negative"), (2, HOOPOE, "positive")]
    record(store, items, "Ada", "set")
    again = record(store, items, "Bo", "set")
    assert (again.added, again.replaced, again.unchanged) == (0, 0, 3)
    assert count(store, schema.annotation) == 3
    twice = record(store, [(5, STORK, "positive"), (5, STORK, "positive")], "Bo", "set")
    assert (twice.added, twice.unchanged) == (1, 1)
    assert [label.who for label in labels_in_force(store, None)] == ["Ada", "Ada", "Ada", "Bo"]


def test_labels_of_one_call_are_taken_in_their_order(store: CatalogStore) -> None:
    items = [(1, HOOPOE, "positive"), (1, STORK, "positive"), (1, HOOPOE, "positive")]
    summary = record(store, items, "Ada", "set")
    assert (summary.added, summary.replaced) == (3, 2)
    assert in_force(store) == [(1, "Eurasian hoopoe", "positive")]
    assert [entry.replaces for entry in history(store, [1])] == [None, 1, 2]


def test_who_may_differ_from_label_to_label(store: CatalogStore) -> None:
    items = [AnnotationItem(1, HOOPOE, "positive", "Cleo"), AnnotationItem(2, HOOPOE, "positive")]
    record(store, items, " Ada ", "set")
    assert [label.who for label in labels_in_force(store)] == ["Cleo", "Ada"]


def test_undoing_brings_back_what_was_replaced(store: CatalogStore) -> None:
    first = record(store, [(1, HOOPOE, "positive"), (2, HOOPOE, "positive")], "Ada", "first")
    second = record(store, [(1, STORK, "positive"), (3, STORK, "positive")], "Ada", "second")
    summary = undo(store)
    (at,) = {entry.label.at for entry in history(store) if entry.run_id == second.run_id}
    assert summary == UndoSummary(3, second.run_id or 0, at, "second", undone=2, restored=1)
    assert in_force(store) == [(1, "Eurasian hoopoe", "positive"), (2, "Eurasian hoopoe", "positive")]
    assert [entry.undone_run_id for entry in history(store)] == [None, 3, None, 3]
    assert undo(store).undone_run_id == first.run_id
    assert in_force(store) == []
    assert count(store, schema.annotation) == 4


def test_undoing_an_older_run_leaves_what_is_newer(store: CatalogStore) -> None:
    runs = [record(store, [(1, taxon, "positive")], "Ada", "set") for taxon in (HOOPOE, STORK, VULTURE)]
    assert undo(store, runs[1].run_id).restored == 0
    assert in_force(store) == [(1, "Griffon vulture", "positive")]
    # The one in the middle is gone, so the first one is next.
    assert undo(store, runs[2].run_id).restored == 1
    assert in_force(store) == [(1, "Eurasian hoopoe", "positive")]


def test_what_was_replaced_twice_stays_replaced(store: CatalogStore) -> None:
    record(store, [(1, HOOPOE, "positive")], "Ada", "set")
    second = record(store, [(1, STORK, "positive")], "Ada", "set")
    record(store, [(1, HOOPOE, "negative")], "Ada", "set")
    assert undo(store, second.run_id).restored == 0
    assert in_force(store) == [(1, "Eurasian hoopoe", "negative")]


def test_what_cannot_be_undone_is_said(store: CatalogStore) -> None:
    for call in (undo, undoable):
        with pytest.raises(InvalidInputError, match="nothing to undo"):
            call(store)
        with pytest.raises(InvalidInputError, match="run 77 recorded no labels"):
            call(store, 77)
    first = record(store, [(1, HOOPOE, "positive")], "Ada", "set")
    undone = undo(store)
    for call in (undo, undoable):
        with pytest.raises(InvalidInputError, match=f"run {first.run_id} was undone already, by run 2"):
            call(store, first.run_id)
        with pytest.raises(InvalidInputError, match="run 2 recorded no labels"):
            call(store, undone.run_id)
    # A repeat that added nothing is passed over.
    third = record(store, [(1, HOOPOE, "positive")], "Ada", "set")
    record(store, [(1, HOOPOE, "positive")], "Ada", "set")
    assert undo(store).undone_run_id == third.run_id


def test_any_sequence_leaves_what_plain_python_says(store: CatalogStore) -> None:
    rng = np.random.default_rng(7)
    birds = [HOOPOE, STORK, VULTURE, new_taxon("Kaupi zogbird")]
    # Rows as plain Python keeps them: (run, view, name, verdict); and the runs that were undone.
    rows: list[tuple[int, Fact]] = []
    undone: set[int] = set()
    seen = {"replaced": 0, "unchanged": 0, "restored": 0}
    for _ in range(45):
        before = standing(rows, undone)
        live = sorted({run for run, _ in rows if run not in undone})
        if live and rng.random() < 0.3:
            target = None if rng.random() < 0.4 else int(rng.choice(live))
            expected = live[-1] if target is None else target
            told = undoable(store, target)
            summary = undo(store, target)
            undone.add(expected)
            back = [row for row in standing(rows, undone) if row not in before]
            assert (summary.undone_run_id, summary.restored) == (expected, len(back))
            assert (told.undone_run_id, told.undone, told.restored) == (
                expected,
                summary.undone,
                summary.restored,
            )
            seen["restored"] += len(back)
        else:
            items = [
                AnnotationItem(int(rng.integers(1, 6)), birds[rng.integers(4)], VERDICTS[rng.integers(3)])
                for _ in range(int(rng.integers(1, 6)))
            ]
            told_summary = preview(store, items)
            done = record(store, items, "Ada", "set")
            assert done.run_id is not None
            unchanged = 0
            start = len(rows)
            for item in items:
                fact = (item.view_id, item.taxon.common_name, item.verdict)
                if fact in [rows[place][1] for place in standing(rows, undone)]:
                    unchanged += 1
                else:
                    rows.append((done.run_id, fact))
            assert (done.added, done.unchanged) == (len(rows) - start, unchanged)
            ended = set(before) | set(range(start, len(rows)))
            assert done.replaced == len(ended - set(standing(rows, undone)))
            assert (told_summary.added, told_summary.replaced, told_summary.unchanged) == (
                done.added,
                done.replaced,
                done.unchanged,
            )
            seen["replaced"] += done.replaced
            seen["unchanged"] += unchanged
        expected_facts = sorted(rows[place][1] for place in standing(rows, undone))
        assert sorted(in_force(store)) == expected_facts
        assert [entry.in_force for entry in sorted(history(store), key=lambda e: e.label.annotation_id)] == [
            place in standing(rows, undone) for place in range(len(rows))
        ]
        positives = [view for view, _, verdict in expected_facts if verdict == "positive"]
        assert len(positives) == len(set(positives))
    # The sequence is worth something only if all of this happened.
    assert min(seen.values()) > 5


def standing(rows: list[tuple[int, Fact]], undone: set[int]) -> list[int]:
    """Places of the rows in force: replayed one after the other, those of undone runs left out."""
    kept: list[int] = []
    for place, (run, (view, name, verdict)) in enumerate(rows):
        if run in undone:
            continue

        def stays(other: int, view: int = view, name: str = name, verdict: str = verdict) -> bool:
            other_view, other_name, other_verdict = rows[other][1]
            if other_view != view:
                return True
            return other_name != name and not (verdict == other_verdict == "positive")

        kept = [other for other in kept if stays(other)] + [place]
    return kept


@pytest.mark.parametrize(
    ("items", "who", "message"),
    [
        (
            [(1, HOOPOE, "positive"), (2, HOOPOE, "maybe")],
            "Ada",
            "the verdict 'maybe' is none; it is positive",
        ),
        ([(1, HOOPOE, "positive"), (99, HOOPOE, "positive")], "Ada", "no view 99; nothing was recorded"),
        ([(1, HOOPOE, "positive")], " ", "say who verified"),
        ([(1, HOOPOE, "positive")], "A\x1bda", "say who verified the labels, in characters that print"),
        ([(1, HOOPOE, "positive", "A\nda")], "Ada", "characters that do not print"),
    ],
)
def test_what_cannot_be_recorded_leaves_nothing_behind(
    store: CatalogStore, items: list[Any], who: str, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        record(store, items, who, "set")
    assert [count(store, table) for table in (schema.annotation, schema.run, schema.taxon)] == [0, 0, 0]
    with pytest.raises(InvalidInputError, match="the verdict 'maybe'"):
        labels_in_force(store, "maybe")  # type: ignore[arg-type]


def test_a_call_that_is_interrupted_leaves_nothing_behind(
    store: CatalogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(store, [(1, HOOPOE, "positive")], "Ada", "set")
    before = history(store)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("birdsearch.indexer.catalog.annotations.finish_run", interrupt)
        for call in (lambda: record(store, [(1, STORK, "positive")], "Ada", "set"), lambda: undo(store)):
            with pytest.raises(KeyboardInterrupt):
                call()
    assert history(store) == before
    assert [count(store, table) for table in (schema.run, schema.taxon)] == [1, 1]


def test_no_labels_are_a_run_that_added_none(store: CatalogStore) -> None:
    assert record(store, [], "Ada", "set") == AnnotationSummary(1, 0, 0, 0)
    assert labels_in_force(store, None) == []
    assert history(store) == history(store, []) == history(store, [77]) == []


def test_a_reader_can_look_and_not_record(store: CatalogStore) -> None:
    record(store, [(1, HOOPOE, "positive")], "Ada", "set")
    with CatalogStore.open(store.path) as reader:
        assert in_force(reader) == [(1, "Eurasian hoopoe", "positive")]
        assert preview(reader, [(1, STORK, "positive")]).replaced == 1
        assert undoable(reader).undone == 1
        with pytest.raises(CatalogReadOnlyError):
            record(reader, [(1, STORK, "positive")], "Ada", "set")
        with pytest.raises(CatalogReadOnlyError):
            undo(reader)


def test_labels_come_in_order_of_their_views_by_one_question(store: CatalogStore) -> None:
    add_photos(store, 11, 3000)
    ids = range(1, 3001)
    rng = np.random.default_rng(3)
    record(store, [(int(view), HOOPOE, "positive") for view in rng.permutation(ids)], "Ada", "set")
    asked: list[str] = []

    def note(*details: Any) -> None:
        asked.append(details[2])

    with store.reading() as connection:
        engine = connection.engine
    event.listen(engine, "before_cursor_execute", note)
    labels = labels_in_force(store)
    event.remove(engine, "before_cursor_execute", note)
    assert [label.view_id for label in labels] == list(ids)
    assert len([statement for statement in asked if statement.startswith("SELECT")]) == 1


def test_a_name_that_only_undone_labels_used_is_not_known_any_more(store: CatalogStore) -> None:
    record(store, [(1, new_taxon("Hopoe"), "positive")], "Ada", "set")
    assert catalog_taxonomy(store).find("hopoe") is not None
    undo(store)
    assert catalog_taxonomy(store).find("hopoe") is None
    # Once it is used again, it is what is said then.
    record(
        store, [(2, new_taxon("Hopoe", "Upupa nova", "Upupidae", "Bucerotiformes"), "positive")], "Ada", "s"
    )
    (label,) = labels_in_force(store)
    assert (label.name, label.genus, label.family) == ("Hopoe", "Upupa", "Upupidae")
    # And as long as a label names it, another does not change it.
    record(store, [(3, new_taxon("Hopoe", "Upupa alba"), "positive")], "Ada", "set")
    assert {label.scientific_name for label in labels_in_force(store)} == {"Upupa nova"}


def test_a_renamed_moved_and_copied_photo_keeps_its_label(
    tmp_path: Path, make_photo: MakePhoto, tiny_model: Model
) -> None:
    archive = tmp_path / "archive"
    for number in range(4):
        make_photo(archive / f"{number}.jpg", number)

    def index() -> None:
        with CatalogStore.open(tmp_path / "catalog", "create") as opened:
            index_archive(opened, tiny_model, [archive], IndexOptions(workers=1, confirm_missing=True))

    def where() -> dict[str, str]:
        """Name of the taxon by the content of the file that is found for its photo."""
        with CatalogStore.open(tmp_path / "catalog") as opened:
            assert check_catalog(opened).problems == ()
            labels = labels_in_force(opened, with_lost=True)
            photos = opened.photos([label.photo_id for label in labels])
            return {Path(photos[label.photo_id].path.decode()).name: label.name for label in labels}

    index()
    with CatalogStore.open(tmp_path / "catalog", "write") as opened:
        views = [opened.whole_views([photo_id])[photo_id] for photo_id in photo_ids(opened, archive)]
        record(
            opened, zip(views, (HOOPOE, STORK, VULTURE, HOOPOE), ["positive"] * 4, strict=True), "A", "set"
        )
    assert where() == {
        "0.jpg": "Eurasian hoopoe",
        "1.jpg": "White stork",
        "2.jpg": "Griffon vulture",
        "3.jpg": "Eurasian hoopoe",
    }
    (archive / "0.jpg").rename(archive / "renamed.jpg")
    (archive / "deep" / "er").mkdir(parents=True)
    (archive / "1.jpg").rename(archive / "deep" / "er" / "moved.jpg")
    shutil.copy(archive / "2.jpg", archive / "deep" / "copy.jpg")
    (archive / "3.jpg").unlink()
    index()
    expected = {
        "renamed.jpg": "Eurasian hoopoe",
        "moved.jpg": "White stork",
        "2.jpg": "Griffon vulture",
        # Gone for now, and still labelled.
        "3.jpg": "Eurasian hoopoe",
    }
    assert where() == expected
    with CatalogStore.open(tmp_path / "catalog") as opened:
        assert len(labels_in_force(opened)) == 3
    # A new content at an old path is another photo: nobody has said what is on it.
    make_photo(archive / "2.jpg", 77)
    index()
    assert where() == {"copy.jpg" if name == "2.jpg" else name: taxon for name, taxon in expected.items()}
    with CatalogStore.open(tmp_path / "catalog") as opened:
        new = opened.photo_at(str(archive / "2.jpg").encode())
        assert new not in {label.photo_id for label in labels_in_force(opened)}


def photo_ids(store: CatalogStore, archive: Path) -> list[int]:
    ids = [store.photo_at(str(path).encode()) for path in sorted(archive.glob("*.jpg"))]
    return [photo_id for photo_id in ids if photo_id is not None]
