"""The groups of copies that were found last, and what was decided about them since."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.changes import last_change_and_run
from birdsearch.indexer.catalog.copies import read_distinct_pairs
from birdsearch.indexer.catalog.files import live_paths
from birdsearch.indexer.catalog.store import CatalogStore, now
from birdsearch.search.dedup.fingerprint import compare
from birdsearch.search.dedup.fingerprint_store import FingerprintStore
from birdsearch.search.dedup.groups import CopyGroup, Describe, keep_another

__all__ = ["CopiesFound", "FoundCopies"]

# After these the files of the catalog may be others.
_MOVES_FILES = ("index", "dedup --apply", "dedup undo", "roots move", "forget", "forget undo")

_CHOSEN = "chosen by hand"


@dataclass(frozen=True, slots=True, eq=False)
class CopiesFound:
    """The result of a search for copies.

    Attributes:
        at: When, UTC, ISO 8601.
        groups: The groups by their ids, with the file that is kept as it was chosen since.
        photos: How many photos were looked at.
        warnings: What was left out, and why.
    """

    at: str
    groups: Mapping[int, CopyGroup]
    photos: int
    warnings: tuple[str, ...]


class FoundCopies:
    """Keeps what the last search for copies found, until the catalog's files change without it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: CopiesFound | None = None
        self._state: tuple[int, int] = (0, 0)

    def put(
        self, store: CatalogStore, groups: Sequence[CopyGroup], photos: int, warnings: Sequence[str]
    ) -> None:
        """Keep what was found.

        Args:
            store: The catalog, of which nothing has changed since.
            groups: The groups, in the order in which they are shown.
            photos: How many photos were looked at.
            warnings: For a person.
        """
        found = CopiesFound(now(), dict(enumerate(groups, 1)), photos, tuple(warnings))
        with self._lock:
            self._found, self._state = found, last_change_and_run(store, _MOVES_FILES)

    def moved(self, store: CatalogStore) -> None:
        """Keep the groups after files that they name were moved, or put back."""
        with self._lock:
            self._state = last_change_and_run(store, _MOVES_FILES)

    def get(self, store: CatalogStore) -> CopiesFound | None:
        """Return what was found, or None if nothing was looked for, or the files have changed since.

        Files that are not there any more are left out, and photos that were said to be no copies of the kept one. A
        group without anything left beside the kept file is left out as well.
        """
        with self._lock:
            if self._found is None or self._state != last_change_and_run(store, _MOVES_FILES):
                return None
            found = self._found
        live = live_paths(store, {file.photo_id for group in found.groups.values() for file in group.files})
        apart = {(pair.first_id, pair.second_id) for pair in read_distinct_pairs(store)}
        shown = {
            group_id: left
            for group_id, group in found.groups.items()
            if (left := _left_of(group, live, apart)) is not None
        }
        return replace(found, groups=shown)

    def choose(self, store: CatalogStore, group_id: int, photo_id: int, path: bytes) -> None:
        """Keep another file of a group; the others are compared with it anew.

        Args:
            store: The catalog.
            group_id: The group.
            photo_id: The photo of the file.
            path: The file.

        Raises:
            InvalidInputError: It is no file of the group, or is kept anyway.
        """
        with self._lock:
            group = None if self._found is None else self._found.groups.get(group_id)
        if group is None:
            raise InvalidInputError(f"there is no group {group_id} any more")
        file = next((one for one in group.others if (one.photo_id, one.path) == (photo_id, path)), None)
        if file is None:
            raise InvalidInputError(f"group {group_id} has no such file that is not kept")
        changed = keep_another(group, file, _describer(store), _CHOSEN)
        with self._lock:
            if self._found is not None and self._found.groups.get(group_id) is group:
                self._found = replace(self._found, groups={**self._found.groups, group_id: changed})


def _describer(store: CatalogStore) -> Describe:
    fingerprints = FingerprintStore(store)

    def describe(kept_id: int, other_id: int) -> tuple[float, str]:
        found = compare(fingerprints.get(kept_id), fingerprints.get(other_id))
        return found.similarity, found.reason

    return describe


def _left_of(group: CopyGroup, live: set[tuple[int, bytes]], apart: set[tuple[int, int]]) -> CopyGroup | None:
    if (group.kept.photo_id, group.kept.path) not in live:
        return None
    members = [group.kept]
    for file in group.others:
        pairs = (sorted((file.photo_id, member.photo_id)) for member in members)
        if (file.photo_id, file.path) in live and not any((one, two) in apart for one, two in pairs):
            members.append(file)
    return CopyGroup(group.kept, tuple(members[1:])) if len(members) > 1 else None
