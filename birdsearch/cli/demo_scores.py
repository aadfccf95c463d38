"""Scores of `birdsearch demo`: the answers of the catalog against the truth that its archive was made from."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from birdsearch.data.synthetic.truth import Truth
    from birdsearch.indexer.catalog.store import CatalogStore

__all__ = ["can_cluster", "looked_at", "scores"]


def looked_at(truth: Sequence[Truth]) -> set[str]:
    """Return the events whose photos are verified: every second one."""
    return set(sorted({row.event for row in truth if row.kind == "photo"})[::2])


def can_cluster() -> bool:
    """Return whether the package that clustering needs besides the core ones is installed."""
    return importlib.util.find_spec("graspologic_native") is not None


def scores(archive: Path, catalog: Path, truth: Sequence[Truth]) -> list[dict[str, object]]:
    """Return rows of score, value and photos.

    Raises:
        ClickException: The catalog does not hold every frame of the archive.
    """
    import numpy as np

    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.indexer.vectors.index import normalised
    from birdsearch.search.evaluation.scores import recall_at_k, top1

    frames = [row for row in truth if row.kind == "photo"]
    with CatalogStore.open(catalog) as store:
        model = store.active_model()
        views = _views(store, archive, frames)
        if model is None or None in views:
            raise click.ClickException(f"{catalog} does not hold every frame of {archive}")
        stored = store.embeddings(model.id, [view_id for view_id in views if view_id is not None])
        counts = store.counts()
    vectors = np.stack([stored[view_id] for view_id in views if view_id is not None])
    unit = normalised(vectors)
    species = [row.species for row in frames]
    events = [row.event for row in frames]
    known = np.array([row.known == "1" for row in frames])
    labelled = [row.common_name for row in frames]
    rows: list[dict[str, object]] = []
    accuracy, photos = top1(model.logits(vectors), model.classes, labelled)
    rows.append({"score": "top-1 of the logits, known species", "value": _shown(accuracy), "photos": photos})
    for name, queries in (("known species", known), ("species never trained on", ~known)):
        recall = recall_at_k(unit, species, events, 1, queries)
        rows.append(
            {
                "score": f"recall@1 by cosine outside the own event, {name}",
                "value": _shown(recall.value),
                "photos": recall.queries,
            }
        )
    rows += _label_scores(archive, catalog, truth)
    rows += _order_scores(archive, catalog, truth)
    broken = sum(row.kind == "corrupt" for row in truth)
    failed = sum(counts.failures.values())
    rows.append({"score": "corrupt files reported", "value": f"{failed} of {broken}", "photos": None})
    return rows


def _views(store: CatalogStore, archive: Path, frames: Sequence[Truth]) -> list[int | None]:
    """Return the view of each frame, None for one that the catalog does not hold."""
    import os

    ids = [store.photo_at(os.fsencode((archive / row.path).resolve())) for row in frames]
    views = store.whole_views([photo_id for photo_id in ids if photo_id is not None])
    return [None if photo_id is None else views.get(photo_id) for photo_id in ids]


def _label_scores(archive: Path, catalog: Path, truth: Sequence[Truth]) -> list[dict[str, object]]:
    """Score the labels of the frames that are not verified, of species that are verified elsewhere."""
    from birdsearch.indexer.catalog.predictions import last_predictions
    from birdsearch.indexer.catalog.store import CatalogStore

    frames = [row for row in truth if row.kind == "photo"]
    seen = looked_at(truth)
    verified = {row.species for row in frames if row.event in seen}
    asked = [row for row in frames if row.event not in seen]
    with CatalogStore.open(catalog) as store:
        views = _views(store, archive, asked)
        said = {one.view_id: one.species for one in last_predictions(store)}
    rows: list[dict[str, object]] = []
    for name, known in (("known species", "1"), ("species never trained on, verified elsewhere", "0")):
        right = [
            view_id is not None and said.get(view_id) == row.common_name
            for view_id, row in zip(views, asked, strict=True)
            if row.known == known and (known == "1" or row.species in verified)
        ]
        share = sum(right) / len(right) if right else math.nan
        rows.append(
            {"score": f"top-1 of the fused labels, {name}", "value": _shown(share), "photos": len(right)}
        )
    return rows


def _order_scores(archive: Path, catalog: Path, truth: Sequence[Truth]) -> list[dict[str, object]]:
    """Score bursts, events, copies and clusters by pairs that belong together and pairs that were put together."""
    import os

    from birdsearch.indexer.catalog.clusters import current_state
    from birdsearch.indexer.catalog.events import joined_photos, last_sightings_run
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.dedup.find import find_copies
    from birdsearch.search.metrics.pairs import pair_scores

    whole = [row for row in truth if row.kind not in ("corrupt", "sidecar")]
    with CatalogStore.open(catalog) as store:
        record = store.active_model()
        paths = {os.path.realpath(archive / row.path): row for row in whole}
        ids = {path: store.photo_at(os.fsencode(path)) for path in paths}
        run_id = last_sightings_run(store)
        joined = {}
        if run_id is not None:
            found = joined_photos(store, run_id)
            pairs = zip(found.bursts.tolist(), found.events.tolist(), strict=True)
            joined = dict(zip(found.photo_ids.tolist(), pairs, strict=True))
        groups = () if record is None else find_copies(store, record).groups
        state = current_state(store)
        views = store.whole_views([number for number in ids.values() if number is not None])
    rows: list[dict[str, object]] = []

    def add(name: str, true: Sequence[object], found: Sequence[object]) -> None:
        scored = pair_scores(true, found)
        for what, value in (("precision", scored.precision), ("recall", scored.recall)):
            rows.append({"score": f"{name}, {what} of pairs", "value": _shown(value), "photos": len(true)})

    frames = [
        (row, joined[number])
        for path, row in paths.items()
        if row.kind in ("photo", "empty") and (number := ids[path]) in joined
    ]
    add("bursts", [row.burst or row.path for row, _ in frames], [burst for _, (burst, _) in frames])
    add("events", [row.event for row, _ in frames], [event for _, (_, event) in frames])
    group_of = {
        os.path.realpath(os.fsdecode(path)): number
        for number, group in enumerate(groups)
        for file in group.files
        for path in (file.path, *file.links)
    }
    indexed = [path for path in paths if ids[path] is not None]
    add(
        "copies",
        [paths[path].copy_of or paths[path].path for path in indexed],
        [group_of.get(path, path) for path in indexed],
    )
    if state is not None:
        cluster_of = dict(zip(state.view_ids.tolist(), state.cluster_ids.tolist(), strict=True))
        birds = [
            (row.species, cluster_of.get(views.get(ids[path] or 0, 0), -1))
            for path, row in paths.items()
            if row.kind == "photo"
        ]
        placed = [(species, cluster) for species, cluster in birds if cluster >= 0]
        add("clusters as species", *(list(part) for part in zip(*placed, strict=True)))
        share = 1 - len(placed) / max(len(birds), 1)
        rows.append({"score": "outliers of the clusters", "value": _shown(share), "photos": len(birds)})
    return rows


def _shown(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
