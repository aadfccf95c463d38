"""`birdsearch probe`: teach the catalog species that the network does not know."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from birdsearch.cli.labelling import model_in_use
from birdsearch.cli.output import catalog_option, format_option, write_json, write_rows

if TYPE_CHECKING:
    from birdsearch.indexer.catalog.probes import ProbeRecord

__all__ = ["probe"]

_FEW = 5


@click.group(short_help="Teach the catalog species from verified labels.")
def probe() -> None:
    """Fit a linear classifier to the verified labels of the catalog: species that the network does not know."""


@probe.command(short_help="Fit a probe to the verified labels; use it.")
@catalog_option
@click.option(
    "--C",
    "strength",
    type=float,
    metavar="NUMBER",
    help="Weakness of the penalty on large weights.  [default: chosen by cross-validation]",
)
@format_option
def fit(catalog: Path, strength: float | None, fmt: str) -> None:
    """Fit a probe to all verified labels and put it in use; the one before is kept."""
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.labels.probe import train_probe

    with CatalogStore.open(catalog, "write", purpose="birdsearch probe fit") as store:
        record = train_probe(store, model_in_use(store), C=strength)
    _print(record, fmt)
    for warning in _warnings(record):
        click.echo(f"Note: {warning}", err=True)


@probe.command(short_help="Show the probe in use.")
@catalog_option
@click.option("--all", "list_all", is_flag=True, help="List every probe that was fitted, in use or not.")
@format_option
def info(catalog: Path, list_all: bool, fmt: str) -> None:
    """Show the probe in use: its classes, and how right it was on labels that it had not seen."""
    from birdsearch.indexer.catalog.probes import probe_records
    from birdsearch.indexer.catalog.store import CatalogStore

    with CatalogStore.open(catalog) as store:
        records = probe_records(store, model_in_use(store).id)
    if list_all:
        columns = [
            ("id", "Id"),
            ("created_at", "Created"),
            ("in_use", "In use"),
            ("classes", "Classes"),
            ("labels", "Labels"),
            ("log_loss", "Log-loss"),
            ("accuracy", "Accuracy"),
        ]
        rows = [_facts(record) | {"classes": len(record.probe.classes)} for record in records]
        write_rows(rows, columns, fmt)
        return
    used = [record for record in records if record.in_use]
    if used:
        _print(used[0], fmt)
    elif fmt == "table":
        advice = "--all lists those that are kept" if records else "`birdsearch probe fit` makes one"
        click.echo(f"No probe is in use; {advice}.")
    elif fmt == "json":
        write_json(None)
    else:
        write_rows([], [("what", "what"), ("value", "value")], fmt)


@probe.command()
@catalog_option
def drop(catalog: Path) -> None:
    """Go back to the network alone. The probe is kept, but no longer in use."""
    from birdsearch.errors import InvalidInputError
    from birdsearch.indexer.catalog.probes import drop_probe
    from birdsearch.indexer.catalog.store import CatalogStore

    with CatalogStore.open(catalog, "write", purpose="birdsearch probe drop") as store:
        dropped = drop_probe(store, model_in_use(store))
    if dropped is None:
        raise InvalidInputError(f"{catalog}: no probe is in use, so there is nothing to drop")
    click.echo(f"Probe {dropped} is no longer in use.")


def _facts(record: ProbeRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "run": record.run_id,
        "created_at": record.created_at,
        "in_use": record.in_use,
        "classes": list(record.probe.classes),
        **record.probe.parameters,
    }


def _print(record: ProbeRecord, fmt: str) -> None:
    facts = _facts(record)
    if fmt == "json":
        write_json(facts)
        return
    how = "chosen by cross-validation" if facts["chosen"] else "given" if facts["tried"] else "not validated"
    rows: list[tuple[str, object]] = [
        ("probe", facts["id"]),
        ("created", facts["created_at"]),
        ("classes", len(facts["classes"])),
        ("labels", facts["labels"]),
        ("groups", facts["groups"]),
        ("C", facts["C"]),
        ("C is", how),
    ]
    if facts["tried"]:
        rows += [
            ("validated groups", facts["validated_groups"]),
            ("accuracy", facts["accuracy"]),
            ("its standard error", facts["accuracy_se"]),
            ("log-loss", facts["log_loss"]),
            ("its standard error", facts["log_loss_se"]),
        ]
    rows += [
        (f"class: {name}", f"{count} labels in {facts['groups_by_class'][name]} groups")
        for name, count in facts["labels_by_class"].items()
    ]
    write_rows(
        [{"what": what, "value": value} for what, value in rows],
        [("what", "What"), ("value", "Value")],
        fmt,
    )


def _warnings(record: ProbeRecord) -> list[str]:
    parameters = record.probe.parameters
    found = []
    few = parameters["too_few_groups"]
    if few:
        named = ", ".join(few[:_FEW]) + (f" and {len(few) - _FEW} more" if len(few) > _FEW else "")
        found.append(
            f"no validation for classes whose labels are all of one event or one picture: {named}; "
            "label photos of another day"
        )
    if not parameters["tried"]:
        found.append("too few independent labels to validate with: how right the probe is, is not known")
    if parameters["without_vector"]:
        found.append(f"{parameters['without_vector']} labels were left out: their views have no vector")
    if not parameters["converged"]:
        found.append("the fit had not converged; a smaller --C converges faster")
    return found
