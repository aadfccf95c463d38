"""What a search for copies reads from the catalog: photos as arrays, their files, and which pairs are no copies."""
# ruff: noqa: PTH100, PTH111, PTH112, PTH118, PTH119, PTH122
# The rules ask for pathlib, which takes no bytes.

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.embeddings import unit_vectors
from birdsearch.indexer.catalog.reach import Reach
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.store import CatalogStore, chunks
from birdsearch.model.images.file_names import name_facts
from birdsearch.search.dedup.fingerprint_store import StoredFile
from birdsearch.search.query.filters import Folder, Where, allowed_views, photos_of

__all__ = [
    "FileTable",
    "Folders",
    "PhotoArrays",
    "compare_exposures",
    "new_photos",
    "reaching",
    "two_exposures",
    "without",
]

_ROWS = 10_000
# `IMG_1048`, `DSC01234`, `20240316_064221142`, `IMG_20240316_064221`: what a camera calls a file.
_NUMBERED = re.compile(rb"\D{0,8}\d{3,}(?:[-_]\d{3,})*")
_DIGIT = re.compile(rb"\d")
_NO_VECTORS = np.zeros((0, 0), np.float32)
_PAIR_FORMATS = frozenset(("RAW", "HEIF"))

# A file whose content was read and that was there when it was last looked at.
_present = sa.and_(
    schema.file.c.state == "present", schema.file.c.photo_id.is_not(None), schema.file.c.size > 0
)


class Folders:
    """Folders that a user named, by the name as given and with links resolved.

    Args:
        folders: Their names; a relative one is below the current folder.
        option: The option that named them, for the message if one does not exist; None if it need not exist.

    Raises:
        InvalidInputError: A folder does not exist.
    """

    def __init__(self, folders: Sequence[Folder], option: str | None = None) -> None:
        self._names: dict[bytes, set[bytes]] = {}
        for folder in folders:
            name = os.path.expanduser(os.fsencode(folder))
            if option is not None and not os.path.isdir(name):
                raise InvalidInputError(
                    f"{option} {os.fsdecode(name)}: there is no such folder; nothing was changed"
                )
            self._names[name] = {os.path.abspath(name), os.path.realpath(name)}

    def __bool__(self) -> bool:
        return bool(self._names)

    def hold(self, path: bytes) -> bool:
        """True if a path is one of the folders or lies below one."""
        return any(_is_within(path, name) for names in self._names.values() for name in names)

    def hold_really(self, path: bytes) -> bool:
        """True if a path, or what it leads to once links are resolved, is one of the folders or lies below one."""
        return bool(self) and (self.hold(path) or self.hold(os.path.realpath(path)))

    def unrelated(self, roots: Sequence[bytes]) -> list[bytes]:
        """The folders, as named, that neither hold nor lie in any of some others."""
        return [
            given
            for given, names in self._names.items()
            if not any(_is_within(root, name) or _is_within(name, root) for root in roots for name in names)
        ]


def _is_within(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


class PhotoArrays:
    """Photos in order of their content hashes, so that places do not depend on the order of indexing.

    Attributes:
        ids: (N,) int64 photo ids.
        phashes: (N,) uint64 perceptual hashes.
        has_hash: (N,) bool.
        unit: (N, C) float32, unit-norm vectors of the whole frames; rows of zeros where there is none.
    """

    def __init__(
        self,
        ids: NDArray[np.int64],
        phashes: NDArray[np.uint64],
        has_hash: NDArray[np.bool_],
        unit: NDArray[np.float32] = _NO_VECTORS,
    ) -> None:
        self.ids = ids
        self.phashes = phashes
        self.has_hash = has_hash
        self.unit = unit
        self._order = np.argsort(ids)

    @classmethod
    def read(cls, store: CatalogStore, record: ModelRecord, where: Where) -> PhotoArrays:
        """Read the photos that have a present file and meet the conditions."""
        photo, file = schema.photo.c, schema.file.c
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
        photos = cls(np.array(ids, np.int64), np.array(hashes, np.uint64), np.array(has_hash, np.bool_))
        if not where.is_empty:
            chosen = np.isin(photos.ids, photos_of(store, allowed_views(store, record.id, where)))
            photos = cls(photos.ids[chosen], photos.phashes[chosen], photos.has_hash[chosen])
        photos._read_vectors(store, record)
        return photos

    def _read_vectors(self, store: CatalogStore, record: ModelRecord) -> None:
        view = schema.view.c
        with store.reading() as connection:
            rows = connection.execute(
                sa.select(view.id, view.photo_id)
                .where(view.kind == "whole")
                .execution_options(yield_per=_ROWS)
            )
            # (V * 2,) -> (V, 2)
            pairs = np.fromiter((each for row in rows for each in row), np.int64).reshape(-1, 2)
        places = self.places(pairs[:, 1])
        view_ids = np.zeros(len(self.ids), np.int64)
        view_ids[places[places >= 0]] = pairs[places >= 0, 0]
        self.unit, _ = unit_vectors(store, record.id, view_ids)

    def places(self, photo_ids: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """The place of each photo, -1 for those that are not among these."""
        wanted = np.asarray(photo_ids, np.int64)
        if not len(self.ids):
            return np.full(len(wanted), -1, np.int64)
        at = np.minimum(np.searchsorted(self.ids, wanted, sorter=self._order), len(self.ids) - 1)
        places = self._order[at]
        return np.where(self.ids[places] == wanted, places, -1)

    def place_pairs(self, pairs: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
        """Pairs of photo ids as pairs of places, (P, 2), the smaller first, of those that are both among these."""
        ids = np.array(list(pairs), np.int64).reshape(-1, 2)
        places = np.sort(self.places(ids.ravel()).reshape(-1, 2), axis=1)
        return places[places[:, 0] >= 0]

    def with_several_files(self, store: CatalogStore) -> NDArray[np.int64]:
        """Ids of the photos that have more than one present file, in order of their content hashes."""
        file = schema.file.c
        with store.reading() as connection:
            found = np.array(
                connection.execute(
                    sa.select(file.photo_id)
                    .where(_present)
                    .group_by(file.photo_id)
                    .having(sa.func.count() > 1)
                )
                .scalars()
                .all(),
                np.int64,
            )
        return self.ids[np.isin(self.ids, found)]


class FileTable:
    """The present files of photos, read when they are first asked for.

    Args:
        store: An open catalog.
        where: Files outside `under`, or in `exclude_under`, take no part; nor do those of a root that is not there.
    """

    def __init__(self, store: CatalogStore, where: Where) -> None:
        self._store = store
        self._under, self._not_under = Folders(where.under), Folders(where.exclude_under)
        self._reach = Reach()
        self._files: dict[int, list[StoredFile]] = {}
        self._formats: dict[int, str] = {}
        self._sides: dict[int, tuple[int, int]] = {}

    def read(self, photo_ids: Iterable[int]) -> None:
        """Read the files of some photos."""
        file, root, photo = schema.file.c, schema.root.c, schema.photo.c
        wanted = [photo_id for photo_id in photo_ids if photo_id not in self._files]
        with self._store.reading() as connection:
            for some in chunks(wanted):
                self._files.update((photo_id, []) for photo_id in some)
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
                    path = os.path.join(row.root, row.path)
                    self._formats[row.photo_id] = row.format
                    self._sides[row.photo_id] = (row.width, row.height)
                    if self._takes_part(path) and self._reach.has_root(row.root):
                        self._files[row.photo_id].append(
                            StoredFile(
                                row.photo_id,
                                path,
                                row.size,
                                row.mtime_ns,
                                digest=row.digest,
                                capture=row.capture,
                            )
                        )
        for photo_id in wanted:
            self._files[photo_id].sort(key=lambda each: each.path)

    def _takes_part(self, path: bytes) -> bool:
        return not (self._under and not self._under.hold(path)) and not self._not_under.hold(path)

    def of(self, photo_id: int) -> list[StoredFile]:
        """The files of a photo that was read, by path."""
        return self._files[photo_id]

    def camera_pairs(self, pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Of some pairs of photos that were read, those that a camera wrote together.

        They have files in one folder with one name up to the suffix, in any case, and one of them is RAW or HEIC.
        """
        return [
            (first, second)
            for first, second in pairs
            if not _PAIR_FORMATS.isdisjoint((self._formats.get(first), self._formats.get(second)))
            and not self._stems(first).isdisjoint(self._stems(second))
        ]

    def numbered_apart(self, pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Of some pairs of photos that were read, those that have numbers of one series, and different ones.

        Cameras number their files, and copies keep the number: `IMG_1048` and `IMG_1049-web` are two exposures, of
        `IMG_1048` and `best-5` nothing is known. The size that a name tells is no number.
        """
        apart = []
        for first, second in pairs:
            one, other = self._numbers(first), self._numbers(second)
            if any(one[series].isdisjoint(other[series]) for series in one.keys() & other.keys()):
                apart.append((first, second))
        return apart

    def _numbers(self, photo_id: int) -> dict[bytes, set[bytes]]:
        """The numbers that the names of a photo's files begin with, by what the name is without them."""
        numbers: dict[bytes, set[bytes]] = {}
        for file in self._files[photo_id]:
            told = self.number(file)
            if told is not None:
                numbers.setdefault(told[0], set()).add(told[1])
        return numbers

    def number(self, file: StoredFile) -> tuple[bytes, bytes] | None:
        """The series and the number in the name of a file of a photo that was read; None if there is no number."""
        name = name_facts(os.path.basename(file.path), self._sides[file.photo_id]).base
        match = _NUMBERED.match(name.lower())
        return None if match is None else (_DIGIT.sub(b"0", match[0]), match[0])

    def _stems(self, photo_id: int) -> set[bytes]:
        return {os.path.splitext(file.path)[0].lower() for file in self._files[photo_id]}


def new_photos(store: CatalogStore) -> NDArray[np.int64]:
    """Photos with a file that the newest `index` run that added any added, or found changed or moved."""
    file, run = schema.file.c, schema.run.c
    with store.reading() as connection:
        newest = connection.execute(
            sa.select(sa.func.max(file.run_id))
            .join(schema.run, run.id == file.run_id)
            .where(_present, run.command == "index")
        ).scalar_one()
        found = connection.execute(sa.select(file.photo_id).where(_present, file.run_id == newest)).scalars()
        return np.unique(np.array(found.all(), np.int64))


def two_exposures(
    store: CatalogStore, photos: PhotoArrays, pairs: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which pairs of places are two exposures, and which may be; see `compare_exposures`."""
    photo = schema.photo.c
    used = np.unique(pairs)
    cameras: dict[str, int] = {}
    serials: dict[str, int] = {}
    camera, serial = np.full(len(used), -1, np.int64), np.full(len(used), -1, np.int64)
    times = np.full(len(used), "NaT", "datetime64[us]")
    has_fraction = np.zeros(len(used), np.bool_)
    with store.reading() as connection:
        for ids in chunks(photos.ids[used].tolist()):
            for row in connection.execute(
                sa.select(photo.id, photo.camera, photo.serial, photo.captured_at).where(photo.id.in_(ids))
            ):
                at = int(np.searchsorted(used, photos.places([row.id])[0]))
                if row.camera is not None:
                    camera[at] = cameras.setdefault(row.camera, len(cameras))
                if row.serial is not None:
                    serial[at] = serials.setdefault(row.serial, len(serials))
                if row.captured_at is not None:
                    times[at] = row.captured_at
                    has_fraction[at] = "." in row.captured_at
    rows = np.searchsorted(used, pairs)
    return compare_exposures(camera[rows], serial[rows], times[rows], has_fraction[rows])


def compare_exposures(
    camera: NDArray[np.int64],
    serial: NDArray[np.int64],
    times: NDArray[np.datetime64],
    has_fraction: NDArray[np.bool_],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which pairs of photos are two exposures, whatever they show.

    They are if both tell a serial number and these differ; or if both tell the same camera and a time, and the
    second differs, or the fraction of the second does and both tell one. They may be if it is the same second of
    one camera and one of them tells no fraction.

    Args:
        camera: (P, 2) number of each photo's make and model, -1 where unknown.
        serial: (P, 2) number of its serial number, -1 where unknown.
        times: (P, 2) datetime64 of microseconds, NaT where unknown.
        has_fraction: (P, 2) whether the time came with a fraction of the second.

    Returns:
        (P,) bool, they are; (P,) bool, they may be.
    """
    other_body = (serial >= 0).all(axis=1) & (serial[:, 0] != serial[:, 1])
    same_camera = (camera >= 0).all(axis=1) & (camera[:, 0] == camera[:, 1])
    same_camera &= ~np.isnat(times).any(axis=1)
    seconds = times.astype("datetime64[s]")
    same_second = seconds[:, 0] == seconds[:, 1]
    both_tell = has_fraction.all(axis=1)
    other_time = ~same_second | (both_tell & (times[:, 0] != times[:, 1]))
    apart = other_body | (same_camera & other_time)
    return apart, same_camera & same_second & ~both_tell & ~apart


def without(pairs: NDArray[np.int64], excluded: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Pairs of places, (P, 2), less some of them, (E, 2), in either order; places are below `count`."""
    keys, left_out = (
        np.minimum(each[:, 0], each[:, 1]) * count + np.maximum(each[:, 0], each[:, 1])
        for each in (pairs, excluded)
    )
    return pairs[~np.isin(keys, left_out)]


def reaching(pairs: NDArray[np.int64], wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The pairs that hang together, by way of pairs, with one of the places that are wanted, (N,) bool."""
    from birdsearch.search.query.vote_groups import join_groups

    labels = np.arange(len(wanted), dtype=np.int64)
    join_groups(labels, pairs[:, 0], pairs[:, 1])
    reached = np.zeros(len(wanted), np.bool_)
    reached[labels[wanted]] = True
    return pairs[reached[labels[pairs[:, 0]]]]
