"""Retrieval: query embeddings to hits, with the best view of each photo and what the catalog knows about it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from birdsearch.display_path import display_path
from birdsearch.indexer.catalog.embeddings import read_vectors
from birdsearch.indexer.catalog.photos import read_photos, read_views
from birdsearch.indexer.catalog.records import ModelRecord, ViewRecord
from birdsearch.indexer.catalog.store import Snapshot
from birdsearch.indexer.catalog.verified_labels import read_verified_names
from birdsearch.indexer.vectors.index import VectorIndex
from birdsearch.search.query.hits import Hit
from birdsearch.search.query.knn import nearest
from birdsearch.search.query.query_expansion import RefinedVectors
from birdsearch.search.query.softmax import softmax

__all__ = ["best_views", "describe", "refined_views"]

Match = tuple[ViewRecord, float]
"""A view and its similarity to the query."""


def best_views(
    snapshot: Snapshot,
    index: VectorIndex,
    queries: NDArray[np.float32],
    left_out: Sequence[Collection[int]],
    k: int,
    allowed: NDArray[np.int64] | None,
    *,
    exact: bool = False,
) -> list[list[Match]]:
    """Find the best view of each of the k best photos of each query.

    Args:
        snapshot: The state of the catalog that the index has caught up with.
        index: Unit-norm vectors.
        queries: (Q, C) float32, unit-norm.
        left_out: For each query, the photos that are no hits.
        k: How many photos, at least 0.
        allowed: View ids to search, or None for all.
        exact: Look at all of them, however many.

    Returns:
        For each query up to k matches of different photos, best first.
    """
    matches: list[list[Match]] = [[] for _ in queries]
    pending = list(range(len(queries))) if k else []
    views: dict[int, ViewRecord] = {}
    # More than asked, for photos that are no hits; those with several views may need more.
    fetch = k + max(map(len, left_out), default=0)
    while pending:
        found = nearest(index, queries[pending], fetch, allowed, exact=exact)
        unseen = set(found.view_ids.ravel().tolist()) - views.keys()
        views |= read_views(snapshot, sorted(unseen))
        for row, query in enumerate(pending):
            best: dict[int, Match] = {}
            shown = zip(found.view_ids[row].tolist(), found.similarities[row].tolist(), strict=True)
            for view_id, similarity in shown:
                # Unknown only if the index had to be read anew, and so knows of views that came since.
                view = views.get(view_id)
                if view is not None and view.photo_id not in left_out[query]:
                    best.setdefault(view.photo_id, (view, similarity))
            matches[query] = list(best.values())[:k]
        if found.view_ids.shape[1] < fetch:
            break
        pending = [query for query in pending if len(matches[query]) < k]
        fetch *= 2
    return matches


def refined_views(
    snapshot: Snapshot,
    refined: RefinedVectors,
    queries: NDArray[np.float32],
    left_out: Sequence[Collection[int]],
    k: int,
    allowed: NDArray[np.int64] | None,
) -> list[list[Match]]:
    """Find views like `best_views`, ordered by refined vectors; the similarities are the plain ones."""
    found = best_views(snapshot, refined.index, refined.queries(queries), left_out, k, allowed)
    matches: list[list[Match]] = []
    for query, ranked in zip(queries, found, strict=True):
        cosines = refined.plain_cosines(query, np.array([view.id for view, _ in ranked], dtype=np.int64))
        matches.append([(view, float(cosine)) for (view, _), cosine in zip(ranked, cosines, strict=True)])
    return matches


def describe(
    snapshot: Snapshot, record: ModelRecord, matches: Sequence[Sequence[Match]]
) -> list[tuple[Hit, ...]]:
    """Make hits of what the catalog knows about the photos of matches.

    Args:
        snapshot: The state of the catalog that they were found in.
        record: The model whose vectors were searched.
        matches: For each query, views with their similarities, best first.

    Returns:
        The hits of each query, ranked from 1.
    """
    view_ids = sorted({view.id for found in matches for view, _ in found})
    photos = read_photos(snapshot, sorted({view.photo_id for found in matches for view, _ in found}))
    labels = _top_labels(snapshot, record, view_ids)
    verified = read_verified_names(snapshot, photos)

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
            lat=photo.latitude,
            lon=photo.longitude,
            camera=photo.camera,
            file=photo.path,
            width=photo.width,
            height=photo.height,
            verified=verified.get(photo.id),
        )

    return [
        tuple(hit(rank, view, similarity) for rank, (view, similarity) in enumerate(found, start=1))
        for found in matches
    ]


def _top_labels(
    snapshot: Snapshot, record: ModelRecord, view_ids: Sequence[int]
) -> dict[int, tuple[str, float]]:
    """Return the likeliest class of stored views, by the catalog's copy of the classifier head."""
    if not record.classes:
        return {}
    rows = np.asarray(view_ids, dtype=np.int64)
    vectors, usable = read_vectors(snapshot, record.id, record.embedding_size, rows)
    probabilities = softmax(record.logits_of_each(vectors[usable]))
    best = probabilities.argmax(axis=1)
    return {
        view_id: (record.classes[index], float(row[index]))
        for view_id, index, row in zip(rows[usable].tolist(), best.tolist(), probabilities, strict=True)
    }
