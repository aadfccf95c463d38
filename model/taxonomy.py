"""The taxonomy that birdsearch carries: names of birds, what they are relatives of, and how they are looked up.

A checkpoint's classes, a user's folder names and another program's exports spell the same bird in different ways.
Here each spelling leads to one `Taxon`, or to none: a name that two birds share never picks one of them silently.
"""

from __future__ import annotations

import csv
import functools
import importlib.resources
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from types import MappingProxyType
from typing import NamedTuple

from birdsearch.errors import InvalidInputError

__all__ = ["Lineage", "Resolution", "Taxon", "Taxonomy", "name_key"]

_FILE = "species.csv"
_COLUMNS = (
    "common_name",
    "scientific_name",
    "genus",
    "family",
    "order",
    "alternative_names",
    "sensitive",
    "note",
)
# Below this the nearest name is no longer one that the writer can have meant.
_NEAR = 0.6
# Comparing takes time that grows with the square of the length; no bird's name is nearly as long.
_LONGEST = 100
_APOSTROPHES = re.compile("[`´‘’‛ʹʻʼʽˈ′＇]")
# "Sykes' warbler" is written "Sykes's" or "Sykess" elsewhere.
_BARE_POSSESSIVE = re.compile(r"s'(?![^\W_])", re.IGNORECASE)
# Letters that Unicode does not decompose into a base and a mark.
_LETTERS = str.maketrans({"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"})
_SPELLINGS = (("gray", "grey"), ("coloured", "colored"))


@dataclass(frozen=True, slots=True)
class Taxon:
    """One row of the taxonomy.

    Attributes:
        common_name: English name, spelt as the published models spell their classes; unique.
        scientific_name: Binomial; three words for a form below the species; empty for what is not a taxon.
        genus: First word of the scientific name.
        family: Name ending in -idae.
        order: Name ending in -iformes.
        alternative_names: Other English names and spellings, and scientific synonyms.
        sensitive: True if nests or roosts of the species are commonly protected or persecuted, so that its
            coordinates are to be coarsened.
        note: What else is to be known, such as how widely the species is taken.
    """

    common_name: str
    scientific_name: str
    genus: str
    family: str
    order: str
    alternative_names: tuple[str, ...]
    sensitive: bool
    note: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name it is found by: common, scientific, alternative."""
        scientific = (self.scientific_name,) if self.scientific_name else ()
        return (self.common_name, *scientific, *self.alternative_names)


class Lineage(NamedTuple):
    """Scientific names from the species upwards; all of them empty for what is not a taxon."""

    species: str
    genus: str
    family: str
    order: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """What became of a list of names.

    Attributes:
        resolved: Taxon by name, as the name was given, in the order given.
        unresolved: Names that lead to no taxon, or to more than one, in the order given.
    """

    resolved: dict[str, Taxon]
    unresolved: tuple[str, ...]


def name_key(name: str) -> str:
    """Return what is left of a name when its spelling is set aside; equal keys mean equal names.

    Case, hyphens, apostrophes, underscores, other punctuation, spaces and diacritics do not count; "gray" is
    "grey" and "coloured" is "colored".

    Args:
        name: A common or scientific name.
    """
    return "".join(_words(name))


class Taxonomy:
    """Taxa, and the ways to them by name.

    Args:
        taxa: The rows; their order is kept.

    Raises:
        InvalidInputError: Two taxa share a common name, or a common name has no letter or digit.
    """

    def __init__(self, taxa: Iterable[Taxon]) -> None:
        self._taxa = tuple(taxa)
        common: set[str] = set()
        by_key: dict[str, list[Taxon]] = {}
        written: dict[str, str] = {}
        for taxon in self._taxa:
            key = name_key(taxon.common_name)
            if not key or key in common:
                raise InvalidInputError(
                    f"the common name {taxon.common_name!r} is {'used twice' if key else 'without a letter'}; "
                    "give every taxon a common name of its own"
                )
            common.add(key)
            for name in taxon.names:
                key = name_key(name)
                written.setdefault(key, name)
                owners = by_key.setdefault(key, [])
                if taxon not in owners:
                    owners.append(taxon)
        self._by_key = {key: tuple(owners) for key, owners in by_key.items() if key}
        self._words = {key: _words(written[key]) for key in self._by_key}
        self._ambiguous = MappingProxyType(
            {written[key]: owners for key, owners in self._by_key.items() if len(owners) > 1}
        )

    @classmethod
    def load(cls) -> Taxonomy:
        """Return the taxonomy that comes with birdsearch; read once, at the first call."""
        return _packaged()

    @classmethod
    def from_csv(cls, text: str, source: str = _FILE) -> Taxonomy:
        """Read a table with the columns of data/species.csv.

        Args:
            text: CSV with a header.
            source: Where the text is from, for messages.

        Raises:
            InvalidInputError: A column is missing, a row has too few or too many values, `sensitive` is neither
                0 nor 1, a common name is without a letter or used twice, or the text is not CSV.
        """
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        try:
            missing = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                needed = ", ".join(_COLUMNS)
                raise InvalidInputError(f"{source} lacks the column {missing[0]!r}; needed: {needed}")
            return cls([_taxon(row, f"{source}, line {reader.line_num}") for row in reader])
        except csv.Error as error:
            raise InvalidInputError(f"{source} is not CSV after line {reader.line_num}: {error}") from error

    @property
    def ambiguous(self) -> Mapping[str, tuple[Taxon, ...]]:
        """Names that more than one taxon bears, with these taxa; `find` gives None for each of them."""
        return self._ambiguous

    def __iter__(self) -> Iterator[Taxon]:
        return iter(self._taxa)

    def __len__(self) -> int:
        return len(self._taxa)

    def find(self, name: str) -> Taxon | None:
        """Return the taxon of a common, scientific or alternative name, however it is spelt (see `name_key`).

        Args:
            name: The name.

        Returns:
            The taxon; None if the name is not known or more than one taxon bears it.
        """
        owners = self._by_key.get(name_key(name), ())
        return owners[0] if len(owners) == 1 else None

    def spellings(self, name: str) -> tuple[str, ...]:
        """Return the names of taxa that differ from a name in spelling alone (see `name_key`), as written."""
        key = name_key(name)
        return tuple(
            own for taxon in self._by_key.get(key, ()) for own in taxon.names if name_key(own) == key
        )

    def suggest(self, name: str, k: int = 3) -> tuple[str, ...]:
        """Return common names of the taxa whose names are nearest to a name, the nearest first.

        All of a taxon's names are compared, with their words as they stand and in alphabetical order; a name that
        has every word asked for ("stork") counts as near, and the nearer the less else it has. Ties are broken by
        the common name. The taxa that share an ambiguous name come first for it.

        Args:
            name: A name that `find` does not know.
            k: How many at most, 1 or more.

        Returns:
            Common names; fewer than `k`, or none, where nothing is near.

        Raises:
            InvalidInputError: `k` is below 1.
        """
        if k < 1:
            raise InvalidInputError(f"k is {k}; ask for 1 suggestion or more")
        key = name_key(name)
        if not key or len(key) > _LONGEST:
            return ()
        words = _words(name)
        # SequenceMatcher keeps what it works out about its second text, so that is the one that stays.
        plain = SequenceMatcher(None, "", key, autojunk=False)
        in_order = SequenceMatcher(None, "", "".join(sorted(words)), autojunk=False)
        best: dict[str, float] = {}
        for candidate, owners in self._by_key.items():
            others = self._words[candidate]
            score = max(_ratio(plain, candidate), _ratio(in_order, "".join(sorted(others))))
            if set(words) <= set(others):
                score = max(score, (1 + len(key) / len(candidate)) / 2)
            if score >= _NEAR:
                for taxon in owners:
                    best[taxon.common_name] = max(score, best.get(taxon.common_name, 0.0))
        return tuple(sorted(best, key=lambda common: (-best[common], common))[:k])

    def resolve(self, classes: Iterable[str]) -> Resolution:
        """Look up many names, such as the classes of a checkpoint.

        Args:
            classes: The names.
        """
        resolved: dict[str, Taxon] = {}
        unresolved: dict[str, None] = {}
        for name in classes:
            taxon = self.find(name)
            if taxon is None:
                unresolved[name] = None
            else:
                resolved[name] = taxon
        return Resolution(resolved, tuple(unresolved))

    @staticmethod
    def ancestors(taxon: Taxon) -> Lineage:
        """Return the names to roll a taxon up to: species, genus, family, order.

        The species of a form below the species is the one it belongs to: feral pigeons and rock pigeons are both
        Columba livia.

        Args:
            taxon: The taxon.
        """
        species = " ".join(taxon.scientific_name.split()[:2])
        return Lineage(species, taxon.genus, taxon.family, taxon.order)


@functools.cache
def _packaged() -> Taxonomy:
    file = importlib.resources.files("birdsearch.data").joinpath(_FILE)
    return Taxonomy.from_csv(file.read_text(encoding="utf-8"))


def _taxon(row: Mapping[str | None, str | list[str] | None], where: str) -> Taxon:
    values = {column: value for column in _COLUMNS if isinstance(value := row[column], str)}
    if len(values) < len(_COLUMNS) or None in row:
        raise InvalidInputError(f"{where} has not the header's number of values; check its commas and quotes")
    if values["sensitive"] not in ("0", "1"):
        raise InvalidInputError(f"{where}: sensitive is {values['sensitive']!r}; it is 0 or 1")
    return Taxon(
        common_name=values["common_name"],
        scientific_name=values["scientific_name"],
        genus=values["genus"],
        family=values["family"],
        order=values["order"],
        alternative_names=tuple(name for name in values["alternative_names"].split(";") if name),
        sensitive=values["sensitive"] == "1",
        note=values["note"],
    )


@functools.lru_cache(maxsize=4096)
def _words(name: str) -> tuple[str, ...]:
    # Before decomposition, which turns an acute accent used as an apostrophe into a space.
    text = _BARE_POSSESSIVE.sub("ss", _APOSTROPHES.sub("'", name)).replace("'", "")
    text = unicodedata.normalize("NFKD", text).casefold().translate(_LETTERS)
    text = "".join(letter for letter in text if not unicodedata.combining(letter))
    words = "".join(letter if letter.isalnum() else " " for letter in text).split()
    for old, new in _SPELLINGS:
        words = [word.replace(old, new) for word in words]
    return tuple(words)


def _ratio(matcher: SequenceMatcher[str], text: str) -> float:
    matcher.set_seq1(text)
    if matcher.real_quick_ratio() < _NEAR or matcher.quick_ratio() < _NEAR:
        return 0.0
    return matcher.ratio()
