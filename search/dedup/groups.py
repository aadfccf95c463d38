"""Groups of copies as files that are there now: the one that is kept, and the fate of the others."""
# ruff: noqa: PTH116, PTH120
# The rules ask for pathlib, which takes no bytes.

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from birdsearch.display_path import display_path
from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.copies import CopyFacts, read_copy_facts
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.verified_labels import labelled_among
from birdsearch.model.images.exif import CAPTURE_FIELDS
from birdsearch.search.dedup.companions import FolderNames, keywords_of
from birdsearch.search.dedup.files import FileTable, Folders, StoredFile
from birdsearch.search.dedup.keep import FileFacts, KeepRules, choose

__all__ = ["CopyFile", "CopyGroup", "Describe", "GroupMaker", "Role", "keep_another"]

Role = Literal["keep", "move", "reference", "linked"]
"""Kept; may be moved; lies in a reference folder; has several paths, so that moving it would free nothing."""

Describe = Callable[[int, int], tuple[float, str]]
"""Similarity of a kept and another photo, by their ids, and how the other one differs."""

_ROLES: tuple[Role, ...] = ("keep", "move", "reference", "linked")
# NOTE: RAW files of at least twice this many pixels a side are developed at half their size, and the catalog holds
# the size that they were developed to.
_RAW_HALVED_FROM = 512
_SAME_CONTENT, _SAME_PICTURE = "same content", "same picture, other metadata"


@dataclass(frozen=True, slots=True)
class CopyFile:
    """A file of a group.

    Attributes:
        photo_id: Its photo.
        path: Absolute path.
        links: Other paths of the same file.
        digest: Digest of the file, or its SHA-256; see `birdsearch.model.images.digest.is_file`.
        size: Bytes.
        width: Pixels, upright.
        height: Pixels, upright.
        role: What is to become of it.
        similarity: With the kept file, 0..1; 1 for the same picture.
        reason: How it differs from the kept file; for that one, why it is kept.
        is_reference: It lies in a reference folder.
        keywords: Keywords in the file and in its sidecars.
    """

    photo_id: int
    path: bytes
    links: tuple[bytes, ...]
    digest: bytes
    size: int
    width: int
    height: int
    role: Role
    similarity: float
    reason: str
    is_reference: bool = False
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CopyGroup:
    """Files that show one picture.

    Attributes:
        kept: The file to keep.
        others: The rest: first those that may be moved, then by path.
    """

    kept: CopyFile
    others: tuple[CopyFile, ...]

    @property
    def is_exact(self) -> bool:
        """True if all files have the same content."""
        return all(file.digest == self.kept.digest for file in self.others)

    @property
    def files(self) -> tuple[CopyFile, ...]:
        """All of them, the kept one first."""
        return (self.kept, *self.others)

    @property
    def movable(self) -> tuple[CopyFile, ...]:
        """The files that may be moved."""
        return tuple(file for file in self.others if file.role == "move")

    @property
    def staying(self) -> tuple[CopyFile, ...]:
        """The files that are not moved, the kept one first."""
        return tuple(file for file in self.files if file.role != "move")

    @property
    def movable_bytes(self) -> int:
        """Bytes that moving them frees."""
        return sum(file.size for file in self.movable)


class GroupMaker:
    """Turns groups of photos into groups of the files that are there now.

    Args:
        store: An open catalog.
        files: The files of every photo that is asked for.
        describe: Similarity of a kept and another photo, by their ids, and how the other one differs.
        keep: Which file of a group is kept.
        references: Folders whose files are never moved.
        across_folders: Leave out groups whose files lie in one folder.

    Attributes:
        in_references: How many groups were left out since they lie wholly within the reference folders.
    """

    def __init__(
        self,
        store: CatalogStore,
        files: FileTable,
        describe: Describe,
        keep: KeepRules,
        references: Folders,
        *,
        across_folders: bool,
    ) -> None:
        self._store = store
        self._files = files
        self._describe = describe
        self._keep = keep
        self._references = references
        self._across_folders = across_folders
        self._left_out: dict[str, set[bytes]] = {}
        self._labelled: frozenset[int] = frozenset()
        self._names = FolderNames()
        self.in_references = 0

    def groups(self, members: Sequence[Sequence[int]]) -> list[CopyGroup]:
        """Return groups of at least two files, by the paths of the kept ones.

        Args:
            members: Photo ids by group.
        """
        photo_ids = [photo_id for group in members for photo_id in group]
        facts = read_copy_facts(self._store, photo_ids)
        self._labelled = labelled_among(self._store, photo_ids)
        made = (self._group(part, facts) for group in members for part in self._exposures(group, facts))
        return sorted(
            (group for group in made if group is not None), key=lambda each: (each.kept.path, each.kept.links)
        )

    def leave_out(self, path: bytes, reason: str) -> None:
        """Remember that a file takes no part, and why."""
        self._left_out.setdefault(reason, set()).add(path)

    def warnings(self) -> list[str]:
        """Return what was left out, a line for each reason, with how many files and the first of them."""
        lines = []
        for reason, paths in sorted(self._left_out.items()):
            first = display_path(min(paths))
            more = {0: "", 1: " and 1 more file"}.get(len(paths) - 1, f" and {len(paths) - 1} more files")
            lines.append(f"{first}{more} left out: {reason}")
        return lines

    def _exposures(
        self, photo_ids: Sequence[int], facts: Mapping[int, CopyFacts]
    ) -> list[list[list[StoredFile]]]:
        """Return the files of a group of photos, each with its paths; frames that show the same are parted.

        They are one photo, as the black frames of a camera trap are, and no copies: their names have different
        numbers of one series, and their metadata different times. A file without a number is of the frame whose
        time its metadata say.
        """
        # A file by its device and inode: every path to it is one file.
        paths: dict[object, list[StoredFile]] = {}
        for photo_id in photo_ids:
            for file in self._files.of(photo_id):
                identity = self._look_at(file)
                if identity is not None:
                    paths.setdefault(identity, []).append(file)
        found = sorted(paths.values(), key=lambda each: each[0].path)
        times = [_metadata(each[0], facts[each[0].photo_id])["captured_at"] for each in found]
        numbers: dict[tuple[int, bytes], dict[str, set[bytes]]] = {}
        for each, time in zip(found, times, strict=True):
            number = self._files.number(each[0])
            if number is not None and time is not None:
                series = numbers.setdefault((each[0].photo_id, number[0]), {})
                series.setdefault(time, set()).add(number[1])
        # A frame keeps its number where its clock is corrected, so the times of one frame share one.
        apart = {photo_id for (photo_id, _), at in numbers.items() if not set.intersection(*at.values())}
        parts: dict[object, list[list[StoredFile]]] = {}
        for each, time in zip(found, times, strict=True):
            parts.setdefault(time if each[0].photo_id in apart else None, []).append(each)
        return list(parts.values())

    def _group(self, found: Sequence[list[StoredFile]], facts: Mapping[int, CopyFacts]) -> CopyGroup | None:
        if len(found) < 2:
            return None
        judged = [self._facts(each, facts[each[0].photo_id]) for each in found]
        if all(each.is_reference for each in judged):
            self.in_references += 1
            return None
        if self._across_folders and len({os.path.dirname(each.path) for each in judged}) < 2:
            return None
        kept, why = choose(judged, self._keep)
        made = [
            self._file(each, judge, facts, found[kept][0], "keep" if index == kept else _role(judge))
            for index, (each, judge) in enumerate(zip(found, judged, strict=True))
        ]
        others = [file for index, file in enumerate(made) if index != kept]
        others.sort(key=lambda file: (_ROLES.index(file.role), file.path))
        return CopyGroup(replace(made[kept], reason=why), tuple(others))

    def _look_at(self, file: StoredFile) -> object | None:
        """Return what identifies the file now, or None if it is not the one that was indexed."""
        try:
            status = os.stat(file.path)
        except OSError as error:
            self.leave_out(
                file.path, f"it cannot be found ({error.strerror}); `birdsearch index` looks again"
            )
            return None
        if not stat.S_ISREG(status.st_mode) or (status.st_size, status.st_mtime_ns) != (
            file.size,
            file.mtime_ns,
        ):
            self.leave_out(file.path, "it changed since it was indexed; run `birdsearch index` first")
            return None
        # Some network file systems number no files.
        return (status.st_dev, status.st_ino) if status.st_ino else file.path

    def _facts(self, paths: Sequence[StoredFile], photo: CopyFacts) -> FileFacts:
        companions = self._names.companions_of(paths[0].path)
        says = _metadata(paths[0], photo)
        halved = photo.format == "RAW" and min(photo.width, photo.height) >= _RAW_HALVED_FROM
        return FileFacts(
            path=paths[0].path,
            format=photo.format,
            pixels=photo.width * photo.height * (4 if halved else 1),
            sharpness=photo.sharpness,
            size=paths[0].size,
            captured_at=says["captured_at"],
            has_place=says["latitude"] is not None,
            has_camera=says["camera"] is not None,
            mtime_ns=paths[0].mtime_ns,
            is_reference=any(self._references.hold_really(file.path) for file in paths),
            is_linked=len(paths) > 1,
            is_labelled=photo.id in self._labelled,
            keywords=keywords_of(paths[0].path, companions),
            companions=len(companions),
        )

    def _file(
        self,
        paths: Sequence[StoredFile],
        judge: FileFacts,
        facts: Mapping[int, CopyFacts],
        kept: StoredFile,
        role: Role,
    ) -> CopyFile:
        photo, kept_photo = facts[paths[0].photo_id], facts[kept.photo_id]
        similarity, reason = _difference(
            self._describe,
            _Shown(kept.photo_id, (kept_photo.width, kept_photo.height), kept.digest),
            _Shown(photo.id, (photo.width, photo.height), paths[0].digest),
        )
        return CopyFile(
            photo_id=photo.id,
            path=judge.path,
            links=tuple(file.path for file in paths[1:]),
            digest=paths[0].digest,
            size=judge.size,
            width=photo.width,
            height=photo.height,
            role=role,
            similarity=similarity,
            reason=reason,
            is_reference=judge.is_reference,
            keywords=judge.keywords,
        )


def keep_another(group: CopyGroup, file: CopyFile, describe: Describe, why: str) -> CopyGroup:
    """Return the same group with another file to keep, as a person chose it.

    Args:
        group: The group.
        file: The file to keep, one of its others.
        describe: Compares the kept photo with another.
        why: Why it is kept.

    Returns:
        The group; what may be moved is still neither in a reference folder nor linked.

    Raises:
        InvalidInputError: The file is not one of the others, or only the kept one is in a reference folder.
    """
    if file not in group.others:
        raise InvalidInputError(f"{display_path(file.path)} is not one of the files that are not kept")
    if group.kept.is_reference and not file.is_reference:
        raise InvalidInputError(f"{display_path(group.kept.path)} is in a reference folder, so it is kept")
    others = []
    for other in group.files:
        if other is file:
            continue
        similarity, reason = _difference(describe, _shown(file), _shown(other))
        role = other.role
        if role == "keep":
            role = "reference" if other.is_reference else "linked" if other.links else "move"
        others.append(replace(other, role=role, similarity=similarity, reason=reason))
    others.sort(key=lambda other: (_ROLES.index(other.role), other.path))
    return CopyGroup(replace(file, role="keep", similarity=1.0, reason=why), tuple(others))


class _Shown(NamedTuple):
    """A file's photo, the size of that, and the file's digest."""

    photo_id: int
    size: tuple[int, int]
    digest: bytes


def _shown(file: CopyFile) -> _Shown:
    return _Shown(file.photo_id, (file.width, file.height), file.digest)


def _difference(describe: Describe, kept: _Shown, other: _Shown) -> tuple[float, str]:
    """Return the similarity of two files, and how the other one differs from the kept."""
    if kept.photo_id == other.photo_id:
        return 1.0, _SAME_CONTENT if kept.digest == other.digest else _SAME_PICTURE
    similarity, reason = describe(kept.photo_id, other.photo_id)
    return (
        similarity,
        reason if kept.size == other.size else f"{reason}, {other.size[0]} x {other.size[1]} pixels",
    )


def _metadata(file: StoredFile, photo: CopyFacts) -> Mapping[str, Any]:
    """Return what a file says about how its photo was taken."""
    if file.capture is not None:
        return {**dict.fromkeys(CAPTURE_FIELDS), **json.loads(file.capture)}
    return photo.capture


def _role(judge: FileFacts) -> Role:
    if judge.is_reference:
        return "reference"
    return "linked" if judge.is_linked else "move"
