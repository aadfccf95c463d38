"""What is asked for when metrics are read: the catalog's size, and the jobs."""

from __future__ import annotations

from collections import Counter

import sqlalchemy as sa

from birdsearch.errors import CatalogError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.live import live_photo
from birdsearch.search.service.metrics import Gauge, Labels
from birdsearch.search.service.state import Service

__all__ = ["watch"]


def watch(service: Service) -> None:
    """Show the state of a service among its metrics.

    Args:
        service: The service.
    """

    def photos() -> dict[Labels, float]:
        try:
            with service.store.reading() as connection:
                photo = schema.photo.c
                count = connection.execute(
                    sa.select(sa.func.count(photo.id)).where(live_photo(photo.id))
                ).scalar_one()
        except CatalogError:
            # What was counted is wanted most when the catalog cannot be read.
            return {}
        return {(): count}

    def jobs() -> dict[Labels, float]:
        return dict(Counter((job.kind, job.state) for job in service.jobs.list()))

    service.metrics.add(Gauge("birdsearch_photos", "Photos that have a live file.", photos))
    service.metrics.add(
        Gauge("birdsearch_jobs", "Jobs that are remembered, by their state.", jobs, ("kind", "state"))
    )
