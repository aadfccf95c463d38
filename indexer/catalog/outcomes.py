"""Outcomes of the files that a run read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from birdsearch.errors import PhotoError
from birdsearch.indexer.catalog.records import FileTask
from birdsearch.model.images.decode import DecodedPhoto, FileDigests, SeenPhoto
from birdsearch.model.images.exif import Capture

__all__ = ["EmbeddedFile", "FailedFile", "KnownFile", "Outcome"]


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedFile:
    """A file that was read, decoded and embedded: `vector` is (C,) float32, un-normalised."""

    task: FileTask
    digests: FileDigests
    photo: DecodedPhoto
    vector: np.ndarray

    @property
    def rendering(self) -> str:
        """How the file says that its picture is shown."""
        return self.photo.rendering

    @property
    def capture(self) -> Capture:
        """What the file says about how the photo was taken."""
        return self.photo.capture


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file whose picture the catalog has, or will have from an earlier file of this run.

    `seen` is what it says of the photo; None for a file that equals another one byte by byte.
    """

    task: FileTask
    digests: FileDigests
    seen: SeenPhoto | None = None

    @property
    def rendering(self) -> str | None:
        """How the file says that its picture is shown, where it was looked at."""
        return None if self.seen is None else self.seen.rendering

    @property
    def capture(self) -> Capture | None:
        """What the file says about how the photo was taken, where it was looked at."""
        return None if self.seen is None else self.seen.capture


@dataclass(frozen=True, slots=True)
class FailedFile:
    """A file that could not be read, and why."""

    task: FileTask
    error: PhotoError


Outcome = EmbeddedFile | KnownFile | FailedFile
