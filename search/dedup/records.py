"""Copies as they are shown: frozen, and the same for JSON, OpenAPI and the client."""

from __future__ import annotations

from dataclasses import dataclass

from birdsearch.search.json_records import Record

__all__ = ["DuplicateFile", "DuplicateGroup", "Duplicates"]


@dataclass(frozen=True, slots=True)
class DuplicateFile(Record):
    """A file of a group of copies.

    Attributes:
        photo_id: Its photo.
        path: Where it is, as paths are shown.
        links: Other paths of the same file.
        role: `keep`; `copy`, which may be moved; `linked` for several paths of one file, of which moving would free
            nothing; or `reference`.
        why: Of the kept file, why it is kept; of another one, how it differs.
        similarity: Cosine of its embedding and the kept file's, -1..1.
        width: Pixels, upright.
        height: Pixels, upright.
        bytes: Size of the file.
        format: Format of the file.
        captured_at: Local wall-clock time, ISO 8601 without zone, or None.
        thumb: Address of its thumbnail, below that of the service.
        verified: What the photo was verified to show, or None.
    """

    photo_id: int
    path: str
    links: tuple[str, ...]
    role: str
    why: str
    similarity: float
    width: int
    height: int
    bytes: int
    format: str
    captured_at: str | None
    thumb: str
    verified: str | None


@dataclass(frozen=True, slots=True)
class DuplicateGroup(Record):
    """Files that show one picture.

    Attributes:
        id: Its number.
        exact: True if all files have the same content, byte for byte.
        movable_bytes: What moving its copies would free.
        files: The files, the kept one first.
    """

    id: int
    exact: bool
    movable_bytes: int
    files: tuple[DuplicateFile, ...]


@dataclass(frozen=True, slots=True)
class Duplicates(Record):
    """The copies that were found last.

    Attributes:
        state: `none` before the first search, `running`, or `ready`.
        job: Number of the job that looks for copies or moves them now, or None.
        found_at: When they were found, UTC, ISO 8601, or None.
        photos: How many photos were looked at.
        groups: The groups, or a page of them.
        next: Passed as `cursor`, it asks for the groups after these; None at the end.
        total: How many groups there are.
        movable: How many files may be moved.
        movable_bytes: What moving them would free.
        warnings: For a person.
    """

    state: str
    job: int | None
    found_at: str | None
    photos: int
    groups: tuple[DuplicateGroup, ...]
    next: str | None
    total: int
    movable: int
    movable_bytes: int
    warnings: tuple[str, ...]
