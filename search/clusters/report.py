"""Facts about the clusters of a catalog: their sizes, times, sites and labels, and how pure they are."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdsearch.display_path import display_path
from birdsearch.indexer.catalog.clusters import OUTLIER, ClusterState, clustering_of
from birdsearch.indexer.catalog.copies import read_exposures
from birdsearch.indexer.catalog.events import event_deployments
from birdsearch.indexer.catalog.predictions import last_predictions
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.verified_labels import VerifiedLabel, labels_in_force
from birdsearch.indexer.catalog.views import view_facts
from birdsearch.search.clusters.catalog import member_kinship
from birdsearch.search.clusters.sites import SiteCheck, check_sites
from birdsearch.search.query.location_privacy.coarsening import SensitivePhotos, without_names

__all__ = ["ClusterRow", "Members", "Overview", "member_rows", "overview", "picks"]

# Of a contact sheet of twelve: the strongest, some spread evenly between, the weakest.
_STRONGEST, _SPREAD, _WEAKEST = 6, 3, 3
# What `label_source` makes.
_OF_CLUSTER = re.compile(r"cluster \d+", re.ASCII)
# From this share of photos on, that nothing was said about most of them is worth a line.
_MANY_OUTLIERS = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """Facts about the views of a state, in its order.

    Attributes:
        photo_ids: (N,) int64.
        events: (N,) int64, smallest photo id of the view's event.
        pictures: (N,) int64, the same for copies of one picture, whatever it is named by.
        order: (N,) int64, rank by strength, then sharpness, then content: 0 fits its cluster best.
        files: Absolute paths; empty where no file is known.
        captured_at: Local times, ISO 8601; None where unknown.
        sites: Names of the sites; None where unknown.
        site_kind: What a site is: `deployment`, `camera` or `folder`.
        fused: Labels that the last `label` run gave; None where it gave none.
        verified: Verified labels; None where there is none.
        judging: The same without those that were given to a cluster as a whole: such labels agree with it by
            themselves, so that no purity follows from them.
    """

    photo_ids: NDArray[np.int64]
    events: NDArray[np.int64]
    pictures: NDArray[np.int64]
    order: NDArray[np.int64]
    files: tuple[bytes, ...]
    captured_at: tuple[str | None, ...]
    sites: tuple[str | None, ...]
    site_kind: str
    fused: tuple[str | None, ...]
    verified: tuple[str | None, ...]
    judging: tuple[str | None, ...]

    def label(self, row: int) -> str | None:
        """Return the verified label of a view, else the fused one."""
        return self.verified[row] or self.fused[row]


@dataclass(frozen=True, slots=True)
class ClusterRow:
    """A cluster, or all outliers together.

    Attributes:
        id: The cluster's id; None for the outliers.
        name: Its name, or an empty string.
        photos: Number of members.
        events: Number of events that they are of.
        strength: Mean strength of the members, 0..1; higher is tighter.
        sites: Number of known sites.
        first: When the first photo was taken, local time, ISO 8601, or None.
        last: When the last one was.
        label: The commonest verified label, else the commonest fused one, or None.
        label_share: Part of the members with such a label that have this one, 0..1, or None.
        verified: Members with a verified label.
        judged: Pictures with a label that was not given to a cluster as a whole; copies count once.
        purity: Part of these that have the commonest label among them, 0..1; None if there is none.
        one_site: The site that nearly all of it comes from, where that is more than chance; else None.
    """

    id: int | None
    name: str
    photos: int
    events: int
    strength: float
    sites: int
    first: str | None
    last: str | None
    label: str | None
    label_share: float | None
    verified: int
    judged: int
    purity: float | None
    one_site: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Overview:
    """The clusters of a catalog, described.

    Attributes:
        state: The state that is described.
        clustering: The clustering that it goes back to.
        members: Facts about the members.
        rows: The clusters, the largest first; of equally large ones the lower id.
        outliers: What is in none, or None if nothing is.
        purity: Part of the judged members of clusters that have the commonest label of their cluster, 0..1.
        check: Whether clusters follow the site; None where there are not two sites and two clusters.
        warnings: What a person should know.
    """

    state: ClusterState
    clustering: ClusterState
    members: Members
    rows: tuple[ClusterRow, ...]
    outliers: ClusterRow | None
    purity: float | None
    check: SiteCheck | None
    warnings: tuple[str, ...]


def overview(store: CatalogStore, state: ClusterState, coarse_by: SensitivePhotos | None = None) -> Overview:
    """Describe a state of the clusters.

    Args:
        store: An open catalog.
        state: The state.
        coarse_by: Hides the names of the deployments of photos whose places it hides; None to name all.

    Returns:
        The description. Labels and times are those that the catalog has now.
    """
    clustering = clustering_of(store, state)
    members = _members(store, state, coarse_by)
    heads = _first_of_events(state, members)
    check = check_sites(
        members.site_kind, state.cluster_ids[heads], [members.sites[row] for row in heads.tolist()]
    )
    one_site = {} if check is None else check.one_site
    parts = _parts(state.cluster_ids)
    rows = [_row(state, members, cluster_id, rows, one_site) for cluster_id, rows in parts.items()]
    clusters = sorted((row for row in rows if row.id is not None), key=lambda row: (-row.photos, row.id or 0))
    outliers = next((row for row in rows if row.id is None), None)
    known = sum(row.judged for row in clusters)
    right = sum(round(row.judged * (row.purity or 0.0)) for row in clusters)
    return Overview(
        state,
        clustering,
        members,
        tuple(clusters),
        outliers,
        right / known if known else None,
        check,
        _warnings(state, clustering, clusters, outliers, check),
    )


def _parts(cluster_ids: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """Return the rows of each cluster, by cluster id, both rising."""
    order = np.argsort(cluster_ids, kind="stable")
    ids, starts = np.unique(cluster_ids[order], return_index=True)
    return dict(zip(ids.tolist(), np.split(order, starts[1:]), strict=True))


def _first_of_events(state: ClusterState, members: Members) -> NDArray[np.int64]:
    """Return one row for each cluster and event, the strongest: an event counts once."""
    order = np.argsort(members.order)
    pairs = np.stack([state.cluster_ids[order], members.events[order]], axis=1)
    _, first = np.unique(pairs, axis=0, return_index=True)
    return np.sort(order[first])


def _row(
    state: ClusterState,
    members: Members,
    cluster_id: int,
    rows: NDArray[np.int64],
    one_site: Mapping[int, tuple[str, float]],
) -> ClusterRow:
    listed = rows.tolist()
    times = sorted(time for row in listed if (time := members.captured_at[row]) is not None)
    verified = _commonest(members.verified[row] for row in listed)
    # Copies are one witness: each picture says a label once.
    said = {(int(members.pictures[row]), members.judging[row]) for row in listed}
    _, right, judged = _commonest(label for _, label in said)
    label, count, known = verified if verified[2] else _commonest(members.fused[row] for row in listed)
    return ClusterRow(
        id=None if cluster_id == OUTLIER else cluster_id,
        name=state.names.get(cluster_id, ""),
        photos=len(listed),
        events=len(np.unique(members.events[rows])),
        strength=float(state.strengths[rows].mean()),
        sites=len({members.sites[row] for row in listed} - {None}),
        first=times[0] if times else None,
        last=times[-1] if times else None,
        label=label,
        label_share=count / known if known else None,
        verified=verified[2],
        judged=judged,
        purity=right / judged if judged else None,
        one_site=one_site[cluster_id][0] if cluster_id in one_site else None,
    )


def _commonest(labels: Iterable[str | None]) -> tuple[str | None, int, int]:
    """Return the commonest label, the first by name of equally common ones; how many have it, and how many any."""
    counts = Counter(label for label in labels if label is not None)
    if not counts:
        return None, 0, 0
    label, count = min(counts.items(), key=lambda item: (-item[1], item[0]))
    return label, count, counts.total()


def _warnings(
    state: ClusterState,
    clustering: ClusterState,
    clusters: Sequence[ClusterRow],
    outliers: ClusterRow | None,
    check: SiteCheck | None,
) -> tuple[str, ...]:
    found: list[str] = []
    skipped = clustering.parameters.get("skipped", 0)
    if skipped:
        found.append(f"{skipped} stored vectors are damaged; run `birdsearch check`")
    dropped = state.parameters.get("edits_dropped", 0)
    if dropped:
        edits = "1 merge or split" if dropped == 1 else f"{dropped} merges and splits"
        found.append(
            f"{edits} by hand since the clustering before left out; `birdsearch cluster undo` goes back to that"
        )
    if not clusters:
        found.append("no clusters were found: every photo is an outlier")
    elif len(clusters) == 1:
        found.append("all photos are in one cluster: nothing was told apart")
    if outliers is not None and clusters and outliers.photos > _MANY_OUTLIERS * len(state.view_ids):
        found.append(f"{outliers.photos} of {len(state.view_ids)} photos are in no cluster")
    if check is not None and check.is_warning:
        found.append(check.sentence)
    return tuple(found)


# -- facts ---------------------------------------------------------------------------------------------------


def _members(store: CatalogStore, state: ClusterState, coarse_by: SensitivePhotos | None) -> Members:
    view_ids = state.view_ids
    views = store.views(view_ids.tolist())
    photo_ids = np.array([views[view_id].photo_id for view_id in view_ids.tolist()], dtype=np.int64)
    photos = store.photos(sorted(set(photo_ids.tolist())))
    kin = member_kinship(store, state.model_id, view_ids)
    numbers = np.unique(kin.groups, return_inverse=True)[1]
    smallest = np.full(int(numbers.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(smallest, numbers, photo_ids)
    sharpness, digests = view_facts(store, view_ids)
    order = sorted(
        range(len(view_ids)),
        key=lambda row: (-state.strengths[row], -sharpness[row], digests[row]),
    )
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    fused = {one.view_id: one.name for one in last_predictions(store)}
    verified: dict[int, VerifiedLabel] = {}
    for label in labels_in_force(store):
        verified.setdefault(label.photo_id, label)
    names = {photo_id: label.name for photo_id, label in verified.items()}
    judging = {key: name for key, name in names.items() if not _OF_CLUSTER.fullmatch(verified[key].source)}
    listed = photo_ids.tolist()
    files = tuple(photos[photo_id].path for photo_id in listed)
    kind, sites = _sites(store, dict(zip(listed, files, strict=True)), coarse_by)
    return Members(
        photo_ids=photo_ids,
        events=smallest[numbers],
        pictures=kin.pictures,
        order=rank,
        files=files,
        captured_at=tuple(photos[photo_id].captured_at for photo_id in listed),
        sites=tuple(sites.get(photo_id) for photo_id in listed),
        site_kind=kind,
        fused=tuple(fused.get(view_id) for view_id in view_ids.tolist()),
        verified=tuple(names.get(photo_id) for photo_id in listed),
        judging=tuple(judging.get(photo_id) for photo_id in listed),
    )


def _sites(
    store: CatalogStore, files: Mapping[int, bytes], coarse_by: SensitivePhotos | None
) -> tuple[str, dict[int, str]]:
    """Return what a site is, and the site of each photo that has one.

    The deployments of the last `sightings` run, if it has any; else cameras, if at least half of the photos tell
    theirs; else folders.
    """
    deployed = {photo_id: name for photo_id, name in event_deployments(store).items() if photo_id in files}
    if deployed:
        return "deployment", deployed if coarse_by is None else without_names(deployed, coarse_by)
    cameras = {
        photo_id: facts.camera if facts.serial is None else f"{facts.camera} ({facts.serial})"
        for photo_id, facts in read_exposures(store, sorted(files)).items()
        if facts.camera is not None
    }
    if 2 * len(cameras) >= len(files):
        return "camera", cameras
    return "folder", {
        photo_id: display_path(os.path.dirname(file))  # noqa: PTH120 bytes
        for photo_id, file in files.items()
        if file
    }


# -- choices -------------------------------------------------------------------------------------------------


def picks(
    order: NDArray[np.int64], events: NDArray[np.int64], most: int = _STRONGEST + _SPREAD + _WEAKEST
) -> list[tuple[int, bool]]:
    """Choose members to look at: the strongest, some spread evenly, and the weakest, no event twice if that can be.

    Args:
        order: (M,) rank of each member, 0 the strongest.
        events: (M,) their events.
        most: How many.

    Returns:
        Places of members from the strongest to the weakest, each with whether it is one of the weakest. Where there
        are fewer events than photos asked for, frames of the same event fill up and none is marked.
    """
    ranked = np.argsort(order, kind="stable")
    _, first = np.unique(events[ranked], return_index=True)
    heads = ranked[np.sort(first)]
    if len(heads) < most:
        # Few events: their other frames fill the sheet.
        others = ranked[~np.isin(ranked, heads)][: most - len(heads)]
        chosen = np.concatenate([heads, others])
        return [(int(row), False) for row in chosen[np.argsort(order[chosen], kind="stable")]]
    weakest = most * _WEAKEST // (_STRONGEST + _SPREAD + _WEAKEST)
    strongest = most * _STRONGEST // (_STRONGEST + _SPREAD + _WEAKEST)
    between = np.linspace(strongest, len(heads) - weakest, most - strongest - weakest + 2)[1:-1]
    ranks = [
        *range(strongest),
        *np.floor(between).astype(int).tolist(),
        *range(len(heads) - weakest, len(heads)),
    ]
    chosen_ranks = sorted(set(ranks))
    return [(int(heads[rank]), rank >= len(heads) - weakest) for rank in chosen_ranks]


def member_rows(found: Overview) -> list[dict[str, object]]:
    """Return a row for each member: clusters by id, then outliers; in each the strongest first."""
    state, members = found.state, found.members
    is_outlier = state.cluster_ids == OUTLIER
    return [
        {
            "photo_id": int(members.photo_ids[row]),
            "path": display_path(members.files[row]),
            "cluster_id": None if is_outlier[row] else int(state.cluster_ids[row]),
            "name": state.names.get(int(state.cluster_ids[row]), ""),
            "strength": float(state.strengths[row]),
            "event": int(members.events[row]),
            "captured_at": members.captured_at[row],
            "label": members.label(row),
        }
        for row in np.lexsort((members.order, state.cluster_ids, is_outlier)).tolist()
    ]
