"""Photos as the API shows them: a page of them in a few statements, however many there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import sqlalchemy as sa

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.annotations import VerifiedLabel, history
from birdsearch.indexer.catalog.embeddings import read_vectors
from birdsearch.indexer.catalog.reach import PlacedFile, Reach
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.store import chunks
from birdsearch.model.images.box import Box
from birdsearch.model.taxonomy import Taxonomy, name_key
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
    """Photos, in the order of their ids in `photo_ids`.

    Args:
        service: Whose catalog.
        photo_ids: Ids; those of no photo are left out.

    Returns:
        The photos.
    """
    wanted = list(dict.fromkeys(photo_ids))
    store, record = service.store, service.store.active_model()
    photo = schema.photo.c
    with store.reading() as connection:
        rows = {
            row.id: row
            for ids in chunks(wanted)
            for row in connection.execute(
                sa.select(
                    *(photo.id, photo.width, photo.height, photo.format, photo.captured_at, photo.latitude),
                    *(photo.longitude, photo.camera, photo.lens),
                ).where(photo.id.in_(ids))
            )
        }
        known = list(rows)
        files = _files(service, connection, known)
        views = _views(connection, known)
        whole = {
            one.view_id: photo_id for photo_id, some in views.items() for one in some if one.kind == "whole"
        }
        labels = _labels(connection, record, list(whole))
    verified = _verified(service, [one.view_id for some in views.values() for one in some])
    hidden = service.with_hidden_places(known)
    label_of = {whole[view_id]: label for view_id, label in labels.items()}
    found = []
    for photo_id in wanted:
        row = rows.get(photo_id)
        if row is None:
            continue
        is_hidden = photo_id in hidden
        lat, lon = row.latitude, row.longitude
        if is_hidden:
            lat, lon = coarse_place(lat, lon)
        is_served = service.options.originals and row.format in IMAGE_TYPES and not is_hidden
        own = files.get(photo_id, [])
        found.append(
            Photo(
                id=photo_id,
                path=own[0].path if own else "",
                files=tuple(own),
                width=row.width,
                height=row.height,
                format=row.format,
                captured_at=row.captured_at,
                lat=lat,
                lon=lon,
                coarse=is_hidden and lat is not None,
                camera=row.camera,
                lens=row.lens,
                views=tuple(views.get(photo_id, ())),
                label=label_of.get(photo_id),
                verified=tuple(verified.get(photo_id, ())),
                thumb=f"/api/photos/{photo_id}/thumb",
                image=f"/api/photos/{photo_id}/image" if is_served else None,
            )
        )
    return found


def _files(
    service: Service, connection: sa.Connection, photo_ids: Sequence[int]
) -> dict[int, list[PhotoFile]]:
    """The files of photos, those that can be reached first."""
    file, root = schema.file.c, schema.root.c
    roots = {row.id: row.path for row in connection.execute(sa.select(root.id, root.path))}
    found: defaultdict[int, dict[PlacedFile, str]] = defaultdict(dict)
    for ids in chunks(photo_ids):
        for row in connection.execute(
            sa.select(file.photo_id, file.root_id, file.path, file.state).where(file.photo_id.in_(ids))
        ):
            placed = PlacedFile(row.state == "missing", roots[row.root_id], row.path)
            found[row.photo_id][placed] = row.state
    reach = Reach()
    return {
        photo_id: [
            PhotoFile(path=service.path_of(placed.absolute), state=states[placed])
            for placed in reach.in_order(states)
        ]
        for photo_id, states in found.items()
    }


def _views(connection: sa.Connection, photo_ids: Sequence[int]) -> dict[int, list[PhotoView]]:
    view = schema.view.c
    found: defaultdict[int, list[PhotoView]] = defaultdict(list)
    for ids in chunks(photo_ids):
        for row in connection.execute(
            sa.select(view.id, view.photo_id, view.kind, view.x, view.y, view.w, view.h)
            .where(view.photo_id.in_(ids))
            .order_by(view.id)
        ):
            box = Box(row.x, row.y, row.w, row.h)
            found[row.photo_id].append(PhotoView(view_id=row.id, kind=row.kind, box=box))
    return found


def _verified(service: Service, view_ids: Sequence[int]) -> dict[int, list[GivenLabel]]:
    """Labels in force, by photo."""
    found: defaultdict[int, list[GivenLabel]] = defaultdict(list)
    for entry in history(service.store, view_ids):
        if entry.in_force:
            found[entry.label.photo_id].append(_verified_label(service, entry.label))
    return found


def _verified_label(service: Service, label: VerifiedLabel) -> GivenLabel:
    return GivenLabel(
        taxon=label.name,
        scientific_name=label.scientific_name or None,
        verdict=label.verdict,
        who=label.who,
        at=label.at,
        source=service.text_of(label.source),
    )


def _labels(
    connection: sa.Connection, record: ModelRecord | None, view_ids: Sequence[int]
) -> dict[int, PhotoLabel]:
    """What views are taken for: by the last `label` run, else by the network alone."""
    prediction, run = schema.prediction.c, schema.run.c
    newest = sa.select(sa.func.max(run.id)).where(run.command == "label", run.outcome == "done")
    stored = {
        row.view_id: row
        for ids in chunks(view_ids)
        for row in connection.execute(
            sa.select(schema.prediction).where(
                prediction.run_id == newest.scalar_subquery(), prediction.view_id.in_(ids)
            )
        )
    }
    guessed = _guesses(connection, record, [view_id for view_id in view_ids if view_id not in stored])
    names = {row.name for row in stored.values()} | {name for name, _ in guessed.values()}
    scientific = _scientific_names(connection, sorted(names))
    labels = {
        view_id: PhotoLabel(
            name=row.name,
            scientific_name=scientific.get(row.name),
            rank=row.rank,
            probability=row.probability,
            species=row.species,
            species_probability=row.species_probability,
            p_model=row.p_model,
            p_knn=row.p_knn,
            unknown=row.unknown,
        )
        for view_id, row in stored.items()
    }
    for view_id, (name, probability) in guessed.items():
        labels[view_id] = PhotoLabel(
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


def _guesses(
    connection: sa.Connection, record: ModelRecord | None, view_ids: Sequence[int]
) -> dict[int, tuple[str, float]]:
    """The network's likeliest class of stored views, and its probability."""
    if record is None or not record.classes or not view_ids:
        return {}
    vectors, usable = read_vectors(connection, record.id, record.embedding_size, view_ids)
    # (B, C) @ (C, classes) -> (B, classes)
    probabilities = softmax(record.logits(vectors))
    best = probabilities.argmax(axis=1)
    return {
        view_ids[row]: (record.classes[best[row]], float(probabilities[row, best[row]]))
        for row in np.flatnonzero(usable).tolist()
    }


def _scientific_names(connection: sa.Connection, names: Sequence[str]) -> dict[str, str]:
    taxonomy, taxon = Taxonomy.load(), schema.taxon.c
    own = {
        row.key: row.scientific_name
        for keys in chunks([name_key(name) for name in names])
        for row in connection.execute(sa.select(taxon.key, taxon.scientific_name).where(taxon.key.in_(keys)))
    }
    found = {name: own.get(name_key(name)) for name in names}
    for name in names:
        known = taxonomy.find(name)
        if not found[name] and known is not None:
            found[name] = known.scientific_name
    return {name: scientific for name, scientific in found.items() if scientific}
