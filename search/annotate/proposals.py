"""Proposals: the labels of a source that can be recorded, and the reasons why others cannot."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from birdsearch.display_path import display_path
from birdsearch.indexer.catalog.annotations import AnnotationItem
from birdsearch.indexer.catalog.files import LiveFile, live_files
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.model.taxonomy import Taxon

__all__ = [
    "Claim",
    "Folder",
    "Problem",
    "Proposal",
    "Proposals",
    "UnusableError",
    "count_of",
    "files_in",
    "joined",
    "range_below",
    "settled",
]

Folder = str | os.PathLike[str]


class UnusableError(Exception):
    """Something names no photo or no taxon, or more than one; the text says why. Internal to this package."""

    def __init__(self, reason: str, *, is_unknown_name: bool = False) -> None:
        super().__init__(reason)
        self.is_unknown_name = is_unknown_name


@dataclass(frozen=True, slots=True)
class Proposal:
    """A label that can be recorded.

    Attributes:
        photo_id: The photo.
        view_id: The view of it that is labelled.
        taxon: What is on it, or is not.
        verdict: `positive`, `negative` or `uncertain`.
        where: What says so, such as `line 3`, a folder or a photo.
        who: Who said so, if the source says; else empty.
    """

    photo_id: int
    view_id: int
    taxon: Taxon
    verdict: str
    where: str
    who: str = ""

    def item(self) -> AnnotationItem:
        """Return the label in the form that is recorded."""
        return AnnotationItem(self.view_id, self.taxon, self.verdict, self.who)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that cannot be recorded.

    Attributes:
        where: What it is, such as `line 3`, a folder or a photo.
        reason: Why, and what to do about it.
        is_unknown_name: True if it would do as a new taxon.
    """

    where: str
    reason: str
    is_unknown_name: bool = False


@dataclass(frozen=True, slots=True)
class Proposals:
    """All that a source of labels proposes.

    Attributes:
        labels: What can be recorded; for each view each taxon once, and no contradiction among them.
        problems: What cannot.
        notes: What was passed over, in sentences for people.
        new_taxa: Taxa that no taxonomy has yet and that `labels` name.
    """

    labels: tuple[Proposal, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    new_taxa: tuple[Taxon, ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """A label on a photo, before its view is looked up."""

    photo_id: int
    taxon: Taxon
    verdict: str
    where: str
    who: str = ""


def settled(
    store: CatalogStore,
    claims: Sequence[Claim],
    problems: Sequence[Problem] = (),
    notes: Sequence[str] = (),
    *,
    new: Sequence[Taxon] = (),
    views: Mapping[int, int] | None = None,
) -> Proposals:
    """Turn claims into proposals without repeats; claims that contradict each other become problems."""
    view_ids = store.whole_views(sorted({claim.photo_id for claim in claims})) | dict(views or {})
    kept: dict[int, dict[str, Claim]] = {}
    conflicts: dict[int, Problem] = {}
    for claim in claims:
        others = kept.setdefault(claim.photo_id, {})
        before = others.get(claim.taxon.common_name)
        if before is None and claim.verdict == "positive":
            before = next((other for other in others.values() if other.verdict == "positive"), None)
        if before is None:
            others[claim.taxon.common_name] = claim
        elif (before.taxon.common_name, before.verdict) != (claim.taxon.common_name, claim.verdict):
            reason = (
                f"photo #{claim.photo_id} is {_said(claim)} here and {_said(before)} in {before.where}; "
                "such a contradiction is not recorded"
            )
            conflicts.setdefault(claim.photo_id, Problem(claim.where, reason))
    labels = tuple(
        Proposal(photo_id, view_ids[photo_id], claim.taxon, claim.verdict, claim.where, claim.who)
        for photo_id, found in kept.items()
        if photo_id not in conflicts
        for claim in found.values()
    )
    named = {label.taxon for label in labels}
    return Proposals(
        labels,
        (*problems, *conflicts.values()),
        tuple(notes),
        tuple(taxon for taxon in new if taxon in named),
    )


def _said(claim: Claim) -> str:
    what = "" if claim.verdict == "positive" else f"{claim.verdict} for "
    return f"{what}{claim.taxon.common_name}"


def joined(folder: bytes, path: bytes) -> bytes:
    """Return a path below a folder; with an empty path, the prefix of the paths of everything in the folder."""
    return folder.rstrip(b"/") + b"/" + path


def files_in(store: CatalogStore, folders: Sequence[Folder], problems: list[Problem]) -> list[LiveFile]:
    """Return the files that are not known to be gone, in order of their paths.

    Args:
        store: An open catalog.
        folders: Only files in these; all of the catalog's if there are none.
        problems: Gets one for each folder without any file.
    """
    files = live_files(store)
    if not folders:
        return files
    kept: set[int] = set()
    for folder in folders:
        name = os.path.expanduser(os.fsencode(folder))  # noqa: PTH111 bytes
        found = {row for top in (os.path.abspath, os.path.realpath) for row in range_below(files, top(name))}
        if not found:
            shown = display_path(name)
            problems.append(
                Problem(
                    shown, f"no photo of the catalog is in it; `birdsearch index {shown}` adds its photos"
                )
            )
        kept |= found
    return [files[row] for row in sorted(kept)]


def range_below(files: Sequence[LiveFile], folder: bytes) -> range:
    """Return the positions of the files below a folder in a list that is in order of paths."""

    def path(file: LiveFile) -> bytes:
        return file.absolute

    start = joined(folder, b"")
    # "0" is the byte after "/".
    return range(bisect_left(files, start, key=path), bisect_left(files, start[:-1] + b"0", key=path))


def count_of(number: int, what: str) -> str:
    """Return a number with its noun, such as `1 photo` or `2 photos`."""
    return f"{number} {what}{'' if number == 1 else 's'}"
