"""Verified labels: those in force, their history, and the photos that have them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.live import live_photo
from birdsearch.indexer.catalog.soundness import refuse_damaged
from birdsearch.indexer.catalog.store import CatalogStore, chunks

__all__ = [
    "VERDICTS",
    "HistoryEntry",
    "Verdict",
    "VerifiedLabel",
    "history",
    "in_force",
    "labelled_among",
    "labelled_photos",
    "labels_in_force",
    "read_verified_names",
    "verified_counts",
    "verified_names",
]

Verdict = Literal["positive", "negative", "uncertain"]
"""It is this taxon; it is not; it may be."""

VERDICTS: tuple[Verdict, ...] = ("positive", "negative", "uncertain")


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


def in_force(row: sa.Table, without_run: int | None = None) -> sa.ColumnElement[bool]:
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
    statement = _labels().where(in_force(row))
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
        .where(row.c.verdict == "positive", in_force(row))
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
    statement = _labels(row.c.run_id, row.c.replaces, row.c.undone_run_id, in_force(row).label("counts"))
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
        .where(row.c.verdict.in_(verdicts), in_force(row))
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
