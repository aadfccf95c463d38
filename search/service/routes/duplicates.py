"""Copies: finding them, the files to keep and why, moving the others away and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.records import PhotoRecord
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.verified_labels import verified_names
from birdsearch.search.dedup.copies import CopyRules
from birdsearch.search.dedup.distinct import reject, unreject
from birdsearch.search.dedup.find import DedupOptions, find_copies
from birdsearch.search.dedup.groups import CopyFile, CopyGroup
from birdsearch.search.dedup.keep import KeepRules
from birdsearch.search.dedup.quarantine import Refusal, apply_groups, undo
from birdsearch.search.dedup.records import DuplicateFile, DuplicateGroup, Duplicates
from birdsearch.search.job import Job
from birdsearch.search.json_records import Record
from birdsearch.search.service.copies import CopiesFound
from birdsearch.search.service.jobs import Task
from birdsearch.search.service.problems import responses
from birdsearch.search.service.routes.annotations import Id
from birdsearch.search.service.schemas.jobs import accepted
from birdsearch.search.service.state import Service, ServiceDep

__all__ = ["router"]

router = APIRouter(prefix="/api/duplicates", tags=["duplicates"])

_KEY = "duplicates"
# Refused files that a job lists.
_SHOWN_REFUSALS = 50


class FindRequest(BaseModel):
    """How to look for copies."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{}, {"rotations": True}]}
    )

    rotations: bool = Field(default=False, description="Also find copies that were turned or mirrored.")
    min_similarity: float = Field(default=0.0, ge=0, le=1, description="How alike near-copies have to be.")
    keep: Annotated[str, Field(min_length=1, max_length=500)] | None = Field(
        default=None, description="Which file is kept: ranked rules, such as `resolution,metadata,oldest`."
    )


class PhotosRequest(BaseModel):
    """Photos that are no copies of each other."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"photo_ids": [12, 15]}]}
    )

    photo_ids: list[Id] = Field(min_length=2, max_length=100)


class KeepRequest(BaseModel):
    """The file of a group to keep."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"group": 1, "photo_id": 15}]}
    )

    group: Id
    photo_id: Id
    path: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        None, description="Which of the photo's files, as it is shown, where the group has several."
    )


class ApplyRequest(BaseModel):
    """Groups whose copies are to be moved to quarantine."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"groups": [1, 2]}]}
    )

    groups: list[Id] = Field(min_length=1, max_length=100_000)


class UndoRequest(BaseModel):
    """What is to be put back."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [{}]})

    run: Id | None = Field(None, description="The run; by default the last one with files in quarantine.")


@dataclass(frozen=True, slots=True)
class Changed(Record):
    """What became of pairs of photos.

    Attributes:
        pairs: How many pairs are known as no copies now that were not, or the other way round.
    """

    pairs: int


@router.get("", responses=responses(422))
def get_duplicates(
    service: ServiceDep,
    limit: Annotated[int, Query(ge=1, le=500, description="How many at most.")] = 50,
    cursor: Annotated[
        str | None, Query(pattern=r"^[0-9]{1,15}$", description="`next` of the page before.")
    ] = None,
) -> Duplicates:
    """Return the groups that were found last, until the catalog's files change."""
    job = service.jobs.unfinished(_KEY)
    found = service.copies.get(service.store)
    groups = {} if found is None else found.groups
    after = int(cursor or 0)
    page = [(group_id, group) for group_id, group in groups.items() if group_id > after][: limit + 1]
    state = "none" if found is None else "ready"
    if job is not None:
        state = "running"
    return Duplicates(
        state=state,
        job=None if job is None else job.id,
        found_at=None if found is None else found.at,
        photos=0 if found is None else found.photos,
        groups=tuple(_shown(service, page[:limit])),
        next=str(page[limit - 1][0]) if len(page) > limit else None,
        total=len(groups),
        movable=sum(len(group.movable) for group in groups.values()),
        movable_bytes=sum(group.movable_bytes for group in groups.values()),
        warnings=() if found is None else tuple(service.text_of(warning) for warning in found.warnings),
    )


@router.post("", status_code=202, responses=responses(403, 409, 422))
def find_duplicates(service: ServiceDep, response: Response, request: FindRequest | None = None) -> Job:
    """Look for copies in the whole catalog; nothing is moved."""
    service.check_writable()
    asked = request or FindRequest()
    if asked.keep is not None and "path:" in asked.keep and not service.options.show_paths:
        raise InvalidInputError("keep: this service does not show absolute paths, and takes no rule for them")
    options = DedupOptions(
        rules=CopyRules(rotations=asked.rotations, min_similarity=asked.min_similarity),
        keep=KeepRules() if asked.keep is None else KeepRules.parse(asked.keep),
    )
    job = service.jobs.start("duplicates", lambda task: _find(service, task, options), _KEY)
    return accepted(response, job)


@router.post("/distinct", responses=responses(404, 409, 422))
def mark_distinct(service: ServiceDep, request: PhotosRequest) -> Changed:
    """Say that no two of these photos are copies of each other; it is remembered for good."""
    with service.writing("copies") as store:
        _check_photos(store, request.photo_ids)
        return Changed(pairs=reject(store, request.photo_ids, service.options.who))


@router.delete("/distinct", responses=responses(404, 409, 422))
def unmark_distinct(service: ServiceDep, request: PhotosRequest) -> Changed:
    """Take back that photos are no copies of each other."""
    with service.writing("copies") as store:
        _check_photos(store, request.photo_ids)
        return Changed(pairs=unreject(store, request.photo_ids))


@router.post("/keep", responses=responses(404, 409, 422))
def choose_kept(service: ServiceDep, request: KeepRequest) -> DuplicateGroup:
    """Choose which file of a group is kept; nothing is moved."""
    service.check_writable()
    group = _group(_ready(service), request.group)
    files = [
        file
        for file in group.files
        if file.photo_id == request.photo_id
        and (request.path is None or service.path_of(file.path) == request.path)
    ]
    if not files:
        raise HTTPException(404, f"group {request.group} has no such file")
    # Of several files of one content it is all the same which one stays.
    if group.kept not in files:
        service.copies.choose(service.store, request.group, files[0].photo_id, files[0].path)
    return _shown(service, [(request.group, _group(_ready(service), request.group))])[0]


@router.post("/apply", status_code=202, responses=responses(403, 404, 409, 422))
def apply_duplicates(service: ServiceDep, request: ApplyRequest, response: Response) -> Job:
    """Move the copies of groups to quarantine, from where they can be put back."""
    _check_may_move(service)
    found = _ready(service)
    chosen = {group_id: _group(found, group_id) for group_id in dict.fromkeys(request.groups)}
    job = service.jobs.start("apply", lambda task: _apply(service, task, chosen), ("apply", *chosen))
    return accepted(response, job)


@router.post("/undo", status_code=202, responses=responses(403, 409, 422))
def undo_duplicates(service: ServiceDep, response: Response, request: UndoRequest | None = None) -> Job:
    """Put back what was moved to quarantine."""
    _check_may_move(service)
    run_id = None if request is None else request.run
    job = service.jobs.start("undo", lambda task: _undo(service, task, run_id), ("undo", run_id))
    return accepted(response, job)


# -- the work ------------------------------------------------------------------------------------------------


def _find(service: Service, task: Task, options: DedupOptions) -> Mapping[str, Any]:
    record = service.model_in_use()
    result = find_copies(service.store, record, options, progress=task.progress)
    service.copies.put(service.store, result.groups, result.photos, result.warnings)
    return {
        "groups": len(result.groups),
        "photos": result.photos,
        "movable": result.movable,
        "movable_bytes": result.movable_bytes,
        "warnings": [service.text_of(warning) for warning in result.warnings],
    }


def _apply(service: Service, task: Task, chosen: Mapping[int, CopyGroup]) -> Mapping[str, Any]:
    with service.writing_beside("moving copies") as store:
        found = service.copies.get(store)
        # While the job waited, another one may have moved the same files, or photos were said to be no copies.
        if found is None or any(found.groups.get(group_id) != group for group_id, group in chosen.items()):
            raise HTTPException(409, "the groups have changed meanwhile; look at them again")
        try:
            report = apply_groups(
                store,
                list(chosen.values()),
                should_stop=task.is_cancelled,
                progress=lambda done, total: _tell(task, "moving", done, total),
            )
        finally:
            service.copies.moved(store)
    return {
        "run": report.run_id,
        "moved": len(report.moved),
        "moved_bytes": report.moved_bytes,
        "sidecars": report.sidecars,
        "refused": len(report.refused),
        "refusals": _refusals(service, report.refused),
        "warnings": [service.text_of(line) for line in report.recovered],
        "interrupted": report.interrupted,
    }


def _undo(service: Service, task: Task, run_id: int | None) -> Mapping[str, Any]:
    with service.writing_beside("putting copies back") as store:
        was_current = service.copies.get(store) is not None
        report = undo(
            store,
            run_id,
            should_stop=task.is_cancelled,
            progress=lambda done, total: _tell(task, "putting back", done, total),
        )
        if was_current:
            service.copies.moved(store)
    return {
        "run": report.run_id,
        "undone_run": report.undone_run_id,
        "restored": report.restored,
        "refused": len(report.refused),
        "refusals": _refusals(service, report.refused),
        "warnings": [service.text_of(line) for line in report.recovered],
        "interrupted": report.interrupted,
    }


def _tell(task: Task, message: str, done: int, total: int) -> None:
    # A file that is being moved is moved to its end: `should_stop` is asked between two of them.
    if not task.is_cancelled():
        task.progress(message, done, total)


def _refusals(service: Service, refused: Sequence[Refusal]) -> list[dict[str, str]]:
    return [
        {"path": service.path_of(one.path), "reason": service.text_of(one.reason)}
        for one in refused[:_SHOWN_REFUSALS]
    ]


# -- checks and views ----------------------------------------------------------------------------------------


def _check_may_move(service: Service) -> None:
    service.check_writable()
    if not service.options.apply:
        raise HTTPException(403, "this service moves no files; start it with --apply to let it")


def _ready(service: Service) -> CopiesFound:
    found = service.copies.get(service.store)
    if found is None:
        raise HTTPException(409, "no copies are known now; look for them first")
    return found


def _group(found: CopiesFound, group_id: int) -> CopyGroup:
    group = found.groups.get(group_id)
    if group is None:
        raise HTTPException(404, f"no group {group_id}")
    return group


def _check_photos(store: CatalogStore, photo_ids: Sequence[int]) -> None:
    known = store.photos(photo_ids)
    for photo_id in photo_ids:
        if photo_id not in known:
            raise HTTPException(404, f"no photo {photo_id}")
    if len(known) < 2:
        raise InvalidInputError("name at least two different photos")


def _shown(service: Service, groups: Sequence[tuple[int, CopyGroup]]) -> list[DuplicateGroup]:
    photo_ids = sorted({file.photo_id for _, group in groups for file in group.files})
    photos = service.store.photos(photo_ids)
    verified = verified_names(service.store, photo_ids)
    return [
        DuplicateGroup(
            id=group_id,
            exact=group.is_exact,
            movable_bytes=group.movable_bytes,
            files=tuple(
                _shown_file(service, file, photos[file.photo_id], verified.get(file.photo_id))
                for file in group.files
            ),
        )
        for group_id, group in groups
    ]


def _shown_file(service: Service, file: CopyFile, photo: PhotoRecord, verified: str | None) -> DuplicateFile:
    return DuplicateFile(
        photo_id=file.photo_id,
        path=service.path_of(file.path),
        links=tuple(service.path_of(path) for path in file.links),
        role="copy" if file.role == "move" else file.role,
        why=service.text_of(file.reason),
        similarity=file.similarity,
        width=file.width,
        height=file.height,
        bytes=file.size,
        format=photo.format,
        captured_at=photo.captured_at,
        thumb=f"/api/photos/{file.photo_id}/thumb",
        verified=verified,
    )
