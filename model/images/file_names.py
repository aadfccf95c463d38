"""What the name of a photo file tells: a camera's counter, a time, whether it is a smaller version of another."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

__all__ = ["NameFacts", "file_number", "name_facts"]

# The last run of three digits or more: a camera's counter. "DSC_1649_crop-90" is number 1649.
_NUMBER = re.compile(rb"\d{3,18}(?!.*\d{3})", re.DOTALL)
_NO_DIGIT = re.compile(rb"\D")
# A date, with the time if it follows.
_DATED = re.compile(
    rb"(?<!\d)(?:19|20)\d\d([-_. ]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
    rb"(?:[-_. T]*[0-2]\d([-_.:h ]?)[0-5]\d\2[0-5]\d(?:[-_.]?\d{3,6})?)?(?!\d)"
)
# What programs add to the name of a reduced version: `-1024x683`, `-scaled` (WordPress), `_thumb`, `@2x`.
_REDUCED = re.compile(
    rb"[-_ @.](?:\d{2,5}x\d{2,5}|scaled|thumb(?:nail)?|small|medium|large|preview|web|[234]x)$", re.I
)
# `-2400`: a size only if the picture has it, and never after an underscore, as in `DSC_2400`.
_SIDE = re.compile(rb"[-@](\d{2,5})(?:px)?$")
_COPY = re.compile(rb"(?: ?\(\d{1,3}\)| ?- ?copy)$", re.I)


class NameFacts(NamedTuple):
    """What a file's name tells.

    Attributes:
        prefix: What stands before the number, empty without one.
        number: See `file_number`.
        is_bare: Nothing stands after the number.
        base: The name without its suffix and without what says that it is a copy or of another size.
    """

    prefix: bytes
    number: int
    is_bare: bool
    base: bytes


def name_facts(name: bytes, sides: tuple[int, int]) -> NameFacts:
    """Read a file's name.

    Args:
        name: Its name.
        sides: Width and height of the picture: a number that is one of them is its size, not a counter.
    """
    stem = base = os.path.splitext(name)[0]  # noqa: PTH122 names are bytes
    while True:
        match = _REDUCED.search(base) or _COPY.search(base)
        if match is None:
            match = _SIDE.search(base)
            if match is not None and int(match.group(1)) not in sides:
                match = None
        if match is None or match.start() == 0:
            break
        base = base[: match.start()]
    prefix, number, is_bare = file_number(base + b".")
    return NameFacts(prefix, number, is_bare and base == stem, base)


def file_number(name: bytes) -> tuple[bytes, int, bool]:
    """Return the text before the number in a file's name, the number, and whether nothing follows it.

    The number is the last run of at least three digits, so that `DSC_1649.NEF`, `DSC_1649 (1).JPG` and
    `DSC_1649_crop-90.jpg` have the same. A date and time count nothing: they are the number, of 14 digits or more,
    only of a name that has no other, and a date alone is none.

    Returns:
        Prefix, number and True for a bare name; (b"", -1, False) if there is no number.
    """
    stem = os.path.splitext(name)[0]  # noqa: PTH122 names are bytes
    rest = _DATED.sub(b"", stem)
    match = _NUMBER.search(rest)
    if match is not None:
        return rest[: match.start()], int(match.group()), match.end() == len(rest)
    dated = _DATED.search(stem)
    digits = b"" if dated is None else _NO_DIGIT.sub(b"", dated.group())[:18]
    if dated is None or len(digits) < 14:
        return b"", -1, False
    return stem[: dated.start()], int(digits), dated.end() == len(stem)
