"""Forgetting photos that have no file any more: their rows leave the catalog's tables, kept aside to be undone.

All that belongs to a photo goes with it: views, vectors, labels, predictions, fingerprints, pairs that are no
copies, members of clusters, events. Which tables those are, their foreign keys say. Ids are never used again.
"""

from __future__ import annotations

import base64
import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.changes import live_pairs, write_changes
from birdsearch.indexer.catalog.connection import cursor_of
from birdsearch.indexer.catalog.file_metadata import settle_metadata
from birdsearch.indexer.catalog.live import live_file
from birdsearch.indexer.catalog.merging import merge_photos
from birdsearch.indexer.catalog.reach import Reach, is_there
from birdsearch.indexer.catalog.runs import finish_run, start_run
from birdsearch.indexer.catalog.store import CatalogStore, chunks
from birdsearch.indexer.catalog.verified_labels import labelled_photos

__all__ = ["ForgetUndone", "Forgettable", "find_forgettable", "forget", "undo_forget"]

_COMMAND, _UNDO_COMMAND = "forget", "forget undo"

# Columns that name a photo without being a key: they outlive it where photos are merged, but not where it is
# forgotten. A digest that a photo had may be that of one which was merged into it.
_UNKEYED = {
    "merged_photo": (("into_id", "photo"),),
    "former_digest": (("photo_id", "photo"), ("photo_id", "merged_photo")),
}

Rows = dict[str, list[dict[str, Any]]]
"""Rows by table, as JSON types."""


@dataclass(frozen=True, slots=True)
class Forgettable:
    """Photos that can be forgotten, and those that were left out.

    Attributes:
        photo_ids: Rising.
        labelled: Those of them that bear a verified label.
        paths: Where each was last, by photo id; empty where that is not known.
        away: How many photos without a file were left out, as one was under a folder that is not there now.
        quarantined: How many were left out, as `dedup undo` can bring a file of theirs back, or needs them for it.
    """

    photo_ids: tuple[int, ...]
    labelled: frozenset[int]
    paths: Mapping[int, bytes]
    away: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class ForgetUndone:
    """What came of undoing.

    Attributes:
        undone_run_id: The run that was undone.
        restored: Photos that are back, with their ids.
        joined: Those of them that had been indexed again meanwhile, by the id that they had since then.
    """

    undone_run_id: int
    restored: tuple[int, ...]
    joined: Mapping[int, int]


def find_forgettable(
    store: CatalogStore,
    photo_ids: Sequence[int] | None = None,
    under: Sequence[str | bytes | os.PathLike[str]] = (),
    *,
    with_away: bool = False,
) -> Forgettable:
    """Find photos without a file.

    Args:
        store: An open catalog.
        photo_ids: These only; None for all.
        under: Only photos that were last in one of these folders.
        with_away: Also photos all of whose files are under indexed folders that are not there now.

    Returns:
        What could be forgotten.

    Raises:
        InvalidInputError: A photo that was named does not exist, or has a file.
    """
    file, root = schema.file.c, schema.root.c
    folders = [os.path.abspath(os.path.expanduser(os.fsencode(each))).rstrip(b"/") for each in under]  # noqa: PTH100, PTH111
    reach = Reach()
    there = [root_id for root_id, path in store.roots() if reach.has_root(path)]
    with store.reading() as connection:
        live = sa.select(file.photo_id).where(live_file)
        if with_away:
            live = live.where(file.root_id.in_(there))
        lost = set(
            connection.execute(sa.select(schema.photo.c.id).where(schema.photo.c.id.not_in(live))).scalars()
        )
        _check_named(connection, photo_ids, lost)
        if photo_ids is not None:
            lost &= set(photo_ids)
        paths_of: defaultdict[int, list[tuple[int, bytes]]] = defaultdict(list)
        for row in connection.execute(
            sa.select(file.photo_id, file.root_id, root.path.label("root"), file.path)
            .join(schema.root, root.id == file.root_id)
            .where(file.photo_id.not_in(live))
        ):
            if row.photo_id in lost:
                paths_of[row.photo_id].append((row.root_id, row.root.rstrip(b"/") + b"/" + row.path))
        if folders:
            lost = {photo_id for photo_id in lost if _was_under(paths_of[photo_id], folders)}
        held = _held_by_quarantine(connection) & lost
        away = set[int]()
        if not with_away:
            away = {
                photo_id
                for photo_id in lost - held
                if any(root_id not in there for root_id, _ in paths_of[photo_id])
            }
        chosen = sorted(lost - held - away)
        labelled: set[int] = set()
        for some in chunks(chosen):
            rows = connection.execute(labelled_photos(with_lost=True).where(schema.view.c.photo_id.in_(some)))
            labelled.update(row.photo_id for row in rows)
    paths = {photo_id: min((path for _, path in paths_of[photo_id]), default=b"") for photo_id in chosen}
    return Forgettable(tuple(chosen), frozenset(labelled), paths, len(away), len(held))


def _check_named(connection: sa.Connection, photo_ids: Sequence[int] | None, lost: set[int]) -> None:
    for photo_id in photo_ids or ():
        if photo_id in lost:
            continue
        photo = schema.photo.c.id
        if connection.execute(sa.select(photo).where(photo == photo_id)).first() is None:
            raise InvalidInputError(f"#{photo_id}: there is no such photo; nothing was forgotten")
        raise InvalidInputError(
            f"#{photo_id}: the photo has a file; only photos without one can be forgotten, and nothing was"
        )


def _was_under(paths: Sequence[tuple[int, bytes]], folders: Sequence[bytes]) -> bool:
    return any(path == folder or path.startswith(folder + b"/") for _, path in paths for folder in folders)


def _held_by_quarantine(connection: sa.Connection) -> set[int]:
    """Return the photos of files that are in quarantine, and those that were kept for them."""
    row = schema.quarantine.c
    held: set[int] = set()
    for one in connection.execute(
        sa.select(row.photo_id, row.keeper_id, row.moved_to, row.state, row.run_id).where(
            row.state.in_(("planned", "moved"))
        )
    ):
        if one.state == "planned" or not _is_deleted(one.moved_to, one.run_id):
            held |= {one.photo_id, one.keeper_id}
    return held


def _is_deleted(moved_to: bytes, run_id: int) -> bool:
    """Return whether a file is no longer in quarantine, though its disk is mounted."""
    quarantine, _, _ = moved_to.rpartition(b"/run-%d" % run_id)
    return not os.path.lexists(moved_to) and (is_there(quarantine) or is_there(os.path.dirname(quarantine)))  # noqa: PTH120


# -- forgetting --------------------------------------------------------------------------------------------


def forget(store: CatalogStore, found: Forgettable) -> int:
    """Forget photos, whole or not at all.

    Args:
        store: A catalog open for writing.
        found: As `find_forgettable` gave it, with the writer lock held since.

    Returns:
        The run, which `undo_forget` takes.
    """
    with store.writing() as connection:
        run_id = start_run(connection, _COMMAND)
        for photo_ids in chunks(found.photo_ids):
            before = live_pairs(connection, photo_ids)
            taken = _collect(connection, photo_ids)
            for name in reversed(_tables()):
                _delete(connection, schema.metadata.tables[name], taken[name])
            write_changes(connection, before, photo_ids)
            connection.execute(
                sa.insert(schema.forgotten),
                [
                    {
                        "run_id": run_id,
                        "photo_id": photo_id,
                        "path": found.paths[photo_id],
                        "content": json.dumps(rows),
                    }
                    for photo_id, rows in _by_photo(taken, photo_ids).items()
                ],
            )
        finish_run(connection, run_id, {"photos": len(found.photo_ids)})
    return run_id


def _tables() -> list[str]:
    """Return the tables that hold what belongs to photos, each after those that its rows refer to."""
    found = ["photo"]
    for table in schema.metadata.sorted_tables:
        if any(key.column.table.name in found for key in table.foreign_keys) and table.name not in found:
            found.append(table.name)
    return [*found, *_UNKEYED]


def _links(table: sa.Table) -> list[tuple[sa.Column[Any], str]]:
    """Return the columns of a table that refer to rows which belong to photos, each with those rows' table."""
    known = _tables()
    keyed = [
        (key.parent, key.column.table.name)
        for key in sorted(table.foreign_keys, key=lambda each: str(each.parent.name))
        if key.column.table.name in known and key.column.table is not table
    ]
    return keyed + [(table.c[column], parent) for column, parent in _UNKEYED.get(table.name, ())]


def _collect(connection: sa.Connection, photo_ids: Sequence[int]) -> dict[str, dict[tuple[Any, ...], Any]]:
    """Return all rows that belong to photos, by table and key, each as (photo id, row)."""
    photo = schema.photo
    found: dict[str, dict[tuple[Any, ...], Any]] = {
        "photo": {
            (row.id,): (row.id, row)
            for row in connection.execute(sa.select(photo).where(photo.c.id.in_(photo_ids)))
        }
    }
    for name in _tables()[1:]:
        table = schema.metadata.tables[name]
        rows: dict[tuple[Any, ...], Any] = {}
        for column, parent in _links(table):
            owners = {key[0]: owner for key, (owner, _) in found[parent].items()}
            for some in chunks(sorted(owners)):
                for row in connection.execute(
                    sa.select(table).where(column.in_(some)).order_by(*table.primary_key)
                ):
                    key = tuple(getattr(row, each.name) for each in table.primary_key)
                    rows.setdefault(key, (owners[getattr(row, column.name)], row))
        found[name] = rows
    return found


def _delete(connection: sa.Connection, table: sa.Table, rows: Mapping[tuple[Any, ...], Any]) -> None:
    # A row may refer to an older one of its own table.
    keys = list(table.primary_key)
    condition = sa.and_(*(column == sa.bindparam(f"k_{column.name}") for column in keys))
    values = [
        {f"k_{column.name}": value for column, value in zip(keys, key, strict=True)}
        for key in sorted(rows, reverse=True)
    ]
    if values:
        connection.execute(sa.delete(table).where(condition), values)


def _by_photo(
    taken: Mapping[str, Mapping[tuple[Any, ...], Any]], photo_ids: Sequence[int]
) -> dict[int, Rows]:
    made: dict[int, Rows] = {photo_id: {} for photo_id in photo_ids}
    for name, rows in taken.items():
        for owner, row in rows.values():
            columns = schema.metadata.tables[name].columns
            shown = {column.name: _to_json(getattr(row, column.name)) for column in columns}
            made[owner].setdefault(name, []).append(shown)
    return made


def _to_json(value: object) -> object:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _from_json(value: Any) -> Any:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value


# -- and back ----------------------------------------------------------------------------------------------


def undo_forget(store: CatalogStore, run_id: int | None = None) -> ForgetUndone:
    """Bring forgotten photos back, with their ids.

    A photo that was indexed again meanwhile becomes one with what was forgotten of it, and has its former id again.

    Args:
        store: A catalog open for writing.
        run_id: The run that forgot them; None for the newest that is not undone.

    Returns:
        What is back.

    Raises:
        InvalidInputError: There is nothing to undo.
    """
    row = schema.forgotten.c
    with store.writing() as connection:
        waiting = row.undone_run_id.is_(None)
        newest = connection.execute(sa.select(sa.func.max(row.run_id)).where(waiting)).scalar_one()
        chosen = newest if run_id is None else run_id
        entries = connection.execute(
            sa.select(schema.forgotten).where(waiting, row.run_id == chosen).order_by(row.id)
        ).all()
        if not entries:
            hint = "" if newest is None else f"; run {newest} did"
            what = "no photo is forgotten" if run_id is None else f"run {run_id} forgot no photo{hint}"
            raise InvalidInputError(f"there is nothing to undo: {what}")
        undo_id = start_run(connection, _UNDO_COMMAND)
        contents = {entry.photo_id: json.loads(entry.content) for entry in entries}
        connection.execute(
            sa.update(schema.forgotten)
            .where(row.id.in_(sa.select(row.id).where(waiting, row.run_id == chosen)))
            .values(undone_run_id=undo_id, content="")
        )
        again = {}
        digests = {}
        for photo_id, content in contents.items():
            (photo,) = content["photo"]
            known = _photo_of(connection, _from_json(photo["digest"]))
            if known is not None:
                again[photo_id], digests[photo_id] = known, _from_json(photo["digest"])
                # Its own again once the two are one.
                photo["digest"] = _to_json(b"forgotten %d" % photo_id)
        before = live_pairs(connection, again.values())
        for name in _tables():
            table = schema.metadata.tables[name]
            back = [each for content in contents.values() for each in content.get(name, ())]
            _insert(
                connection, table, [{key: _from_json(value) for key, value in each.items()} for each in back]
            )
        cursor = cursor_of(connection)
        for photo_id, known in again.items():
            merge_photos(cursor, photo_id, known, undo_id)
            cursor.execute("UPDATE photo SET digest = ? WHERE id = ?", (digests[photo_id], photo_id))
        settle_metadata(cursor, again)
        write_changes(connection, before, contents)
        restored = tuple(contents)
        finish_run(connection, undo_id, {"undone_run": chosen, "restored": len(restored)})
    return ForgetUndone(int(chosen), restored, again)


def _photo_of(connection: sa.Connection, digest: bytes) -> int | None:
    photo = schema.photo.c
    return connection.execute(sa.select(photo.id).where(photo.digest == digest)).scalar_one_or_none()


def _insert(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows, in order of their keys; what refers to something that is gone by now is left out or empty."""
    keys = [column.name for column in table.primary_key]
    for row in sorted(rows, key=lambda each: [each[key] for key in keys]):
        if all(_refers(connection, key, row) for key in table.foreign_keys):
            connection.execute(sa.insert(table).prefix_with("OR IGNORE").values(row))


def _refers(connection: sa.Connection, key: sa.ForeignKey, row: dict[str, Any]) -> bool:
    """Return whether what a row refers to exists; a reference that may be empty is emptied if it does not."""
    name = key.parent.name
    if row.get(name) is None:
        return True
    if connection.execute(sa.select(sa.literal(1)).where(key.column == row[name])).first() is not None:
        return True
    if not key.parent.nullable:
        return False
    row[name] = None
    return True
