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
from birdsearch.search.annotate.records import FoundTaxon, Recorded, RecordedLabel
from birdsearch.search.catalog_info import CatalogInfo, NetworkInfo, RootInfo
from birdsearch.search.labels.review import ReviewItem
from birdsearch.search.photos import GivenLabel, Photo, PhotoFile, PhotoLabel, PhotoView

__all__ = [
    "CatalogInfo",
    "Client",
    "Cluster",
    "ClusterMember",
    "ClusterRun",
    "CopyFile",
    "CopyGroup",
    "Duplicates",
    "FoundTaxon",
    "GivenLabel",
    "Job",
    "NetworkInfo",
    "Photo",
    "PhotoFile",
    "PhotoLabel",
    "PhotoView",
    "Recorded",
    "RecordedLabel",
    "ReviewItem",
    "RootInfo",
    "StoredSighting",
]
