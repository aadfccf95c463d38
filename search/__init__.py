"""Finding photos that look alike, naming what is on them, and bringing order into an archive."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from birdsearch.indexer.catalog.clusters import ClusterState
    from birdsearch.indexer.catalog.filters import Where
    from birdsearch.search.catalog import Catalog
    from birdsearch.search.clusters.catalog import cluster_catalog
    from birdsearch.search.clusters.vectors import Clustering, cluster_vectors
    from birdsearch.search.dedup.copies import CopyRules
    from birdsearch.search.dedup.find import DedupOptions, DedupResult, find_copies
    from birdsearch.search.dedup.keep import KeepRules
    from birdsearch.search.dedup.quarantine import apply_groups
    from birdsearch.search.export.sheet import write_sheet
    from birdsearch.search.labels.checklist import Checklist
    from birdsearch.search.query.hits import Hit, LabelEstimate, LabelEvidence, QueryPhoto, QueryResult, Voter
    from birdsearch.search.sightings.events import EventRules
    from birdsearch.search.sightings.find import FoundSightings, find_sightings
    from birdsearch.search.sightings.parts import SightingRules
    from birdsearch.search.sightings.similar import similar

__all__ = [
    "Catalog",
    "Checklist",
    "ClusterState",
    "Clustering",
    "CopyRules",
    "DedupOptions",
    "DedupResult",
    "EventRules",
    "FoundSightings",
    "Hit",
    "KeepRules",
    "LabelEstimate",
    "LabelEvidence",
    "QueryPhoto",
    "QueryResult",
    "SightingRules",
    "Voter",
    "Where",
    "apply_groups",
    "cluster_catalog",
    "cluster_vectors",
    "find_copies",
    "find_sightings",
    "similar",
    "write_sheet",
]

_HOMES = {
    "Catalog": "search.catalog",
    "Checklist": "search.labels.checklist",
    "ClusterState": "indexer.catalog.clusters",
    "Clustering": "search.clusters.vectors",
    "CopyRules": "search.dedup.copies",
    "DedupOptions": "search.dedup.find",
    "DedupResult": "search.dedup.find",
    "EventRules": "search.sightings.events",
    "FoundSightings": "search.sightings.find",
    "Hit": "search.query.hits",
    "KeepRules": "search.dedup.keep",
    "LabelEstimate": "search.query.hits",
    "LabelEvidence": "search.query.hits",
    "QueryPhoto": "search.query.hits",
    "QueryResult": "search.query.hits",
    "SightingRules": "search.sightings.parts",
    "Voter": "search.query.hits",
    "Where": "indexer.catalog.filters",
    "apply_groups": "search.dedup.quarantine",
    "cluster_catalog": "search.clusters.catalog",
    "cluster_vectors": "search.clusters.vectors",
    "find_copies": "search.dedup.find",
    "find_sightings": "search.sightings.find",
    "similar": "search.sightings.similar",
    "write_sheet": "search.export.sheet",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(f"birdsearch.{_HOMES[name]}"), name)
    # Importing the module `similar` would hide the function of that name.
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
