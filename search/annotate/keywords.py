"""Labels by the keywords of a photo: flat ones, paths of them, and machine tags."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from birdsearch.model.taxonomy import Taxon
from birdsearch.search.annotate.names import Matched, NameMatcher, Unmatched
from birdsearch.search.annotate.proposals import UnusableError

__all__ = ["keyword_labels"]

# `taxonomy:binomial=Anas platyrhynchos`, as Flickr and iNaturalist write them.
_MACHINE_TAG = re.compile(r"\s*[A-Za-z]\w*:(\w+)\s*=\s*(.*?)\s*", re.DOTALL)
_NAMES = frozenset(
    ("binomial", "trinomial", "scientificname", "taxon", "common", "commonname", "vernacularname", "name")
)
# Lightroom has bars between the levels, digiKam and Windows slashes; people write arrows.
_BARS, _SLASHES = re.compile(r"\s*[|>]\s*"), re.compile(r"\s*/\s*")
_SIGNS = re.compile(r"[^\w\s'-]")


def keyword_labels(matcher: NameMatcher, keywords: Sequence[str]) -> list[Matched]:
    """Return the labels that the keywords of one photo give it.

    A keyword counts if it is a name of exactly one taxon; of a path (`Birds|Ducks|Mallard`, `Birds/Ducks/Mallard`)
    the deepest level that does; of a machine tag (`taxonomy:binomial=Anas platyrhynchos`) its value. A form below a
    species goes before the species. `Mallard?` is uncertain and `not Mallard` negative.

    Args:
        matcher: Finds the taxa.
        keywords: All keywords of the photo.

    Returns:
        At most one positive label, and one for each other taxon.

    Raises:
        UnusableError: They name two taxa, contradict each other, or one may be several taxa.
    """
    found: dict[str, Matched] = {}
    shared: list[Unmatched] = []
    for keyword in _with_species_tags(keywords):
        match = _match(matcher, keyword)
        if isinstance(match, Unmatched):
            shared.append(match)
        elif match is not None:
            before = found.setdefault(match.taxon.common_name, match)
            if before.verdict != match.verdict:
                raise UnusableError(
                    f"its keywords {before.name!r} ({before.verdict}) and {match.name!r} ({match.verdict}) "
                    "contradict each other"
                )
    positive = {name: match for name, match in found.items() if match.verdict == "positive"}
    species = {_species(match.taxon) for match in positive.values() if _is_form(match.taxon)}
    finest = {name for name, match in positive.items() if match.taxon.scientific_name not in species}
    if len(finest) > 1:
        raise UnusableError(f"its keywords name {' and '.join(sorted(finest))}; a photo has one label")
    for unclear in shared:
        if not finest & set(unclear.candidates):
            raise UnusableError(f"its keyword {unclear.reason}")
    return [match for name, match in found.items() if match.verdict != "positive" or name in finest]


def _with_species_tags(keywords: Sequence[str]) -> list[str]:
    """Return the keywords, machine tags replaced by their values where these are names."""
    plain: list[str] = []
    tags: dict[str, str] = {}
    for keyword in keywords:
        tag = _MACHINE_TAG.fullmatch(keyword)
        if tag is None:
            plain.append(keyword)
        else:
            tags.setdefault(tag[1].casefold(), tag[2].strip("\"'"))
    plain += [value for key, value in tags.items() if key in _NAMES]
    if species := tags.get("species", ""):
        # An epithet alone needs its genus.
        plain.append(species if " " in species else f"{tags.get('genus', '')} {species}".strip())
    return plain


def _match(matcher: NameMatcher, keyword: str) -> Matched | Unmatched | None:
    """Look a keyword up: one taxon, several or a refusal; None if it is no name."""
    for level in reversed(_BARS.split(keyword.strip())):
        match = _name(matcher, level)
        if match is None and "/" in level:
            match = _deepest(matcher, keyword, _SLASHES.split(level))
        if match is not None:
            return match
    return None


def _deepest(matcher: NameMatcher, keyword: str, levels: Sequence[str]) -> Matched | Unmatched | None:
    matches = [match for level in reversed(levels) if (match := _name(matcher, level)) is not None]
    kinds = {_species(match.taxon) for match in matches if isinstance(match, Matched)}
    if len(kinds) > 1:
        # `Mallard/Gadwall` is no path.
        return Unmatched(
            keyword, refusal="names more than one species; write the one that it is, or leave it out"
        )
    return matches[0] if matches else None


def _name(matcher: NameMatcher, text: str) -> Matched | Unmatched | None:
    match = matcher.look(text)
    if isinstance(match, Matched) or match.candidates:
        return match
    # Any word may have a sign; only one that is added to a name is reported.
    plain = " ".join(_SIGNS.sub(" ", text).split())
    if match.refusal and "/" not in text and isinstance(matcher.look(plain), Matched):
        return replace(match, name=text)
    return None


def _is_form(taxon: Taxon) -> bool:
    return len(taxon.scientific_name.split()) > 2


def _species(taxon: Taxon) -> str:
    return " ".join(taxon.scientific_name.split()[:2]) or taxon.common_name
