"""Hits and labels as answers give them: frozen, and the same for Python, JSON, OpenAPI and the client."""

from __future__ import annotations

from dataclasses import dataclass, field

from birdsearch.model.images.box import Box
from birdsearch.search.json_records import HIDDEN, OPTIONAL, SHARE, Record

__all__ = ["Hit", "LabelEstimate", "LabelEvidence", "QueryPhoto", "QueryResult", "Voter"]


@dataclass(frozen=True, slots=True)
class LabelEstimate(Record):
    """One possible label and how likely it is.

    Attributes:
        name: The class, as the model or a verified label names it.
        scientific_name: Its scientific name, or None where it is not known.
        rank: Taxonomic rank of `name`, such as `species`.
        probability: The answer, 0..1.
        p_model: What the network alone says, 0..1.
        p_knn: What the verified neighbours alone say, 0..1, or None if none voted.
        flag: What a checklist says against it at the time and place of the photo: one of `checklist.FLAGS`, empty
            if nothing, or None without a checklist, where JSON leaves it out.
    """

    name: str
    scientific_name: str | None
    rank: str
    probability: float = field(metadata=SHARE)
    p_model: float = field(metadata=SHARE)
    p_knn: float | None = field(default=None, metadata=SHARE)
    flag: str | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True, slots=True)
class Voter(Record):
    """A verified photo that had a part in a label.

    Attributes:
        photo_id: Id of the photo.
        path: Absolute path, escaped for people; from a service, the path that it shows.
        similarity: Cosine of its embedding and the query's, -1..1; higher is more alike.
        label: What it was verified to be.
        file: Absolute path, as the file system has it.
        thumb: Address of its thumbnail below that of the service, or None where no service answered.
    """

    photo_id: int
    path: str
    similarity: float
    label: str
    file: bytes = field(default=b"", repr=False, compare=False, metadata=HIDDEN)
    thumb: str | None = field(default=None, repr=False, compare=False, metadata=OPTIONAL)


@dataclass(frozen=True, slots=True)
class LabelEvidence(Record):
    """Why a photo is labelled as it is.

    Attributes:
        name: The label at the finest rank that is as sure as asked: a species, a clade, or `bird`.
        rank: `species`, `genus`, `family`, `order` or `bird`.
        probability: That `name` is right, 0..1, the chance that the bird is of no known label included.
        knn_weight: Part of the decision between the two likeliest labels that the verified photos made, 0..1;
            `lambda` in JSON.
        calibrated: True if the probabilities were fitted on verified photos of this catalog.
        neighbours: The nearest verified photos, nearest first, without copies of the query and its own burst.
        flag: What a checklist says against `name`; see `LabelEstimate`.
    """

    name: str
    rank: str
    probability: float = field(metadata=SHARE)
    knn_weight: float = field(metadata={**SHARE, "alias": "lambda"})
    calibrated: bool
    neighbours: tuple[Voter, ...] = ()
    flag: str | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True, slots=True)
class Hit(Record):
    """A photo of the catalog that looks like the query; of several views of a photo, the best one.

    Attributes:
        rank: 1 for the most alike.
        similarity: Cosine of the two embeddings, -1..1; higher is more alike.
        path: Absolute path, escaped for people; `file` is what opens it. From a service, the path that it shows.
        photo_id: Id of the photo.
        view_id: Id of its view that matched.
        view: Kind of that view: `whole`, `tile` or `box`.
        box: Region of that view.
        label: Likeliest class by the stored embedding, or None if the model has no classes.
        label_probability: Probability of `label`, 0..1, or None.
        captured_at: Local wall-clock time, ISO 8601 without zone, or None.
        lat: Degrees north, or None.
        lon: Degrees east, or None.
        camera: Make and model, or None.
        file: Absolute path, as the file system has it.
        width: Pixels of the upright photo.
        height: As `width`.
        verified: What the photo was verified to be, or None.
        flag: What a checklist says against `label` at the time and place of this photo; see `LabelEstimate`.
        coarse: True if the place is given to 0.1 degree only, as the species is sensitive; see
            `birdsearch.search.query.location_privacy.coarsening`.
        thumb: Address of its thumbnail below that of the service, or None where no service answered.
    """

    rank: int
    similarity: float
    path: str
    photo_id: int
    view_id: int
    view: str
    box: Box
    label: str | None
    label_probability: float | None = field(metadata=SHARE)
    captured_at: str | None
    lat: float | None
    lon: float | None
    camera: str | None
    file: bytes = field(default=b"", repr=False, metadata=HIDDEN)
    width: int = 0
    height: int = 0
    verified: str | None = None
    flag: str | None = field(default=None, metadata=OPTIONAL)
    coarse: bool = False
    thumb: str | None = field(default=None, repr=False, compare=False, metadata=OPTIONAL)


@dataclass(frozen=True, slots=True)
class QueryPhoto(Record):
    """The photo that was asked about.

    Attributes:
        path: Its path, escaped for people; of a Pillow image, its file name or `image`; empty where no single photo
            was asked about.
        photo_id: Its id, if its content is in the catalog, else None.
        box: The region that was asked about, or None for the whole frame.
        file: Path that opens it, or None for a Pillow image.
    """

    path: str
    photo_id: int | None = None
    box: Box | None = None
    file: bytes | None = field(default=None, repr=False, metadata=HIDDEN)


@dataclass(frozen=True, slots=True)
class QueryResult(Record):
    """The answer to one query photo.

    Attributes:
        query: What was asked.
        hits: The most alike photos, best first; none where only labels were asked for.
        labels: The five likeliest labels of the query, likeliest first.
        unknown: Probability that the bird is of no known label, 0..1, or None if it was not estimated.
        warnings: For a person.
        evidence: What the labels rest on, or None for a catalog without photos.
    """

    query: QueryPhoto
    hits: tuple[Hit, ...]
    labels: tuple[LabelEstimate, ...]
    unknown: float | None = field(default=None, metadata=SHARE)
    warnings: tuple[str, ...] = ()
    evidence: LabelEvidence | None = None
