"""Finding photos that look alike, naming what is on them, and bringing order into an archive."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from birdsearch.search.catalog import Catalog
    from birdsearch.search.clusters.catalog import cluster_catalog
    from birdsearch.search.clusters.state import ClusterState
    from birdsearch.search.clusters.vectors import Clustering, cluster_vectors
    from birdsearch.search.dedup.copies import CopyRules
    from birdsearch.search.dedup.find import DedupOptions, DedupResult, find_copies
    from birdsearch.search.dedup.keep import KeepRules
    from birdsearch.search.dedup.quarantine import apply_groups
    from birdsearch.search.export.sheet import write_sheet
    from birdsearch.search.labels.checklist import Checklist
    from birdsearch.search.query.filters import Where
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
    "Catalog": "catalog",
    "Checklist": "labels.checklist",
    "ClusterState": "clusters.state",
    "Clustering": "clusters.vectors",
    "CopyRules": "dedup.copies",
    "DedupOptions": "dedup.find",
    "DedupResult": "dedup.find",
    "EventRules": "sightings.events",
    "FoundSightings": "sightings.find",
    "Hit": "query.hits",
    "KeepRules": "dedup.keep",
    "LabelEstimate": "query.hits",
    "LabelEvidence": "query.hits",
    "QueryPhoto": "query.hits",
    "QueryResult": "query.hits",
    "SightingRules": "sightings.parts",
    "Voter": "query.hits",
    "Where": "query.filters",
    "apply_groups": "dedup.quarantine",
    "cluster_catalog": "clusters.catalog",
    "cluster_vectors": "clusters.vectors",
    "find_copies": "dedup.find",
    "find_sightings": "sightings.find",
    "similar": "sightings.similar",
    "write_sheet": "export.sheet",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    # Importing the module `similar` would hide the function of that name.
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
