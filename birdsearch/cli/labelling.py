"""Options and look-ups that the commands of labels share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from birdsearch.settings import DEFAULT_CONFIDENCE

if TYPE_CHECKING:
    from birdsearch.indexer.catalog.records import ModelRecord
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.labels.checklist import Checklist

__all__ = ["NOT_CALIBRATED", "checklist_option", "confidence_option", "model_in_use", "read_checklist"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

NOT_CALIBRATED = "not calibrated: verify photos with `birdsearch annotate`, then run `birdsearch label --fit`"


def confidence_option(command: _Command) -> _Command:
    """Add `--confidence`, passed as `confidence`."""
    return click.option(
        "--confidence",
        default=DEFAULT_CONFIDENCE,
        show_default=True,
        type=click.FloatRange(0, 1),
        help="How sure a name has to be before it is rolled up to genus, family, order or bird.",
    )(command)


def checklist_option(command: _Command) -> _Command:
    """Add `--checklist FILE`, passed as `checklist`; `read_checklist` reads it."""
    return click.option(
        "--checklist",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Flag labels that do not fit this list. CSV: species; months; south, west, north, east; status.",
    )(command)


def read_checklist(store: CatalogStore, path: Path) -> Checklist:
    """Read the checklist of the option; names in it that are not known are printed on stderr."""
    from birdsearch.search.labels.checklist import open_checklist

    found = open_checklist(store, path)
    for warning in found.warnings:
        click.echo(f"Warning: {warning}", err=True)
    return found


def model_in_use(store: CatalogStore) -> ModelRecord:
    """Return the catalog's model; a catalog without one ends the command with what to do."""
    record = store.active_model()
    if record is None:
        raise click.ClickException(f"{store.path}: no photo is indexed yet; run `birdsearch index FOLDER`")
    return record
