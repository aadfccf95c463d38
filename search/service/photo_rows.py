"""Photos as the API shows them: a page of them in a few statements, however many there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from birdsearch.indexer.catalog.photo_details import PhotoDetails, photo_details
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.taxa import scientific_names
from birdsearch.indexer.catalog.verified_labels import history
from birdsearch.search.photos import GivenLabel, Photo, PhotoFile, PhotoLabel, PhotoView
from birdsearch.search.query.location_privacy.coarsening import coarse_place
from birdsearch.search.query.softmax import softmax
from birdsearch.search.service.state import Service

__all__ = ["IMAGE_TYPES", "read_photo_rows"]

IMAGE_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "GIF": "image/gif",
    "HEIF": "image/heic",
    "AVIF": "image/avif",
}
"""Formats that are served as they are -> their media types; camera RAW files are not."""


def read_photo_rows(service: Service, photo_ids: Sequence[int]) -> list[Photo]:
    """Return photos, in the order of their ids in `photo_ids`.

    Args:
        service: Whose catalog.
        photo_ids: Ids; those of no photo are left out.

    Returns:
        The photos.
    """
    wanted = list(dict.fromkeys(photo_ids))
    record = service.store.active_model()
    details = photo_details(service.store, wanted, record)
    labels = _labels(service.store, record, details)
    verified = _verified(service, [view.id for one in details.values() for view in one.views])
    hidden = service.with_hidden_places(list(details))
    return [
        _shown(
            service, details[photo_id], labels.get(photo_id), verified.get(photo_id, ()), photo_id in hidden
        )
        for photo_id in wanted
        if photo_id in details
    ]


def _shown(
    service: Service,
    photo: PhotoDetails,
    label: PhotoLabel | None,
    verified: Sequence[GivenLabel],
    is_hidden: bool,
) -> Photo:
    lat, lon = photo.latitude, photo.longitude
    if is_hidden:
        lat, lon = coarse_place(lat, lon)
    files = tuple(PhotoFile(service.path_of(file.absolute), file.state) for file in photo.files)
    is_served = service.options.originals and photo.format in IMAGE_TYPES and not is_hidden
    return Photo(
        id=photo.id,
        path=files[0].path if files else "",
        files=files,
        width=photo.width,
        height=photo.height,
        format=photo.format,
        captured_at=photo.captured_at,
        lat=lat,
        lon=lon,
        coarse=is_hidden and lat is not None,
        camera=photo.camera,
        lens=photo.lens,
        views=tuple(PhotoView(view.id, view.kind, view.box) for view in photo.views),
        label=label,
        verified=tuple(verified),
        thumb=f"/api/photos/{photo.id}/thumb",
        image=f"/api/photos/{photo.id}/image" if is_served else None,
    )


def _verified(service: Service, view_ids: Sequence[int]) -> dict[int, list[GivenLabel]]:
    """Return the labels in force, by photo."""
    found: defaultdict[int, list[GivenLabel]] = defaultdict(list)
    for entry in history(service.store, view_ids):
        if entry.in_force:
            label = entry.label
            found[label.photo_id].append(
                GivenLabel(
                    label.name,
                    label.scientific_name or None,
                    label.verdict,
                    label.who,
                    label.at,
                    service.text_of(label.source),
                )
            )
    return found


def _labels(
    store: CatalogStore, record: ModelRecord | None, details: Mapping[int, PhotoDetails]
) -> dict[int, PhotoLabel]:
    """Return what photos are taken for: by the last `label` run, else by the network alone."""
    stored = {photo_id: one.prediction for photo_id, one in details.items() if one.prediction is not None}
    guessed = _guesses(record, details)
    names = {one.name for one in stored.values()} | {name for name, _ in guessed.values()}
    scientific = scientific_names(store, names)
    labels = {
        photo_id: PhotoLabel(
            name=one.name,
            scientific_name=scientific.get(one.name),
            rank=one.rank,
            probability=one.probability,
            species=one.species,
            species_probability=one.species_probability,
            p_model=one.p_model,
            p_knn=one.p_knn,
            unknown=one.unknown,
        )
        for photo_id, one in stored.items()
    }
    for photo_id, (name, probability) in guessed.items():
        labels[photo_id] = PhotoLabel(
            name=name,
            scientific_name=scientific.get(name),
            rank="species",
            probability=probability,
            species=name,
            species_probability=probability,
            p_model=probability,
            p_knn=None,
            unknown=None,
        )
    return labels


def _guesses(record: ModelRecord | None, details: Mapping[int, PhotoDetails]) -> dict[int, tuple[str, float]]:
    """Return the network's likeliest class of photos without a prediction, and its probability."""
    vectors = {photo_id: one.embedding for photo_id, one in details.items() if one.embedding is not None}
    if record is None or not record.classes or not vectors:
        return {}
    # (B, C) @ (C, classes) -> (B, classes)
    probabilities = softmax(record.logits(np.stack(list(vectors.values()))))
    best = probabilities.argmax(axis=1)
    return {
        photo_id: (record.classes[best[row]], float(probabilities[row, best[row]]))
        for row, photo_id in enumerate(vectors)
    }
