"""The Python client of `birdsearch serve`: asks a service what `Catalog` answers on this machine."""

from __future__ import annotations

from birdsearch.client.client import Client
from birdsearch.search.annotate.records import FoundTaxon, Recorded, RecordedLabel
from birdsearch.search.catalog_info import CatalogInfo, NetworkInfo, RootInfo
from birdsearch.search.clusters.records import Cluster, ClusterMember, ClusterRun
from birdsearch.search.dedup.records import DuplicateFile, DuplicateGroup, Duplicates
from birdsearch.search.job import Job
from birdsearch.search.labels.review import ReviewItem
from birdsearch.search.photos import GivenLabel, Photo, PhotoFile, PhotoLabel, PhotoView
from birdsearch.search.problem import Problem
from birdsearch.search.sightings.records import Sighting

__all__ = [
    "CatalogInfo",
    "Client",
    "Cluster",
    "ClusterMember",
    "ClusterRun",
    "DuplicateFile",
    "DuplicateGroup",
    "Duplicates",
    "FoundTaxon",
    "GivenLabel",
    "Job",
    "NetworkInfo",
    "Photo",
    "PhotoFile",
    "PhotoLabel",
    "PhotoView",
    "Problem",
    "Recorded",
    "RecordedLabel",
    "ReviewItem",
    "RootInfo",
    "Sighting",
]
