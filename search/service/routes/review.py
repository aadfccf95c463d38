"""Photos to verify next, and their likely labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query, Response
from numpy.typing import NDArray

from birdsearch.indexer.catalog.counts import photo_counts
from birdsearch.indexer.catalog.filtered_photos import allowed_views
from birdsearch.search.json_records import Record
from birdsearch.search.labels.review import ReviewItem
from birdsearch.search.labels.suggest import Candidates
from birdsearch.search.service.answers import json_answer
from birdsearch.search.service.photo_rows import read_photo_rows
from birdsearch.search.service.problems import responses
from birdsearch.search.service.searching import shown_evidence
from birdsearch.search.service.state import Service, ServiceDep
from birdsearch.search.service.where import WhereQuery, where_of
from birdsearch.settings import DEFAULT_CONFIDENCE

__all__ = ["router"]

router = APIRouter(prefix="/api/review", tags=["labels"])

Order = Literal["informative", "doubtful", "unknown"]

# From this probability of a bird of no known label on, that is the reason to look.
_STRANGE = 0.5


@dataclass(frozen=True, slots=True)
class Review(Record):
    """Photos to verify next.

    Attributes:
        items: The photos, in the order in which to verify them.
        verified: Photos that have a verified label.
        photos: Photos there are.
    """

    items: tuple[ReviewItem, ...]
    verified: int
    photos: int


@router.get("", response_model=Review, responses=responses(422))
def get_review(
    service: ServiceDep,
    where: WhereQuery,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most.")] = 20,
    order: Annotated[
        Order,
        Query(
            description="`informative`: doubtful ones that have little in common; `doubtful`: where two labels are "
            "nearly as likely; `unknown`: likely of no label that is known."
        ),
    ] = "informative",
    confidence: Annotated[
        float, Query(ge=0, le=1, description="How sure a label has to be, else the evidence is rolled up.")
    ] = DEFAULT_CONFIDENCE,
) -> Response:
    """Return what to verify next: of each event and its copies one photo, of none that has a verified one."""
    counts = photo_counts(service.store)
    record = service.store.active_model()
    if record is None:
        return json_answer(Review((), counts.verified, counts.photos))
    estimator = service.catalog.label_estimator()
    if not len(estimator.space):
        return json_answer(Review((), counts.verified, counts.photos))
    candidates = service.review.get(service.store, service.catalog.label_estimator)
    allowed = None
    conditions = where_of(service, where)
    if not conditions.is_empty:
        allowed = allowed_views(service.store, record.id, conditions)
    chosen = _chosen(service, candidates, order, limit, allowed)
    return json_answer(
        Review(_items(service, candidates, chosen, confidence), counts.verified, counts.photos)
    )


def _chosen(
    service: Service, candidates: Candidates, order: Order, limit: int, allowed: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    if order == "doubtful":
        return candidates.doubtful(limit, allowed)
    if order == "unknown":
        return candidates.strange(limit, allowed)
    return candidates.informative(service.store, limit, allowed)


def _items(
    service: Service, candidates: Candidates, view_ids: NDArray[np.int64], confidence: float
) -> tuple[ReviewItem, ...]:
    views = service.store.views(view_ids.tolist())
    photos = {
        photo.id: photo for photo in read_photo_rows(service, [view.photo_id for view in views.values()])
    }
    items = []
    for ids, answers in candidates.answers(service.store, view_ids, confidence):
        evidences = candidates.estimator.evidence(service.store, answers)
        for row, view_id in enumerate(ids.tolist()):
            labels = candidates.estimator.labels(answers, row)
            unknown = float(answers.unknown[row])
            items.append(
                ReviewItem(
                    photo=photos[views[view_id].photo_id],
                    labels=tuple(labels),
                    unknown=unknown,
                    evidence=shown_evidence(service, evidences[row]),
                    reason=_reason([(label.name, label.probability) for label in labels], unknown),
                )
            )
    return tuple(items)


def _reason(labels: list[tuple[str, float]], unknown: float) -> str:
    if unknown >= _STRANGE:
        return f"it may be of no species that is known here ({_percent(unknown)})"
    if len(labels) > 1:
        (first, p_first), (second, p_second) = labels[:2]
        return f"{first} ({_percent(p_first)}) or {second} ({_percent(p_second)})"
    return "little is known of what looks like it"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
