"""What labels hang on, as a key for what is kept until they change."""

from __future__ import annotations

import sqlalchemy as sa

from birdsearch.indexer import tables
from birdsearch.indexer.catalog import CatalogStore

__all__ = ["label_state"]


def label_state(store: CatalogStore) -> tuple[int, ...]:
    """The same as long as no label is given or taken back, and no photo, model, taxon or calibration comes.

    `birdsearch.search.labels.estimator.state_of` changes with every run, of whatever kind.
    """
    annotation, run = tables.annotation.c, tables.run.c
    of_labels = sa.select(sa.func.max(run.id)).where(run.command == "label", run.outcome == "done")
    columns = (
        annotation.id,
        annotation.undone_run_id,
        tables.calibration.c.id,
        tables.change.c.seq,
        tables.taxon.c.run_id,
    )
    with store.reading() as connection:
        found = [connection.execute(sa.select(sa.func.max(column))).scalar_one() for column in columns]
        found.append(connection.execute(of_labels).scalar_one())
        model = connection.execute(
            sa.select(tables.meta.c.value).where(tables.meta.c.key == "model")
        ).scalar_one_or_none()
    return (int(model or 0), *(int(one or 0) for one in found))
