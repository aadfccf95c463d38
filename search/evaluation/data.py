"""Verified photos of a catalog, ready to be judged on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.filtered_photos import allowed_views
from birdsearch.indexer.catalog.filters import Where
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.search.evaluation.evaluate import Labelled
from birdsearch.search.labels.estimator import LabelEstimator
from birdsearch.search.labels.fusion import References
from birdsearch.search.labels.space import LabelSpace
from birdsearch.search.query.softmax import softmax
from birdsearch.search.query.vote_groups import join_groups

__all__ = ["Split", "read_labelled"]

Split = Literal["event", "photo", "camera", "folder"]
"""The unit of a split: views of one unit are never on both sides."""


def read_labelled(
    store: CatalogStore,
    record: ModelRecord,
    split: str = "event",
    queries_under: Sequence[str] = (),
    *,
    with_probe: bool = False,
    seed: int = 0,
) -> tuple[Labelled, LabelSpace]:
    """Read the verified photos of a catalog.

    Args:
        store: An open catalog.
        record: Its model.
        split: `event` groups copies and frames of an event; `photo` nothing but a photo's own views; `camera` and
            `folder` everything of a camera or of a folder, and the events as well.
        queries_under: Folders: only the verified photos in them are asked about, and only the others answer.
        with_probe: Also cross-fit a linear probe.
        seed: Of its folds.

    Returns:
        The photos, and the labels.

    Raises:
        InvalidInputError: There are no verified photos, or none on one of the sides.
    """
    estimator = LabelEstimator.open(store, record)
    if not len(estimator.references):
        raise InvalidInputError("nothing is verified yet; see `birdsearch annotate --help`")
    # Over the whole catalog: a photo that is not verified may link two that are.
    every = allowed_views(store, record.id, Where())
    references, _ = estimator.groups_for(store, every.tolist(), with_links=False)
    references = replace(references, groups=_groups(store, references, split))
    references = References.build(references.unit, references.labels, references.groups, references.view_ids)
    vectors = store.embeddings(record.id, references.view_ids.tolist())
    logits = estimator.logits(np.stack([vectors[view_id] for view_id in references.view_ids.tolist()]))
    queries = np.ones(len(references), bool)
    voters = queries
    if queries_under:
        queries = np.isin(references.view_ids, allowed_views(store, record.id, Where(under=queries_under)))
        voters = ~queries
        if not queries.any() or not voters.any():
            raise InvalidInputError(
                f"{int(queries.sum())} of {len(queries)} verified photos are under {', '.join(queries_under)}; "
                "there have to be some on both sides"
            )
    data = Labelled(references, logits, voters, queries)
    if with_probe:
        data = _with_probe(data, estimator.space, seed)
    return data, estimator.space


def _groups(store: CatalogStore, references: References, split: str) -> NDArray[np.int64]:
    if split == "event":
        return references.groups
    views = store.views(references.view_ids.tolist())
    photo_ids = [views[view_id].photo_id for view_id in references.view_ids.tolist()]
    if split == "photo":
        return np.array(photo_ids, dtype=np.int64)
    photos = store.photos(sorted(set(photo_ids)))
    if split == "camera":
        keys = [(photos[photo_id].camera or f"photo {photo_id}").encode() for photo_id in photo_ids]
    else:
        keys = [os.path.dirname(photos[photo_id].path) for photo_id in photo_ids]  # noqa: PTH120
    # What shares an event or a camera is one: joined by row, each group then named as its least one was.
    labels = np.unique(references.groups, return_index=True)[1][
        np.unique(references.groups, return_inverse=True)[1]
    ]
    _, first, by_key = np.unique(np.array(keys, dtype=object), return_index=True, return_inverse=True)
    join_groups(labels, np.arange(len(labels)), first[by_key])
    lowest = references.groups.copy()
    np.minimum.at(lowest, labels, references.groups)
    return lowest[labels]


def _with_probe(data: Labelled, space: LabelSpace, seed: int) -> Labelled:
    """Add probabilities by two probes, each fitted on one half of the groups and asked about the other."""
    from birdsearch.search.labels.probe import fit_probe

    references = data.references
    names = [space.names[label] for label in references.labels.tolist()]
    number_by_name = {name: number for number, name in enumerate(space.names)}
    used = sorted(set(references.labels.tolist()))
    column = {label: number for number, label in enumerate(used)}
    probabilities = np.zeros((len(references), len(used)))
    groups = np.unique(references.groups)
    first = np.isin(references.groups, np.random.default_rng(seed).permutation(groups)[: len(groups) // 2])
    disjoint = not (data.voters & data.queries).any()
    parts = [(data.voters, data.queries)] if disjoint else [(first, ~first), (~first, first)]
    for taught, judged in parts:
        rows = np.flatnonzero(taught & data.voters)
        probe = fit_probe(
            references.unit[rows], [names[row] for row in rows.tolist()], references.groups[rows]
        )
        found = softmax(probe.logits(np.ascontiguousarray(references.unit[judged])))
        columns = [column[number_by_name[name]] for name in probe.classes]
        target = np.zeros((int(judged.sum()), len(used)))
        target[:, columns] = found
        probabilities[judged] = target
    return replace(data, probe=probabilities, probe_labels=np.array(used, dtype=np.int64))
