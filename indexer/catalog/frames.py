"""Frames: the facts about many photos that events and sightings are made from, as arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.embeddings import unit_vectors
from birdsearch.indexer.catalog.live import live_file, live_photo
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.model.images.file_names import name_facts

__all__ = [
    "NO_OFFSET",
    "Cosines",
    "Frames",
    "all_photo_ids",
    "cosines_from",
    "largest_boxes",
    "read_frames",
]

Cosines = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]
"""Cosines of the vectors of left and right rows, (n,) float64, -1..1; NaN where one of the two has none."""

NO_OFFSET = -(1 << 31)
"""Stands for an offset from UTC that the camera did not say."""

# Rows read at a time, and pairs whose vectors are held at a time: they bound the memory.
_ROWS, _PAIRS = 20_000, 32_768
# A number from here on is a time: it has 14 digits.
_FIRST_TIME = 10_000_000_000_000
_DIGEST = 32  # Bytes of a content hash.


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """N photos in the order of their content hashes, so that a tie broken by row is broken by content.

    Codes tell values apart and mean nothing else; -1 is unknown.

    Attributes:
        photo_ids: (N,) int64.
        view_ids: (N,) int64, the view of the whole frame, or 0.
        models: (N,) int64, codes of make and model.
        serials: (N,) int64, codes of serial numbers.
        folders: (N,) int64, indices of `folder_names`. Of several files of a photo, the one counts that is of the
            greatest number with its camera, folder and way of being named; of equal ones the first by path.
        prefixes: (N,) int64, codes of what stands before the number in the name of the file.
        numbers: (N,) int64, the number in the name (see `birdsearch.model.images.file_names`), or -1.
        is_bare: (N,) bool, whether nothing stands after the number, as an editor's addition would.
        bases: (N,) int64, codes of the name without what tells a copy or a size, -1 without a file.
        times: (N,) datetime64[us], wall-clock; NaT where unknown.
        has_fraction: (N,) bool, whether the time tells a fraction of its second.
        offsets: (N,) int64, minutes that the clock is ahead of UTC, or `NO_OFFSET`.
        hashes: (N,) uint64 perceptual hashes.
        has_hash: (N,) bool.
        pixels: (N,) int64, width times height.
        sharpness: (N,) float64, NaN where unknown; higher is sharper.
        latitudes: (N,) float64 degrees, NaN where unknown.
        longitudes: (N,) float64 degrees, NaN where unknown.
        file_rows: (R,) int64, the row of the photo of each file that is there.
        file_folders: (R,) int64, its folder, as an index of `folder_names`.
        folder_names: Absolute paths of folders.
        model_names: Make and model by code.
        serial_names: Serial number by code.
    """

    photo_ids: NDArray[np.int64]
    view_ids: NDArray[np.int64]
    models: NDArray[np.int64]
    serials: NDArray[np.int64]
    folders: NDArray[np.int64]
    prefixes: NDArray[np.int64]
    numbers: NDArray[np.int64]
    is_bare: NDArray[np.bool_]
    bases: NDArray[np.int64]
    times: NDArray[np.datetime64]
    has_fraction: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    has_hash: NDArray[np.bool_]
    pixels: NDArray[np.int64]
    sharpness: NDArray[np.float64]
    latitudes: NDArray[np.float64]
    longitudes: NDArray[np.float64]
    file_rows: NDArray[np.int64]
    file_folders: NDArray[np.int64]
    folder_names: tuple[bytes, ...]
    model_names: tuple[str, ...]
    serial_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.photo_ids)

    @property
    def stamps(self) -> NDArray[np.int64]:
        """(N,) int64 microseconds; meaningless where the time is unknown."""
        return self.times.astype(np.int64)

    @property
    def is_counted(self) -> NDArray[np.bool_]:
        """(N,) bool: the name tells a camera's counter."""
        return (self.numbers >= 0) & (self.numbers < _FIRST_TIME)

    @property
    def is_named(self) -> NDArray[np.bool_]:
        """(N,) bool: the name tells a counter, or a time to the millisecond, which no two frames share."""
        return self.is_counted | (self.numbers >= _FIRST_TIME * 1000)

    @property
    def has_time(self) -> NDArray[np.bool_]:
        """(N,) bool."""
        return ~np.isnat(self.times)


def read_frames(store: CatalogStore, photo_ids: NDArray[np.int64], *, with_lost: bool = False) -> Frames:
    """Read the facts about photos.

    Args:
        store: An open catalog; reading is enough.
        photo_ids: (P,) int64; ids without a live file are left out, repeated ones count once.
        with_lost: Also photos without a live file, which take part in nothing but hiding places.

    Returns:
        The frames, whatever the order of the ids.
    """
    facts = _photo_facts(store, np.unique(photo_ids), with_lost=with_lost)
    ids = facts.ids
    order = np.lexsort(facts.digests.T[::-1])
    (rows, folders, prefixes, numbers, bare, bases), names = _files(store, ids, facts.sides)
    row_of = np.empty(len(ids), np.int64)
    row_of[order] = np.arange(len(ids))
    first = _first_files(rows, np.stack([facts.models[rows], folders, prefixes], axis=1), len(ids))

    def chosen(values: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.where(first >= 0, np.append(values, -1)[first], -1)[order]

    numeric = facts.numeric[order]
    return Frames(
        photo_ids=ids[order],
        view_ids=_whole_views(store, ids)[order],
        models=facts.models[order],
        serials=facts.serials[order],
        folders=chosen(folders),
        prefixes=chosen(prefixes),
        numbers=chosen(numbers),
        is_bare=chosen(bare) == 1,
        bases=chosen(bases),
        times=facts.times[order],
        has_fraction=facts.has_fraction[order],
        offsets=facts.offsets[order],
        hashes=facts.hashes[order],
        has_hash=facts.has_hash[order],
        pixels=facts.sides.prod(axis=1)[order],
        sharpness=numeric[:, 0].copy(),
        latitudes=numeric[:, 1].copy(),
        longitudes=numeric[:, 2].copy(),
        file_rows=row_of[rows],
        file_folders=folders,
        folder_names=names,
        model_names=facts.model_names,
        serial_names=facts.serial_names,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Facts:
    """Columns of `photo` by rising id, as arrays.

    `sides` is width and height, (P, 2); `numeric` is sharpness, latitude and longitude, (P, 3).
    """

    model_names: tuple[str, ...]
    serial_names: tuple[str, ...]
    ids: NDArray[np.int64]
    digests: NDArray[np.uint64]
    models: NDArray[np.int64]
    serials: NDArray[np.int64]
    times: NDArray[np.datetime64]
    has_fraction: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    has_hash: NDArray[np.bool_]
    sides: NDArray[np.int64]
    numeric: NDArray[np.float64]


def _photo_facts(store: CatalogStore, wanted: NDArray[np.int64], *, with_lost: bool) -> _Facts:
    photo = schema.photo.c
    query = sa.select(
        *(photo.id, photo.digest, photo.camera, photo.serial, photo.captured_at, photo.offset_minutes),
        *(photo.phash, photo.width, photo.height, photo.sharpness),
        *(photo.latitude, photo.longitude),
    )
    if not with_lost:
        query = query.where(live_photo(photo.id))
    models: dict[str, int] = {}
    serials: dict[str, int] = {}
    parts: list[tuple[NDArray[Any], ...]] = [_fact_arrays([], models, serials)]
    with store.reading() as connection:
        for page in _pages(connection, query, photo.id):
            ids = np.array([row.id for row in page], dtype=np.int64)
            is_wanted = np.isin(ids, wanted).tolist()
            rows = [row for row, is_one in zip(page, is_wanted, strict=True) if is_one]
            # Arrays at once: as objects, the facts of a million photos would take half a gigabyte.
            parts.append(_fact_arrays(rows, models, serials))
    arrays = [np.concatenate(part) for part in zip(*parts, strict=True)]
    return _Facts(tuple(models), tuple(serials), *arrays)


def _fact_arrays(
    rows: list[Any], models: dict[str, int], serials: dict[str, int]
) -> tuple[NDArray[Any], ...]:
    """Make the arrays of `_Facts` of some rows; new cameras and serial numbers are added to the codes."""
    numeric = [(row.sharpness, row.latitude, row.longitude) for row in rows]
    return (
        np.array([row.id for row in rows], dtype=np.int64),
        np.frombuffer(b"".join(row.digest for row in rows), dtype=">u8")
        .reshape(-1, _DIGEST // 8)
        .astype(np.uint64),
        _coded([row.camera for row in rows], models),
        _coded([row.serial for row in rows], serials),
        np.array([row.captured_at or "NaT" for row in rows], dtype="datetime64[us]"),
        np.array([row.captured_at is not None and "." in row.captured_at for row in rows], dtype=bool),
        np.array([NO_OFFSET if row.offset_minutes is None else row.offset_minutes for row in rows], np.int64),
        np.array([int.from_bytes(row.phash or b"") for row in rows], dtype=np.uint64),
        np.array([row.phash is not None for row in rows], dtype=bool),
        np.array([(row.width, row.height) for row in rows], dtype=np.int64).reshape(-1, 2),
        # None becomes NaN.
        np.array(numeric, dtype=np.float64).reshape(-1, 3),
    )


def _coded(values: list[str | None], codes: dict[str, int]) -> NDArray[np.int64]:
    coded = [-1 if value is None else codes.setdefault(value, len(codes)) for value in values]
    return np.array(coded, dtype=np.int64)


def _pages(
    connection: sa.Connection, query: sa.Select[Any], key: sa.ColumnElement[int]
) -> Iterator[list[Any]]:
    """Yield the rows of a query in the order of a key, some at a time; a key may have several rows."""
    last = -1
    while True:
        upto = connection.execute(
            sa.select(key).where(key > last).order_by(key).limit(1).offset(_ROWS - 1)
        ).scalar_one_or_none()
        some = query.where(key > last) if upto is None else query.where(key > last, key <= upto)
        yield list(connection.execute(some.order_by(key)))
        if upto is None:
            return
        last = upto


def _files(
    store: CatalogStore, ids: NDArray[np.int64], sides: NDArray[np.int64]
) -> tuple[NDArray[np.int64], tuple[bytes, ...]]:
    """Read each live file of the photos, in order of photo and path: (6, R), and the folders.

    The six are the photo's row, the folder, the prefix, the number, whether that ends the name, and the base.
    """
    file, root = schema.file.c, schema.root.c
    row_of = {photo_id: index for index, photo_id in enumerate(ids.tolist())}
    folder_codes: dict[bytes, int] = {}
    prefix_codes: dict[bytes, int] = {}
    base_codes: dict[bytes, int] = {}
    found: list[NDArray[np.int64]] = []
    query = sa.select(file.photo_id, root.path.label("root"), file.path).join(
        schema.root, root.id == file.root_id
    )
    with store.reading() as connection:
        for rows in _pages(connection, query.where(live_file), file.photo_id):
            some = []
            for row in sorted(rows, key=lambda row: (row.photo_id, row.root, row.path)):
                if row.photo_id in row_of:
                    folder, name = os.path.split(os.path.join(row.root, row.path))  # noqa: PTH118
                    at = row_of[row.photo_id]
                    width, height = sides[at].tolist()
                    prefix, number, is_bare, base = name_facts(name, (width, height))
                    some.append(
                        (
                            at,
                            folder_codes.setdefault(folder, len(folder_codes)),
                            prefix_codes.setdefault(prefix, len(prefix_codes)) if number >= 0 else -1,
                            number,
                            is_bare,
                            base_codes.setdefault(base, len(base_codes)),
                        )
                    )
            found.append(np.array(some, dtype=np.int64).reshape(-1, 6))
    return np.concatenate(found).T, tuple(folder_codes)


def _first_files(rows: NDArray[np.int64], kinds: NDArray[np.int64], photos: int) -> NDArray[np.int64]:
    """Return the index of the file that stands for each photo, -1 if there is none."""
    first = np.full(photos, -1, np.int64)
    if len(rows):
        _, kind, sizes = np.unique(kinds, axis=0, return_inverse=True, return_counts=True)
        order = np.lexsort((np.arange(len(rows)), -sizes[kind.reshape(-1)], rows))
        starts = np.flatnonzero(np.diff(rows[order], prepend=-1))
        first[rows[order][starts]] = order[starts]
    return first


def _whole_views(store: CatalogStore, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    found = np.zeros(len(ids), np.int64)
    view = schema.view.c
    query = sa.select(view.photo_id, view.id).where(view.kind == "whole")
    with store.reading() as connection:
        for rows in _pages(connection, query, view.photo_id):
            if rows and len(ids):
                pairs = np.array([(row.photo_id, row.id) for row in rows], dtype=np.int64)
                at = np.minimum(np.searchsorted(ids, pairs[:, 0]), len(ids) - 1)
                known = ids[at] == pairs[:, 0]
                found[at[known]] = pairs[known, 1]
    return found


def cosines_from(store: CatalogStore, model_id: int, frames: Frames) -> Cosines:
    """Return a function of the cosines of frames, which reads stored vectors as they are needed."""

    def cosines(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float64]:
        found = np.full(len(left), np.nan)
        for start in range(0, len(left), _PAIRS):
            part = slice(start, start + _PAIRS)
            rows, back = np.unique(np.concatenate([left[part], right[part]]), return_inverse=True)
            unit, _ = unit_vectors(store, model_id, frames.view_ids[rows])
            half = len(back) // 2
            a, b = unit[back[:half]], unit[back[half:]]
            has_both = a.any(axis=1) & b.any(axis=1)
            # Summed row by row in float64: a pair has one cosine whatever the others are.
            products = (a.astype(np.float64) * b.astype(np.float64)).sum(axis=1)
            found[part] = np.where(has_both, np.clip(products, -1.0, 1.0), np.nan)
        return found

    return cosines


def all_photo_ids(store: CatalogStore) -> NDArray[np.int64]:
    """Return the ids of all photos, also of those without a live file."""
    with store.reading() as connection:
        return np.array(connection.execute(sa.select(schema.photo.c.id)).scalars().all(), dtype=np.int64)


def largest_boxes(store: CatalogStore) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the ids of the photos with boxes, rising, and the part of each that its largest box takes, 0..1."""
    view = schema.view.c
    wanted = (
        sa.select(view.photo_id, sa.func.max(view.w * view.h))
        .where(view.kind == "box")
        .group_by(view.photo_id)
        .order_by(view.photo_id)
    )
    with store.reading() as connection:
        rows = connection.execute(wanted).all()
    return np.array([row[0] for row in rows], np.int64), np.array([row[1] for row in rows], np.float64)
