"""Calls about photos and their labels."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from PIL import Image

from birdsearch.client.calls import Calls, decode
from birdsearch.client.requests import Body, box_json, where_json
from birdsearch.indexer.catalog.filters import Where
from birdsearch.model.images.box import Box
from birdsearch.search.annotate.records import FoundTaxon, Recorded, RecordedLabel
from birdsearch.search.catalog_info import CatalogInfo
from birdsearch.search.labels.review import ReviewItem
from birdsearch.search.photos import Photo

__all__ = ["PhotoCalls"]

_PAGE = 200


class PhotoCalls(Calls):
    """Photos, thumbnails and labels of a service's catalog."""

    def info(self) -> CatalogInfo:
        """Return what the service's catalog holds, and what the service allows."""
        return decode(CatalogInfo, self._json("GET", "/api/catalog"))

    def photos(self, where: Where | None = None, *, sort: str = "-captured_at") -> Iterator[Photo]:
        """Yield the photos that meet conditions, fetched page by page as they are taken.

        Args:
            where: The conditions.
            sort: `captured_at`, `id`, or these with `-` before them for the other way round.

        Yields:
            Photos.
        """
        return self._pages(
            "/api/photos", {**where_json(where), "sort": sort, "limit": _PAGE}, "photos", Photo
        )

    def photo_ids(self, where: Where | None = None, *, sort: str = "-captured_at") -> list[int]:
        """Return the ids of all photos that meet conditions, in order; see `photos`."""
        answer = self._json("GET", "/api/photo-ids", query={**where_json(where), "sort": sort})
        return list(decode(tuple[int, ...], answer["ids"]))

    def photo(self, photo_id: int) -> Photo:
        """Return one photo.

        Raises:
            InvalidInputError: There is no photo of this id.
        """
        return decode(Photo, self._json("GET", f"/api/photos/{int(photo_id)}"))

    def thumb(self, photo_id: int, size: int = 320, box: Box | Sequence[float] | None = None) -> Image.Image:
        """Return a photo as a small picture, upright and in sRGB.

        Args:
            photo_id: The photo.
            size: Longest side in pixels: 160, 320, 640 or 1280. Nothing is enlarged.
            box: Region of the photo instead of all of it.

        Returns:
            The picture, loaded.

        Raises:
            PhotoError: The photo's file cannot be decoded.
            InvalidInputError: There is no such photo, its file is gone, or there is no such size.
        """
        region = box_json(box)
        answer = self._answer(
            "GET",
            f"/api/photos/{int(photo_id)}/thumb",
            query={"size": size, "box": None if region is None else ",".join(map(repr, region))},
            accept="image/webp, image/jpeg;q=0.9",
        )
        picture = Image.open(io.BytesIO(answer.content), formats=("WEBP", "JPEG"))
        picture.load()
        return picture

    def image(self, photo_id: int) -> bytes:
        """Return a photo's file, as it is.

        Raises:
            InvalidInputError: There is no such photo, or the service does not give originals.
        """
        return self._answer("GET", f"/api/photos/{int(photo_id)}/image", accept="image/*").content

    # -- labels ------------------------------------------------------------------------------------------

    def taxa(self, text: str, limit: int = 20) -> list[FoundTaxon]:
        """Return names that photos can be labelled with, of which a word begins with a text or that contain it."""
        answer = self._json("GET", "/api/taxa", query={"q": text, "limit": limit})
        return [decode(FoundTaxon, each) for each in answer["taxa"]]

    def annotate(
        self,
        labels: Mapping[int, str],
        verdict: Literal["positive", "negative", "uncertain"] = "positive",
        *,
        who: str | None = None,
        new_taxa: bool = False,
    ) -> Recorded:
        """Record what photos were verified to show, all of it or nothing.

        Args:
            labels: Taxon by photo id.
            verdict: Whether they show it.
            who: Who verified it; by default whom the service was started for.
            new_taxa: Take names that the taxonomy does not have.

        Returns:
            What became of them.

        Raises:
            InvalidInputError: A taxon or a photo is unknown.
            CatalogLockedError: Another process writes to the catalog.
        """
        items = [
            {"photo_id": photo_id, "taxon": taxon, "verdict": verdict} for photo_id, taxon in labels.items()
        ]
        body = Body.json({"items": items, "who": who, "new_taxa": new_taxa})
        return decode(Recorded, self._json("POST", "/api/annotations", body=body))

    def annotations(self, photo_id: int) -> list[RecordedLabel]:
        """Return every label that a photo ever had, in the order in which they were recorded.

        Raises:
            InvalidInputError: There is no photo of this id.
        """
        answer = self._json("GET", "/api/annotations", query={"photo_id": int(photo_id)})
        return [decode(RecordedLabel, each) for each in answer["history"]]

    def undo(self, run_id: int) -> int:
        """Take the labels of a run back; says how many."""
        return int(self._json("DELETE", f"/api/annotations/{int(run_id)}")["undone"])

    def review(
        self,
        limit: int = 20,
        where: Where | None = None,
        *,
        order: Literal["informative", "doubtful", "unknown"] = "informative",
    ) -> list[ReviewItem]:
        """Return the photos that are worth verifying next."""
        answer = self._json("GET", "/api/review", query={**where_json(where), "limit": limit, "order": order})
        return [decode(ReviewItem, each) for each in answer["items"]]
