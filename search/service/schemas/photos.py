"""What the endpoints of photos answer."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

__all__ = ["CatalogAnswer", "Photo", "PhotoIds", "PhotoPage", "Sort", "Taxa"]

Sort = Literal["captured_at", "-captured_at", "id", "-id"]
"""Order of photos; those without a time come last."""


class File(BaseModel):
    """A file with a photo's content."""

    path: str
    state: Literal["present", "missing", "error"]


class View(BaseModel):
    """A region of a photo that has an embedding."""

    view_id: int
    kind: Literal["whole", "tile", "box"]
    box: list[float] = Field(description="x, y, w, h in parts of the upright frame.")


class PhotoLabel(BaseModel):
    """What a photo is taken for: by the last `label` run, else by the network alone."""

    name: str = Field(description="The label at the finest rank that is as sure as was asked.")
    scientific_name: str | None
    rank: str
    probability: float
    species: str = Field(description="The likeliest label.")
    species_probability: float
    p_model: float | None
    p_knn: float | None
    unknown: float | None


class Verified(BaseModel):
    """A label that somebody gave, in force."""

    taxon: str
    scientific_name: str | None
    verdict: Literal["positive", "negative", "uncertain"]
    who: str
    at: str
    source: str


class Photo(BaseModel):
    """A photo."""

    id: int
    path: str = Field(description="Of its first file that is there; empty if it has none.")
    files: list[File]
    width: int
    height: int
    format: str
    captured_at: str | None = Field(description="Local time, ISO 8601 without zone.")
    lat: float | None
    lon: float | None
    coarse: bool = Field(description="The place is told to 0.1 degree only: the species is sensitive.")
    camera: str | None
    lens: str | None
    views: list[View]
    label: PhotoLabel | None
    verified: list[Verified]
    thumb: str
    image: str | None = Field(description="The photo itself, where it is served.")


class PhotoPage(BaseModel):
    """Some photos and where the next are."""

    photos: list[Photo]
    next: str | None = Field(description="Pass it as `cursor` for the photos after these.")
    total: int = Field(description="Photos that meet the conditions.")


class PhotoIds(BaseModel):
    """All photos that meet the conditions."""

    ids: list[int]


class CatalogModel(BaseModel):
    """The network that the catalog was made with."""

    name: str
    classes: int
    embedding_size: int


class Features(BaseModel):
    """What this service does."""

    originals: bool
    apply: bool
    read_only: bool
    token: bool
    exact_places: bool


class Root(BaseModel):
    """An indexed folder."""

    id: int
    name: str
    photos: int


class CatalogAnswer(BaseModel):
    """The catalog as a whole."""

    name: str
    photos: int
    verified_photos: int
    files_missing: int
    model: CatalogModel | None
    version: str
    features: Features
    cameras: list[str]
    first: str | None
    last: str | None
    roots: list[Root]


class FoundTaxon(BaseModel):
    """A taxon that a name may mean."""

    name: str
    scientific_name: str | None
    rank: str
    family: str | None
    order: str | None
    photos: int = Field(description="Photos that were verified to show it.")


class Taxa(BaseModel):
    """Taxa by name, the best first."""

    taxa: list[FoundTaxon]
