"""Labels of a table: which photos and which taxon each row names."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from birdsearch.display_path import display_path
from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.files import LiveFile, files_at, live_files
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.verified_labels import VERDICTS
from birdsearch.search.annotate.label_table import NAME_COLUMNS, TableColumns, TableRow, read_table
from birdsearch.search.annotate.names import Matched, NameMatcher, Unmatched
from birdsearch.search.annotate.proposals import (
    Claim,
    Problem,
    Proposals,
    UnusableError,
    joined,
    range_below,
    settled,
)
from birdsearch.search.annotate.sources import glob_start, matches_glob

__all__ = ["from_table"]

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_PHOTO_ID = re.compile(r"#?(\d{1,18})", re.ASCII)


def from_table(
    store: CatalogStore, path: Path, matcher: NameMatcher, columns: TableColumns | None = None
) -> Proposals:
    """Propose the labels of a table, CSV or Parquet; see `read_table`.

    A photo is named by `sha256`, by `photo_id` (`12` or `#12`) or by `path`: absolute, or relative to the table's
    folder, else to a folder that was indexed. A path with `*`, `?`, `[...]` or `**` that names no file is a
    pattern, and its label is one of every photo that matches. Where a row names its photo in two ways, they
    must agree. `verdict` and `who` may be left out or empty.

    Args:
        store: An open catalog.
        path: The table.
        matcher: Finds the taxa.
        columns: Columns that are named, and not to be found.

    Returns:
        The labels, and each row that cannot be used with the reason.

    Raises:
        InvalidInputError: The table as a whole cannot be used.
    """
    table = read_table(path, columns)
    rows = table.rows
    finder = _PhotoFinder(store, path, rows)
    claims: list[Claim] = []
    problems: list[Problem] = []
    for row in rows:
        try:
            if row.problem:
                raise UnusableError(row.problem)
            if row.values.get("method", "").casefold() == "machine":
                raise UnusableError(
                    "a machine classified it (classificationMethod); a label is what a person said"
                )
            verdict = row.values.get("verdict", "positive").casefold()
            if verdict not in VERDICTS:
                raise UnusableError(
                    f"the verdict {row.values['verdict']!r} is none; it is {', '.join(VERDICTS)}"
                )
            if not row.values.get("who", "").isprintable():
                raise UnusableError(f"who is {row.values['who']!r}, which has characters that do not print")
            named = _row_taxon(row, matcher)
            said = named.verdict_with(verdict)
            claims += [
                Claim(photo_id, named.taxon, said, row.where, row.values.get("who", ""))
                for photo_id in finder.find(row)
            ]
        except InvalidInputError as error:
            problems.append(Problem(row.where, str(error)))
        except UnusableError as error:
            problems.append(Problem(row.where, str(error), error.is_unknown_name))
    return settled(store, claims, problems, table.notes, new=matcher.new)


def _row_taxon(row: TableRow, matcher: NameMatcher) -> Matched:
    names = {column: row.values[column] for column in NAME_COLUMNS if column in row.values}
    if not names:
        raise UnusableError("it names no taxon")
    looks = {column: matcher.look(name) for column, name in names.items()}
    refused = next((look for look in looks.values() if isinstance(look, Unmatched) and look.refusal), None)
    if refused is not None:
        raise UnusableError(refused.reason)
    taxa = {look.taxon.common_name: look.taxon for look in looks.values() if isinstance(look, Matched)}
    if len(taxa) > 1:
        said = " and ".join(
            f"{column} says {look.taxon.common_name}"
            for column, look in looks.items()
            if isinstance(look, Matched)
        )
        raise UnusableError(f"{said}; correct one of them")
    if taxa:
        matched = [look for look in looks.values() if isinstance(look, Matched)]
        verdicts = {look.verdict for look in matched}
        if "negative" in verdicts and len(verdicts) > 1:
            raise UnusableError(f"{' and '.join(repr(look.name) for look in matched)} contradict each other")
        return next((look for look in matched if look.verdict != "positive"), matched[0])
    shared = next(
        (look for look in looks.values() if isinstance(look, Unmatched) and not look.is_unknown), None
    )
    match = shared or matcher.match(next(iter(names.values())), names.get("scientific_name", ""))
    if isinstance(match, Unmatched):
        raise UnusableError(match.reason, is_unknown_name=match.is_unknown)
    return match


class _PhotoFinder:
    """Finds the photos that a table's rows name, with few questions to the catalog for many rows."""

    def __init__(self, store: CatalogStore, table: Path, rows: Sequence[TableRow]) -> None:
        self._store = store
        self._folder = os.path.realpath(os.fsencode(table.absolute().parent))
        self._roots = [path for _, path in store.roots()]
        self._real: dict[bytes, bytes] = {}
        self._live: list[LiveFile] | None = None
        texts = {row.values["path"] for row in rows if "path" in row.values}
        meant = {text: self._meant(text) for text in texts if "\0" not in text}
        self._meant_by = meant
        self._files = files_at(
            store, {name for groups in meant.values() for group in groups for name in group}
        )
        digests = {
            row.values["sha256"].lower() for row in rows if _SHA256.fullmatch(row.values.get("sha256", ""))
        }
        self._by_digest = store.photo_ids(digests=[bytes.fromhex(digest) for digest in sorted(digests)])
        ids = {
            int(match.group(1))
            for row in rows
            if (match := _PHOTO_ID.fullmatch(row.values.get("photo_id", "")))
        }
        self._ids = store.whole_views(sorted(ids)).keys()

    def find(self, row: TableRow) -> list[int]:
        """Return the ids of the photos of a row, rising.

        Raises:
            UnusableError: It names none, or contradicts itself.
        """
        ways = {"sha256": self._of_digest, "photo_id": self._of_id, "path": self._of_path}
        named = {column: row.values[column] for column in ways if column in row.values}
        if not named:
            raise UnusableError("it names no photo: path, photo_id and sha256 are empty")
        first: tuple[str, list[int]] | None = None
        for column, value in named.items():
            try:
                found = ways[column](value)
            except UnusableError:
                # A file may have moved since; its photo is known by another column.
                if column == "path" and first is not None:
                    continue
                raise
            if first is None:
                first = (column, found)
            elif first[1] != found:
                raise UnusableError(f"its {first[0]} and its {column} name different photos")
        return first[1] if first is not None else []

    def _of_digest(self, value: str) -> list[int]:
        if not _SHA256.fullmatch(value):
            raise UnusableError(f"sha256 {value!r} is not 64 hexadecimal digits")
        photo_id = self._by_digest.get(bytes.fromhex(value))
        if photo_id is None:
            raise UnusableError(
                f"no photo of the catalog has the sha256 {value.lower()}: photos that were indexed since schema 5 "
                "are known by their picture; name this one by its path or photo_id"
            )
        return [photo_id]

    def _of_id(self, value: str) -> list[int]:
        match = _PHOTO_ID.fullmatch(value)
        if match is None or int(match.group(1)) not in self._ids:
            raise UnusableError(f"the catalog has no photo of the id {value!r}")
        return [int(match.group(1))]

    def _of_path(self, value: str) -> list[int]:
        groups = self._meant_by.get(value)
        if groups is None:
            raise UnusableError("its path has a NUL in it")
        failed = ""
        for group in groups:
            known = [self._files[name] for name in group if name in self._files]
            found = sorted({file.photo_id for file in known if file.photo_id is not None})
            if len(found) > 1:
                raise UnusableError(f"{value!r} is in more than one indexed folder; write the absolute path")
            if found:
                return found
            failed = failed or next((file.reason for file in known), "")
        if failed:
            raise UnusableError(f"{value!r} could not be indexed: {failed}")
        if any(sign in value for sign in "*?["):
            for group in groups:
                found = self._matching(group)
                if found:
                    return found
            raise UnusableError(f"no photo of the catalog matches {value!r}")
        raise UnusableError(f"{value!r} is not in the catalog; {self._advice(groups)}")

    def _advice(self, groups: Sequence[Sequence[bytes]]) -> str:
        for name in (name for group in groups for name in group):
            if os.path.isdir(name):  # noqa: PTH112 bytes
                return f"it is a folder: {display_path(name)}/** means everything in it"
            if os.path.exists(name):  # noqa: PTH110 bytes
                return f"`birdsearch index {display_path(os.path.dirname(name))}` adds it"  # noqa: PTH120 bytes
        return "there is no such file either; relative paths start at the table's folder or an indexed one"

    def _meant(self, text: str) -> list[list[bytes]]:
        """Return the absolute paths that a path may mean, in groups; those of one group are equally good."""
        spellings = [text]
        if "\\" in text:
            spellings.append(text.replace("\\", "/"))
        if not text.isascii():
            # Some file systems and spreadsheets compose letters with their marks, others take them apart.
            spellings += [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]
        encoded = list(dict.fromkeys(os.fsencode(spelling) for spelling in spellings))
        if os.path.isabs(encoded[0]):  # noqa: PTH117 bytes
            tops: list[list[bytes]] = [[b"/"]]
        else:
            tops = [[self._folder], self._roots]
        return [
            list(dict.fromkeys(name for top in group for path in encoded for name in self._names(top, path)))
            for group in tops
        ]

    def _names(self, top: bytes, path: bytes) -> tuple[bytes, bytes]:
        """Return the absolute path as written, and with the links in its folder resolved, as roots are stored."""
        name = os.path.abspath(os.path.join(top, path))  # noqa: PTH100, PTH118 bytes
        folder, base = os.path.split(name)
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        return name, joined(self._real[folder], base)

    def _matching(self, patterns: Sequence[bytes]) -> list[int]:
        if self._live is None:
            self._live = live_files(self._store)
        found: set[int] = set()
        for pattern in patterns:
            start, rest = glob_start(os.fsdecode(pattern))
            if not rest:
                continue
            for top in {start, os.path.realpath(start)}:
                folder = os.fsencode(top)
                below = [self._live[row] for row in range_below(self._live, folder)]
                start_of_rest = len(joined(folder, b""))
                found |= {
                    file.photo_id
                    for file in below
                    if matches_glob(os.fsdecode(file.absolute[start_of_rest:]), rest)
                }
        return sorted(found)
