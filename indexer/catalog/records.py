"""Frozen records that the catalog gives out, with no connection behind them."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from birdsearch.model.images.box import Box

__all__ = [
    "CatalogCounts",
    "FailureRecord",
    "FileTask",
    "FoundFile",
    "ModelRecord",
    "PhotoRecord",
    "Prediction",
    "ViewRecord",
]


@dataclass(frozen=True, slots=True, eq=False)
class ModelRecord:
    """A model that vectors of this catalog were made with.

    Attributes:
        id: Row id in this catalog.
        name: Weights name, or the stem of the file they came from.
        network: Variant of XCiT.
        sha256: Hash of the weights file, hexadecimal.
        preprocessing: Identifies how pixels were prepared; vectors of two preprocessings do not compare.
        embedding_size: Dimensions of the embedding, C.
        classes: Class names in the order of the logits.
        head_weight: (classes, C) float32.
        head_bias: (classes,) float32.
        weights_path: Where the weights file was last seen, or None.
    """

    id: int
    name: str
    network: str
    sha256: str
    preprocessing: str
    embedding_size: int
    classes: tuple[str, ...]
    head_weight: np.ndarray
    head_bias: np.ndarray
    weights_path: bytes | None

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the logits of stored embeddings: the classifier head is linear on the embedding.

        Args:
            embeddings: (B, C) float32, un-normalised.

        Returns:
            (B, classes) float32.
        """
        return np.ascontiguousarray(embeddings @ self.head_weight.T + self.head_bias, dtype=np.float32)

    def logits_of_each(self, embeddings: np.ndarray) -> np.ndarray:
        """Return `logits` of each embedding, independent of the rest of the batch: rounded once from float64.

        Args:
            embeddings: (B, C) float32, un-normalised.

        Returns:
            (B, classes) float32; infinite where an embedding is damaged.
        """
        # (B, C) @ (C, classes) -> (B, classes)
        wide = embeddings.astype(np.float64) @ self.head_weight.astype(np.float64).T + self.head_bias
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(wide, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class PhotoRecord:
    """One distinct photo, with the first path where it is found.

    Attributes:
        id: Photo id.
        path: Absolute path as bytes: of a file that is there, if any, else of one that was.
        missing: True if no file with this content is known to be there.
        digest: Digest of the picture, hexadecimal; see `birdsearch.model.images.digest`.
        captured_at: Local wall-clock time, ISO 8601 without zone, or None.
        offset_minutes: Offset of that clock from UTC, or None where the camera did not say.
        latitude: Degrees north, or None.
        longitude: Degrees east, or None.
        altitude_m: Metres above sea level, or None.
        camera: Make and model, or None.
        lens: Lens model, or None.
        width: Pixels, upright.
        height: Pixels, upright.
    """

    id: int
    path: bytes
    missing: bool
    digest: str
    size: int
    format: str
    width: int
    height: int
    captured_at: str | None
    offset_minutes: int | None
    latitude: float | None
    longitude: float | None
    altitude_m: float | None
    camera: str | None
    lens: str | None


@dataclass(frozen=True, slots=True)
class ViewRecord:
    """A region of a photo that has a vector: the whole frame, a tile or a detector's box."""

    id: int
    photo_id: int
    kind: str
    box: Box


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """A file that could not be indexed: where it failed and why."""

    path: bytes
    stage: str
    code: str
    reason: str
    transient: bool


@dataclass(frozen=True, slots=True)
class CatalogCounts:
    """How much a catalog holds.

    Attributes:
        photos: Distinct photos with at least one file there.
        missing_photos: Distinct photos with no file there any more; their vectors and labels are kept.
        files: Files present, copies and hard links counted each.
        files_away: Files that are under an indexed folder which is not there now, as on a disk that is not mounted.
        missing_files: Files that were there and are not.
        failures: Files that could not be read, by failure code.
        embeddings: Vectors of the model in use.
        bytes: Size on disk, vector index included.
    """

    photos: int
    missing_photos: int
    files: int
    files_away: int
    missing_files: int
    failures: dict[str, int]
    embeddings: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a run said about a view.

    Attributes:
        view_id: The view.
        name: The label at the finest rank that is as sure as asked.
        rank: `species`, `genus`, `family`, `order` or `bird`.
        probability: That `name` is right, 0..1.
        species: The likeliest label.
        species_probability: Its probability among the known labels, 0..1.
        margin: That probability less the second one's, 0..1; low is doubtful.
        p_model: Probability of `species` by the network alone.
        p_knn: Probability of `species` by the verified neighbours alone, or None if none voted.
        knn_weight: Part of the decision that the verified photos made, 0..1.
        unknown: Probability that the bird is of no known label, 0..1.
        flags: What the run's checklist says against `name`: one of `checklist.FLAGS`, or empty if nothing or if
            there was no checklist.
    """

    view_id: int
    name: str
    rank: str
    probability: float
    species: str
    species_probability: float
    margin: float
    p_model: float
    p_knn: float | None
    knn_weight: float
    unknown: float
    flags: str = ""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that is named like a picture.

    Attributes:
        path: Relative to the root, separated by `/`.
        size: Bytes.
        mtime_ns: Time of the last change of the content, in nanoseconds.
        ctime_ns: Time of the last change of the status, in nanoseconds.
        device: Device that holds it.
        inode: Its number there: the same device and inode are the same file.
    """

    path: bytes
    size: int
    mtime_ns: int
    ctime_ns: int
    device: int
    inode: int


@dataclass(frozen=True, slots=True)
class FileTask:
    """A file that has to be read: new, changed, to be tried again, or to be read as it is read by now.

    Attributes:
        root_id: Its root.
        root: Absolute path of the root.
        found: What the crawl saw.
        file_id: Its row, or None if the path is new.
        photo_id: The photo that this path showed before, or None.
        reading: The reading that it was last read by, or None.
        is_same: Its status is what it was when it was last read, and it could be read.
    """

    root_id: int
    root: bytes
    found: FoundFile
    file_id: int | None
    photo_id: int | None
    reading: int | None = None
    is_same: bool = False

    @property
    def absolute(self) -> bytes:
        """Absolute path."""
        return os.path.join(self.root, self.found.path)  # noqa: PTH118
