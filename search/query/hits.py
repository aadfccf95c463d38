"""What a search answers: frozen, and the same for the Python API, the command line and the service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from birdsearch.model.images.box import Box

__all__ = ["Hit", "LabelEstimate", "LabelEvidence", "QueryPhoto", "QueryResult", "Voter"]


@dataclass(frozen=True, slots=True)
class LabelEstimate:
    """One possible label and how likely it is.

    Attributes:
        name: The class, as the model or a verified label names it.
        scientific_name: Its scientific name, or None where it is not known.
        rank: Taxonomic rank of `name`, such as `species`.
        probability: The answer, 0..1.
        p_model: What the network alone says, 0..1.
        p_knn: What the verified neighbours alone say, 0..1, or None if none voted.
        flag: What a checklist says against it at the time and place of the photo: one of `checklist.FLAGS`, empty
            if nothing, or None without a checklist.
    """

    name: str
    scientific_name: str | None
    rank: str
    probability: float
    p_model: float
    p_knn: float | None = None
    flag: str | None = None

    def to_dict(self) -> dict[str, object]:
        """The estimate as JSON types; `flag` is there with a checklist only."""
        return {
            "name": self.name,
            "scientific_name": self.scientific_name,
            "rank": self.rank,
            "probability": self.probability,
            "p_model": self.p_model,
            "p_knn": self.p_knn,
            **_flag_item(self.flag),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> LabelEstimate:
        """The estimate that `to_dict` wrote."""
        return cls(
            name=value["name"],
            scientific_name=value["scientific_name"],
            rank=value["rank"],
            probability=value["probability"],
            p_model=value["p_model"],
            p_knn=value["p_knn"],
            flag=value.get("flag"),
        )


@dataclass(frozen=True, slots=True)
class Voter:
    """A verified photo that had a part in a label.

    Attributes:
        photo_id: Id of the photo.
        path: Absolute path, escaped for people.
        similarity: Cosine of its embedding and the query's, -1..1; higher is more alike.
        label: What it was verified to be.
        file: Absolute path, as the file system has it.
    """

    photo_id: int
    path: str
    similarity: float
    label: str
    file: bytes = field(default=b"", repr=False, compare=False)

    def to_dict(self) -> dict[str, object]:
        """The voter as JSON types."""
        return {
            "photo_id": self.photo_id,
            "path": self.path,
            "similarity": self.similarity,
            "label": self.label,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Voter:
        """The voter that `to_dict` wrote."""
        return cls(value["photo_id"], value["path"], value["similarity"], value["label"])


@dataclass(frozen=True, slots=True)
class LabelEvidence:
    """Why a photo is labelled as it is.

    Attributes:
        name: The label at the finest rank that is as sure as asked: a species, a clade, or `bird`.
        rank: `species`, `genus`, `family`, `order` or `bird`.
        probability: That `name` is right, 0..1, the chance that the bird is of no known label included.
        knn_weight: Part of the decision between the two likeliest labels that the verified photos made, 0..1.
        is_calibrated: True if the probabilities were fitted on verified photos of this catalog.
        voters: The nearest verified photos, nearest first, without copies of the query and its own burst.
        flag: What a checklist says against `name`; see `LabelEstimate`.
    """

    name: str
    rank: str
    probability: float
    knn_weight: float
    is_calibrated: bool
    voters: tuple[Voter, ...] = ()
    flag: str | None = None

    def to_dict(self) -> dict[str, object]:
        """The evidence as JSON types; `lambda` is `knn_weight`, and `flag` is there with a checklist only."""
        return {
            "name": self.name,
            "rank": self.rank,
            "probability": self.probability,
            "lambda": self.knn_weight,
            "calibrated": self.is_calibrated,
            "neighbours": [voter.to_dict() for voter in self.voters],
            **_flag_item(self.flag),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> LabelEvidence:
        """The evidence that `to_dict` wrote."""
        return cls(
            name=value["name"],
            rank=value["rank"],
            probability=value["probability"],
            knn_weight=value["lambda"],
            is_calibrated=value["calibrated"],
            voters=tuple(Voter.from_dict(voter) for voter in value["neighbours"]),
            flag=value.get("flag"),
        )


@dataclass(frozen=True, slots=True)
class Hit:
    """A photo of the catalog that looks like the query; of several views of a photo, the best one.

    Attributes:
        rank: 1 for the most alike.
        similarity: Cosine of the two embeddings, -1..1; higher is more alike.
        path: Absolute path, escaped for people; `file` is what opens it.
        photo_id: Id of the photo.
        view_id: Id of its view that matched.
        view: Kind of that view: `whole`, `tile` or `box`.
        box: Region of that view.
        label: Likeliest class by the stored embedding, or None if the model has no classes.
        label_probability: Probability of `label`, 0..1, or None.
        captured_at: Local wall-clock time, ISO 8601 without zone, or None.
        latitude: Degrees north, or None.
        longitude: Degrees east, or None.
        camera: Make and model, or None.
        file: Absolute path, as the file system has it.
        width: Pixels of the upright photo, 0 where it was not asked.
        height: As `width`.
        flag: What a checklist says against `label` at the time and place of this photo; see `LabelEstimate`.
        is_coarse: True if the place was coarsened to 0.1 degree, as the species is sensitive; see
            `birdsearch.search.query.location_privacy.coarsening`.
    """

    rank: int
    similarity: float
    path: str
    photo_id: int
    view_id: int
    view: str
    box: Box
    label: str | None
    label_probability: float | None
    captured_at: str | None
    latitude: float | None
    longitude: float | None
    camera: str | None
    file: bytes = field(default=b"", repr=False)
    width: int = 0
    height: int = 0
    flag: str | None = None
    is_coarse: bool = False

    def to_dict(self) -> dict[str, object]:
        """The hit as JSON types; the box is `[x, y, w, h]`, and `flag` is there with a checklist only."""
        return {
            "rank": self.rank,
            "path": self.path,
            "similarity": self.similarity,
            "photo_id": self.photo_id,
            "view": self.view,
            "box": _box_list(self.box),
            "label": self.label,
            **_flag_item(self.flag),
            "captured_at": self.captured_at,
            "lat": self.latitude,
            "lon": self.longitude,
            **({"coarse": True} if self.is_coarse else {}),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Hit:
        """The hit that the service sends, which is what `to_dict` writes and more.

        Of what `to_dict` wrote alone, `view_id` and the size are 0, `label_probability` and `camera` None.
        """
        return cls(
            rank=value["rank"],
            similarity=value["similarity"],
            path=value["path"],
            photo_id=value["photo_id"],
            view_id=value.get("view_id", 0),
            view=value["view"],
            box=Box(*value["box"]),
            label=value["label"],
            label_probability=value.get("label_probability"),
            captured_at=value["captured_at"],
            latitude=value["lat"],
            longitude=value["lon"],
            camera=value.get("camera"),
            width=value.get("width", 0),
            height=value.get("height", 0),
            flag=value.get("flag"),
            is_coarse=value.get("coarse", False),
        )


@dataclass(frozen=True, slots=True)
class QueryPhoto:
    """The photo that was asked about.

    Attributes:
        path: Its path, escaped for people; of a Pillow image, its file name or `image`.
        photo_id: Its id, if its content is in the catalog, else None.
        box: The region that was asked about, or None for the whole frame.
        file: Path that opens it, or None for a Pillow image.
    """

    path: str
    photo_id: int | None = None
    box: Box | None = None
    file: bytes | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, object]:
        """The query as JSON types; the box is `[x, y, w, h]` or None."""
        return {
            "path": self.path,
            "photo_id": self.photo_id,
            "box": None if self.box is None else _box_list(self.box),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> QueryPhoto:
        """The query that `to_dict` or the service wrote; one about no single photo has no path."""
        return cls(
            value["path"] or "", value["photo_id"], None if value["box"] is None else Box(*value["box"])
        )


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The answer to one query photo.

    Attributes:
        query: What was asked.
        hits: The most alike photos, best first.
        labels: The five likeliest labels of the query, likeliest first.
        unknown: Probability that the bird is of no known label, 0..1, or None if it was not estimated.
        warnings: For a person.
        evidence: What the labels rest on, or None for a catalog without photos.
    """

    query: QueryPhoto
    hits: tuple[Hit, ...]
    labels: tuple[LabelEstimate, ...]
    unknown: float | None = None
    warnings: tuple[str, ...] = ()
    evidence: LabelEvidence | None = None

    def to_dict(self) -> dict[str, object]:
        """The answer as JSON types; warnings are not part of it."""
        return {
            "query": self.query.to_dict(),
            "labels": [label.to_dict() for label in self.labels],
            "unknown": self.unknown,
            "hits": [hit.to_dict() for hit in self.hits],
            "evidence": None if self.evidence is None else self.evidence.to_dict(),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> QueryResult:
        """The answer that `to_dict` or the service wrote; `hits` and `warnings` may be missing."""
        evidence = value["evidence"]
        return cls(
            query=QueryPhoto.from_dict(value["query"]),
            hits=tuple(Hit.from_dict(hit) for hit in value.get("hits", ())),
            labels=tuple(LabelEstimate.from_dict(label) for label in value["labels"]),
            unknown=value["unknown"],
            warnings=tuple(value.get("warnings", ())),
            evidence=None if evidence is None else LabelEvidence.from_dict(evidence),
        )


def _box_list(box: Box) -> list[float]:
    return [box.x, box.y, box.w, box.h]


def _flag_item(flag: str | None) -> dict[str, object]:
    return {} if flag is None else {"flag": flag}
