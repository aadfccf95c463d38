"""Sightings: the birds that were seen, once each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.filters import Where
from birdsearch.indexer.catalog.taxa import find_clade
from birdsearch.search.job import Job
from birdsearch.search.json_records import Record
from birdsearch.search.service.jobs import Task
from birdsearch.search.service.problems import responses
from birdsearch.search.service.routes.annotations import Name
from birdsearch.search.service.schemas.jobs import accepted
from birdsearch.search.service.state import Service, ServiceDep
from birdsearch.search.sightings.events import EventRules
from birdsearch.search.sightings.find import find_sightings
from birdsearch.search.sightings.listed import StoredSighting, is_of
from birdsearch.search.sightings.parts import SightingRules
from birdsearch.search.sightings.records import Sighting
from birdsearch.search.sightings.store import counts_of, store_sightings

__all__ = ["router"]

router = APIRouter(prefix="/api/sightings", tags=["sightings"])

_SHOWN_PHOTOS = 12
_Seconds = Annotated[float, Field(ge=0, le=3.2e9)]


class SightingsRequest(BaseModel):
    """When photos are of one burst, event or sighting."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{}, {"sighting_gap_s": 3600}]}
    )

    burst_gap_s: _Seconds = Field(default=1.0, description="Frames of a burst are closer, in seconds.")
    event_gap_s: _Seconds = Field(default=60.0, description="Frames of an event are closer, in seconds.")
    sighting_gap_s: _Seconds = Field(
        default=1800.0, description="Events of a sighting are at most so many seconds apart."
    )


@dataclass(frozen=True, slots=True)
class Sightings(Record):
    """Some of the sightings.

    Attributes:
        run: The run that joined them; None before the first.
        sightings: In order of time.
        next: Passed as `cursor`, it asks for those after these; None at the end.
        total: How many there are.
    """

    run: int | None
    sightings: tuple[Sighting, ...]
    next: str | None
    total: int


@router.get("", responses=responses(422))
def get_sightings(
    service: ServiceDep,
    limit: Annotated[int, Query(ge=1, le=500, description="How many at most.")] = 50,
    cursor: Annotated[
        str | None, Query(pattern=r"^[0-9]{1,15}$", description="`next` of the page before.")
    ] = None,
    taxon: Annotated[Name | None, Query(description="Of this species, genus, family or order.")] = None,
    since: Annotated[Name | None, Query(description="Ends at this local time or later.")] = None,
    until: Annotated[Name | None, Query(description="Begins at this local time or earlier.")] = None,
) -> Sightings:
    """Return the sightings that were stored last, with the labels that photos have now."""
    earliest, latest = Where(since=since, until=until).span
    run_id, found = _stored(service)
    if taxon is not None:
        taxonomy = service.catalog.label_estimator().taxonomy
        clade = find_clade(taxonomy, taxon)
        found = [one for one in found if is_of(one, clade, taxonomy)]
    # ISO 8601 texts of one form order as their times do; one without a time meets no condition on it.
    if earliest is not None:
        found = [one for one in found if one.ended_at is not None and one.ended_at >= earliest.isoformat()]
    if latest is not None:
        found = [one for one in found if one.started_at is not None and one.started_at <= latest.isoformat()]
    after = int(cursor or 0)
    left = [one for one in found if one.number > after]
    return Sightings(
        run=run_id,
        sightings=tuple(_item(one, _SHOWN_PHOTOS) for one in left[:limit]),
        next=str(left[limit - 1].number) if len(left) > limit else None,
        total=len(found),
    )


@router.post("", status_code=202, responses=responses(403, 409, 422))
def start_sightings(service: ServiceDep, response: Response, request: SightingsRequest | None = None) -> Job:
    """Join the photos of the catalog to bursts, events and sightings; no picture is read."""
    service.check_writable()
    asked = request or SightingsRequest()
    rules = EventRules(burst_gap_s=asked.burst_gap_s, event_gap_s=asked.event_gap_s)
    joining = SightingRules(gap_s=asked.sighting_gap_s)
    job = service.jobs.start(
        "sightings",
        lambda task: _find(service, task, rules, joining, asked.model_dump()),
        ("sightings", asked.model_dump_json()),
    )
    return accepted(response, job)


@router.get("/{number}", responses=responses(404, 422))
def get_sighting(
    service: ServiceDep, number: Annotated[int, Path(ge=1, le=2**53, description="Number of the sighting.")]
) -> Sighting:
    """Return a sighting with all its photos."""
    _, found = _stored(service)
    if number > len(found):
        raise HTTPException(404, f"no sighting {number}")
    return _item(found[number - 1])


def _stored(service: Service) -> tuple[int | None, list[StoredSighting]]:
    record = service.store.active_model()
    if record is None:
        return None, []
    found = service.sightings.get(service.store, record, service.catalog.label_estimator)
    return (None, []) if found is None else (found[0], list(found[1]))


def _item(one: StoredSighting, most: int | None = None) -> Sighting:
    return Sighting(
        id=one.number,
        taxon=one.name,
        scientific_name=one.scientific_name,
        rank=one.rank,
        probability=one.probability,
        verified=one.verified,
        first=one.started_at,
        last=one.ended_at,
        photos=len(one.photo_ids),
        frames=one.frames,
        events=one.events,
        cameras=one.cameras,
        photo_ids=tuple(one.photo_ids[:most]),
        site=one.site,
        lat=one.latitude,
        lon=one.longitude,
        coarse=one.is_coarse,
    )


def _find(
    service: Service, task: Task, rules: EventRules, joining: SightingRules, settings: Mapping[str, object]
) -> Mapping[str, Any]:
    record = service.model_in_use()
    task.progress("joining photos")
    estimator = service.catalog.label_estimator()
    exact = service.options.exact_places
    found = find_sightings(
        service.store, record, None, rules, joining, exact_places=exact, estimator=estimator
    )
    if not len(found.frames):
        raise InvalidInputError("there is no photo to look at; index a folder first")
    task.progress("storing what was found")
    with service.writing_beside("sightings") as store:
        run_id = store_sightings(store, found, settings)
    return {
        "run": run_id,
        **counts_of(found),
        "warnings": [service.text_of(warning) for warning in found.warnings],
    }
