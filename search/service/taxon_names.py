"""Look-up of taxa by a few letters of their names."""

from __future__ import annotations

import heapq
import unicodedata

from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.taxa import catalog_taxonomy
from birdsearch.indexer.catalog.verified_labels import verified_counts
from birdsearch.model.taxonomy import Taxon
from birdsearch.search.annotate.records import FoundTaxon

__all__ = ["find_taxa"]

_RANKS = {0: "other", 1: "genus", 2: "species"}


def find_taxa(store: CatalogStore, text: str, limit: int) -> list[FoundTaxon]:
    """Return taxa of which a name holds a text.

    First come those of which a name begins with it, then those of which a word of a name does, then those that hold
    it elsewhere; within these, those that more photos were verified to show, then by name. Case, diacritics and
    hyphens do not count.

    Args:
        store: An open catalog.
        text: What was typed; nothing finds all.
        limit: How many at most.
    """
    wanted = _plain(text)
    counts = verified_counts(store)
    ranked = []
    for row, taxon in enumerate(catalog_taxonomy(store)):
        fit = min((_fit(wanted, name) for name in taxon.names), default=3)
        if fit < 3:
            ranked.append((fit, -counts.get(taxon.common_name, 0), taxon.common_name, row, taxon))
    return [_shown(taxon, -photos) for _, photos, _, _, taxon in heapq.nsmallest(limit, ranked)]


def _fit(wanted: str, name: str) -> int:
    """Return 0 if a name begins with a text, 1 if a word of it does, 2 if it holds it, 3 if not."""
    plain = _plain(name)
    if plain.startswith(wanted):
        return 0
    return 1 if f" {wanted}" in plain else 2 if wanted in plain else 3


def _plain(text: str) -> str:
    letters = unicodedata.normalize("NFKD", text.casefold())
    kept = "".join(letter for letter in letters if not unicodedata.combining(letter) and letter not in "'’")
    return " ".join("".join(letter if letter.isalnum() else " " for letter in kept).split())


def _shown(taxon: Taxon, photos: int) -> FoundTaxon:
    words = len(taxon.scientific_name.split())
    return FoundTaxon(
        name=taxon.common_name,
        scientific_name=taxon.scientific_name or None,
        rank=_RANKS.get(words, "form"),
        family=taxon.family or None,
        order=taxon.order or None,
        photos=photos,
    )
