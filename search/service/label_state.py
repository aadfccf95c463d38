"""What labels hang on, as a key for what is kept until they change."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.store import CatalogStore

__all__ = ["LabelState", "label_state"]


class LabelState(NamedTuple):
    """The same as long as no label is given or taken back, and no photo, model, taxon or calibration comes.

    `birdsearch.indexer.catalog.label_state.estimate_state` changes with every run, of whatever kind.

    Attributes:
        photos: What tells the photos and the model.
        labels: What tells the labels.
    """

    photos: tuple[int, int]
    labels: tuple[int, ...]


def label_state(store: CatalogStore) -> LabelState:
    """The state of a catalog now."""
    annotation, run = schema.annotation.c, schema.run.c
    columns = (annotation.id, annotation.undone_run_id, schema.calibration.c.id, schema.taxon.c.run_id)
    with store.reading() as connection:
        model = connection.execute(
            sa.select(schema.meta.c.value).where(schema.meta.c.key == "model")
        ).scalar_one_or_none()
        seq = connection.execute(sa.select(sa.func.max(schema.change.c.seq))).scalar_one()
        found = [connection.execute(sa.select(sa.func.max(column))).scalar_one() for column in columns]
        found.append(
            connection.execute(
                sa.select(sa.func.max(run.id)).where(run.command == "label", run.outcome == "done")
            ).scalar_one()
        )
    return LabelState((int(model or 0), int(seq or 0)), tuple(int(one or 0) for one in found))
