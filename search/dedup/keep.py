"""The choice of the copy to keep: a ranked list of rules, of which the first that makes a difference decides."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from birdsearch.errors import InvalidInputError

__all__ = ["DEFAULT_RULES", "RULES", "Choice", "FileFacts", "KeepRules", "choose"]

RULES = ("resolution", "sharpness", "original-format", "labels", "metadata", "name", "size", "oldest")
"""The rules by name; beside them there is `path:GLOB`."""

DEFAULT_RULES = ("resolution", "original-format", "labels", "metadata", "name", "size", "oldest")
"""What is asked where nothing else is said.

NOTE: sharpness is not among them. It is there to tell a blurred frame from a sharp one, and copies of one frame
differ in it by what sharpening, grain and compression added. Size comes late: an edit may be the larger file.
"""

_PATH = "path:"
# How near to the best still counts as equal: a border that was cut off, and what a second compression does.
_RESOLUTION, _SHARPNESS, _SIZE = 0.95, 0.9, 0.99
# FAT keeps times to two seconds.
_SAME_TIME_NS = 2_000_000_000
_SECOND = len("2023-05-14T06:30:00")
_TIERS = {"RAW": 3, "HEIF": 2, "TIFF": 2, "PNG": 2, "BMP": 2, "JPEG": 1, "WEBP": 0, "GIF": 0, "AVIF": 0}
_NEVER = "9999"
_SHOWN_KEYWORDS = 3


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Facts about a file that the rules look at.

    Attributes:
        path: Absolute path.
        format: Format of the content, such as `JPEG`.
        pixels: Width times height of the picture.
        sharpness: Higher is sharper; None where it was not measured.
        size: Bytes.
        captured_at: Local time, ISO 8601, or None.
        has_place: Its metadata say where it was taken.
        has_camera: Its metadata say with which camera.
        mtime_ns: When the content of the file was last changed.
        is_reference: It lies in a folder that the user named as the reference.
        is_linked: The file has several paths, so that moving it would free nothing.
        is_labelled: Its photo bears a verified label.
        keywords: Keywords in the file and in its sidecars.
        companions: How many files belong to it, such as sidecars.
    """

    path: bytes
    format: str
    pixels: int
    sharpness: float | None
    size: int
    captured_at: str | None
    has_place: bool
    has_camera: bool
    mtime_ns: int
    is_reference: bool = False
    is_linked: bool = False
    is_labelled: bool = False
    keywords: tuple[str, ...] = ()
    companions: int = 0

    @property
    def metadata(self) -> tuple[str, ...]:
        """Which of time, place and camera its metadata say."""
        known = {"time": self.captured_at is not None, "place": self.has_place, "camera": self.has_camera}
        return tuple(name for name, is_known in known.items() if is_known)


class Choice(NamedTuple):
    """The file to keep.

    Attributes:
        chosen: Its index among the files.
        why: What decided, for a person.
    """

    chosen: int
    why: str


@dataclass(frozen=True, slots=True)
class KeepRules:
    """A ranked list of rules.

    Each rule keeps those of the files that are best by it, and the next one judges these. Values that are as
    good as equal are taken for equal, so that a later rule decides.

    - `resolution`: most pixels; from 95 % of the most on they are equal.
    - `sharpness`: sharpest (variance of the Laplacian); from 90 % on equal.
    - `original-format`: camera RAW, then HEIC, TIFF, PNG and BMP, then JPEG, then WebP, GIF and AVIF.
    - `labels`: bears a verified label; then has most keywords, in the file or its sidecars; then most files that
      belong to it.
    - `metadata`: says most of capture time, place and camera.
    - `name`: its name up to the suffix, in any case, is a part of another one's, as that of `IMG_1.jpg` is of
      `IMG_1-edit.jpg`, `IMG_1 (1).jpg` and `Copy of IMG_1.jpg`, and no other name is a part of it.
    - `size`: most bytes, so the least compressed; from 99 % on equal.
    - `oldest`: earliest capture time, to the second, a file without one last; then the earliest time of change of
      the file, two seconds being equal.
    - `path:GLOB`: the path matches, in any case: a part of it, or with `*`, `?` or `[` a pattern of the whole.

    Where no rule makes a difference, a hard link goes before a file that can be moved; then the path decides.

    Attributes:
        rules: Names of rules, the one that is asked first first.

    Raises:
        InvalidInputError: There is no such rule, or none at all.
    """

    rules: tuple[str, ...] = DEFAULT_RULES

    def __post_init__(self) -> None:
        if not self.rules:
            raise InvalidInputError(f"no rule is given; the rules are {_rule_names()}")
        for rule in self.rules:
            if rule not in RULES and (not rule.startswith(_PATH) or rule == _PATH):
                raise InvalidInputError(f"there is no rule {rule!r}; the rules are {_rule_names()}")

    @classmethod
    def parse(cls, text: str) -> KeepRules:
        """Return the rules that a text names, separated by commas, such as `resolution,path:*/originals/*`.

        Raises:
            InvalidInputError: There is no such rule, or none at all.
        """
        rules: list[str] = []
        for part in text.split(","):
            # A comma may be a part of a path.
            if rules and rules[-1].startswith(_PATH) and part not in RULES and not part.startswith(_PATH):
                rules[-1] += f",{part}"
            elif part:
                rules.append(part.strip())
        return cls(tuple(rules))


def _rule_names() -> str:
    return f"{', '.join(RULES)} and path:GLOB"


def choose(files: Sequence[FileFacts], rules: KeepRules) -> Choice:
    """Choose the file to keep; the same one whatever the order of the files.

    Args:
        files: At least one. Files in a reference folder win over all others; of several, the rules decide.
        rules: The rules, in the order in which they decide.

    Returns:
        Its index among the files, and what decided.

    Raises:
        InvalidInputError: There are no files.
    """
    if not files:
        raise InvalidInputError("there is no file to choose from")
    left = list(range(len(files)))
    reasons: list[str] = []
    references = [index for index in left if files[index].is_reference]
    if references:
        left = references
        reasons.append("in a reference folder")
    for rule in rules.rules:
        if len(left) == 1:
            break
        best, why = _ask(rule, [files[index] for index in left])
        if len(best) < len(left):
            reasons.append(why)
            left = [left[row] for row in best]
    if len(left) > 1:
        linked = [index for index in left if files[index].is_linked]
        if 0 < len(linked) < len(left):
            reasons.append("has several paths (hard links)")
            left = linked
        else:
            equal = f"as good as {_others(len(files) - 1, '', '').rstrip()}; "
            reasons.append(f"{'' if reasons else equal}first by path")
    return Choice(min(left, key=lambda index: files[index].path), "; ".join(reasons))


def _ask(rule: str, files: Sequence[FileFacts]) -> tuple[list[int], str]:
    """Return the indices of the files that are best by a rule, and how they differ from the others."""
    if rule.startswith(_PATH):
        best = _matching(rule.removeprefix(_PATH), files)
        return (best or list(range(len(files)))), f"its path matches {rule.removeprefix(_PATH)}"
    return _JUDGES[rule](files)


def _matching(pattern: str, files: Sequence[FileFacts]) -> list[int]:
    wanted = pattern.casefold()
    whole = wanted if any(sign in wanted for sign in "*?[") else f"*{wanted}*"
    return [
        index
        for index, file in enumerate(files)
        if fnmatch.fnmatchcase(os.fsdecode(file.path).casefold(), whole)
    ]


def _others(count: int, plural: str, singular: str) -> str:
    return f"the others {plural}" if count > 1 else f"the other {singular}"


def _largest(values: Sequence[float], share: float) -> tuple[list[int], float, float, int]:
    """Return the indices within a share of the largest, that largest, the largest of the rest and their count."""
    top = max(values)
    best = [index for index, value in enumerate(values) if value >= top * share]
    rest = [value for value in values if value < top * share]
    return best, top, max(rest, default=0.0), len(rest)


def _by_resolution(files: Sequence[FileFacts]) -> tuple[list[int], str]:
    best, top, rest, count = _largest([file.pixels for file in files], _RESOLUTION)
    less = _others(count, "have at most", "has")
    return best, f"{_megapixels(top)} megapixels, {less} {_megapixels(rest)}"


def _megapixels(pixels: float) -> str:
    return f"{pixels / 1e6:.1f}" if pixels >= 1e6 else f"{pixels / 1e6:.2g}"


def _by_sharpness(files: Sequence[FileFacts]) -> tuple[list[int], str]:
    best, top, rest, count = _largest([file.sharpness or 0.0 for file in files], _SHARPNESS)
    less = _others(count, "have at most", "has")
    return best, f"sharpness {top:.3g}, {less} {rest:.3g}"


def _by_format(files: Sequence[FileFacts]) -> tuple[list[int], str]:
    tiers = [_TIERS.get(file.format, 0) for file in files]
    best = [index for index, tier in enumerate(tiers) if tier == max(tiers)]
    rest = sorted({file.format for file, tier in zip(files, tiers, strict=True) if tier < max(tiers)})
    names = " and ".join(sorted({files[index].format for index in best}))
    return best, f"{names}, {_others(len(files) - len(best), 'are', 'is')} {' or '.join(rest)}"


def _by_labels(files: Sequence[FileFacts]) -> tuple[list[int], str]:
    ranks = [(file.is_labelled, len(file.keywords), file.companions) for file in files]
    best = [index for index, rank in enumerate(ranks) if rank == max(ranks)]
    if len(best) == len(files):
        return best, ""
    top, rest = max(ranks), max(rank for rank in ranks if rank < max(ranks))
    less = _others(len(files) - len(best), "have", "has")
    if top[0] != rest[0]:
        return best, f"bears a verified label, {less} none"
    if top[1] != rest[1]:
        named = _some(files[best[0]].keywords)
        return best, f"keywords {named}; {less} {'fewer' if rest[1] else 'none'}"
    return best, f"{top[2]} companion file{'s'[: top[2] - 1]} beside it, {less} {rest[2] or 'none'}"


def _some(keywords: Sequence[str]) -> str:
    shown = ", ".join(keywords[:_SHOWN_KEYWORDS])
    return (
        shown if len(keywords) <= _SHOWN_KEYWORDS else f"{shown} and {len(keywords) - _SHOWN_KEYWORDS} more"
    )


def _by_metadata(files: Sequence[FileFacts]) -> tuple[list[int], str]:
    counts = [len(file.metadata) for file in files]
    best = [index for index, count in enumerate(counts) if count == max(counts)]
    rest = [count for count in counts if count < max(counts)]
    known = sorted({files[index].metadata for index in best})
    words = " or ".join(", ".join(names) for names in known)
    less = _others(len(rest), "tell at most", "tells")
    return best, f"tells {words}; {less} {max(rest, default=0) or 'none'} of the three"


def _by_name(files: Sequence[FileFacts]) -> tuple[list[int], str]:
    # Paths are bytes, which Path does not take.
    stems = [os.path.splitext(os.path.basename(file.path))[0].lower() for file in files]  # noqa: PTH119, PTH122
    made = [any(other in stem and other != stem for other in stems) for stem in stems]
    best = [index for index, is_made in enumerate(made) if not is_made]
    words = "the other names are" if len(files) - len(best) > 1 else "the other name is"
    # Names that have nothing to do with each other tell nothing about which came first.
    parts = {stems[index] for index in best}
    if len(parts) > 1:
        return list(range(len(files))), ""
    return best, f"{words} made from its name"


def _by_size(files: Sequence[FileFacts]) -> tuple[list[int], str]:
    best, top, rest, count = _largest([file.size for file in files], _SIZE)
    less = _others(count, "have at most", "has")
    return best, f"{_kilobytes(top)} kB, {less} {_kilobytes(rest)} kB"


def _kilobytes(size: float) -> str:
    return f"{size / 1e3:,.0f}" if size >= 10_000 else f"{size / 1e3:.2g}"


def _by_age(files: Sequence[FileFacts]) -> tuple[list[int], str]:
    taken = [(file.captured_at or _NEVER)[:_SECOND] for file in files]
    best = [index for index, at in enumerate(taken) if at == min(taken)]
    rest = [at for at in taken if at > min(taken)]
    why = ""
    if rest:
        words = "later" if min(rest) < _NEVER else "at an unknown time"
        why = f"taken {min(taken).replace('T', ' ')}, {_others(len(rest), 'were', 'was')} taken {words}"
    first = min(files[index].mtime_ns for index in best)
    oldest = [index for index in best if files[index].mtime_ns - first <= _SAME_TIME_NS]
    if len(oldest) < len(best):
        changed = f"oldest file, {_others(len(best) - len(oldest), 'were', 'was')} changed later"
        why = f"{why}; {changed}" if why else changed
    return oldest, why


_JUDGES: dict[str, Callable[[Sequence[FileFacts]], tuple[list[int], str]]] = {
    "resolution": _by_resolution,
    "sharpness": _by_sharpness,
    "original-format": _by_format,
    "labels": _by_labels,
    "metadata": _by_metadata,
    "name": _by_name,
    "size": _by_size,
    "oldest": _by_age,
}
