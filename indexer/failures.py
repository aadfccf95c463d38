"""Failures by their reason, each with what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from birdsearch.indexer.catalog.records import FailureRecord

__all__ = ["FailureGroup", "advice", "group_failures"]

_AGAIN = "then run `birdsearch index` again"
_NEXT_RUN = "the next `birdsearch index` tries it again"
_ANOTHER_PROGRAM = "open it in another program and save it anew; what comes out is read by the next run"

# Codes whose reason names no single file, so that files of one reason belong together.
_BY_REASON = frozenset(("needs-extra", "unsupported-format"))
# Code -> what is wrong, where the reason differs from file to file, and what to do.
_KNOWN: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "needs-extra": ("", _AGAIN),
        "unsupported-format": ("", "nothing else is to be done, they stay listed"),
        "empty": ("the file is empty", f"copy it again from the card or a backup, {_AGAIN}"),
        "not-a-picture": ("the content is no picture", "rename or delete it, or leave it: it does no harm"),
        "truncated": ("the file ends early", f"copy it again from the card or a backup, {_AGAIN}"),
        "corrupt": ("the file is damaged", f"copy it again from the card or a backup, {_AGAIN}"),
        "crashed": ("the decoder crashed on the file", _ANOTHER_PROGRAM),
        "text-bomb": ("a text in the file unpacks to too much", _ANOTHER_PROGRAM),
        "deadline": (
            "reading or decoding took too long",
            "if the disk or the machine was busy: `birdsearch index --retry-failed`",
        ),
        "out-of-memory": (
            "there was not enough memory",
            "`birdsearch index --retry-failed --workers 1` needs the least",
        ),
        "too-many-pixels": ("the picture has more pixels than are read", "save a smaller copy of it"),
        "too-many-bytes": ("the file is larger than what is read", "save a smaller copy of it"),
        "bad-embedding": ("the network gave no usable vector", "save the picture anew, or leave it out"),
        "copy-failed": ("another file of the same content failed", "see that one"),
        "unreadable": ("the file may not be read", f"give yourself the right to read it, {_AGAIN}"),
        "io-error": ("the disk gave an error", f"check the disk and its cable; {_NEXT_RUN}"),
        "changed": ("the file changed while it was read", _NEXT_RUN),
        "vanished": ("the file was gone when it was its turn", _NEXT_RUN),
        "not-a-file": ("it is a pipe, a socket or a device", "leave it: it is never opened"),
        "broken-link": ("the link leads nowhere", "mend or delete the link"),
        "link-out-of-root": (
            "the link leads out of the folder",
            "`birdsearch index --follow-links` enters it",
        ),
        "path-too-long": ("the path is too long for the system", f"shorten its folders' names, {_AGAIN}"),
    }
)


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Files that failed for one reason.

    Attributes:
        code: The failure code that they share.
        reason: What is wrong, in words that hold for all of them.
        advice: What to do about it.
        failures: The files, in order of their paths.
    """

    code: str
    reason: str
    advice: str
    failures: tuple[FailureRecord, ...]

    def line(self) -> str:
        """Return how many files, what is wrong and what to do, on one line."""
        count = len(self.failures)
        return f"{count} {'file' if count == 1 else 'files'}: {self.reason}; {self.advice}"


def advice(code: str, *, transient: bool = False) -> str:
    """Say what to do about a failure code."""
    if code in _KNOWN:
        return _KNOWN[code][1]
    return _NEXT_RUN if transient else "see each file's own reason"


def group_failures(failures: Iterable[FailureRecord]) -> list[FailureGroup]:
    """Group failures by what is wrong with them, most files first."""
    groups: dict[tuple[str, str], list[FailureRecord]] = {}
    for failure in failures:
        what = failure.reason if failure.code in _BY_REASON else _KNOWN.get(failure.code, (failure.code,))[0]
        groups.setdefault((failure.code, what), []).append(failure)
    found = [
        FailureGroup(code, what, advice(code, transient=listed[0].transient), tuple(listed))
        for (code, what), listed in groups.items()
    ]
    return sorted(found, key=lambda group: (-len(group.failures), group.code, group.reason))
