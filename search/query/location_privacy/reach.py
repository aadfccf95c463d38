"""The reach of a photo: the other photos that would reveal its exact place.

A photo's place is told by its copies, by what was joined with it to one event or sighting, by everything of its
deployment's site, by a camera that stood still, and by what was taken about the same time not far from it. All of
this looks at places as cells only (a camera that stood still aside, which is of one place wherever that lies in its
cells). So which photos are hidden does not change with where in its cell a photo was taken, and nobody learns that
from which ones are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdsearch.search.query.sorted_sets import distinct
from birdsearch.search.query.turned_hashes import turned_hashes
from birdsearch.search.query.vote_groups import hash_bands, near_hashes

__all__ = ["COARSE_DEGREES", "NO_CELL", "NO_TIME", "PhotoFacts", "Reach", "cells_of", "standing_cameras"]

COARSE_DEGREES = 0.1
"""Side of the cells that places of sensitive species are shown as, in degrees."""

REACH_S = 12 * 3600
"""Photos at most so many seconds apart tell each other's place, if they are of one cell or of two that touch.

Half a day: an evening and the next morning at one nest, a day in a hide. Who walks 5 km in an hour leaves a cell of
0.1 degree in two, but nobody has to walk; and a viewer who knows an exact place of the same day knows where to go.
"""

COPY_BITS = 6
"""Photos whose perceptual hashes differ in at most so many bits are copies.

Of 4.4 million pairs of unrelated real photos none did (`birdsearch.search.query.vote_groups.GroupRules`), and a
photo that is taken for a copy by mistake loses four decimals of its place.
"""

STANDING_METRES = 50.0
"""A camera whose photos in a folder are all of places no farther apart stood still; GPS errs by 5 to 20 metres."""

NO_TIME = -(1 << 62)
"""Stands for a time that is not known."""
NO_CELL = -1
"""Stands for a place that is not known."""

# Cells in a turn of the earth; a cell's number is its row times this, plus its column.
_COLUMNS = round(360 / COARSE_DEGREES)
_ROWS = round(180 / COARSE_DEGREES) + 1
# Seconds kept apart for each group; times are moved up by half of it. 2^23 groups fit in 62 bits.
_SPAN_BITS = 39
_CELL_BITS = 23
_METRES_A_DEGREE = 111_195.0


def cells_of(latitudes: NDArray[np.float64], longitudes: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the number of the cell that each place is shown as, `NO_CELL` where it is not known.

    Args:
        latitudes: (N,) degrees north, NaN where unknown.
        longitudes: (N,) degrees east; 180 and -180 are of one cell.
    """
    known = ~(np.isnan(latitudes) | np.isnan(longitudes))
    rows = np.round(np.where(known, latitudes, 0.0) / COARSE_DEGREES).astype(np.int64) + _ROWS // 2
    columns = np.round(np.where(known, longitudes, 0.0) / COARSE_DEGREES).astype(np.int64) % _COLUMNS
    return np.where(known, np.clip(rows, 0, _ROWS - 1) * _COLUMNS + columns, NO_CELL)


def _around(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the cells that each cell touches, itself among them: (N, 9). Rows beyond a pole hold nothing."""
    rows, columns = np.divmod(cells, _COLUMNS)
    steps = range(-1, 2)
    return np.stack(
        [(rows + down) * _COLUMNS + (columns + across) % _COLUMNS for down in steps for across in steps],
        axis=1,
    )


def standing_cameras(
    cameras: NDArray[np.int64],
    folders: NDArray[np.int64],
    latitudes: NDArray[np.float64],
    longitudes: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Return a code for each camera and folder whose photos are all of one place, -1 for other photos.

    Args:
        cameras: (N,) int64 codes, -1 where unknown.
        folders: (N,) int64 codes, -1 where unknown.
        latitudes: (N,) degrees, NaN where unknown.
        longitudes: (N,) degrees.
    """
    found = np.full(len(cameras), -1, np.int64)
    placed = np.flatnonzero((cameras >= 0) & (folders >= 0) & ~np.isnan(latitudes) & ~np.isnan(longitudes))
    if not len(placed):
        return found
    order = placed[np.lexsort((folders[placed], cameras[placed]))]
    edges = (np.diff(cameras[order], prepend=-2) != 0) | (np.diff(folders[order], prepend=-2) != 0)
    starts, codes = np.flatnonzero(edges), np.cumsum(edges) - 1
    spread = [
        np.maximum.reduceat(values, starts) - np.minimum.reduceat(values, starts)
        for values in (latitudes[order], longitudes[order])
    ]
    narrow = np.cos(np.radians(np.abs(latitudes[order][starts])))
    metres = _METRES_A_DEGREE * np.hypot(spread[0], spread[1] * narrow)
    found[order] = np.where(metres[codes] <= STANDING_METRES, codes, -1)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class PhotoFacts:
    """Facts of N photos, by rising id: where and when they were taken, and what they belong to.

    Codes tell values apart and mean nothing else; -1 is unknown.

    Attributes:
        ids: (N,) int64 photo ids.
        seconds: (N,) int64 wall-clock seconds since 1970, `NO_TIME` where unknown.
        cells: (N,) int64, see `cells_of`; those of the deployment where the photo tells none.
        cameras: (N,) int64 codes of make, model and serial number.
        folder_rows: (R,) int64, the row of each file's photo; files that are missing count.
        folders: (R,) int64 codes of their folders.
        hashes: (N,) uint64 perceptual hashes; 0 says nothing.
        joined: Codes, (N,) int64 each, of events and sightings.
        fixed: Codes, (N,) int64 each, of sites and of cameras that stood still.
        pairs: (P, 2) int64, rows of photos that were found to be copies.
    """

    ids: NDArray[np.int64]
    seconds: NDArray[np.int64]
    cells: NDArray[np.int64]
    cameras: NDArray[np.int64]
    folder_rows: NDArray[np.int64]
    folders: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    joined: tuple[NDArray[np.int64], ...]
    fixed: tuple[NDArray[np.int64], ...]
    pairs: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)


class _Sorted:
    """Photos by a key, of which those between two keys are found."""

    def __init__(self, keys: NDArray[np.int64], photos: NDArray[np.int64], count: int) -> None:
        order = np.argsort(keys, kind="stable")
        self._keys, self._photos, self._count = keys[order], photos[order], count

    def within(self, keys: NDArray[np.int64], reach: int) -> NDArray[np.bool_]:
        """Return which photos have a key at most `reach` from one of the keys (of any shape), (N,) bool."""
        found = np.zeros(self._count, bool)
        if not keys.size or not len(self._keys):
            return found
        edges = np.zeros(len(self._keys) + 1, np.int64)
        np.add.at(edges, np.searchsorted(self._keys, keys.reshape(-1) - reach), 1)
        np.add.at(edges, np.searchsorted(self._keys, keys.reshape(-1) + reach, side="right"), -1)
        found[self._photos[np.cumsum(edges[:-1]) > 0]] = True
        return found


class Reach:
    """Finds the photos whose exact places would reveal those of others.

    The relation is symmetric: the photos that a photo reaches are those that reach it.

    Args:
        facts: All photos of a catalog, those without a live file too.
    """

    def __init__(self, facts: PhotoFacts) -> None:
        self._facts, count = facts, len(facts)
        self._bands = hash_bands(facts.hashes)
        self._is_timed, self._is_placed = facts.seconds != NO_TIME, facts.cells != NO_CELL
        every = np.arange(count)
        self._stamps = np.where(self._is_timed, facts.seconds, 0) + (1 << (_SPAN_BITS - 2))
        both = every[self._is_timed & self._is_placed]
        self._by_cell = _Sorted(self._with_time(facts.cells[both], both), both, count)
        # Rows of photos and what they share with others: their cameras, and the folders of their files.
        known = every[facts.cameras >= 0]
        self._shared_rows = np.concatenate([known, facts.folder_rows])
        # Folders are numbered after the cameras.
        cameras = int(facts.cameras.max(initial=-1)) + 1
        self._shared = np.concatenate([facts.cameras[known], facts.folders + cameras])
        rows = self._is_timed[self._shared_rows]
        self._by_company = self._company(rows)
        self._by_company_unplaced = self._company(rows & ~self._is_placed[self._shared_rows])
        rows = self._is_placed[facts.folder_rows]
        self._by_folder = self._folder_cells(rows)
        self._by_folder_untimed = self._folder_cells(rows & ~self._is_timed[facts.folder_rows])

    def _with_time(self, groups: NDArray[np.int64], photos: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.asarray((groups << _SPAN_BITS) + self._stamps[photos], dtype=np.int64)

    def _company(self, rows: NDArray[np.bool_]) -> _Sorted:
        photos = self._shared_rows[rows]
        return _Sorted(self._with_time(self._shared[rows], photos), photos, len(self._facts))

    def _folder_cells(self, rows: NDArray[np.bool_]) -> _Sorted:
        facts, photos = self._facts, self._facts.folder_rows[rows]
        return _Sorted((facts.folders[rows] << _CELL_BITS) + facts.cells[photos], photos, len(facts))

    def reached(self, marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the photos whose exact places would reveal those of the marked ones, these among them.

        Args:
            marked: (N,) bool.

        Returns:
            (N,) bool.
        """
        if not marked.any():
            return marked.copy()
        own = self._joined(self._copies(marked))
        return self._copies(self._joined(self._near(own) | _sharing(self._facts.fixed, own)))

    def _joined(self, marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return marked | _sharing(self._facts.joined, marked)

    def _copies(self, marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        hashes, pairs = self._facts.hashes, self._facts.pairs
        found = marked.copy()
        found[pairs[marked[pairs[:, 0]], 1]] = True
        found[pairs[marked[pairs[:, 1]], 0]] = True
        wanted = distinct(turned_hashes(distinct(hashes[marked & (hashes != 0)])).reshape(-1))
        for _, right, _ in near_hashes(wanted, hashes, COPY_BITS, self._bands):
            found[right[hashes[right] != 0]] = True
        return found

    def _near(self, marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return what is near in time and space, and where one of the two is not known, of one camera or folder."""
        facts, found = self._facts, marked.copy()
        both = np.flatnonzero(marked & self._is_timed & self._is_placed)
        found |= self._by_cell.within(self._with_time(_around(facts.cells[both]), both[:, None]), REACH_S)
        rows = marked[self._shared_rows] & self._is_timed[self._shared_rows]
        for some, index in (
            (rows & ~self._is_placed[self._shared_rows], self._by_company),
            (rows & self._is_placed[self._shared_rows], self._by_company_unplaced),
        ):
            keys = self._with_time(self._shared[some], self._shared_rows[some])
            found |= index.within(keys, REACH_S)
        rows = marked[facts.folder_rows] & self._is_placed[facts.folder_rows]
        for some, index in (
            (rows & ~self._is_timed[facts.folder_rows], self._by_folder),
            (rows & self._is_timed[facts.folder_rows], self._by_folder_untimed),
        ):
            folders = (facts.folders[some] << _CELL_BITS)[:, None]
            found |= index.within(folders + _around(facts.cells[facts.folder_rows[some]]), 0)
        return found


def _sharing(codes: tuple[NDArray[np.int64], ...], marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the photos that share a code with a marked one."""
    found = np.zeros(len(marked), bool)
    for code in codes:
        # The last element is that of -1, which nothing shares.
        is_marked = np.zeros(int(code.max(initial=-1)) + 2, bool)
        is_marked[code[marked]] = True
        is_marked[-1] = False
        found |= is_marked[code]
    return found
