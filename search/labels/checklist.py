"""Checklists: the species to expect where and when. They flag labels and change none of them.

A checklist is a CSV file with a header (see `birdsearch.csv_table`). A row says that a species occurs in
some months in some region; the rows of a species add up. Columns, found by their titles in any case,
and others not looked at:

- `species` (or `taxon`, `common_name`, `scientific_name`): any name that the catalog's taxonomy knows. Forms below
  a species count as the species, both here and in labels.
- `months`: `all`, or months and ranges of them by number or English name: `1-3,10-12`, `3;4;5`, `Nov-Feb`. A range
  may go over the end of the year. Empty, or without the column, all of them.
- `region`: a name, for people; it is not looked at.
- `south`, `west`, `north`, `east`: a box in degrees, borders included; `west` greater than `east` crosses the 180th
  meridian. A row without a box holds everywhere.
- `status`: such as `resident` or `migrant`. `rare`, `vagrant`, `accidental` and `casual` flag what fits such rows
  only.

In place of `months` there may be twelve columns `jan` to `dec`, each with 0, 1 or a frequency, as bar charts have
them; above 0, or an `x`, the species occurs then. A row that has none of them above 0 says nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from birdsearch.csv_table import CsvTable, table_bytes
from birdsearch.display_path import display_path
from birdsearch.errors import InvalidInputError, PhotoError
from birdsearch.indexer.catalog.filters import CoarsePlaces
from birdsearch.indexer.catalog.records import Prediction
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.taxa import RANKS, catalog_taxonomy
from birdsearch.indexer.catalog.views import views_taken
from birdsearch.model.taxonomy import Taxon, Taxonomy, name_key
from birdsearch.search.annotate.names import Matched, NameMatcher, Unmatched
from birdsearch.search.labels.checklist_table import (
    ALL_YEAR,
    KNOWN,
    Listing,
    checklist_rows,
    parse_months,
)
from birdsearch.search.labels.space import ROOT
from birdsearch.search.query.hits import Hit, QueryPhoto, QueryResult
from birdsearch.search.query.location_privacy.coarsening import coarse_place

__all__ = [
    "FLAGS",
    "Checklist",
    "Listing",
    "flag_predictions",
    "flag_result",
    "open_checklist",
    "parse_months",
]

FLAGS = ("not-on-list", "out-of-range", "out-of-season", "rare")
"""Flags of a label, the gravest first: the species is not listed at all; no row for it holds the place; none of
those holds the month; those that do list it as a rarity."""

_NOT_ON_LIST, _OUT_OF_RANGE, _OUT_OF_SEASON, _RARE = FLAGS
# "gull sp.", "crow/raven" and hybrids stand in lists that programs write, and are no species.
_NO_SPECIES = re.compile(r"\bspp?\.?$|/|\s[x×]\s", re.IGNORECASE)
_FORM = re.compile(r"\s*\([^()]*\)$")
_MOST_TOLD = 5
_MAX_BYTES = 1 << 26

Occasion = tuple[int | None, tuple[float, float] | None]
"""Month 1..12 and (latitude, longitude) of a photo, None where not known."""


@dataclass(frozen=True, slots=True, eq=False)
class Checklist:
    """A location and season list.

    Attributes:
        source: Where it is from, for messages.
        species: What is listed, by the key of the species.
        clades: What is listed of all species of a clade, by its rank and the key of its name.
        matcher: Finds the species of labels.
        warnings: For a person: names that are not known.
    """

    source: str
    species: Mapping[str, tuple[Listing, ...]]
    clades: Mapping[tuple[str, str], tuple[Listing, ...]]
    matcher: NameMatcher
    warnings: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path, taxonomy: Taxonomy, labels: Iterable[str] = ()) -> Checklist:
        """Read a file; see `parse`.

        Raises:
            InvalidInputError: It cannot be read, or as in `parse`.
        """
        source = display_path(os.fsencode(path))
        return cls._of(CsvTable.of_bytes(table_bytes(path, _MAX_BYTES), source, KNOWN), taxonomy, labels)

    @classmethod
    def parse(
        cls, text: str, taxonomy: Taxonomy, labels: Iterable[str] = (), source: str = "the checklist"
    ) -> Checklist:
        """Read a table in the form that this module's docstring describes.

        Names that are not known are no error, since lists know more species than taxonomies. A name that several
        taxa share counts as each of them. Both are warned of, but `gull sp.`, `crow/raven` and the like are not.

        Args:
            text: CSV with a header.
            taxonomy: The catalog's taxonomy.
            labels: Names of labels that the list may have though the taxonomy has not.
            source: Where it is from, for messages.

        Raises:
            InvalidInputError: A column is missing or is there twice, a cell makes no sense, no row names a species
                that is known, or the text is not CSV.
        """
        return cls._of(CsvTable.of_text(text, source, KNOWN), taxonomy, labels)

    @classmethod
    def _of(cls, table: CsvTable, taxonomy: Taxonomy, labels: Iterable[str]) -> Checklist:
        source = table.source
        matcher = NameMatcher(taxonomy)
        own = {_bare_key(label) for label in labels}
        genera = {name_key(taxon.genus): taxon for taxon in taxonomy if taxon.genus}
        # Dicts as ordered sets: lists have few distinct rows and many species.
        species: dict[str, dict[Listing, None]] = {}
        clades: dict[tuple[str, str], dict[Listing, None]] = {}
        strange: dict[str, tuple[int, str]] = {}
        shared: dict[str, str] = {}
        is_known = False
        for row in checklist_rows(table):
            look = _look(matcher, row.names)
            taxa = _taxa(taxonomy, look)
            spelt = {_bare_key(name) for name in row.names}
            if isinstance(look, Unmatched) and taxa:
                reason = f"{source}, line {row.line}: {look.reason}; it counts as each of them"
                shared.setdefault(name_key(look.name), reason)
            elif not taxa and not spelt & own and not _NO_SPECIES.search(row.names[0]):
                strange.setdefault(name_key(row.names[0]), (row.line, row.names[0]))
            is_known = is_known or bool(taxa) or bool(spelt & own)
            for key in {_species_key(taxon) for taxon in taxa} or spelt:
                species.setdefault(key, {})[row.listing] = None
            # A scientific name that no taxon bears is of its genus all the same.
            kin = [genera[key] for name in row.names if (key := name_key(name.split()[0])) in genera]
            for taxon in taxa or kin[:1]:
                for rank in RANKS[1:]:
                    if clade := getattr(taxon, rank):
                        clades.setdefault((rank, name_key(clade)), {})[row.listing] = None
        if not is_known:
            first = next(iter(strange.values()), None)
            shown = "it lists none" if first is None else f"the first is {first[1]!r} in line {first[0]}"
            raise InvalidInputError(
                f"{source} names no species that is known ({shown}), so that every label would be flagged; "
                "check its names, or make them known with `birdsearch annotate taxa FILE.csv`"
            )
        return cls(
            source=source,
            species={key: tuple(found) for key, found in species.items()},
            clades={key: tuple(found) for key, found in clades.items()},
            matcher=matcher,
            warnings=(
                *table.notes,
                *list(shared.values())[:_MOST_TOLD],
                *_unknown(matcher, list(strange.values()), source),
            ),
        )

    def flag(
        self,
        name: str,
        rank: str = "species",
        month: int | None = None,
        place: tuple[float, float] | None = None,
    ) -> str:
        """Return what the list has against a label.

        A genus, family or order has of the flags of its listed species the least grave one, so that it has none if
        one of them fits.

        Args:
            name: The label, or the clade that it is rolled up to.
            rank: `species`, `genus`, `family`, `order` or `bird`.
            month: When the photo was taken, 1..12, or None: then months do not count.
            place: (latitude, longitude) in degrees, or None: then boxes do not count.

        Returns:
            One of `FLAGS`, or empty if the list has nothing against it; always for `bird` and for what is no taxon.

        Raises:
            InvalidInputError: The rank or the month is none.
        """
        if rank not in (*RANKS, ROOT):
            raise InvalidInputError(f"rank is {rank!r}; it is one of {', '.join((*RANKS, ROOT))}")
        if month is not None and month not in ALL_YEAR:
            raise InvalidInputError(f"month is {month}; it is 1 to 12")
        listings = None if rank == ROOT else self._listings(name, rank)
        if listings is None:
            return ""
        if not listings:
            return _NOT_ON_LIST
        is_here = is_now = False
        for one in listings:
            if place is None or one.holds(*place):
                is_here = True
                if month is None or month in one.months:
                    is_now = True
                    if not one.is_rare:
                        return ""
        if not is_here:
            return _OUT_OF_RANGE
        return _RARE if is_now else _OUT_OF_SEASON

    def _listings(self, name: str, rank: str) -> tuple[Listing, ...] | None:
        """Return the entries for a label; None if the label is no taxon."""
        if rank != RANKS[0]:
            return self.clades.get((rank, name_key(name)), ())
        look = _look(self.matcher, (name,))
        if isinstance(look, Matched):
            return self.species.get(_species_key(look.taxon), ())
        if look.is_no_taxon:
            return None
        # A class whose name several taxa share may be any of them.
        owners = [self.matcher.look(common) for common in look.candidates]
        keys = [_species_key(one.taxon) for one in owners if isinstance(one, Matched)] or [_bare_key(name)]
        return tuple(listing for key in keys for listing in self.species.get(key, ()))


def _species_key(taxon: Taxon) -> str:
    return name_key(Taxonomy.ancestors(taxon).species or taxon.common_name)


def _bare_key(name: str) -> str:
    """Return the key of a name that no taxonomy has, without what is in brackets after it."""
    return name_key(_FORM.sub("", name)) or name_key(name)


def _look(matcher: NameMatcher, names: Sequence[str]) -> Matched | Unmatched:
    """Look the names of a species up: the first that leads to one taxon, else to several, counts."""
    looks = [
        matcher.look(spelling) for name in names for spelling in dict.fromkeys((name, _FORM.sub("", name)))
    ]
    for name in names:
        # A subspecies that no taxon bears is of its species.
        words = name.split()
        found = matcher.look(" ".join(words[:2]))
        if len(words) == 3 and isinstance(found, Matched) and _is_scientific(found):
            looks.append(found)
    shared = (look for look in looks if isinstance(look, Unmatched) and look.candidates)
    # A mark of doubt, or a footnote's star, is on the list all the same.
    named = (look for look in looks if isinstance(look, Matched) and look.verdict != "negative")
    return next(named, next(shared, looks[0]))


def _is_scientific(found: Matched) -> bool:
    return name_key(found.taxon.scientific_name) == name_key(found.name)


def _taxa(taxonomy: Taxonomy, look: Matched | Unmatched) -> list[Taxon]:
    if isinstance(look, Matched):
        return [] if look.verdict == "negative" else [look.taxon]
    owners = [taxonomy.find(common) for common in look.candidates]
    return [taxon for taxon in owners if taxon is not None]


def _unknown(matcher: NameMatcher, strange: Sequence[tuple[int, str]], source: str) -> Iterator[str]:
    for line, name in strange[:_MOST_TOLD]:
        look = matcher.match(name)
        if isinstance(look, Unmatched):
            yield f"{source}, line {line}: {look.reason}"
    if len(strange) > _MOST_TOLD:
        yield f"{source}: {len(strange) - _MOST_TOLD} more names are not known"


# -- flags of answers ----------------------------------------------------------------------------------------


def open_checklist(store: CatalogStore, path: Path) -> Checklist:
    """Read a checklist in the names that a catalog knows.

    Raises:
        InvalidInputError: As `Checklist.read`.
    """
    record = store.active_model()
    return Checklist.read(path, catalog_taxonomy(store), () if record is None else record.classes)


def flag_predictions(
    store: CatalogStore,
    checklist: Checklist,
    found: Sequence[Prediction],
    coarse_by: CoarsePlaces | None = None,
) -> list[Prediction]:
    """Flag predictions by when and where their photos were taken; nothing else of them changes.

    Args:
        store: The catalog.
        checklist: The list.
        found: The predictions.
        coarse_by: The photos whose places are coarsened, as they are in answers; None to take all exactly.
    """
    known = views_taken(store, [one.view_id for one in found])
    hidden = (
        frozenset[int]() if coarse_by is None else coarse_by.among([one.photo_id for one in known.values()])
    )
    occasions: dict[int, Occasion] = {}
    for view_id, taken in known.items():
        place = taken.latitude, taken.longitude
        occasions[view_id] = _occasion(
            taken.captured_at, *(coarse_place(*place) if taken.photo_id in hidden else place)
        )
    return [
        replace(one, flags=checklist.flag(one.name, one.rank, *occasions.get(one.view_id, (None, None))))
        for one in found
    ]


def flag_result(
    store: CatalogStore,
    checklist: Checklist,
    result: QueryResult,
    coarse_by: CoarsePlaces | None = None,
) -> QueryResult:
    """Flag an answer: its labels by when and where the query was taken, each hit's label by its own photo.

    The query's time and place are the catalog's if it has the photo, else those of the file's EXIF; a Pillow image
    has none.

    Args:
        store: The catalog that answered.
        checklist: The list.
        result: The answer; its hits have the places that are shown for them.
        coarse_by: Decides whether the query's place is coarsened, as in answers; None to take it exactly.

    Returns:
        The same answer, with the flags set.
    """
    month, place = _query_occasion(store, result.query, coarse_by)
    evidence = result.evidence
    if evidence is not None:
        evidence = replace(evidence, flag=checklist.flag(evidence.name, evidence.rank, month, place))
    return replace(
        result,
        labels=tuple(
            replace(one, flag=checklist.flag(one.name, one.rank, month, place)) for one in result.labels
        ),
        evidence=evidence,
        hits=tuple(replace(hit, flag=_hit_flag(checklist, hit)) for hit in result.hits),
    )


def _hit_flag(checklist: Checklist, hit: Hit) -> str:
    if hit.label is None:
        return ""
    return checklist.flag(hit.label, "species", *_occasion(hit.captured_at, hit.lat, hit.lon))


def _query_occasion(store: CatalogStore, query: QueryPhoto, coarse_by: CoarsePlaces | None) -> Occasion:
    if query.photo_id is not None:
        photo = store.photos([query.photo_id]).get(query.photo_id)
        if photo is not None:
            place = photo.latitude, photo.longitude
            if coarse_by is not None and photo.id in coarse_by.among([photo.id]):
                place = coarse_place(*place)
            return _occasion(photo.captured_at, *place)
    if query.file is None:
        return None, None
    # Labels of a catalog are flagged without a picture being read, and without what reads pictures.
    from birdsearch.model.images.exif import read_exif
    from birdsearch.model.images.photo import PhotoLimits, load_photo, read_photo

    limits = PhotoLimits()
    try:
        loaded = load_photo(
            read_photo(query.file, limits), limits, suffix=Path(os.fsdecode(query.file)).suffix
        )
    except PhotoError:
        # It was answered a moment ago; that it is gone since takes its time and place, not the answer.
        return None, None
    capture = read_exif(loaded.exif)
    return _occasion(capture.captured_at, capture.latitude, capture.longitude)


def _occasion(captured_at: str | None, latitude: float | None, longitude: float | None) -> Occasion:
    place = None if latitude is None or longitude is None else (latitude, longitude)
    return None if captured_at is None else int(captured_at[5:7]), place
