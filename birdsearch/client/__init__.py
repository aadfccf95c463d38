"""The Python client of `birdsearch serve`: asks a service what `Catalog` answers on this machine."""

from __future__ import annotations

from birdsearch.client.client import Client
from birdsearch.client.group_records import (
    Cluster,
    ClusterMember,
    ClusterRun,
    CopyFile,
    CopyGroup,
    Duplicates,
    Job,
    StoredSighting,
)
from birdsearch.client.records import (
    CatalogInfo,
    CatalogPhoto,
    NetworkInfo,
    PhotoFile,
    PhotoLabel,
    PhotoView,
    Recorded,
    RecordedLabel,
    ReviewItem,
    RootInfo,
    Taxon,
    VerifiedLabel,
)

__all__ = [
    "CatalogInfo",
    "CatalogPhoto",
    "Client",
    "Cluster",
    "ClusterMember",
    "ClusterRun",
    "CopyFile",
    "CopyGroup",
    "Duplicates",
    "Job",
    "NetworkInfo",
    "PhotoFile",
    "PhotoLabel",
    "PhotoView",
    "Recorded",
    "RecordedLabel",
    "ReviewItem",
    "RootInfo",
    "StoredSighting",
    "Taxon",
    "VerifiedLabel",
]
