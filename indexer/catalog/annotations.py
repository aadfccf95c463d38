"""Verified labels: recording them, reading those in force, and taking them back.

Rows are only ever added. A row is in force until a later one speaks about the same thing: the same taxon on the
same view, or, for a positive label, any positive label of the view. A row whose run was undone never counts,
so what it had ended is in force again unless something else ended it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.live import live_photo
from birdsearch.indexer.catalog.runs import finish_run, start_run
from birdsearch.indexer.catalog.soundness import refuse_damaged
from birdsearch.indexer.catalog.store import CatalogStore, chunks, now
from birdsearch.indexer.catalog.taxa import ANNOTATE, ensure_taxon
from birdsearch.model.taxonomy import Taxon, name_key

__all__ = [
    "VERDICTS",
    "AnnotationItem",
    "AnnotationSummary",
    "HistoryEntry",
    "UndoSummary",
    "Verdict",
    "VerifiedLabel",
    "history",
    "labelled_among",
    "labelled_photos",
    "labels_in_force",
    "preview",
    "read_verified_names",
    "record",
    "undo",
    "undoable",
    "undoing_run",
    "verified_counts",
    "verified_names",
]

Verdict = Literal["positive", "negative", "uncertain"]
"""It is this taxon; it is not; it may be."""

VERDICTS: tuple[Verdict, ...] = ("positive", "negative", "uncertain")

_UNDO_COMMAND = "annotate undo"


class AnnotationItem(NamedTuple):
    """One label to record.

    Attributes:
        view_id: The view that it is about.
        taxon: What is on it, or is not.
        verdict: One of `VERDICTS`.
        who: Who said so, where that is another than for the rest; else empty.
    """

    view_id: int
    taxon: Taxon
    verdict: str
    who: str = ""


@dataclass(frozen=True, slots=True)
class AnnotationSummary:
    """Summary of recording labels.

    Attributes:
        run_id: The run, which `undo` takes; None for a preview.
        added: Labels that were added.
        replaced: Labels that were in force before and were ended by these.
        unchanged: Labels that were in force already, so that nothing was added.
    """

    run_id: int | None
    added: int
    replaced: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class UndoSummary:
    """Summary of undoing a run, or of what that would do.

    Attributes:
        run_id: The run that did the undoing; None for a preview.
        undone_run_id: The run that was undone.
        at: When its labels were recorded, UTC, ISO 8601.
        source: Where they were from.
        undone: How many labels count no more.
        restored: How many labels that these had ended are in force again.
    """

    run_id: int | None
    undone_run_id: int
    at: str
    source: str
    undone: int
    restored: int


@dataclass(frozen=True, slots=True)
class VerifiedLabel:
    """A verified label: what is on a view, or is not, by a person's word.

    Attributes:
        view_id: The view.
        photo_id: The photo it is a view of.
        name: Common name of the taxon, as it was recorded.
        scientific_name: Its scientific name; empty where there is none, as are the following three.
        genus: Its genus.
        family: Its family.
        order: Its order.
        verdict: `positive`, `negative` or `uncertain`.
        who: Who said so.
        at: When, UTC, ISO 8601.
        source: Where it is from, such as the name of a table.
        annotation_id: Id of the row.
    """

    view_id: int
    photo_id: int
    name: str
    scientific_name: str
    genus: str
    family: str
    order: str
    verdict: str
    who: str
    at: str
    source: str
    annotation_id: int


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A label and what became of it.

    Attributes:
        label: The label.
        run_id: The run that recorded it.
        replaces: Id of the label that it ended, the positive one if there were two; None if it ended none.
        undone_run_id: The run that undid it, or None.
        in_force: True if it counts.
    """

    label: VerifiedLabel
    run_id: int
    replaces: int | None
    undone_run_id: int | None
    in_force: bool


def _in_force(row: sa.Table, without_run: int | None = None) -> sa.ColumnElement[bool]:
    """Return SQL: the row of `annotation` counts, or would if a run had ended no labels."""
    later = schema.annotation.alias("later")
    ends_it = [
        later.c.view_id == row.c.view_id,
        later.c.id > row.c.id,
        later.c.undone_run_id.is_(None),
        sa.or_(
            later.c.taxon_id == row.c.taxon_id,
            sa.and_(later.c.verdict == "positive", row.c.verdict == "positive"),
        ),
    ]
    if without_run is not None:
        ends_it.append(later.c.run_id != without_run)
    return sa.and_(row.c.undone_run_id.is_(None), ~sa.exists().where(*ends_it))


# -- recording -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Step:
    """A row to add. `replaces` is the id of a row, or minus the number (from 1) of an earlier step."""

    item: AnnotationItem
    replaces: int | None


@dataclass(frozen=True, slots=True)
class _Steps:
    steps: tuple[_Step, ...]
    replaced: int
    unchanged: int


_State = dict[int, dict[str, tuple[int, str]]]
"""View id -> key of a taxon -> id of the row that is in force for the two, and its verdict."""


def record(
    store: CatalogStore,
    items: Iterable[AnnotationItem | tuple[int, Taxon, str]],
    who: str,
    source: str,
) -> AnnotationSummary:
    """Add verified labels, in one transaction and as one run.

    At most one positive label is in force for a view: a new one ends the one before. Negative and uncertain
    labels are per view and taxon. A label on a taxon ends any other verdict on that taxon and view. Labels are
    taken in the order given; one that says what is in force already is not added.

    Args:
        store: A catalog that is open for writing.
        items: The labels.
        who: Who says so.
        source: Where they are from, such as the name of a table.

    Returns:
        What was added and ended.

    Raises:
        InvalidInputError: A verdict is none, a view does not exist, or `who` is empty; nothing was written.
        CatalogReadOnlyError: The catalog was opened for reading.
    """
    checked = _checked(items)
    if not who.strip() or not who.isprintable():
        raise InvalidInputError(f"who is {who!r}; say who verified the labels, in characters that print")
    with store.writing() as connection:
        planned = _plan(checked, _state(connection, {item.view_id for item in checked}))
        run_id = start_run(connection, ANNOTATE)
        _insert(connection, planned.steps, who.strip(), source, run_id)
        summary = AnnotationSummary(run_id, len(planned.steps), planned.replaced, planned.unchanged)
        counts = {
            "added": summary.added,
            "replaced": summary.replaced,
            "unchanged": summary.unchanged,
            "who": who.strip(),
            "source": source,
        }
        finish_run(connection, run_id, counts)
    return summary


def preview(
    store: CatalogStore, items: Iterable[AnnotationItem | tuple[int, Taxon, str]]
) -> AnnotationSummary:
    """Return what `record` would do, without doing it.

    Raises:
        InvalidInputError: As `record`.
    """
    checked = _checked(items)
    with store.reading() as connection:
        planned = _plan(checked, _state(connection, {item.view_id for item in checked}))
    return AnnotationSummary(None, len(planned.steps), planned.replaced, planned.unchanged)


def _checked(items: Iterable[AnnotationItem | tuple[int, Taxon, str]]) -> list[AnnotationItem]:
    checked = [AnnotationItem(*item) for item in items]
    for who in {item.who for item in checked}:
        if not who.isprintable():
            raise InvalidInputError(f"who is {who!r}, which has characters that do not print; take them out")
    for item in checked:
        if item.verdict not in VERDICTS:
            raise InvalidInputError(f"the verdict {item.verdict!r} is none; it is {', '.join(VERDICTS)}")
    return checked


def _state(connection: sa.Connection, view_ids: set[int]) -> _State:
    """Return the labels in force for views.

    Raises:
        InvalidInputError: A view does not exist.
    """
    annotation, taxon, view = schema.annotation, schema.taxon, schema.view.c
    state: _State = {}
    for ids in chunks(sorted(view_ids)):
        for view_id in connection.execute(sa.select(view.id).where(view.id.in_(ids))).scalars():
            state[view_id] = {}
        rows = connection.execute(
            sa.select(annotation.c.id, annotation.c.view_id, annotation.c.verdict, taxon.c.key)
            .join(taxon, taxon.c.id == annotation.c.taxon_id)
            .where(annotation.c.view_id.in_(ids), _in_force(annotation))
        )
        for row in rows:
            state[row.view_id][row.key] = (row.id, row.verdict)
    unknown = view_ids - state.keys()
    if unknown:
        raise InvalidInputError(f"the catalog has no view {min(unknown)}; nothing was recorded")
    return state


def _plan(items: Sequence[AnnotationItem], state: _State) -> _Steps:
    """Return the rows to add; `state` is brought up to date with them."""
    steps: list[_Step] = []
    replaced = unchanged = 0
    keys: dict[str, str] = {}
    for item in items:
        name = item.taxon.common_name
        key = keys.get(name) or keys.setdefault(name, name_key(name))
        current = state[item.view_id]
        before = current.get(key)
        if before is not None and before[1] == item.verdict:
            unchanged += 1
            continue
        ended = {key: before[0]} if before is not None else {}
        replaces = before[0] if before is not None else None
        if item.verdict == "positive":
            for other, (row_id, verdict) in current.items():
                if verdict == "positive":
                    ended[other] = replaces = row_id
        replaced += len(ended)
        for other in ended:
            del current[other]
        steps.append(_Step(item, replaces))
        current[key] = (-len(steps), item.verdict)
    return _Steps(tuple(steps), replaced, unchanged)


def _insert(connection: sa.Connection, steps: Sequence[_Step], who: str, source: str, run_id: int) -> None:
    if not steps:
        return
    annotation = schema.annotation
    at = now()
    taxon_ids: dict[str, int] = {}
    for step in steps:
        taxon = step.item.taxon
        if taxon.common_name not in taxon_ids:
            taxon_ids[taxon.common_name] = ensure_taxon(connection, taxon, run_id)
    rows = [
        {
            "view_id": step.item.view_id,
            "taxon_id": taxon_ids[step.item.taxon.common_name],
            "verdict": step.item.verdict,
            "who": step.item.who.strip() or who,
            "at": at,
            "source": source,
            "run_id": run_id,
            "replaces": step.replaces if step.replaces is not None and step.replaces > 0 else None,
        }
        for step in steps
    ]
    ids = (
        connection.execute(
            sa.insert(annotation).returning(annotation.c.id, sort_by_parameter_order=True), rows
        )
        .scalars()
        .all()
    )
    # Two labels of this call for one view: the earlier one had no id yet.
    for number, step in enumerate(steps):
        if step.replaces is not None and step.replaces < 0:
            connection.execute(
                sa.update(annotation)
                .where(annotation.c.id == ids[number])
                .values(replaces=ids[-step.replaces - 1])
            )


# -- taking back ---------------------------------------------------------------------------------------------


def undo(store: CatalogStore, run_id: int | None = None) -> UndoSummary:
    """Take the labels of a run back; no row is deleted, and what they had ended is in force again.

    A label that something else ended as well stays ended. A taxon that only these labels named is not known
    any more.

    Args:
        store: A catalog that is open for writing.
        run_id: The run; by default the last one whose labels count.

    Returns:
        What was undone.

    Raises:
        InvalidInputError: There is nothing to undo, or the run is none of labels, or was undone already.
        CatalogReadOnlyError: The catalog was opened for reading.
    """
    annotation = schema.annotation.c
    with store.writing() as connection:
        planned = _undo_plan(connection, run_id)
        undo_id = start_run(connection, _UNDO_COMMAND)
        connection.execute(
            sa.update(schema.annotation)
            .where(annotation.run_id == planned.undone_run_id, annotation.undone_run_id.is_(None))
            .values(undone_run_id=undo_id)
        )
        counts = {
            "undone_run": planned.undone_run_id,
            "undone": planned.undone,
            "restored": planned.restored,
        }
        finish_run(connection, undo_id, counts)
    return replace(planned, run_id=undo_id)


def undoable(store: CatalogStore, run_id: int | None = None) -> UndoSummary:
    """Return what `undo` would do, without doing it.

    Raises:
        InvalidInputError: As `undo`.
    """
    with store.reading() as connection:
        return _undo_plan(connection, run_id)


def _undo_plan(connection: sa.Connection, run_id: int | None) -> UndoSummary:
    row = schema.annotation
    if run_id is None:
        run_id = connection.execute(
            sa.select(sa.func.max(row.c.run_id)).where(row.c.undone_run_id.is_(None))
        ).scalar_one()
        if run_id is None:
            raise InvalidInputError("there is nothing to undo: no recorded label counts")
    of_run = row.c.run_id == run_id
    undone = connection.execute(sa.select(sa.func.count()).select_from(row).where(of_run)).scalar_one()
    if not undone:
        raise InvalidInputError(
            f"run {run_id} recorded no labels, so there is nothing to undo; "
            "`birdsearch annotate list --history` shows the runs that did"
        )
    first = connection.execute(
        sa.select(row.c.at, row.c.source, row.c.undone_run_id).where(of_run).order_by(row.c.id).limit(1)
    ).one()
    if first.undone_run_id is not None:
        raise InvalidInputError(f"run {run_id} was undone already, by run {first.undone_run_id}")
    touched = schema.annotation.alias("touched")
    restored = connection.execute(
        sa.select(sa.func.count())
        .select_from(row)
        .where(
            row.c.view_id.in_(sa.select(touched.c.view_id).where(touched.c.run_id == run_id)),
            row.c.run_id != run_id,
            _in_force(row, without_run=run_id),
            ~_in_force(row),
        )
    ).scalar_one()
    return UndoSummary(None, run_id, first.at, first.source, undone, restored)


# -- reading -------------------------------------------------------------------------------------------------


def _labels(*more: sa.ColumnElement[Any]) -> sa.Select[Any]:
    row, taxon, view = schema.annotation, schema.taxon, schema.view
    return (
        sa.select(
            row.c.view_id,
            view.c.photo_id,
            taxon.c.name,
            taxon.c.scientific_name,
            taxon.c.genus,
            taxon.c.family,
            taxon.c.order_name,
            row.c.verdict,
            row.c.who,
            row.c.at,
            row.c.source,
            row.c.id,
            *more,
        )
        .join(taxon, taxon.c.id == row.c.taxon_id)
        .join(view, view.c.id == row.c.view_id)
        .order_by(row.c.view_id, row.c.id)
    )


def labels_in_force(
    store: CatalogStore,
    verdict: Verdict | None = "positive",
    photo_ids: Sequence[int] | None = None,
    *,
    with_lost: bool = False,
) -> list[VerifiedLabel]:
    """Return the labels in force.

    Args:
        store: An open catalog.
        verdict: Labels of this verdict only, of which each view has at most one if it is `positive`; None for
            all.
        photo_ids: Labels of these photos only.
        with_lost: Also those of photos without a live file, which keep their labels but take no part.

    Returns:
        Labels in order of their views, then of their ids.

    Raises:
        InvalidInputError: The verdict is none.
    """
    if verdict is not None and verdict not in VERDICTS:
        raise InvalidInputError(f"the verdict {verdict!r} is none; it is {', '.join(VERDICTS)}")
    row = schema.annotation
    statement = _labels().where(_in_force(row))
    if verdict is not None:
        statement = statement.where(row.c.verdict == verdict)
    if not with_lost:
        statement = statement.where(live_photo(schema.view.c.photo_id))
    with store.reading() as connection:
        if photo_ids is None:
            refuse_damaged(connection, store.database_path, "annotation", "taxon")
            return [VerifiedLabel(*found) for found in connection.execute(statement)]
        labels = [
            VerifiedLabel(*found)
            for ids in chunks(sorted(set(photo_ids)))
            for found in connection.execute(statement.where(schema.view.c.photo_id.in_(ids)))
        ]
    return sorted(labels, key=lambda label: label.view_id)


def undoing_run(store: CatalogStore, run_id: int) -> int | None:
    """Return the run that took back what a run recorded, or None if it is in force.

    Raises:
        InvalidInputError: The run recorded no labels.
    """
    row = schema.annotation.c
    with store.reading() as connection:
        found = connection.execute(sa.select(row.undone_run_id).where(row.run_id == run_id).limit(1)).first()
    if found is None:
        raise InvalidInputError(f"run {run_id} recorded no labels")
    undone_run_id: int | None = found.undone_run_id
    return undone_run_id


def verified_counts(store: CatalogStore) -> dict[str, int]:
    """Return how many photos bear a positive label in force, by the common name of the taxon."""
    taxon = schema.taxon.c
    labelled = labelled_photos(with_lost=False).add_columns(schema.annotation.c.taxon_id).subquery()
    with store.reading() as connection:
        rows = connection.execute(
            sa.select(taxon.name, sa.func.count(sa.distinct(labelled.c.photo_id)))
            .join(labelled, labelled.c.taxon_id == taxon.id)
            .group_by(taxon.id)
        )
        return {row[0]: row[1] for row in rows}


def verified_names(store: CatalogStore, photo_ids: Iterable[int]) -> dict[int, str]:
    """Return the taxon that photos bear a positive label of, by photo id; of several views, that of the first.

    Args:
        store: An open catalog.
        photo_ids: Ids; photos without such a label are left out.
    """
    with store.reading() as connection:
        return read_verified_names(connection, photo_ids)


def read_verified_names(connection: sa.Connection, photo_ids: Iterable[int]) -> dict[int, str]:
    """Return what `verified_names` does, within a transaction."""
    row, view = schema.annotation, schema.view.c
    statement = (
        sa.select(view.photo_id, schema.taxon.c.name)
        .select_from(row)
        .join(schema.view, view.id == row.c.view_id)
        .join(schema.taxon, schema.taxon.c.id == row.c.taxon_id)
        .where(row.c.verdict == "positive", _in_force(row))
        .order_by(view.id)
    )
    names: dict[int, str] = {}
    for ids in chunks(sorted(set(photo_ids))):
        for photo_id, name in connection.execute(statement.where(view.photo_id.in_(ids))):
            names.setdefault(photo_id, name)
    return names


def history(store: CatalogStore, view_ids: Sequence[int] | None = None) -> list[HistoryEntry]:
    """Return every label that views ever had.

    Args:
        store: An open catalog.
        view_ids: The views, of which those that do not exist have no labels; None for all.

    Returns:
        Labels in order of their views, then in that in which they were recorded.
    """
    row = schema.annotation
    statement = _labels(row.c.run_id, row.c.replaces, row.c.undone_run_id, _in_force(row).label("counts"))
    entries: list[HistoryEntry] = []
    with store.reading() as connection:
        wanted = (
            [sa.true()]
            if view_ids is None
            else [row.c.view_id.in_(ids) for ids in chunks(sorted(set(view_ids)))]
        )
        for condition in wanted:
            for found in connection.execute(statement.where(condition)):
                run_id, replaces, undone_run_id, counts = found[-4:]
                label = VerifiedLabel(*found[:-4])
                entries.append(HistoryEntry(label, run_id, replaces, undone_run_id, bool(counts)))
    return entries


def labelled_photos(
    taxon_ids: Sequence[int] | None = None,
    *,
    verdicts: Sequence[Verdict] = ("positive",),
    with_lost: bool,
) -> sa.Select[tuple[int]]:
    """Return SQL: the photos of which a view has a label in force.

    Args:
        taxon_ids: Rows of `taxon` that the label names, or None for any.
        verdicts: What the label may say.
        with_lost: Also photos without a live file, which takes part in nothing but the coarsening of places.
    """
    row, view = schema.annotation, schema.view
    statement = (
        sa.select(view.c.photo_id)
        .join(row, row.c.view_id == view.c.id)
        .where(row.c.verdict.in_(verdicts), _in_force(row))
    )
    if not with_lost:
        statement = statement.where(live_photo(view.c.photo_id))
    return statement if taxon_ids is None else statement.where(row.c.taxon_id.in_(taxon_ids))


def labelled_among(store: CatalogStore, photo_ids: Sequence[int]) -> frozenset[int]:
    """Choose those of some photos that bear a verified label."""
    found: set[int] = set()
    with store.reading() as connection:
        for some in chunks(photo_ids):
            rows = connection.execute(
                labelled_photos(with_lost=False).where(schema.view.c.photo_id.in_(some))
            )
            found.update(row.photo_id for row in rows)
    return frozenset(found)
