"""Options that choose the photos of a command, the same for every command that has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from birdsearch.indexer.catalog.filters import FILTERS, Filter, Where

if TYPE_CHECKING:
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.query.location_privacy.coarsening import SensitivePhotos

__all__ = ["build_where", "exact_places_option", "sensitive_photos", "where_options"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _option(each: Filter) -> Callable[[_Command], _Command]:
    name = "--" + each.name.replace("_", "-")
    if each.kind == "flag":
        return click.option(f"{name}/--{each.negation}", default=None, help=each.help)
    if each.kind == "folders":
        return click.option(name, metavar=each.metavar, multiple=True, help=f"{each.help} May be repeated.")
    return click.option(name, metavar=each.metavar, help=each.help)


exact_places_option = click.option(
    "--exact-places",
    is_flag=True,
    help="Tell places of sensitive species, and find by them, exactly; otherwise to 0.1 degree.",
)
"""Passed as `exact_places`; `sensitive_photos` makes something of it."""


def where_options(command: _Command) -> _Command:
    """Add the conditions, which arrive as keywords that `build_where` takes, and `exact_places`."""
    command = exact_places_option(command)
    for each in reversed(FILTERS):
        command = _option(each)(command)
    return command


def build_where(**given: Any) -> Where:
    """Return the conditions that the options name.

    Raises:
        InvalidInputError: A value is outside its limits.
    """
    return Where.from_given(given)


def sensitive_photos(store: CatalogStore, *, exact_places: bool) -> SensitivePhotos | None:
    """Return what decides which photos' places are coarsened; None to show all exactly."""
    from birdsearch.search.query.location_privacy.coarsening import SensitivePhotos

    return None if exact_places else SensitivePhotos(store)
