"""The names that people give birds, and the taxa of the catalog's taxonomy that they lead to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from birdsearch.errors import InvalidInputError
from birdsearch.model.species import Taxon, Taxonomy, name_key

__all__ = ["Matched", "NameMatcher", "Unmatched", "match_name"]

# Looking for the nearest names takes 20 ms a name.
_MAX_SUGGESTED = 50


@dataclass(frozen=True, slots=True)
class Matched:
    """A name that leads to one taxon.

    Attributes:
        name: The name as it was written.
        taxon: The taxon.
        is_new: True if no taxonomy has it yet.
    """

    name: str
    taxon: Taxon
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A name that leads to no taxon, or to more than one.

    Attributes:
        name: The name as it was written.
        candidates: Common names of the taxa that share it; empty if it is not known at all.
        suggestions: Common names that are near it, the nearest first.
        is_no_taxon: True if it is known and stands for birds that nobody named.
    """

    name: str
    candidates: tuple[str, ...] = ()
    suggestions: tuple[str, ...] = ()
    is_no_taxon: bool = False

    @property
    def is_unknown(self) -> bool:
        """True if no taxon bears the name, so that a new one may."""
        return not self.candidates and not self.is_no_taxon

    @property
    def reason(self) -> str:
        """What is wrong, in one sentence for a person."""
        if self.is_no_taxon:
            return f"{self.name!r} is no taxon but stands for birds that were not named; leave it out"
        if self.candidates:
            return f"{self.name!r} may be {' or '.join(self.candidates)}; write the one that is meant"
        meant = f"; did you mean {', '.join(self.suggestions)}?" if self.suggestions else ""
        return f"{self.name!r} is not the name of a taxon that is known{meant}"


def match_name(taxonomy: Taxonomy, name: str, *, suggest: bool = True) -> Matched | Unmatched:
    """Find the taxon of a name.

    Args:
        taxonomy: The catalog's taxonomy.
        name: A common, scientific or alternative name; spelling does not count.
        suggest: Look for the names that are near one that is not known.

    Returns:
        The taxon, or why there is none; a name that several taxa share is never decided here.
    """
    taxon = taxonomy.find(name)
    if taxon is not None:
        return Unmatched(name, is_no_taxon=True) if _is_no_taxon(taxon) else Matched(name, taxon)
    key = name_key(name)
    for shared, owners in taxonomy.ambiguous.items():
        if name_key(shared) == key:
            return Unmatched(name, candidates=tuple(owner.common_name for owner in owners))
    return Unmatched(name, suggestions=taxonomy.suggest(name) if suggest else ())


def _is_no_taxon(taxon: Taxon) -> bool:
    # Of the packaged rows, those without a scientific name; a user's new bird may have none yet.
    return not taxon.scientific_name and taxon == Taxonomy.load().find(taxon.common_name)


class NameMatcher:
    """Matches many names, each spelling once.

    Args:
        taxonomy: The catalog's taxonomy.
        create: Makes a taxon of a name that is not known and its scientific name, which may be empty, such as
            `new_taxon`; None to leave such names unmatched.
    """

    def __init__(self, taxonomy: Taxonomy, create: Callable[[str, str], Taxon] | None = None) -> None:
        self._taxonomy = taxonomy
        self._create = create
        self._found: dict[str, Matched | Unmatched] = {}
        self._suggested: dict[str, tuple[str, ...]] = {}
        self._new: dict[str, Taxon] = {}

    @property
    def new(self) -> tuple[Taxon, ...]:
        """The taxa that were made, in the order in which they were asked for."""
        return tuple(self._new.values())

    def look(self, name: str) -> Matched | Unmatched:
        """Find the taxon of a name; none is made and none is suggested."""
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = match_name(self._taxonomy, name, suggest=False)
        if self._new and isinstance(found, Unmatched) and found.is_unknown:
            taxon = self._new.get(name_key(name))
            return found if taxon is None else Matched(name, taxon, is_new=True)
        return found

    def match(self, name: str, scientific_name: str = "") -> Matched | Unmatched:
        """Find the taxon of a name, or make it; where neither can be, suggest others, for 50 names at most.

        Raises:
            InvalidInputError: A taxon is to be made of what is no name, or with another's scientific name.
        """
        found = self.look(name)
        if isinstance(found, Matched) or not found.is_unknown:
            return found
        if self._create is None:
            if name not in self._suggested and len(self._suggested) < _MAX_SUGGESTED:
                self._suggested[name] = self._taxonomy.suggest(name)
            return replace(found, suggestions=self._suggested.get(name, ()))
        taxon = self._create(name, scientific_name)
        bearer = self._taxonomy.find(taxon.scientific_name) if taxon.scientific_name else None
        if bearer is not None:
            raise InvalidInputError(
                f"{taxon.scientific_name!r} is the scientific name of {bearer.common_name}, so {name!r} cannot be "
                f"a new taxon of that name; record {bearer.common_name}, or give another scientific name"
            )
        self._new[name_key(name)] = taxon
        return Matched(name, taxon, is_new=True)
