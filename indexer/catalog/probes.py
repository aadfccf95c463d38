"""Linear probes: every fit has its row, and the newest of a model is in use until it is dropped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from birdsearch.errors import CatalogError, InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.runs import recorded_run
from birdsearch.indexer.catalog.soundness import refuse_damaged
from birdsearch.indexer.catalog.store import CatalogStore, now

__all__ = ["Probe", "ProbeRecord", "drop_probe", "probe_in_use", "probe_records", "save_probe"]

_DROP_COMMAND = "probe drop"


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """A linear classifier on unit-norm embeddings.

    Attributes:
        classes: Names, sorted.
        weight: (L, D) float32.
        bias: (L,) float32.
        parameters: How it was fitted, in JSON types; see `birdsearch.search.labels.probe.fit_probe`.
    """

    classes: tuple[str, ...]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    parameters: dict[str, Any]

    def logits(self, unit: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits of embeddings.

        Args:
            unit: (B, D) float32, unit-norm.

        Returns:
            (B, L) float32, in the order of `classes`; higher is likelier.

        Raises:
            InvalidInputError: `unit` has another shape.
        """
        if unit.ndim != 2 or unit.shape[1] != self.weight.shape[1]:
            raise InvalidInputError(f"embeddings must be (B, {self.weight.shape[1]}), got {unit.shape}")
        return np.ascontiguousarray(unit @ self.weight.T + self.bias, dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class ProbeRecord:
    """A stored probe.

    Attributes:
        id: Row id in this catalog.
        model_id: The model whose embeddings it takes.
        run_id: The run that fitted it.
        created_at: When, UTC, ISO 8601.
        in_use: True if labels are estimated with it.
        probe: The probe.
    """

    id: int
    model_id: int
    run_id: int
    created_at: str
    in_use: bool
    probe: Probe


def save_probe(store: CatalogStore, record: ModelRecord, probe: Probe, run: int) -> ProbeRecord:
    """Store a probe and put it in use; those before it are kept too.

    Args:
        store: A catalog that is open for writing.
        record: The model whose embeddings it takes.
        probe: The probe.
        run: Id of the run that fitted it.

    Returns:
        The stored probe.

    Raises:
        InvalidInputError: It takes embeddings of another size.
        CatalogReadOnlyError: The catalog was opened for reading.
    """
    if probe.weight.shape != (len(probe.classes), record.embedding_size):
        raise InvalidInputError(
            f"the probe's weight is {probe.weight.shape}; for {len(probe.classes)} classes on {record.name} it has "
            f"to be ({len(probe.classes)}, {record.embedding_size})"
        )
    with store.writing() as connection:
        probe_id = int(
            connection.execute(
                sa.insert(schema.probe)
                .values(
                    model_id=record.id,
                    run_id=run,
                    created_at=now(),
                    classes=json.dumps(list(probe.classes), ensure_ascii=False),
                    weight=probe.weight.astype("<f4").tobytes(),
                    bias=probe.bias.astype("<f4").tobytes(),
                    parameters=json.dumps(probe.parameters, ensure_ascii=False),
                )
                .returning(schema.probe.c.id)
            ).scalar_one()
        )
        connection.execute(
            sa.insert(schema.meta)
            .prefix_with("OR REPLACE")
            .values(key=_in_use_key(record.id), value=str(probe_id))
        )
    return next(_records(store, record.id, schema.probe.c.id == probe_id))


def probe_in_use(store: CatalogStore, model_id: int) -> Probe | None:
    """Return the probe in use for a model's embeddings, or None.

    Raises:
        CatalogError: It is damaged.
    """
    with store.reading() as connection:
        refuse_damaged(connection, store.database_path, "meta", "probe")
        used = _in_use(connection, model_id)
    if used is None:
        return None
    for record in _records(store, model_id, schema.probe.c.id == used):
        return record.probe
    raise _damaged(store, used)


def probe_records(store: CatalogStore, model_id: int) -> list[ProbeRecord]:
    """Return every probe that was fitted to a model's embeddings, in use or not, oldest first.

    Raises:
        CatalogError: One is damaged.
    """
    return list(_records(store, model_id))


def _records(
    store: CatalogStore, model_id: int, condition: sa.ColumnElement[bool] | None = None
) -> Iterator[ProbeRecord]:
    probe = schema.probe.c
    with store.reading() as connection:
        used = _in_use(connection, model_id)
        rows = connection.execute(
            sa.select(schema.probe)
            .where(probe.model_id == model_id, sa.true() if condition is None else condition)
            .order_by(probe.id)
        ).all()
    for row in rows:
        yield ProbeRecord(
            row.id, row.model_id, row.run_id, row.created_at, row.id == used, _probe(store, row)
        )


def drop_probe(store: CatalogStore, record: ModelRecord) -> int | None:
    """Put no probe in use any more; the rows of all probes are kept.

    Args:
        store: A catalog that is open for writing.
        record: The model.

    Returns:
        Id of the probe that was in use, or None if there was none; then nothing is written.

    Raises:
        CatalogReadOnlyError: The catalog was opened for reading.
    """
    with store.reading() as connection:
        used = _in_use(connection, record.id)
    if used is None:
        return None
    with recorded_run(store, _DROP_COMMAND, record.id) as (_, counts), store.writing() as connection:
        connection.execute(sa.delete(schema.meta).where(schema.meta.c.key == _in_use_key(record.id)))
        counts.update(probe=used)
    return used


def _in_use_key(model_id: int) -> str:
    """Return the key in `meta` of the id of the probe in use; without such a row, none is."""
    return f"probe:{model_id}"


def _in_use(connection: sa.Connection, model_id: int) -> int | None:
    value = connection.execute(
        sa.select(schema.meta.c.value).where(schema.meta.c.key == _in_use_key(model_id))
    ).scalar_one_or_none()
    return None if value is None else int(value)


def _probe(store: CatalogStore, row: Any) -> Probe:
    try:
        classes = tuple(json.loads(row.classes))
        parameters = json.loads(row.parameters)
        weight = np.frombuffer(row.weight, dtype="<f4").astype(np.float32)
        bias = np.frombuffer(row.bias, dtype="<f4").astype(np.float32)
        # (L * D,) -> (L, D)
        weight = weight.reshape(len(classes), -1)
    except ValueError as error:
        raise _damaged(store, row.id) from error
    if bias.shape != (len(classes),) or not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise _damaged(store, row.id)
    return Probe(classes, weight, bias, parameters)


def _damaged(store: CatalogStore, probe_id: int) -> CatalogError:
    return CatalogError(
        f"{store.path}: probe {probe_id} is damaged; `birdsearch probe fit` makes one anew, "
        "`birdsearch probe drop` goes back to the network alone"
    )
