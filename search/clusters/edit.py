"""Clusters corrected by hand: named, merged, split, labelled, and taken back.

Every edit but a label makes a new state that is based on the one in force; `undo_edit` makes an older state current
again by a new one, too. Labels go to `birdsearch.indexer.catalog.annotations`, which has its own history and undo.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

import numpy as np

from birdsearch.display_path import display_path
from birdsearch.errors import InvalidInputError, PhotoError
from birdsearch.indexer.catalog.clusters import ClusterState, require_state, run_before, save_edit, state_of
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.views import view_facts
from birdsearch.search.annotate.photos import Matched, Proposals, find_stored
from birdsearch.search.annotate.proposals import Claim, settled
from birdsearch.search.clusters.catalog import (
    event_groups,
    load_unit,
    numbered,
    representatives,
)
from birdsearch.search.clusters.split import split_vectors

__all__ = [
    "label_cluster",
    "label_source",
    "merge_clusters",
    "name_cluster",
    "photo_list",
    "split_cluster",
    "split_photos",
    "undo_edit",
]

_LONGEST_NAME = 200
_UNDO = "cluster undo"
_IDS = re.compile(r"#?\d{1,18}(?:,#?\d{1,18})*", re.ASCII)


def name_cluster(store: CatalogStore, cluster_id: int, name: str) -> ClusterState:
    """Give a cluster a name; an empty one takes it away.

    Args:
        store: A catalog open for writing.
        cluster_id: The cluster.
        name: At most 200 characters that print.

    Returns:
        The new state.

    Raises:
        InvalidInputError: There is no such cluster, or it is no name.
    """
    base = require_state(store)
    base.rows(cluster_id)
    name = name.strip()
    if not name.isprintable() or len(name) > _LONGEST_NAME:
        raise InvalidInputError(
            f"the name {name[:40]!r} has {len(name)} characters; a name has at most {_LONGEST_NAME}, and all print"
        )
    names = {key: value for key, value in base.names.items() if key != cluster_id}
    if name:
        names[cluster_id] = name
    return save_edit(store, base, "name", {"cluster": cluster_id, "name": name}, names)


def merge_clusters(store: CatalogStore, cluster_ids: Sequence[int]) -> ClusterState:
    """Put the members of clusters into the first of them, which keeps its id and, if it has one, its name.

    A first one without a name takes that of the next one that has one.

    Args:
        store: A catalog open for writing.
        cluster_ids: Two clusters or more.

    Returns:
        The new state.

    Raises:
        InvalidInputError: There is no such cluster, or fewer than two.
    """
    base = require_state(store)
    first, *others = dict.fromkeys(cluster_ids)
    if not others:
        raise InvalidInputError("a merge takes two clusters or more; the first is the one that stays")
    for cluster_id in (first, *others):
        base.rows(cluster_id)
    names = {key: value for key, value in base.names.items() if key not in others}
    name = next((base.names[each] for each in (first, *others) if each in base.names), None)
    if name is not None:
        names[first] = name
    asked = {"into": first, "from": others}
    return save_edit(store, base, "merge", asked, names, merged=dict.fromkeys(others, first))


def split_cluster(store: CatalogStore, cluster_id: int, into: int = 2, *, seed: int = 0) -> ClusterState:
    """Cluster the members of a cluster again, by k-means.

    Events stay together, as in a clustering by event. The largest part keeps the cluster's id and name, the
    others are new.

    Args:
        store: A catalog open for writing.
        cluster_id: The cluster.
        into: Number of parts, at least 2.
        seed: For the start of k-means.

    Returns:
        The new state.

    Raises:
        InvalidInputError: There is no such cluster, or it has not as many different events.
    """
    base = require_state(store)
    view_ids = base.view_ids[base.rows(cluster_id)]
    if into < 2:
        raise InvalidInputError(f"into is {into}; a split makes 2 parts or more")
    sharpness, digests = view_facts(store, view_ids)
    by_content = np.array(sorted(range(len(view_ids)), key=digests.__getitem__), dtype=np.int64)
    unit, is_whole = load_unit(store, base.model_id, view_ids[by_content])
    by_content = by_content[is_whole]
    views = view_ids[by_content]
    groups = numbered(event_groups(store, base.model_id, views))
    events = int(groups.max()) + 1 if len(groups) else 0
    if into > events:
        raise InvalidInputError(
            f"cluster {cluster_id} has {events} events, and they are not cut, so it cannot be split into {into}"
        )
    parted, fits = split_vectors(unit[representatives(groups, sharpness[by_content])], into, seed)
    labels, strengths = parted[groups], fits[groups]
    parts = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    # Of equally large parts, that of the smallest content hash is first.
    parts.sort(key=lambda part: (-len(part), int(part[0])))
    asked = {"cluster": cluster_id, "into": into, "seed": seed}
    changed = {view_id: float(value) for view_id, value in zip(views.tolist(), strengths, strict=True)}
    fresh = [views[part] for part in parts[1:]]
    return save_edit(store, base, "split", asked, base.names, parts=fresh, strengths=changed)


def split_photos(store: CatalogStore, cluster_id: int, photo_ids: Sequence[int]) -> ClusterState:
    """Move some photos of a cluster into a new one.

    Args:
        store: A catalog open for writing.
        cluster_id: The cluster.
        photo_ids: Some of its photos, not all.

    Returns:
        The new state.

    Raises:
        InvalidInputError: There is no such cluster, or the photos are not some of its own.
    """
    base = require_state(store)
    photos = _photos_of(store, base, cluster_id)
    wanted = _among(photos, photo_ids, cluster_id)
    if len(wanted) == len(photos):
        raise InvalidInputError(f"these are all photos of cluster {cluster_id}; name some of them")
    moved = np.array(sorted(photos[photo_id] for photo_id in wanted), dtype=np.int64)
    asked = {"cluster": cluster_id, "photos": wanted}
    return save_edit(store, base, "split", asked, base.names, parts=[moved])


def undo_edit(store: CatalogStore) -> ClusterState:
    """Make the state before the one in force current again; a clustering is taken back as an edit is.

    Undoing twice goes back two states. Labels are not touched: `birdsearch annotate undo` takes those back.

    Args:
        store: A catalog open for writing.

    Returns:
        The new state, which equals that older one.

    Raises:
        InvalidInputError: There is no older state.
    """
    current = require_state(store)
    base = _restored(store, current)
    older = run_before(store, base.run_id)
    if older is None:
        raise InvalidInputError("there is no state of the clusters before this one")
    target = _restored(store, state_of(store, older))
    asked = {"undone": base.run_id}
    return save_edit(store, target, "undo", asked, target.names, current=current.run_id)


def _restored(store: CatalogStore, state: ClusterState) -> ClusterState:
    """Return the state that an undo made current again; any other state itself."""
    while state.command == _UNDO and state.based_on is not None:
        state = state_of(store, state.based_on)
    return state


# -- photos and labels ---------------------------------------------------------------------------------------


def photo_list(store: CatalogStore, texts: Sequence[str]) -> list[int]:
    """Return the photo ids of what a person wrote: `12`, `#12`, `12,15,#17`, or a path, each once, in order.

    Args:
        store: An open catalog.
        texts: The texts. `./12` is a file of that name.

    Raises:
        PhotoError: A file cannot be read, or the catalog does not have a photo.
    """
    found: dict[int, None] = {}
    for text in texts:
        items: Sequence[str | int] = [text]
        if _IDS.fullmatch(text):
            items = [int(part.lstrip("#")) for part in text.split(",")]
        for item in items:
            try:
                found[find_stored(store, item)] = None
            except PhotoError as error:
                shown = f"#{item}" if isinstance(item, int) else display_path(os.fsencode(item))
                raise error if shown in error.reason else error.named(shown) from error
    return list(found)


def label_source(cluster_id: int) -> str:
    """Return the recorded source of labels that were given to a cluster as a whole."""
    return f"cluster {cluster_id}"


def label_cluster(
    store: CatalogStore,
    cluster_id: int,
    named: Matched,
    verdict: str = "positive",
    excepted: Sequence[int] = (),
) -> Proposals:
    """Propose one label for all photos of a cluster but some; nothing is written.

    Args:
        store: An open catalog.
        cluster_id: The cluster.
        named: What is on them, or is not, as `NameMatcher` found it.
        verdict: `positive`, `negative` or `uncertain`.
        excepted: Photos of the cluster that get no label.

    Returns:
        The labels, the strongest members first.

    Raises:
        InvalidInputError: There is no such cluster, or a photo that is excepted is not of it.
    """
    state = require_state(store)
    photos = _photos_of(store, state, cluster_id)
    left_out = set(_among(photos, excepted, cluster_id)) if excepted else set()
    claims = [
        Claim(photo_id, named.taxon, named.verdict_with(verdict), label_source(cluster_id))
        for photo_id in photos
        if photo_id not in left_out
    ]
    notes = []
    if left_out:
        notes.append(f"{len(left_out)} of {len(photos)} photos of cluster {cluster_id} left out")
    return settled(store, claims, notes=notes, new=(named.taxon,) if named.is_new else (), views=photos)


def _photos_of(store: CatalogStore, state: ClusterState, cluster_id: int) -> dict[int, int]:
    """Return the view of each photo of a cluster, the strongest first."""
    rows = state.rows(cluster_id)
    views = store.views(state.view_ids[rows].tolist())
    order = rows[np.lexsort((state.view_ids[rows], -state.strengths[rows]))]
    return {views[view_id].photo_id: view_id for view_id in state.view_ids[order].tolist()}


def _among(photos: Mapping[int, int], wanted: Sequence[int], cluster_id: int) -> list[int]:
    strangers = sorted(set(wanted) - set(photos))
    if strangers or not wanted:
        shown = ", ".join(f"#{photo_id}" for photo_id in strangers[:5]) or "no photo"
        raise InvalidInputError(
            f"{shown}: not in cluster {cluster_id}; `birdsearch cluster show {cluster_id}` lists its photos"
        )
    return sorted(set(wanted))
