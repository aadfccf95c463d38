"""Labels and taxa as they are shown: frozen, and the same for JSON, OpenAPI and the client."""

from __future__ import annotations

from dataclasses import dataclass

from birdsearch.search.json_records import Record

__all__ = ["FoundTaxon", "Recorded", "RecordedLabel"]


@dataclass(frozen=True, slots=True)
class FoundTaxon(Record):
    """A taxon that a name may mean, and that photos can be labelled with.

    Attributes:
        name: Its common name.
        scientific_name: Its scientific name, or None.
        rank: `species`, `genus`, `form` or `other`.
        family: Its family, or None.
        order: Its order, or None.
        photos: Photos that were verified to show it.
    """

    name: str
    scientific_name: str | None
    rank: str
    family: str | None
    order: str | None
    photos: int


@dataclass(frozen=True, slots=True)
class Recorded(Record):
    """Counts of what became of labels to record.

    Attributes:
        run_id: Takes the labels back; None if nothing was recorded.
        recorded: Labels that were added.
        replaced: Labels that were in force before and were ended by these.
        unchanged: Labels that were in force already.
        new_taxa: Names that are known from now on.
    """

    run_id: int | None
    recorded: int
    replaced: int
    unchanged: int
    new_taxa: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordedLabel(Record):
    """A label that was recorded for a photo, and what became of it.

    Attributes:
        annotation_id: Its id.
        photo_id: The photo.
        view_id: The view of it that was labelled.
        taxon: What it was said to show, or not to show.
        scientific_name: The scientific name of that.
        verdict: `positive`, `negative` or `uncertain`.
        who: Who said so.
        at: When, UTC, ISO 8601.
        source: How it was recorded.
        run_id: The run that recorded it, which can be undone.
        in_force: True if it counts now.
        replaces: The label that it ended, or None.
        undone_by: The run that took it back, or None.
    """

    annotation_id: int
    photo_id: int
    view_id: int
    taxon: str
    scientific_name: str
    verdict: str
    who: str
    at: str
    source: str
    run_id: int
    in_force: bool
    replaces: int | None
    undone_by: int | None
