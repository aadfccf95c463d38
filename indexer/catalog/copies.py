"""Copies: pairs that people rejected, stored fingerprints, and the facts that photos are compared by."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.dialects import sqlite

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.runs import finish_run, start_run
from birdsearch.indexer.catalog.store import CatalogStore, chunks, now
from birdsearch.model.images.exif import CAPTURE_FIELDS

__all__ = [
    "CopyFacts",
    "DistinctPair",
    "ExposureFacts",
    "PhotoHashes",
    "PresentFile",
    "StoredFingerprint",
    "add_distinct_pairs",
    "is_distinct",
    "read_copy_facts",
    "read_distinct_pairs",
    "read_exposures",
    "read_fingerprint",
    "read_fingerprints",
    "read_hashes",
    "read_newest_photos",
    "read_present_files",
    "read_repeated_photos",
    "remove_distinct_pairs",
    "write_fingerprints",
]

_ROWS = 10_000

# A file whose content was read and that was there when it was last looked at.
_present = sa.and_(
    schema.file.c.state == "present", schema.file.c.photo_id.is_not(None), schema.file.c.size > 0
)


@dataclass(frozen=True, slots=True)
class DistinctPair:
    """Two photos that are no copies of each other, who said so, and when (UTC, ISO 8601)."""

    first_id: int
    second_id: int
    who: str
    at: str


def read_distinct_pairs(store: CatalogStore) -> list[DistinctPair]:
    """Return the rejected pairs by the ids of their photos, the smaller id first."""
    row = schema.distinct_pair.c
    wanted = sa.select(row.first_id, row.second_id, row.who, row.at).order_by(row.first_id, row.second_id)
    with store.reading() as connection:
        return [DistinctPair(*found) for found in connection.execute(wanted)]


def is_distinct(store: CatalogStore, one_id: int, other_id: int) -> bool:
    """Return whether a person rejected two photos as copies."""
    row = schema.distinct_pair.c
    first, second = sorted((one_id, other_id))
    wanted = sa.select(row.first_id).where(row.first_id == first, row.second_id == second)
    with store.reading() as connection:
        return connection.execute(wanted).first() is not None


def add_distinct_pairs(store: CatalogStore, command: str, pairs: Iterable[tuple[int, int]], who: str) -> int:
    """Record pairs of photo ids, the smaller first, as a run of a command; return how many are new."""
    with store.writing() as connection:
        run_id = start_run(connection, command)
        added = 0
        for first, second in pairs:
            insert = sqlite.insert(schema.distinct_pair).values(
                first_id=first, second_id=second, who=who, at=now(), run_id=run_id
            )
            added += connection.execute(insert.on_conflict_do_nothing()).rowcount
        finish_run(connection, run_id, {"pairs": added})
    return added


def remove_distinct_pairs(store: CatalogStore, command: str, pairs: Iterable[tuple[int, int]]) -> int:
    """Remove pairs of photo ids, the smaller first, as a run of a command; return how many there were."""
    row = schema.distinct_pair.c
    with store.writing() as connection:
        run_id = start_run(connection, command)
        removed = 0
        for first, second in pairs:
            removed += connection.execute(
                sa.delete(schema.distinct_pair).where(row.first_id == first, row.second_id == second)
            ).rowcount
        finish_run(connection, run_id, {"pairs": removed})
    return removed


@dataclass(frozen=True, slots=True)
class StoredFingerprint:
    """The stored fingerprint of a photo.

    Attributes:
        digest: Digest of the photo's picture.
        version: How the fingerprint was made; None if there is none.
        content: Its bytes, or None.
    """

    digest: bytes
    version: int | None
    content: bytes | None


def read_fingerprint(store: CatalogStore, photo_id: int) -> bytes:
    """Return the bytes of the fingerprint that a photo has."""
    table = schema.fingerprint.c
    with store.reading() as connection:
        wanted = sa.select(table.content).where(table.photo_id == photo_id)
        return bytes(connection.execute(wanted).scalar_one())


def read_fingerprints(
    store: CatalogStore, photo_ids: Sequence[int]
) -> Iterator[tuple[int, StoredFingerprint]]:
    """Yield the id and the stored fingerprint of each photo, some hundreds at a time by their digests."""
    photo, table = schema.photo.c, schema.fingerprint.c
    with store.reading() as connection:
        for some in chunks(photo_ids):
            rows = connection.execute(
                sa.select(photo.id, photo.digest, table.version, table.content)
                .outerjoin(schema.fingerprint, table.photo_id == photo.id)
                .where(photo.id.in_(some))
                .order_by(photo.digest)
            )
            for row in rows:
                yield row.id, StoredFingerprint(row.digest, row.version, row.content)


def write_fingerprints(store: CatalogStore, version: int, contents: Mapping[int, bytes]) -> None:
    """Store the fingerprints of photos, over those that they had.

    Args:
        store: A catalog; one open for reading is opened for this moment to be edited, so that a process that only
            looks for copies keeps others from writing.
        version: How they were made.
        contents: Fingerprints by photo id.

    Raises:
        CatalogReadOnlyError: The catalog cannot be written.
        CatalogLockedError: Another process keeps it.
    """
    rows = [
        {"photo_id": photo_id, "version": version, "content": content}
        for photo_id, content in sorted(contents.items())
    ]
    if not rows:
        return
    if not store.writable:
        with CatalogStore.open(store.path, "edit", purpose="fingerprints") as opened:
            opened.check_is(store)
            write_fingerprints(opened, version, contents)
        return
    with store.writing() as connection:
        connection.execute(sa.insert(schema.fingerprint).prefix_with("OR REPLACE"), rows)


@dataclass(frozen=True, slots=True, eq=False)
class PhotoHashes:
    """The photos that have a present file, in order of their digests.

    Attributes:
        ids: (N,) int64 photo ids.
        phashes: (N,) uint64 perceptual hashes, 0 where there is none.
        has_hash: (N,) bool.
        view_ids: (N,) int64 ids of the views of the whole frames, 0 where there is none.
    """

    ids: NDArray[np.int64]
    phashes: NDArray[np.uint64]
    has_hash: NDArray[np.bool_]
    view_ids: NDArray[np.int64]


def read_hashes(store: CatalogStore) -> PhotoHashes:
    """Read the perceptual hashes and the views of all photos that have a present file."""
    photo, file, view = schema.photo.c, schema.file.c, schema.view.c
    ids, hashes, has_hash = [], [], []
    with store.reading() as connection:
        for row in connection.execute(
            sa.select(photo.id, photo.phash)
            .where(sa.exists().where(file.photo_id == photo.id, _present))
            .order_by(photo.digest)
            .execution_options(yield_per=_ROWS)
        ):
            ids.append(row.id)
            hashes.append(int.from_bytes(row.phash or b""))
            has_hash.append(row.phash is not None)
        rows = connection.execute(
            sa.select(view.id, view.photo_id).where(view.kind == "whole").execution_options(yield_per=_ROWS)
        )
        view_of = {row.photo_id: row.id for row in rows}
    return PhotoHashes(
        np.array(ids, np.int64),
        np.array(hashes, np.uint64),
        np.array(has_hash, np.bool_),
        np.fromiter((view_of.get(photo_id, 0) for photo_id in ids), np.int64, len(ids)),
    )


def read_repeated_photos(store: CatalogStore) -> NDArray[np.int64]:
    """Return the ids of the photos that have more than one present file."""
    file = schema.file.c
    wanted = sa.select(file.photo_id).where(_present).group_by(file.photo_id).having(sa.func.count() > 1)
    with store.reading() as connection:
        return np.array(connection.execute(wanted).scalars().all(), np.int64)


def read_newest_photos(store: CatalogStore) -> NDArray[np.int64]:
    """Return the ids of the photos with a file that the newest `index` run which changed any has changed."""
    file, run = schema.file.c, schema.run.c
    with store.reading() as connection:
        newest = connection.execute(
            sa.select(sa.func.max(file.run_id))
            .join(schema.run, run.id == file.run_id)
            .where(_present, run.command == "index")
        ).scalar_one()
        found = connection.execute(sa.select(file.photo_id).where(_present, file.run_id == newest)).scalars()
        return np.unique(np.array(found.all(), np.int64))


@dataclass(frozen=True, slots=True)
class PresentFile:
    """A file that the catalog holds as present.

    Attributes:
        photo_id: Its photo.
        root: Absolute path of its root.
        path: Its path relative to the root.
        size: Bytes, when it was indexed.
        mtime_ns: Time of the last change of its content, when it was indexed.
        digest: Digest of the file, or its SHA-256.
        capture: JSON of what it says about its photo, where that is another than the photo's row says; see
            `birdsearch.indexer.catalog.file_metadata`.
        format: Format of the photo.
        width: Pixels of the photo, upright.
        height: Pixels of the photo, upright.
    """

    photo_id: int
    root: bytes
    path: bytes
    size: int
    mtime_ns: int
    digest: bytes
    capture: str | None
    format: str
    width: int
    height: int


def read_present_files(store: CatalogStore, photo_ids: Sequence[int]) -> Iterator[PresentFile]:
    """Yield the present files of photos, in no order."""
    file, root, photo = schema.file.c, schema.root.c, schema.photo.c
    with store.reading() as connection:
        for some in chunks(photo_ids):
            for row in connection.execute(
                sa.select(
                    file.photo_id,
                    root.path.label("root"),
                    file.path,
                    file.size,
                    file.mtime_ns,
                    sa.func.coalesce(file.digest, photo.digest).label("digest"),
                    file.capture,
                    *(photo.format, photo.width, photo.height),
                )
                .join(schema.root, root.id == file.root_id)
                .join(schema.photo, photo.id == file.photo_id)
                .where(file.photo_id.in_(some), _present)
            ):
                yield PresentFile(
                    photo_id=row.photo_id,
                    root=row.root,
                    path=row.path,
                    size=row.size,
                    mtime_ns=row.mtime_ns,
                    digest=row.digest,
                    capture=row.capture,
                    format=row.format,
                    width=row.width,
                    height=row.height,
                )


@dataclass(frozen=True, slots=True)
class ExposureFacts:
    """What sets one exposure apart: camera, serial number and local time, each None if not known."""

    camera: str | None
    serial: str | None
    captured_at: str | None


def read_exposures(store: CatalogStore, photo_ids: Sequence[int]) -> dict[int, ExposureFacts]:
    """Read what distinguishes the exposures of photos, by photo id."""
    photo = schema.photo.c
    found = {}
    with store.reading() as connection:
        for some in chunks(photo_ids):
            for row in connection.execute(
                sa.select(photo.id, photo.camera, photo.serial, photo.captured_at).where(photo.id.in_(some))
            ):
                found[row.id] = ExposureFacts(row.camera, row.serial, row.captured_at)
    return found


@dataclass(frozen=True, slots=True)
class CopyFacts:
    """What decides which of several copies is kept.

    Attributes:
        id: Photo id.
        format: Its format.
        width: Pixels, upright.
        height: Pixels, upright.
        sharpness: Higher is sharper, or None.
        capture: How it was taken, by the names of `CAPTURE_FIELDS`.
    """

    id: int
    format: str
    width: int
    height: int
    sharpness: float | None
    capture: Mapping[str, object]


def read_copy_facts(store: CatalogStore, photo_ids: Collection[int]) -> dict[int, CopyFacts]:
    """Read what decides between copies, by photo id."""
    photo = schema.photo.c
    columns = [photo.id, photo.format, photo.width, photo.height, photo.sharpness]
    columns += [photo[name] for name in CAPTURE_FIELDS]
    facts = {}
    with store.reading() as connection:
        for some in chunks(list(photo_ids)):
            for row in connection.execute(sa.select(*columns).where(photo.id.in_(some))):
                capture = dict(zip(CAPTURE_FIELDS, row[5:], strict=True))
                facts[row.id] = CopyFacts(row.id, row.format, row.width, row.height, row.sharpness, capture)
    return facts
