"""Clusters corrected by hand: named, merged, split, labelled, and taken back.

Every edit but a label makes a new state that is based on the one in force; `undo_edit` makes an older state current
again by a new one, too. Labels go to `birdsearch.indexer.catalog.annotations`, which has its own history and undo.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from birdsearch.display_path import display_path
from birdsearch.errors import InvalidInputError, PhotoError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.runs import finish_run, start_run
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.search.annotate.photos import Matched, Proposals, find_stored
from birdsearch.search.annotate.proposals import Claim, settled
from birdsearch.search.clusters.catalog import (
    event_groups,
    load_unit,
    numbered,
    representatives,
    view_facts,
)
from birdsearch.search.clusters.split import split_vectors
from birdsearch.search.clusters.state import (
    ClusterState,
    new_clusters,
    newest_run,
    require_state,
    save_head,
    state_of,
)

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


@dataclass(frozen=True, slots=True)
class _Edit:
    """What an edit changes of the state that it is based on.

    Attributes:
        verb: `name`, `merge`, `split` or `undo`.
        parameters: What was asked, in JSON types.
        names: All names afterwards.
    """

    verb: str
    parameters: Mapping[str, Any]
    names: Mapping[int, str]


def name_cluster(store: CatalogStore, cluster_id: int, name: str) -> ClusterState:
    """Give a cluster a name; an empty one takes it away.

    Args:
        store: A catalog open for writing.
        cluster_id: The cluster.
        name: At most 200 signs that print.

    Returns:
        The new state.

    Raises:
        InvalidInputError: There is no such cluster, or it is no name.
    """
    base = require_state(store)
    base.places(cluster_id)
    name = name.strip()
    if not name.isprintable() or len(name) > _LONGEST_NAME:
        raise InvalidInputError(
            f"the name {name[:40]!r} has {len(name)} signs; a name has at most {_LONGEST_NAME}, and all print"
        )
    names = {key: value for key, value in base.names.items() if key != cluster_id}
    if name:
        names[cluster_id] = name
    return _save(store, base, _Edit("name", {"cluster": cluster_id, "name": name}, names))


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
        base.places(cluster_id)
    names = {key: value for key, value in base.names.items() if key not in others}
    name = next((base.names[each] for each in (first, *others) if each in base.names), None)
    if name is not None:
        names[first] = name
    member = schema.cluster_member.c
    moved = sa.case((member.cluster_id.in_(others), first), else_=member.cluster_id)
    edit = _Edit("merge", {"into": first, "from": others}, names)
    return _save(store, base, edit, cluster=moved)


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
    view_ids = base.view_ids[base.places(cluster_id)]
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
    edit = _Edit("split", {"cluster": cluster_id, "into": into, "seed": seed}, base.names)
    changed = {view_id: float(value) for view_id, value in zip(views.tolist(), strengths, strict=True)}
    return _save(store, base, edit, parts=[views[part] for part in parts[1:]], strengths=changed)


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
    edit = _Edit("split", {"cluster": cluster_id, "photos": wanted}, base.names)
    return _save(store, base, edit, parts=[moved])


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
    run, state = schema.run.c, schema.cluster_run.c
    with store.reading() as connection:
        older = connection.execute(
            sa.select(sa.func.max(run.id))
            .join(schema.cluster_run, state.run_id == run.id)
            .where(run.outcome == "done", run.id < base.run_id)
        ).scalar_one()
    if older is None:
        raise InvalidInputError("there is no state of the clusters before this one")
    target = _restored(store, state_of(store, older))
    edit = _Edit("undo", {"undone": base.run_id}, target.names)
    return _save(store, target, edit, current=current.run_id)


def _restored(store: CatalogStore, state: ClusterState) -> ClusterState:
    """The state that an undo made current again; any other state itself."""
    while state.command == _UNDO and state.based_on is not None:
        state = state_of(store, state.based_on)
    return state


def _save(
    store: CatalogStore,
    base: ClusterState,
    edit: _Edit,
    *,
    cluster: sa.ColumnElement[Any] | None = None,
    parts: Sequence[NDArray[np.int64]] = (),
    strengths: Mapping[int, float] | None = None,
    current: int | None = None,
) -> ClusterState:
    """Write a state based on another, in one transaction.

    Args:
        store: A catalog open for writing.
        base: The other.
        edit: What is changed.
        cluster: SQL of the cluster of each member; as it was if None.
        parts: Views that go into new clusters, one for each part.
        strengths: New strength by view.
        current: The run whose state is in force, if not that of `base`.

    Raises:
        InvalidInputError: Another state was written meanwhile.
    """
    table, member = schema.cluster_member, schema.cluster_member.c
    with store.writing() as connection:
        if newest_run(connection) != (base.run_id if current is None else current):
            raise InvalidInputError(
                "the clusters were made anew meanwhile; nothing was changed: look at them again"
            )
        run_id = start_run(connection, f"cluster {edit.verb}", base.model_id)
        fresh = new_clusters(connection, run_id, len(parts))
        parameters = {**edit.parameters, **({"new": fresh} if fresh else {})}
        save_head(connection, run_id, base.model_id, edit.verb, parameters, edit.names, base.run_id)
        connection.execute(
            sa.insert(table).from_select(
                ["run_id", "view_id", "cluster_id", "strength"],
                sa.select(
                    sa.literal(run_id),
                    member.view_id,
                    member.cluster_id if cluster is None else cluster,
                    member.strength,
                ).where(member.run_id == base.run_id),
            )
        )
        one = sa.and_(member.run_id == run_id, member.view_id == sa.bindparam("view"))
        for cluster_id, part in zip(fresh, parts, strict=True):
            connection.execute(
                sa.update(table).where(one).values(cluster_id=cluster_id),
                [{"view": view_id} for view_id in part.tolist()],
            )
        if strengths:
            connection.execute(
                sa.update(table).where(one).values(strength=sa.bindparam("value")),
                [{"view": view_id, "value": value} for view_id, value in strengths.items()],
            )
        _save_names(connection, base.ids, edit.names)
        finish_run(connection, run_id, parameters)
    return state_of(store, run_id)


def _save_names(connection: sa.Connection, cluster_ids: Sequence[int], names: Mapping[int, str]) -> None:
    cluster = schema.cluster.c
    connection.execute(
        sa.update(schema.cluster).where(cluster.id == sa.bindparam("key")).values(name=sa.bindparam("value")),
        [{"key": key, "value": names.get(key)} for key in sorted({*cluster_ids, *names})],
    )


# -- photos and labels ---------------------------------------------------------------------------------------


def photo_list(store: CatalogStore, texts: Sequence[str]) -> list[int]:
    """Photo ids of what a person wrote: `12`, `#12`, `12,15,#17`, or a path, each once, in order.

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
    """What labels that were given to a cluster as a whole are recorded to come from."""
    return f"cluster {cluster_id}"


def label_cluster(
    store: CatalogStore,
    cluster_id: int,
    named: Matched,
    verdict: str = "positive",
    excepted: Sequence[int] = (),
) -> Proposals:
    """The same label on all photos of a cluster but some; nothing is written.

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
    """View by photo of a cluster, the strongest first."""
    places = state.places(cluster_id)
    views = store.views(state.view_ids[places].tolist())
    order = places[np.lexsort((state.view_ids[places], -state.strengths[places]))]
    return {views[view_id].photo_id: view_id for view_id in state.view_ids[order].tolist()}


def _among(photos: Mapping[int, int], wanted: Sequence[int], cluster_id: int) -> list[int]:
    strangers = sorted(set(wanted) - set(photos))
    if strangers or not wanted:
        shown = ", ".join(f"#{photo_id}" for photo_id in strangers[:5]) or "no photo"
        raise InvalidInputError(
            f"{shown}: not in cluster {cluster_id}; `birdsearch cluster show {cluster_id}` lists its photos"
        )
    return sorted(set(wanted))
