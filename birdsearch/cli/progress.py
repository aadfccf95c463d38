"""Progress bars: on stderr, and only where it is a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm

    from birdsearch.model.weights import Progress

__all__ = ["IndexBars", "download_bar"]


@contextlib.contextmanager
def download_bar(name: str) -> Iterator[Progress | None]:
    """Show a bar on stderr, from the first bytes on and only on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    bar = None

    def update(received: int, total: int | None) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(desc=name, total=total, unit="B", unit_scale=True, file=sys.stderr)
        bar.update(received - bar.n)

    try:
        yield update
    finally:
        if bar is not None:
            bar.close()


class IndexBars:
    """The two phases of an index run: scanning folders, then indexing what has to be read.

    Attributes:
        planned_files: How many files have to be read; None while that is not known.
        committed_files: How many of them are safe in the catalog.
    """

    def __init__(self) -> None:
        from tqdm import tqdm

        self._tqdm = tqdm
        self._off = not sys.stderr.isatty()
        self._scan: tqdm[None] = tqdm(desc="scanning", unit=" files", disable=self._off, leave=False)
        self._read: tqdm[None] | None = None
        self.planned_files: int | None = None
        self.committed_files = 0

    def scanned(self, files: int) -> None:
        """Count files that were seen."""
        self._scan.update(files)

    def planned(self, files: int) -> None:
        """Take the number of files to be read, once the scan is over."""
        self.planned_files = files
        self._scan.close()
        self._read = self._tqdm(
            total=files, desc="indexing", unit=" photos", disable=self._off, smoothing=0.05
        )

    def committed(self, files: int) -> None:
        """Count files that are committed to the catalog."""
        self.committed_files += files
        if self._read is not None:
            self._read.update(files)

    def __enter__(self) -> IndexBars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scan.close()
        if self._read is not None:
            self._read.close()
