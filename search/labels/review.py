"""A photo that is worth verifying next: frozen, and the same for JSON, OpenAPI and the client."""

from __future__ import annotations

from dataclasses import dataclass, field

from birdsearch.search.json_records import SHARE, Record
from birdsearch.search.photos import Photo
from birdsearch.search.query.hits import LabelEstimate, LabelEvidence

__all__ = ["ReviewItem"]


@dataclass(frozen=True, slots=True)
class ReviewItem(Record):
    """A photo that is worth verifying next.

    Attributes:
        photo: The photo.
        labels: Its likeliest labels, likeliest first.
        unknown: Probability that the bird is of no known label, 0..1.
        evidence: What the labels rest on.
        reason: Why it is worth looking at.
    """

    photo: Photo
    labels: tuple[LabelEstimate, ...]
    unknown: float = field(metadata=SHARE)
    evidence: LabelEvidence
    reason: str
