"""The taxon that a client means by a name."""

from __future__ import annotations

from dataclasses import replace

from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.taxa import catalog_taxonomy, new_taxon
from birdsearch.model.taxonomy import Taxon, name_key
from birdsearch.search.annotate.names import Matched, NameMatcher, Unmatched

__all__ = ["TaxonMatcher"]


class TaxonMatcher:
    """Finds the taxa of names: those of the taxonomy, and the classes of the catalog's network.

    A class that no taxonomy has is a name all the same: it is shown as a label, so it can be confirmed.

    Args:
        store: The catalog.
        allow_new: Make a taxon of any other name.
    """

    def __init__(self, store: CatalogStore, *, allow_new: bool) -> None:
        taxonomy, record = catalog_taxonomy(store), store.active_model()
        classes = () if record is None else record.classes
        self._known = NameMatcher(taxonomy, known=classes)
        self._made = NameMatcher(taxonomy, new_taxon, known=classes)
        self._allow_new = allow_new
        self._classes = {name_key(name): name for name in classes}

    @property
    def new(self) -> tuple[Taxon, ...]:
        """The taxa that no taxonomy has yet, in the order in which they were asked for."""
        return self._made.new

    def match(self, name: str) -> Matched | Unmatched:
        """Find the taxon of a name, or say which names are near it."""
        found = self._known.look(name)
        if isinstance(found, Unmatched) and found.is_unknown:
            reading = self._known.read(name)
            own = self._classes.get(name_key(reading.name))
            if own is not None:
                made = self._made.match(own)
                return (
                    replace(made, name=name, verdict=reading.verdict) if isinstance(made, Matched) else made
                )
            if self._allow_new:
                return self._made.match(name)
        return self._known.match(name)
