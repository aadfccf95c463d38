"""Clusters: their list, their members, corrections, and the map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Body, HTTPException, Path, Query, Response

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.annotations import preview, record
from birdsearch.indexer.catalog.clusters import OUTLIER, ClusterState, current_run, state_of
from birdsearch.indexer.catalog.filters import Where
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.search.annotate.names import Matched
from birdsearch.search.clusters.catalog import cluster_catalog
from birdsearch.search.clusters.edit import (
    label_cluster,
    label_source,
    merge_clusters,
    name_cluster,
    split_cluster,
    split_photos,
    undo_edit,
)
from birdsearch.search.clusters.records import Cluster, ClusterMember, ClusterRun
from birdsearch.search.clusters.report import Overview
from birdsearch.search.job import Job
from birdsearch.search.service.answers import json_answer
from birdsearch.search.service.cluster_maps import packed
from birdsearch.search.service.cluster_views import odd_members, ordered_members, typical_photos
from birdsearch.search.service.jobs import Task
from birdsearch.search.service.problems import responses
from birdsearch.search.service.schemas.clusters import (
    ClusterPage,
    ClusterRequest,
    Clusters,
    Edit,
    Edited,
    LabelEdit,
    MergeEdit,
    MoveEdit,
    NameEdit,
    Runs,
    SplitEdit,
)
from birdsearch.search.service.schemas.jobs import accepted
from birdsearch.search.service.state import Service, ServiceDep
from birdsearch.search.service.taxon_matcher import TaxonMatcher
from birdsearch.search.service.where import where_of

__all__ = ["router"]

router = APIRouter(prefix="/api/clusters", tags=["clusters"])

_THUMBS = 12
_MAP_TYPE = "application/octet-stream"

Run = Annotated[int, Path(ge=1, le=2**53, description="The run that made the clusters.")]


@router.get("", responses=responses())
def get_runs(service: ServiceDep) -> Runs:
    """Return the newest clusterings and edits of them, the one in force first."""
    states = service.clusters.states(service.store)
    return Runs(
        tuple(
            ClusterRun(
                run=one.run_id,
                at=one.at,
                method=one.method,
                based_on=one.based_on,
                clusters=one.clusters,
                photos=one.photos,
                unclustered=one.outliers,
                current=row == 0,
            )
            for row, one in enumerate(states)
        )
    )


@router.post("", status_code=202, responses=responses(403, 409, 422))
def start_clustering(service: ServiceDep, response: Response, request: ClusterRequest | None = None) -> Job:
    """Cluster the photos by how they look, from the stored vectors."""
    service.check_writable()
    asked = request or ClusterRequest()
    if asked.clusters is not None and asked.method in ("graph", "hdbscan"):
        raise InvalidInputError(f"{asked.method} finds the number of clusters itself; leave `clusters` out")
    # What cannot be asked is refused now, not by a job that fails.
    _where(service, asked)
    job = service.jobs.start(
        "cluster", lambda task: _cluster(service, task, asked), ("cluster", asked.model_dump_json())
    )
    return accepted(response, job)


@router.get("/{run}", responses=responses(404, 422))
def get_clusters(service: ServiceDep, run: Run) -> Clusters:
    """Return the clusters of a run, the largest first, with the labels that photos have now."""
    found = _overview(service, run)
    state, members = found.state, found.members
    items = []
    for row in found.rows:
        # Rows of clusters have an id; that of the outliers is not among them.
        cluster_id = OUTLIER if row.id is None else row.id
        ordered = ordered_members(state, members, cluster_id)
        items.append(
            Cluster(
                id=cluster_id,
                name=row.name or None,
                photos=row.photos,
                events=row.events,
                label=row.label,
                label_share=row.label_share,
                verified=row.verified,
                purity=row.purity,
                sites=row.sites,
                one_site=None if row.one_site is None else service.text_of(row.one_site),
                first=row.first,
                last=row.last,
                tightness=row.strength,
                thumbs=tuple(typical_photos(members, ordered, _THUMBS)),
            )
        )
    return Clusters(
        run=run,
        clusters=tuple(items),
        unclustered=0 if found.outliers is None else found.outliers.photos,
        purity=found.purity,
        warnings=tuple(service.text_of(warning) for warning in found.warnings),
    )


@router.get(
    "/{run}/map",
    response_class=Response,
    responses={
        **responses(404, 422),
        200: {
            "description": "Little-endian: uint32 N; float32 x[N], y[N] within 0..1; int32 cluster[N], -1 for "
            "none; int32 photo id[N].",
            "content": {_MAP_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        },
        202: {
            "model": Job,
            "description": "The map is being worked out; ask again when the job is done.",
        },
    },
)
def get_map(service: ServiceDep, run: Run) -> Response:
    """Return the photos of a run in the plane, near to what looks like them."""
    state = _state(service.store, run)
    found = service.maps.read(service.store, state)
    if found is None:
        job = _start_map(service, state)
        answer = json_answer(job, 202)
        accepted(answer, job)
        return answer
    return Response(packed(service.store, state, found), media_type=_MAP_TYPE)


@router.post("/{run}/map", status_code=202, responses=responses(404, 422))
def make_map(service: ServiceDep, run: Run, response: Response) -> Job:
    """Compute the map of a run, if that is not done."""
    return accepted(response, _start_map(service, _state(service.store, run)))


@router.get("/{run}/{cluster}", responses=responses(404, 422))
def get_cluster(
    service: ServiceDep,
    run: Run,
    cluster: Annotated[int, Path(ge=-1, le=2**53, description="The cluster; -1 for photos in none.")],
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 100,
    cursor: Annotated[
        str | None, Query(pattern=r"^[0-9]{1,15}$", description="`next` of the page before.")
    ] = None,
) -> ClusterPage:
    """Return the photos of a cluster, the strongest first; those that may not belong are marked."""
    found = _overview(service, run)
    state, members = found.state, found.members
    ordered = ordered_members(state, members, cluster)
    if not len(ordered) and cluster != OUTLIER:
        raise HTTPException(404, f"run {run} has no cluster {cluster}")
    start = int(cursor or 0)
    odd = odd_members(state, members, ordered)
    page = slice(start, start + limit)
    return ClusterPage(
        id=cluster,
        name=state.names.get(cluster),
        photos=tuple(
            ClusterMember(
                photo_id=int(members.photo_ids[row]),
                strength=float(state.strengths[row]),
                odd=is_odd,
                label=members.label(row),
                verified=members.verified[row] is not None,
                event=int(members.events[row]),
                captured_at=members.captured_at[row],
                thumb=f"/api/photos/{int(members.photo_ids[row])}/thumb",
            )
            for row, is_odd in zip(ordered[page].tolist(), odd[page].tolist(), strict=True)
        ),
        next=str(start + limit) if start + limit < len(ordered) else None,
        total=len(ordered),
    )


@router.post("/{run}/edits", responses=responses(403, 404, 409, 422))
def edit_clusters(service: ServiceDep, run: Run, edit: Annotated[Edit, Body()]) -> Edited:
    """Name, merge, split or label clusters, or take the last edit back. Only those in force can be edited."""
    with service.writing("clusters") as store:
        state = _state(store, run)
        newest = current_run(store)
        if newest != run:
            raise HTTPException(409, f"run {run} is not in force any more, run {newest} is; look at that one")
        if isinstance(edit, LabelEdit):
            return _label(service, store, state, edit)
        return Edited(run=_edited(store, edit).run_id)


def _edited(store: CatalogStore, edit: Any) -> ClusterState:
    match edit:
        case NameEdit():
            return name_cluster(store, edit.cluster, edit.name)
        case MergeEdit():
            return merge_clusters(store, edit.clusters)
        case SplitEdit():
            return split_cluster(store, edit.cluster, edit.into)
        case MoveEdit():
            return split_photos(store, edit.cluster, edit.photo_ids)
    return undo_edit(store)


def _label(service: Service, store: CatalogStore, state: ClusterState, edit: LabelEdit) -> Edited:
    match = TaxonMatcher(store, allow_new=edit.new_taxa).match(edit.taxon)
    if not isinstance(match, Matched):
        raise InvalidInputError(match.reason)
    proposals = label_cluster(store, edit.cluster, match, edit.verdict, edit.excepted)
    items = [label.item() for label in proposals.labels]
    if not preview(store, items).added:
        return Edited(run=state.run_id, recorded=0)
    done = record(store, items, edit.who or service.options.who, label_source(edit.cluster))
    return Edited(run=state.run_id, annotation_run=done.run_id, recorded=done.added)


# -- the work ------------------------------------------------------------------------------------------------


def _cluster(service: Service, task: Task, asked: ClusterRequest) -> Mapping[str, Any]:
    record_in_use = service.model_in_use()
    task.progress("reading the vectors")
    with service.writing_beside("cluster") as store:
        state = cluster_catalog(
            store,
            record_in_use.id,
            method=asked.method,
            k=asked.clusters,
            frames=asked.frames,
            where=_where(service, asked),
            seed=asked.seed,
            progress=task.progress,
        )
    return {
        "run": state.run_id,
        "method": state.method,
        "clusters": len(state.ids),
        "photos": len(state.view_ids),
        "unclustered": int(np.count_nonzero(state.cluster_ids == OUTLIER)),
        "kept": state.parameters.get("kept", 0),
    }


def _where(service: Service, asked: ClusterRequest) -> Where:
    return Where() if asked.where is None else where_of(service, asked.where)


def _start_map(service: Service, state: ClusterState) -> Job:
    def work(task: Task) -> Mapping[str, Any]:
        found = service.maps.read(service.store, state)
        if found is None:
            task.progress("laying the photos out in the plane")
            found = service.maps.make(service.store, state)
        return {"run": state.run_id, "photos": len(found.view_ids)}

    return service.jobs.start("map", work, ("map", state.run_id))


# -- looking up ----------------------------------------------------------------------------------------------


def _state(store: CatalogStore, run: int) -> ClusterState:
    try:
        return state_of(store, run)
    except InvalidInputError as error:
        raise HTTPException(404, str(error)) from error


def _overview(service: Service, run: int) -> Overview:
    try:
        return service.clusters.overview(service.store, run)
    except InvalidInputError as error:
        raise HTTPException(404, str(error)) from error
