"""The taxonomy of a catalog: the packaged one, and the taxa that its users added to it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import sqlalchemy as sa

from birdsearch.csv_table import CsvTable, column_key
from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.runs import finish_run, start_run
from birdsearch.indexer.catalog.store import CatalogStore, chunks
from birdsearch.model.name_marks import read_name
from birdsearch.model.taxonomy import Taxon, Taxonomy, name_key

__all__ = [
    "ANNOTATE",
    "RANKS",
    "Clade",
    "TaxaSummary",
    "add_taxa",
    "catalog_taxonomy",
    "clade_taxon_ids",
    "ensure_taxon",
    "extended",
    "find_clade",
    "new_taxon",
    "own_taxa",
    "parse_taxa",
    "read_taxonomy",
    "scientific_names",
]

RANKS = ("species", "genus", "family", "order")
"""The ranks that a taxon has names at, the finest first; above the last is `bird`."""

ANNOTATE = "annotate"
"""`run.command` of the runs that record labels; a taxon that one of these made is known while a label counts."""

_NEEDED = ("common_name", "scientific_name", "family", "order")
_TITLES = (*_NEEDED, "genus", "alternative_names", "sensitive", "note")
_LONGEST = 200
_COMMAND = "taxa"


@dataclass(frozen=True, slots=True)
class TaxaSummary:
    """Summary of adding a table of taxa.

    Attributes:
        run_id: The run that wrote them.
        added: Names that the catalog did not know, other names of a taxon included.
        updated: Taxa whose scientific name, genus, family or order is another now.
        unchanged: Names that were known just so.
        warnings: For a person: what of the table is not kept.
    """

    run_id: int
    added: int
    updated: int
    unchanged: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Clade:
    """A named group of taxa.

    Attributes:
        rank: One of `RANKS`.
        name: Its name as the taxonomy spells it: of a species the common name.
        taxa: What belongs to it: of a species, the forms below it too.
    """

    rank: str
    name: str
    taxa: tuple[Taxon, ...]


def new_taxon(common_name: str, scientific_name: str = "", family: str = "", order: str = "") -> Taxon:
    """Make a taxon that no taxonomy has yet.

    Args:
        common_name: Its name.
        scientific_name: Binomial, or three words for a form below the species; empty if there is none.
        family: Name of its family, or empty.
        order: Name of its order, or empty.

    Returns:
        The taxon; its genus is the first word of the scientific name.

    Raises:
        InvalidInputError: A name is without a letter or digit, has characters that do not print, or is too long.
    """
    values = [" ".join(value.split()) for value in (common_name, scientific_name, family, order)]
    for what, value in zip(_NEEDED, values, strict=True):
        _check_name(what, value)
    if not name_key(values[0]):
        raise InvalidInputError(f"the name {common_name!r} is without a letter or digit; give another one")
    genus = values[1].split()[0] if values[1] else ""
    return Taxon(values[0], values[1], genus, values[2], values[3], alternative_names=(), sensitive=False)


def _check_name(what: str, value: str) -> None:
    if len(value) > _LONGEST:
        raise InvalidInputError(
            f"the {what} {value[:40]!r}... has {len(value)} characters; {_LONGEST} is the limit"
        )
    if not value.isprintable():
        raise InvalidInputError(f"the {what} {value!r} has characters that do not print; take them out")


def parse_taxa(text: str, source: str = "the table of taxa") -> tuple[Taxon, ...]:
    """Read a user's table of taxa.

    Needed columns are `common_name`, `scientific_name`, `family` and `order`, whose values but the first may be
    empty; `genus`, `alternative_names` (between semicolons), `sensitive` (0 or 1) and `note` may be left out, and
    other columns are not looked at.

    Args:
        text: CSV with a header, in any of the forms that `CsvTable` reads.
        source: Where it is from, for messages.

    Returns:
        The taxa, in their order.

    Raises:
        InvalidInputError: A column is missing, a row or a name is not usable, or the text is not CSV.
    """
    table = CsvTable.of_text(text, source, _TITLES)
    absent = [column for column in _NEEDED if table.column((column,)) is None]
    if absent:
        raise table.without(f"no column {absent[0]!r} (needed: {', '.join(_NEEDED)})")
    taxa: dict[str, Taxon] = {}
    for row in table.rows:
        where = f"{source}, line {row.line}"
        if row.problem:
            raise InvalidInputError(f"{where}: {row.problem}")
        taxon = _parsed({title: row.values.get(column_key(title), "") for title in _TITLES}, where)
        if name_key(taxon.common_name) in taxa:
            raise InvalidInputError(f"{where}: the common name {taxon.common_name!r} is used twice")
        taxa[name_key(taxon.common_name)] = taxon
    return tuple(taxa.values())


def _parsed(row: dict[str, str], where: str) -> Taxon:
    sensitive = row.get("sensitive", "").strip()
    if sensitive not in ("", "0", "1"):
        raise InvalidInputError(f"{where}: sensitive is {sensitive!r}; it is 0 or 1")
    try:
        taxon = new_taxon(*(row[column] for column in _NEEDED))
        reading = read_name(taxon.common_name, lambda _name: ())
        if reading.verdict != "positive" and reading.is_bare:
            raise InvalidInputError(
                f"the common name {taxon.common_name!r} has a mark that makes it {reading.verdict}; take it out"
            )
        others = tuple(
            new_taxon(name).common_name
            for name in row.get("alternative_names", "").split(";")
            if name.strip()
        )
        genus = row.get("genus", "").strip() or taxon.genus
        _check_name("genus", genus)
    except InvalidInputError as error:
        raise InvalidInputError(f"{where}: {error}") from error
    return dataclasses.replace(
        taxon,
        genus=genus,
        alternative_names=others,
        sensitive=sensitive == "1",
        note=row.get("note", "").strip(),
    )


def extended(taxonomy: Taxonomy, taxa: Iterable[Taxon]) -> Taxonomy:
    """Return a taxonomy with further taxa, which win where names collide.

    - A taxon whose common name the taxonomy has replaces that one and keeps its other names.
    - A taxon that is new by its common name but not by its scientific one is another name of the taxon that
      bears it.
    - Any other is new. What used to be an alternative name of an older taxon then means the new one alone.

    Args:
        taxonomy: The taxonomy to start from; it is not changed.
        taxa: The further taxa.

    Returns:
        The taxonomy of both: the older taxa in their order, then the new ones in theirs.
    """
    rows = {name_key(taxon.common_name): taxon for taxon in taxonomy}
    fresh: list[Taxon] = []
    for taxon in taxa:
        key = name_key(taxon.common_name)
        if key in rows:
            rows[key] = _merged(rows[key], taxon)
        else:
            fresh.append(taxon)
    if not fresh and all(rows[name_key(taxon.common_name)] == taxon for taxon in taxonomy):
        return taxonomy
    bearers = {name_key(taxon.scientific_name): key for key, taxon in rows.items() if taxon.scientific_name}
    own: dict[str, str] = {}
    for taxon in fresh:
        key, scientific = name_key(taxon.common_name), name_key(taxon.scientific_name)
        bearer = bearers.get(scientific) if scientific else None
        if bearer is None:
            rows[key] = taxon
            own[key] = key
            if scientific:
                bearers[scientific] = key
                own[scientific] = key
        else:
            old = rows[bearer]
            names = (*old.alternative_names, taxon.common_name, *taxon.alternative_names)
            rows[bearer] = dataclasses.replace(old, alternative_names=_distinct(names))
            own[key] = bearer
    return Taxonomy(_without_taken_names(taxon, key, own) for key, taxon in rows.items())


def _without_taken_names(taxon: Taxon, key: str, own: dict[str, str]) -> Taxon:
    """Return the taxon without the alternative names that `own` gives to another."""
    names = tuple(name for name in taxon.alternative_names if own.get(name_key(name), key) == key)
    return taxon if names == taxon.alternative_names else dataclasses.replace(taxon, alternative_names=names)


def _merged(old: Taxon, taxon: Taxon) -> Taxon:
    return dataclasses.replace(
        taxon,
        alternative_names=_distinct((*old.alternative_names, *taxon.alternative_names)),
        sensitive=old.sensitive or taxon.sensitive,
        note=taxon.note or old.note,
    )


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, each once whatever its spelling; the first spelling counts."""
    by_key: dict[str, str] = {}
    for name in names:
        by_key.setdefault(name_key(name), name)
    return tuple(by_key.values())


def catalog_taxonomy(store: CatalogStore) -> Taxonomy:
    """Return the packaged taxonomy, extended by the catalog's own taxa; see `extended`.

    Args:
        store: An open catalog.

    Returns:
        The taxonomy in which the catalog's labels are named.
    """
    with store.reading() as connection:
        return read_taxonomy(connection)


def scientific_names(store: CatalogStore, names: Iterable[str]) -> dict[str, str]:
    """Return the scientific names of taxa that the catalog or the taxonomy has, by the names that were given."""
    taxonomy, taxon = Taxonomy.load(), schema.taxon.c
    keys = {name: name_key(name) for name in names}
    own: dict[str, str] = {}
    with store.reading() as connection:
        for some in chunks(sorted(set(keys.values()))):
            rows = connection.execute(sa.select(taxon.key, taxon.scientific_name).where(taxon.key.in_(some)))
            own.update((row.key, row.scientific_name) for row in rows)
    found = {}
    for name, key in keys.items():
        known = None if own.get(key) else taxonomy.find(name)
        scientific = own.get(key) if known is None else known.scientific_name
        if scientific:
            found[name] = scientific
    return found


def own_taxa(store: CatalogStore) -> list[Taxon]:
    """Return the taxa that the catalog itself keeps: those that a label names, and those that were added.

    A name that came with labels goes with them when these are undone, so that a misspelt one is not known
    for good.

    Args:
        store: An open catalog.

    Returns:
        The taxa, in the order in which they came to the catalog.
    """
    with store.reading() as connection:
        return _rows(connection)


def _rows(connection: sa.Connection) -> list[Taxon]:
    statement = sa.select(schema.taxon).where(_is_known()).order_by(schema.taxon.c.id)
    return [_taxon(row) for row in connection.execute(statement)]


def _is_known() -> sa.ColumnElement[bool]:
    """Return SQL: the row of `taxon` was not made for a label, or a label that was not undone names it."""
    taxon, run, annotation = schema.taxon.c, schema.run.c, schema.annotation.c
    labelling = sa.select(run.id).where(run.command == ANNOTATE)
    named = sa.select(annotation.taxon_id).where(annotation.undone_run_id.is_(None))
    return sa.or_(taxon.run_id.is_(None), taxon.run_id.not_in(labelling), taxon.id.in_(named))


def read_taxonomy(connection: sa.Connection) -> Taxonomy:
    """Return what `catalog_taxonomy` does, within a transaction."""
    return extended(Taxonomy.load(), _rows(connection))


def _taxon(row: sa.Row[tuple[object, ...]]) -> Taxon:
    return Taxon(
        common_name=row.name,
        scientific_name=row.scientific_name,
        genus=row.genus,
        family=row.family,
        order=row.order_name,
        alternative_names=(),
        sensitive=False,
    )


def ensure_taxon(connection: sa.Connection, taxon: Taxon, run_id: int) -> int:
    """Return the id of a taxon's row; make one if there is none of its common name, or none that is known.

    Args:
        connection: A transaction that writes.
        taxon: The taxon; a row that is known is left as it is.
        run_id: The run that needs it.

    Returns:
        The row's id.
    """
    column = schema.taxon.c
    key = name_key(taxon.common_name)
    row = connection.execute(sa.select(schema.taxon).where(column.key == key)).one_or_none()
    values = {"key": key, "name": taxon.common_name, "run_id": run_id} | _facts(taxon)
    if row is not None:
        if (row.name, _facts(_taxon(row))) != (taxon.common_name, _facts(taxon)):
            forgotten = (column.id == row.id, ~_is_known())
            connection.execute(sa.update(schema.taxon).where(*forgotten).values(values))
        return int(row.id)
    return int(connection.execute(sa.insert(schema.taxon).values(values).returning(column.id)).scalar_one())


def _facts(taxon: Taxon) -> dict[str, str]:
    return {
        "scientific_name": taxon.scientific_name,
        "genus": taxon.genus,
        "family": taxon.family,
        "order_name": taxon.order,
    }


def add_taxa(store: CatalogStore, csv_text: str, source: str = "the table of taxa") -> TaxaSummary:
    """Add a user's table of taxa to the catalog's taxonomy, in one transaction.

    A taxon that is known by its common name gets the table's scientific name, genus, family and order. The
    alternative names of a taxon that has a scientific name are kept as names of it.

    Args:
        store: A catalog that is open for writing.
        csv_text: The table; see `parse_taxa`.
        source: Where it is from, for messages.

    Returns:
        What was added and changed.

    Raises:
        InvalidInputError: The table is not usable, or a common name is another taxon's scientific name; nothing
            was written.
        CatalogReadOnlyError: The catalog was opened for reading.
    """
    taxa = parse_taxa(csv_text, source)
    outcomes: Counter[str] = Counter()
    warnings: list[str] = []
    with store.writing() as connection:
        taxonomy = read_taxonomy(connection)
        run_id = start_run(connection, _COMMAND)
        named = {name_key(taxon.common_name) for taxon in (*taxonomy, *taxa)}
        for taxon in taxa:
            _check_against(taxonomy, taxon, source)
            outcomes[_write_taxon(connection, taxonomy, taxon, run_id)] += 1
            for name in taxon.alternative_names:
                reason = _why_not_kept(taxonomy, taxon, name, named)
                if reason:
                    warnings.append(f"{name!r}, another name of {taxon.common_name}, is not kept: {reason}")
                    continue
                synonym = dataclasses.replace(taxon, common_name=name, alternative_names=())
                outcomes[_write_taxon(connection, taxonomy, synonym, run_id)] += 1
        lost = [taxon.common_name for taxon in taxa if taxon.sensitive and not _is_sensitive(taxonomy, taxon)]
        if lost:
            warnings.append(
                f"that a taxon is sensitive is not kept, so coordinates are not coarsened for: {', '.join(lost)}"
            )
        counts = {kind: outcomes[kind] for kind in ("added", "updated", "unchanged")}
        finish_run(connection, run_id, {**counts, "source": source})
    return TaxaSummary(run_id, **counts, warnings=tuple(warnings))


def _check_against(taxonomy: Taxonomy, taxon: Taxon, source: str) -> None:
    key = name_key(taxon.common_name)
    other = taxonomy.find(taxon.common_name)
    if other is None or name_key(other.common_name) == key or name_key(other.scientific_name) != key:
        return
    if name_key(taxon.scientific_name) != key:
        raise InvalidInputError(
            f"{source}: the common name {taxon.common_name!r} is the scientific name of {other.common_name}; "
            "give the taxon another common name"
        )


def _write_taxon(connection: sa.Connection, taxonomy: Taxonomy, taxon: Taxon, run_id: int) -> str:
    """Make or change a taxon's row; a taxon that the taxonomy has just so needs none."""
    column = schema.taxon.c
    key = name_key(taxon.common_name)
    row = connection.execute(sa.select(schema.taxon).where(column.key == key)).one_or_none()
    if row is not None:
        # Written even where it is the same: what was added as such stays when labels are undone.
        connection.execute(
            sa.update(schema.taxon).where(column.id == row.id).values(_facts(taxon) | {"run_id": run_id})
        )
        return "unchanged" if _facts(_taxon(row)) == _facts(taxon) else "updated"
    known = taxonomy.find(taxon.common_name)
    if known is not None and _facts(known) == _facts(taxon):
        return "unchanged"
    ensure_taxon(connection, taxon, run_id)
    return "updated" if known is not None and name_key(known.common_name) == key else "added"


def _why_not_kept(taxonomy: Taxonomy, taxon: Taxon, name: str, named: set[str]) -> str:
    key = name_key(name)
    if key in (name_key(taxon.common_name), name_key(taxon.scientific_name)):
        return ""
    if not taxon.scientific_name:
        return "the taxon has no scientific name to tie it to"
    bearer = taxonomy.find(name)
    if key in named or (bearer is not None and name_key(bearer.scientific_name) == key):
        return "it is the name of another taxon"
    return ""


def _is_sensitive(taxonomy: Taxonomy, taxon: Taxon) -> bool:
    known = taxonomy.find(taxon.common_name)
    return known is not None and known.sensitive


def find_clade(taxonomy: Taxonomy, name: str) -> Clade:
    """Find the species, genus, family or order of a name, and the taxa that belong to it.

    Args:
        taxonomy: The taxonomy.
        name: Any name of a taxon, or the name of a genus, family or order; spelling does not count.

    Returns:
        The group at the finest rank that bears the name.

    Raises:
        InvalidInputError: Nothing bears the name, which then names the nearest, or more than one taxon does.
    """
    key = name_key(name)
    taxon = taxonomy.find(name)
    if taxon is not None:
        members = tuple(
            other for other in taxonomy if other is taxon or _is_form_of(other, taxon.scientific_name)
        )
        return Clade("species", taxon.common_name, members)
    for shared, owners in taxonomy.ambiguous.items():
        if name_key(shared) == key:
            candidates = " or ".join(owner.common_name for owner in owners)
            raise InvalidInputError(f"{name!r} may be {candidates}; write the one that is meant")
    for rank in RANKS[1:]:
        members = tuple(taxon for taxon in taxonomy if key and name_key(getattr(taxon, rank)) == key)
        if members:
            return Clade(rank, getattr(members[0], rank), members)
    groups = {
        name_key(getattr(taxon, rank)): getattr(taxon, rank) for rank in RANKS[1:] for taxon in taxonomy
    }
    near = [groups[found] for found in get_close_matches(key, [group for group in groups if group], 2, 0.75)]
    near += [suggestion for suggestion in taxonomy.suggest(name) if suggestion not in near]
    meant = f"; did you mean {', '.join(near[:4])}?" if near else ""
    raise InvalidInputError(f"{name!r} is no species, genus, family or order that is known{meant}")


def _is_form_of(taxon: Taxon, species: str) -> bool:
    words = taxon.scientific_name.split()
    return len(words) > 2 and name_key(" ".join(words[:2])) == name_key(species) and len(species.split()) == 2


def clade_taxon_ids(connection: sa.Connection, taxonomy: Taxonomy, clade: Clade) -> list[int]:
    """Return the ids of the catalog's rows for the taxa of a group.

    Args:
        connection: A transaction.
        taxonomy: The catalog's taxonomy, as it is in this transaction.
        clade: The group.

    Returns:
        Ids of `taxon` rows, rising.
    """
    members = set(clade.taxa)
    rows = connection.execute(sa.select(schema.taxon.c.id, schema.taxon.c.name).order_by(schema.taxon.c.id))
    return [row.id for row in rows if taxonomy.find(row.name) in members]
