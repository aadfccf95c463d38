"""Names that people give birds, and the taxa of the catalog's taxonomy that they lead to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from birdsearch.errors import InvalidInputError
from birdsearch.model.name_marks import NameReading, read_name
from birdsearch.model.taxonomy import Taxon, Taxonomy, name_key

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
        verdict: What the marks in the name say: `uncertain` for `Mallard?`, `negative` for `not Mallard`.
    """

    name: str
    taxon: Taxon
    is_new: bool = False
    verdict: str = "positive"

    def verdict_with(self, given: str) -> str:
        """Return the verdict of the name combined with another one.

        Args:
            given: `positive`, which is what is taken for granted, `negative` or `uncertain`.

        Raises:
            InvalidInputError: The two contradict each other.
        """
        if "positive" in (given, self.verdict):
            return self.verdict if given == "positive" else given
        if given == self.verdict == "uncertain":
            return given
        raise InvalidInputError(
            f"{self.name!r} is {self.verdict} by its own marks and the verdict beside it is {given}; "
            "write one of the two"
        )


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A name that leads to no taxon, or to more than one.

    Attributes:
        name: The name as it was written.
        candidates: Common names of the taxa that share it; empty if it is not known at all.
        suggestions: Common names that are near it, the nearest first.
        is_no_taxon: True if it is known and stands for birds that are not identified.
        refusal: Why it is no name of one species, in half a sentence, or empty.
    """

    name: str
    candidates: tuple[str, ...] = ()
    suggestions: tuple[str, ...] = ()
    is_no_taxon: bool = False
    refusal: str = ""

    @property
    def is_unknown(self) -> bool:
        """True if no taxon bears the name, so that a new one may."""
        return not self.candidates and not self.is_no_taxon and not self.refusal

    @property
    def reason(self) -> str:
        """Why the name is not used, in one sentence for people."""
        if self.refusal:
            return f"{self.name!r} {self.refusal}"
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
        name: A common, scientific or alternative name; spelling does not count, but marks of doubt and negation do
            (see `read_name`).
        suggest: Look for the names that are near one that is not known.

    Returns:
        The taxon with the verdict of the name's marks, or why there is none; a name that several taxa share is
        never decided here.
    """
    return _match(taxonomy, name, read_name(name, taxonomy.spellings), suggest=suggest)


def _match(taxonomy: Taxonomy, name: str, reading: NameReading, *, suggest: bool) -> Matched | Unmatched:
    if reading.refusal:
        return Unmatched(name, refusal=reading.refusal)
    taxon = taxonomy.find(reading.name)
    if taxon is not None:
        if _is_no_taxon(taxon):
            return Unmatched(name, is_no_taxon=True)
        return Matched(name, taxon, verdict=reading.verdict)
    key = name_key(reading.name)
    for shared, owners in taxonomy.ambiguous.items():
        if name_key(shared) == key:
            return Unmatched(name, candidates=tuple(owner.common_name for owner in owners))
    return Unmatched(name, suggestions=taxonomy.suggest(reading.name) if suggest else ())


def _is_no_taxon(taxon: Taxon) -> bool:
    # Of the packaged rows, those without a scientific name; a user's new bird may have none yet.
    return not taxon.scientific_name and taxon == Taxonomy.load().find(taxon.common_name)


class NameMatcher:
    """Matches many names, each spelling once.

    Args:
        taxonomy: The catalog's taxonomy.
        create: Makes a taxon of a name that is not known and its scientific name, which may be empty, such as
            `new_taxon`; None to leave such names unmatched.
        known: Further names that are known as they are written, such as the classes of a network.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        create: Callable[[str, str], Taxon] | None = None,
        known: Iterable[str] = (),
    ) -> None:
        self._taxonomy = taxonomy
        self._create = create
        self._known = {name_key(name): name for name in known}
        self._readings: dict[str, NameReading] = {}
        self._found: dict[str, Matched | Unmatched] = {}
        self._suggested: dict[str, tuple[str, ...]] = {}
        self._new: dict[str, Taxon] = {}

    @property
    def new(self) -> tuple[Taxon, ...]:
        """The taxa that were made, in the order in which they were asked for."""
        return tuple(self._new.values())

    def read(self, name: str) -> NameReading:
        """Take the marks off a name; see `read_name`."""
        reading = self._readings.get(name)
        if reading is None:
            reading = self._readings[name] = read_name(name, self._spellings)
        return reading

    def _spellings(self, name: str) -> tuple[str, ...]:
        own = self._known.get(name_key(name))
        return (*self._taxonomy.spellings(name), *(() if own is None else (own,)))

    def look(self, name: str) -> Matched | Unmatched:
        """Find the taxon of a name; none is made and none is suggested."""
        reading = self.read(name)
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = _match(self._taxonomy, name, reading, suggest=False)
        if self._new and isinstance(found, Unmatched) and found.is_unknown:
            taxon = self._new.get(name_key(reading.name))
            return found if taxon is None else Matched(name, taxon, True, reading.verdict)
        return found

    def match(self, name: str, scientific_name: str = "") -> Matched | Unmatched:
        """Find the taxon of a name, or make it; where neither can be, suggest others, for 50 names at most.

        Raises:
            InvalidInputError: A taxon is to be made of what is no name, or with another's scientific name.
        """
        found = self.look(name)
        if isinstance(found, Matched) or not found.is_unknown:
            return found
        reading = self.read(name)
        if self._create is None:
            if name not in self._suggested and len(self._suggested) < _MAX_SUGGESTED:
                self._suggested[name] = self._taxonomy.suggest(reading.name)
            return replace(found, suggestions=self._suggested.get(name, ()))
        if not reading.is_bare:
            return replace(
                found,
                refusal=f"is {reading.verdict} for {reading.name!r}, which is not known and becomes no new taxon; "
                "write a name that is known, or add one with `birdsearch annotate taxa FILE.csv`",
            )
        taxon = self._create(reading.name, scientific_name)
        bearer = self._taxonomy.find(taxon.scientific_name) if taxon.scientific_name else None
        if bearer is not None:
            raise InvalidInputError(
                f"{taxon.scientific_name!r} is the scientific name of {bearer.common_name}, so {name!r} cannot be "
                f"a new taxon of that name; record {bearer.common_name}, or give another scientific name"
            )
        self._new[name_key(reading.name)] = taxon
        return Matched(name, taxon, True, reading.verdict)
