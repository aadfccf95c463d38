"""A search for copies and near-copies in a catalog: the files of one picture, and which of them to keep.

Nothing is changed here; `birdsearch.search.dedup.quarantine` moves what a person wants gone.

What counts as a copy:

- Files of one photo, that is with the same content, byte for byte. Several paths to one file (hard links, links)
  are one file, never copies of each other.
- Files of photos that show the same picture, resized, recompressed, cropped or lightly edited; see
  `birdsearch.search.dedup.copies`.

What does not, however alike it looks:

- Two exposures. If two photos name the same camera and differ in the second of their capture time, or both tell
  the fraction of the second and differ in it, they are two frames of a burst. Where one has no fraction, as
  after an editor that drops it, frames of the same second are told apart by the numbers that cameras give their
  files (`IMG_1048.JPG` and `IMG_1049-web.jpg`), else by their pixels alone. If both have a serial number, and
  another one, they are of two cameras. A copy whose clock was corrected counts as another exposure.
- What a camera wrote as a pair: files of one folder with one name up to the suffix, of which one is RAW or HEIC.
- What a person said are no copies (`birdsearch.search.dedup.distinct`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from birdsearch.display_path import display_path
from birdsearch.indexer.catalog.copies import read_distinct_pairs, read_newest_photos
from birdsearch.indexer.catalog.filters import Folder, Where
from birdsearch.indexer.catalog.quarantine import has_planned_moves
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.roots import absent_roots
from birdsearch.indexer.catalog.runs import record_run
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.verified_labels import labelled_among
from birdsearch.model.images.photo import PhotoLimits
from birdsearch.model.images.worker.pool import usual_decoders
from birdsearch.search.dedup.copies import (
    CopyPair,
    CopyRules,
    candidate_pairs,
    copy_groups,
    missing_pairs,
    verify_pairs,
)
from birdsearch.search.dedup.files import FileTable, Folders
from birdsearch.search.dedup.fingerprint import compare
from birdsearch.search.dedup.fingerprint_store import FingerprintStore
from birdsearch.search.dedup.groups import CopyFile, CopyGroup, GroupMaker, Role
from birdsearch.search.dedup.keep import KeepRules
from birdsearch.search.dedup.photos import PhotoArrays, reaching, two_exposures, without

__all__ = ["CopyFile", "CopyGroup", "DedupOptions", "DedupResult", "Role", "find_copies"]

Progress = Callable[[str, int, int], None]
"""Takes the stage, how much of it is done, and of how much."""

_COMMAND = "dedup"


@dataclass(frozen=True, slots=True)
class DedupOptions:
    """Options of a search for copies.

    Attributes:
        rules: When two pictures are the same.
        keep: Which file of a group is kept.
        references: Folders whose files are never moved and win over all others. A group that lies wholly within
            them is left out.
        across_folders: Only groups whose files lie in more than one folder.
        only_new: Only groups with a photo of which the newest `index` run that added files added one.
        workers: Decoder processes.
        limits: What decoding a photo may cost.
    """

    rules: CopyRules = field(default_factory=CopyRules)
    keep: KeepRules = field(default_factory=KeepRules)
    references: Sequence[Folder] = ()
    across_folders: bool = False
    only_new: bool = False
    workers: int = field(default_factory=usual_decoders)
    limits: PhotoLimits = field(default_factory=PhotoLimits)


@dataclass(frozen=True, slots=True)
class DedupResult:
    """The result of a search for copies.

    Attributes:
        groups: In order of the kept files' paths.
        photos: How many photos were looked at.
        pairs: How many pairs of them were compared by their pixels.
        in_references: How many groups lie wholly within the reference folders and were left out.
        warnings: For a person: what was left out, and why.
    """

    groups: tuple[CopyGroup, ...]
    photos: int
    pairs: int
    in_references: int
    warnings: tuple[str, ...]

    @property
    def movable(self) -> int:
        """How many files may be moved."""
        return sum(len(group.movable) for group in self.groups)

    @property
    def movable_bytes(self) -> int:
        """Bytes that moving them frees."""
        return sum(group.movable_bytes for group in self.groups)


def find_copies(
    store: CatalogStore,
    record: ModelRecord,
    options: DedupOptions | None = None,
    where: Where | None = None,
    progress: Progress = lambda stage, done, total: None,  # noqa: ARG005
) -> DedupResult:
    """Find groups of copies, and choose which file of each to keep.

    The groups and what is kept depend on what the files hold, where they lie and when they were changed, not on
    the order in which they were indexed.

    Args:
        store: An open catalog. Fingerprints that are made are kept where it can be written, and the run if it is
            open for writing.
        record: The model whose vectors are compared.
        options: How to look.
        where: Conditions on the photos that are compared. With `under` and `exclude_under`, files elsewhere take
            no part.
        progress: Called with the stage, how much of it is done, and of how much.

    Returns:
        The groups. Files that are not there, cannot be read or are not what was indexed are left out.

    Raises:
        InvalidInputError: A reference folder does not exist, or a condition names nothing.
    """
    options, where = options or DedupOptions(), where or Where()
    references = Folders(options.references, "--reference")
    warnings = [
        f"{display_path(name)}: no indexed folder has to do with this --reference"
        for name in references.unrelated([path for _, path in store.roots()])
    ]
    warnings += [f"{line}. Its files take no part" for line in absent_roots(store)]
    if has_planned_moves(store):
        warnings.append(
            "an --apply was cut short; the next one, or `birdsearch dedup undo`, looks what it moved"
        )
    photos = PhotoArrays.read(store, record, where)
    files = FileTable(store, where)
    count = len(photos.ids)
    distinct = photos.row_pairs((pair.first_id, pair.second_id) for pair in read_distinct_pairs(store))
    pairs = candidate_pairs(photos.unit, photos.phashes, photos.has_hash, options.rules)
    pairs = _comparable(store, photos, files, pairs, distinct)
    several = photos.with_several_files(store)
    if options.only_new:
        fresh = read_newest_photos(store)
        pairs = reaching(pairs, np.isin(photos.ids, fresh))
        several = several[np.isin(several, fresh)]
    files.read(several.tolist())
    fingerprints = FingerprintStore(store)
    problems = fingerprints.make(
        {photo_id: files.of(photo_id) for photo_id in photos.ids[np.unique(pairs)].tolist()},
        options.workers,
        options.limits,
        lambda done, total: progress("reading photos", done, total),
    )
    pairs = pairs[~np.isin(photos.ids, list(problems))[pairs].any(axis=1)]

    def verified(some: NDArray[np.int64]) -> list[CopyPair]:
        return verify_pairs(
            some,
            lambda row: fingerprints.get(int(photos.ids[row])),
            options.rules,
            lambda done, total: progress("comparing", done, total),
        )

    found = verified(pairs)
    # Groups need every pair within them, whether or not a sign made it a candidate.
    missing = _comparable(store, photos, files, missing_pairs(count, found), distinct)
    missing = without(missing, pairs, count)
    found += verified(missing)
    members = _members(photos, found, distinct, several)
    if options.only_new:
        members = [group for group in members if np.isin(group, fresh).any()]
    makes = GroupMaker(
        store,
        files,
        _describer(photos, found, fingerprints, options.rules),
        options.keep,
        references,
        across_folders=options.across_folders,
    )
    for photo_id, reason in problems.items():
        for file in files.of(photo_id):
            makes.leave_out(file.path, reason)
    groups = makes.groups(members)
    warnings += [*makes.warnings(), *_label_warnings(store, groups)]
    result = DedupResult(
        tuple(groups), count, len(pairs) + len(missing), makes.in_references, tuple(warnings)
    )
    _record(store, record, result)
    return result


def _comparable(
    store: CatalogStore,
    photos: PhotoArrays,
    files: FileTable,
    pairs: NDArray[np.int64],
    distinct: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the pairs of rows, (P, 2), that may be copies by their cameras, times, file names and rejections."""
    apart, doubtful = two_exposures(store, photos, pairs)
    files.read(photos.ids[np.unique(pairs[~apart])].tolist())
    others = files.camera_pairs(_ids(photos, pairs[~apart])) + files.numbered_apart(
        _ids(photos, pairs[doubtful])
    )
    return without(pairs[~apart], np.concatenate([distinct, photos.row_pairs(others)]), len(photos.ids))


def _members(
    photos: PhotoArrays, found: Sequence[CopyPair], distinct: np.ndarray, several: np.ndarray
) -> list[list[int]]:
    """Return photo ids by group: those of near-copies, and single photos that have several files."""
    members = [
        photos.ids[list(group)].tolist()
        for group in copy_groups(len(photos.ids), found, [(int(a), int(b)) for a, b in distinct])
        if len(group) > 1
    ]
    grouped = {photo_id for group in members for photo_id in group}
    return members + [[photo_id] for photo_id in several.tolist() if photo_id not in grouped]


def _ids(photos: PhotoArrays, pairs: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    for first, second in photos.ids[pairs]:
        yield int(first), int(second)


def _describer(
    photos: PhotoArrays, found: Sequence[CopyPair], fingerprints: FingerprintStore, rules: CopyRules
) -> Callable[[int, int], tuple[float, str]]:
    """Return a function that compares a kept photo and another, by their ids; see `Describe`."""
    by_ids = {(int(photos.ids[pair.first]), int(photos.ids[pair.second])): pair for pair in found}

    def describe(kept_id: int, other_id: int) -> tuple[float, str]:
        pair = by_ids.get((kept_id, other_id))
        if pair is not None:
            return pair.similarity, pair.reason
        # Brighter and cropped are said of the second: once more, the other way round.
        one, other = fingerprints.get(kept_id), fingerprints.get(other_id)
        compared = compare(one, other, rules.rotations)
        return compared.similarity, compared.reason

    return describe


def _label_warnings(store: CatalogStore, groups: Sequence[CopyGroup]) -> list[str]:
    """Say so where a file that goes is the only one of its group with a verified label, or with its keywords."""
    warnings = []
    goes = {
        file.photo_id: group.kept
        for group in groups
        for file in group.movable
        if all(other.role == "move" for other in group.others if other.photo_id == file.photo_id)
        and file.photo_id != group.kept.photo_id
    }
    labelled = labelled_among(store, [*goes, *(kept.photo_id for kept in goes.values())])
    lost = [kept for photo_id, kept in goes.items() if photo_id in labelled and kept.photo_id not in labelled]
    if lost:
        such = display_path(min(kept.path for kept in lost))
        warnings.append(
            f"{len(lost)} kept photos bear no verified label and a copy that would go does, such as {such}: a "
            "label stays with the photo that it was given to; `birdsearch annotate` labels the kept one"
        )
    named = [
        (file, sorted(words))
        for group in groups
        for file in group.movable
        if (words := set(file.keywords).difference(*(stays.keywords for stays in group.staying)))
    ]
    if named:
        file, names = min(named, key=lambda each: each[0].path)
        what = "1 file that would go has" if len(named) == 1 else f"{len(named)} files that would go have"
        warnings.append(
            f"{what} keywords that no file that stays has, such as {display_path(file.path)} "
            f"({', '.join(names[:3])}): they go to quarantine with it; `birdsearch annotate keywords` records "
            "species first, or `--keep labels,resolution` keeps such files"
        )
    return warnings


def _record(store: CatalogStore, record: ModelRecord, result: DedupResult) -> None:
    if not store.writable:
        return
    counts = {"photos": result.photos, "pairs": result.pairs, "groups": len(result.groups)}
    record_run(store, _COMMAND, record.id, counts)
