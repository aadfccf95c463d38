"""Verified labels: recording them, taking them back, and the history of a photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.annotations import AnnotationItem, preview, record, undo, undoing_run
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.verified_labels import HistoryEntry, history
from birdsearch.indexer.catalog.views import views_of_photos
from birdsearch.search.annotate.names import Matched
from birdsearch.search.annotate.records import Recorded, RecordedLabel
from birdsearch.search.json_records import Record
from birdsearch.search.problem import Fault
from birdsearch.search.service.answers import json_answer
from birdsearch.search.service.problems import ProblemResponse, responses
from birdsearch.search.service.state import Service, ServiceDep
from birdsearch.search.service.taxon_matcher import TaxonMatcher

__all__ = ["Id", "Name", "router"]

router = APIRouter(prefix="/api/annotations", tags=["labels"])

_SOURCE = "gallery"
_MOST_ITEMS = 5000

Id = Annotated[int, Field(ge=1, le=2**53)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class AnnotationRequest(BaseModel):
    """A label on a photo, or on one view of it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    photo_id: Id | None = Field(None, description="The photo, as a whole.")
    view_id: Id | None = Field(None, description="The view; give this or `photo_id`.")
    taxon: Name = Field(
        description="Any name of a species: common, scientific or alternative. A mark of doubt in it, such as "
        "`Mallard?`, makes the verdict uncertain, one of negation makes it negative."
    )
    verdict: Literal["positive", "negative", "uncertain"] = "positive"

    @model_validator(mode="after")
    def _one_of_two(self) -> AnnotationRequest:
        if (self.photo_id is None) == (self.view_id is None):
            raise ValueError("give either photo_id or view_id")
        return self


class AnnotationsRequest(BaseModel):
    """Labels to record, all of them or none."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [{"items": [{"photo_id": 12, "taxon": "Eurasian hoopoe", "verdict": "positive"}]}]
        },
    )

    items: list[AnnotationRequest] = Field(min_length=1, max_length=_MOST_ITEMS)
    who: Name | None = Field(None, description="Who says so; by default what the service was started with.")
    new_taxa: bool = Field(False, description="Record names that are not known, as new taxa.")


@dataclass(frozen=True, slots=True)
class Undone(Record):
    """What came of taking labels back.

    Attributes:
        run_id: The run that did it.
        undone: Labels that count no more.
        restored: Labels that these had ended and that are in force again.
    """

    run_id: int
    undone: int
    restored: int


@dataclass(frozen=True, slots=True)
class History(Record):
    """Every label that a photo ever had.

    Attributes:
        history: The labels, in the order in which they were recorded.
    """

    history: tuple[RecordedLabel, ...]


@router.post(
    "",
    status_code=201,
    response_model=Recorded,
    responses={
        **responses(404, 409, 422),
        200: {"model": Recorded, "description": "All of it was in force already; nothing was recorded."},
    },
)
def post_annotations(service: ServiceDep, request: AnnotationsRequest) -> Response:
    """Record labels. A name that is not known is refused with the names that are near it."""
    with service.writing("labels") as store:
        matcher = TaxonMatcher(store, allow_new=request.new_taxa)
        view_ids = _view_ids(store, request.items)
        items: list[AnnotationItem] = []
        faults: list[Fault] = []
        for row, (item, view_id) in enumerate(zip(request.items, view_ids, strict=True)):
            match = matcher.match(item.taxon)
            try:
                if isinstance(match, Matched):
                    items.append(AnnotationItem(view_id, match.taxon, match.verdict_with(item.verdict)))
                    continue
                message = match.reason
            except InvalidInputError as error:
                message = str(error)
            faults.append(Fault(f"body.items.{row}.taxon", message))
        if faults:
            return ProblemResponse(422, faults[0].message, faults)
        planned = preview(store, items)
        if not planned.added:
            return json_answer(Recorded(None, 0, 0, planned.unchanged))
        done = record(store, items, request.who or service.options.who, _SOURCE)
    new_taxa = tuple(taxon.common_name for taxon in matcher.new)
    return json_answer(Recorded(done.run_id, done.added, done.replaced, done.unchanged, new_taxa), 201)


@router.delete("/{run_id}", response_model=Undone, responses=responses(404, 409, 422))
def delete_annotations(
    service: ServiceDep, run_id: Annotated[int, Path(ge=1, le=2**53, description="What recorded them.")]
) -> Response:
    """Take back what a run recorded; what its labels had ended is in force again. Nothing is deleted."""
    with service.writing("labels") as store:
        try:
            undone_by = undoing_run(store, run_id)
        except InvalidInputError as error:
            raise HTTPException(404, str(error)) from error
        if undone_by is not None:
            raise HTTPException(409, f"run {run_id} was taken back already, by run {undone_by}")
        summary = undo(store, run_id)
    # Of a run that was written, the summary has the id.
    return json_answer(Undone(summary.run_id or 0, summary.undone, summary.restored))


@router.get("", response_model=History, responses=responses(404, 422))
def get_annotations(
    service: ServiceDep,
    photo_id: Annotated[int, Query(ge=1, le=2**53, description="The photo whose labels are asked for.")],
) -> Response:
    """Return every label that a photo ever had, those that were replaced or taken back included."""
    views = views_of_photos(service.store, [photo_id])
    if not views:
        raise HTTPException(404, f"no photo {photo_id}")
    entries = sorted(history(service.store, views), key=lambda entry: entry.label.annotation_id)
    return json_answer(History(tuple(_recorded(service, entry) for entry in entries)))


def _recorded(service: Service, entry: HistoryEntry) -> RecordedLabel:
    label = entry.label
    return RecordedLabel(
        annotation_id=label.annotation_id,
        photo_id=label.photo_id,
        view_id=label.view_id,
        taxon=label.name,
        scientific_name=label.scientific_name,
        verdict=label.verdict,
        who=label.who,
        at=label.at,
        source=service.text_of(label.source),
        run_id=entry.run_id,
        in_force=entry.in_force,
        replaces=entry.replaces,
        undone_by=entry.undone_run_id,
    )


def _view_ids(store: CatalogStore, items: Sequence[AnnotationRequest]) -> list[int]:
    """Return the view that each label is about.

    Raises:
        HTTPException: There is no such photo or view (404).
    """
    whole = store.whole_views(sorted({item.photo_id for item in items if item.photo_id is not None}))
    known = store.views(sorted({item.view_id for item in items if item.view_id is not None}))
    found: list[int] = []
    for item in items:
        view_id = item.view_id if item.photo_id is None else whole.get(item.photo_id)
        if view_id is None:
            raise HTTPException(404, f"no photo {item.photo_id}")
        if item.photo_id is None and view_id not in known:
            raise HTTPException(404, f"no view {view_id}")
        found.append(view_id)
    return found
