"""Requests for similar photos and for labels, and their answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from birdsearch.search.query.hits import QueryResult
from birdsearch.search.service.where import WhereModel
from birdsearch.settings import DEFAULT_CONFIDENCE

__all__ = ["LabelRequest", "SearchAnswer", "SearchRequest"]

_MOST_HITS, _MOST_JUDGED = 1000, 200
# Of a vector: numbers, and the size of each, which float32 holds with room for sums of squares.
_LONGEST, _LARGEST = 8192, 1e9

_Id = Annotated[int, Field(ge=1, le=2**53)]
_Number = Annotated[float, Field(allow_inf_nan=False, ge=-_LARGEST, le=_LARGEST)]
_Ids = Annotated[list[_Id], Field(max_length=_MOST_JUDGED)]


class LabelRequest(BaseModel):
    """What is asked about: a photo of the catalog, a view of one, a vector; or photos that it is like.

    With an upload it is the uploaded photo, and `photo_id`, `view_id` and `vector` are not given.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"photo_id": 1}, {"photo_id": 1, "box": [0.25, 0.1, 0.5, 0.5]}]},
    )

    photo_id: _Id | None = Field(None, description="A photo of the catalog.")
    view_id: _Id | None = Field(None, description="A view of a photo of the catalog, such as of a hit.")
    vector: list[_Number] | None = Field(
        None,
        max_length=_LONGEST,
        description="An embedding, as `vector` of an answer. Its length matters for labels only.",
    )
    box: list[_Number] | None = Field(
        None,
        min_length=4,
        max_length=4,
        description="Region of the photo: x, y, w, h in parts of the upright frame.",
    )
    like: _Ids = Field(default_factory=list, description="Photos of the catalog that are what is looked for.")
    unlike: _Ids = Field(default_factory=list, description="Photos that are not. Needs one to start from.")
    confidence: float = Field(
        DEFAULT_CONFIDENCE,
        ge=0,
        le=1,
        description="How sure a label has to be, else it is given at a higher rank.",
    )

    @model_validator(mode="after")
    def _one_of(self) -> LabelRequest:
        given = [name for name in ("photo_id", "view_id", "vector") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{given[0]} and {given[1]} are both given; give one")
        if self.box is not None and given in (["view_id"], ["vector"]):
            raise ValueError(f"box is a region of a photo, and {given[0]} is none")
        if self.vector is not None and not any(self.vector):
            raise ValueError("vector has no direction: all of its numbers are 0")
        return self

    @property
    def names_nothing(self) -> bool:
        """True if there is nothing to start from, which is right with an upload only."""
        return self.photo_id is None and self.view_id is None and self.vector is None and not self.like


class SearchRequest(LabelRequest):
    """A search for similar photos."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {"photo_id": 1, "k": 5},
                {"photo_id": 1, "like": [2], "unlike": [3], "k": 10, "labels": False},
                {"photo_id": 1, "k": 5, "where": {"since": "2024-05", "verified": False}},
            ]
        },
    )

    k: int = Field(20, ge=0, le=_MOST_HITS, description="How many photos.")
    where: WhereModel | None = Field(None, description="Conditions on the hits, decided before the search.")
    include_self: bool = Field(False, description="Let the photo itself, and those in `like`, be hits.")
    refined: bool = Field(False, description="Order by refined vectors: more of the same species.")
    exact: bool = Field(False, description="Look at all vectors, however many there are.")
    labels: bool = Field(True, description="Also say what is on it.")


@dataclass(frozen=True, slots=True)
class SearchAnswer(QueryResult):
    """What is like a photo, and what is on it; see `QueryResult`.

    Attributes:
        vector: The embedding that was searched for, to go on asking with.
    """

    vector: tuple[float, ...] = ()
