"""Recording verified labels, and taking them back.

Rows are only ever added. A row is in force until a later one speaks about the same thing: the same taxon on the
same view, or, for a positive label, any positive label of the view. A row whose run was undone never counts,
so what it had ended is in force again unless something else ended it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import sqlalchemy as sa

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.runs import finish_run, start_run
from birdsearch.indexer.catalog.store import CatalogStore, chunks, now
from birdsearch.indexer.catalog.taxa import ANNOTATE, ensure_taxon
from birdsearch.indexer.catalog.verified_labels import VERDICTS, in_force
from birdsearch.model.taxonomy import Taxon, name_key

__all__ = [
    "AnnotationItem",
    "AnnotationSummary",
    "UndoSummary",
    "preview",
    "record",
    "undo",
    "undoable",
    "undoing_run",
]

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
            .where(annotation.c.view_id.in_(ids), in_force(annotation))
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
            in_force(row, without_run=run_id),
            ~in_force(row),
        )
    ).scalar_one()
    return UndoSummary(None, run_id, first.at, first.source, undone, restored)


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
