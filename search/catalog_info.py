"""Facts about a catalog that a service gives: frozen, and the same for JSON, OpenAPI and the client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from birdsearch.search.json_records import Record

__all__ = ["CatalogInfo", "NetworkInfo", "RootInfo"]


@dataclass(frozen=True, slots=True)
class NetworkInfo(Record):
    """The network that the catalog's photos were embedded with.

    Attributes:
        name: Its name.
        classes: How many classes it has.
        embedding_size: Length of its embeddings.
    """

    name: str
    classes: int
    embedding_size: int


@dataclass(frozen=True, slots=True)
class RootInfo(Record):
    """A folder that was indexed.

    Attributes:
        id: Its id.
        name: Its name, with which the paths of its photos begin.
        photos: Photos with a file in it.
    """

    id: int
    name: str
    photos: int


@dataclass(frozen=True, slots=True)
class CatalogInfo(Record):
    """The catalog that a service shows.

    Attributes:
        name: Its folder's name.
        photos: Distinct photos.
        verified_photos: Those with a verified positive label.
        files_missing: Files that were there once.
        model: The network, or None before the first photo.
        version: Version of birdsearch that answers.
        features: What the service was started to allow: `originals`, `apply`, `read_only`, `token`, `exact_places`.
        cameras: Makes and models.
        roots: The folders that were indexed.
        first: Earliest capture time, or None.
        last: Latest capture time, or None.
    """

    name: str
    photos: int
    verified_photos: int
    files_missing: int
    model: NetworkInfo | None
    version: str
    features: Mapping[str, bool]
    cameras: tuple[str, ...]
    roots: tuple[RootInfo, ...]
    first: str | None
    last: str | None
