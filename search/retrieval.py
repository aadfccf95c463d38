"""From query embeddings to hits: the best view of each photo, and what the catalog knows about it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from birdsearch.indexer.catalog import CatalogStore
from birdsearch.indexer.crawl import display_path
from birdsearch.indexer.records import ModelRecord, ViewRecord
from birdsearch.indexer.vectors import VectorIndex
from birdsearch.search.knn import nearest
from birdsearch.search.labels.fusion import softmax
from birdsearch.search.refine import RefinedVectors
from birdsearch.search.results import Hit

__all__ = ["best_views", "describe", "refined_views"]

Match = tuple[ViewRecord, float]
"""A view and its similarity to the query."""


def best_views(
    store: CatalogStore,
    index: VectorIndex,
    queries: NDArray[np.float32],
    own: Sequence[int | None],
    k: int,
    allowed: NDArray[np.int64] | None,
    *,
    exact: bool = False,
) -> list[list[Match]]:
    """The best view of each of the k best photos of each query.

    Args:
        store: The catalog behind the index.
        index: Unit-norm vectors.
        queries: (Q, C) float32, unit-norm.
        own: For each query, the photo that is no hit, or None.
        k: How many photos, at least 0.
        allowed: View ids to search, or None for all.
        exact: Look at all of them, however many.

    Returns:
        For each query up to k matches of different photos, best first.
    """
    matches: list[list[Match]] = [[] for _ in queries]
    pending = list(range(len(queries))) if k else []
    views: dict[int, ViewRecord] = {}
    # One more than asked, for the query's own photo; photos with several views may need more.
    fetch = k + 1
    while pending:
        found = nearest(index, queries[pending], fetch, allowed, exact=exact)
        unseen = {int(view_id) for view_id in found.view_ids.flat} - views.keys()
        views |= store.views(sorted(unseen))
        for row, place in enumerate(pending):
            best: dict[int, Match] = {}
            for view_id, similarity in zip(found.view_ids[row], found.similarities[row], strict=True):
                view = views[int(view_id)]
                if view.photo_id != own[place]:
                    best.setdefault(view.photo_id, (view, float(similarity)))
            matches[place] = list(best.values())[:k]
        if found.view_ids.shape[1] < fetch:
            break
        pending = [place for place in pending if len(matches[place]) < k]
        fetch *= 2
    return matches


def refined_views(
    store: CatalogStore,
    refined: RefinedVectors,
    queries: NDArray[np.float32],
    own: Sequence[int | None],
    k: int,
    allowed: NDArray[np.int64] | None,
) -> list[list[Match]]:
    """Like `best_views`, ordered by refined vectors; the similarities are the plain ones."""
    found = best_views(store, refined.index, refined.queries(queries), own, k, allowed)
    matches: list[list[Match]] = []
    for query, ranked in zip(queries, found, strict=True):
        cosines = refined.plain_cosines(query, np.array([view.id for view, _ in ranked], dtype=np.int64))
        matches.append([(view, float(cosine)) for (view, _), cosine in zip(ranked, cosines, strict=True)])
    return matches


def describe(
    store: CatalogStore, record: ModelRecord, matches: Sequence[Sequence[Match]]
) -> list[tuple[Hit, ...]]:
    """Hits with what the catalog knows about their photos.

    Args:
        store: The catalog.
        record: The model whose vectors were searched.
        matches: For each query, views with their similarities, best first.

    Returns:
        The hits of each query, ranked from 1.
    """
    view_ids = sorted({view.id for found in matches for view, _ in found})
    photos = store.photos(sorted({view.photo_id for found in matches for view, _ in found}))
    labels = _top_labels(store, record, view_ids)

    def hit(rank: int, view: ViewRecord, similarity: float) -> Hit:
        photo = photos[view.photo_id]
        label, probability = labels.get(view.id, (None, None))
        return Hit(
            rank=rank,
            similarity=similarity,
            path=display_path(photo.path),
            photo_id=photo.id,
            view_id=view.id,
            view=view.kind,
            box=view.box,
            label=label,
            label_probability=probability,
            captured_at=photo.captured_at,
            latitude=photo.latitude,
            longitude=photo.longitude,
            camera=photo.camera,
            file=photo.path,
        )

    return [
        tuple(hit(rank, view, similarity) for rank, (view, similarity) in enumerate(found, start=1))
        for found in matches
    ]


def _top_labels(
    store: CatalogStore, record: ModelRecord, view_ids: Sequence[int]
) -> dict[int, tuple[str, float]]:
    """The likeliest class of stored views, by the catalog's copy of the classifier head."""
    vectors = store.embeddings(record.id, view_ids)
    usable = [view_id for view_id in view_ids if view_id in vectors and np.isfinite(vectors[view_id]).all()]
    if not usable or not record.classes:
        return {}
    # (B, C) @ (C, classes) -> (B, classes)
    probabilities = softmax(record.logits(np.stack([vectors[view_id] for view_id in usable])))
    best = probabilities.argmax(axis=1)
    return {
        view_id: (record.classes[index], float(row[index]))
        for view_id, index, row in zip(usable, best, probabilities, strict=True)
    }
