"""Options that choose the photos of a command, the same for every command that has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from birdsearch.indexer.catalog.filters import Where
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.query.location_privacy.coarsening import SensitivePhotos

__all__ = ["build_where", "exact_places_option", "sensitive_photos", "where_options"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--since", metavar="TIME", help="Taken then or later, local time: 2023, 2023-05, 2023-05-14T06:30."
    ),
    click.option(
        "--until", metavar="TIME", help="Taken then or earlier; a year, month or day counts to its end."
    ),
    click.option("--near", metavar="LAT,LON,KM", help="Taken within so many kilometres of a place."),
    click.option(
        "--bbox", metavar="S,W,N,E", help="Taken within these degrees; W > E crosses the antimeridian."
    ),
    click.option(
        "--camera", metavar="TEXT", help="Part of the camera's make and model, or a pattern: 'nikon*z*'."
    ),
    click.option("--under", metavar="DIR", multiple=True, help="Has a file in this folder. May be repeated."),
    click.option(
        "--exclude-under",
        metavar="DIR",
        multiple=True,
        help="Leave out what is only in this folder. May be repeated.",
    ),
    click.option(
        "--taxon",
        metavar="NAME",
        help="Verified to be this species, or of this genus, family or order.",
    ),
    click.option("--verified/--unverified", default=None, help="Has a verified label, or has none."),
)
exact_places_option = click.option(
    "--exact-places",
    is_flag=True,
    help="Tell places of sensitive species, and find by them, exactly; otherwise to 0.1 degree.",
)
"""Passed as `exact_places`; `sensitive_photos` makes something of it."""


def where_options(command: _Command) -> _Command:
    """Add the conditions, which arrive as keywords that `build_where` takes, and `exact_places`."""
    command = exact_places_option(command)
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def build_where(
    since: str | None,
    until: str | None,
    near: str | None,
    bbox: str | None,
    camera: str | None,
    under: tuple[str, ...],
    exclude_under: tuple[str, ...],
    taxon: str | None,
    verified: bool | None,
) -> Where:
    """Return the conditions that the options name.

    Raises:
        InvalidInputError: A value is outside its limits.
    """
    from birdsearch.indexer.catalog.filters import Where, parse_bbox, parse_near

    return Where(
        since=since,
        until=until,
        near=None if near is None else parse_near(near),
        bbox=None if bbox is None else parse_bbox(bbox),
        camera=camera,
        under=under,
        exclude_under=exclude_under,
        taxon=taxon,
        verified=verified,
    )


def sensitive_photos(store: CatalogStore, *, exact_places: bool) -> SensitivePhotos | None:
    """Return what decides which photos' places are coarsened; None to show all exactly."""
    from birdsearch.search.query.location_privacy.coarsening import SensitivePhotos

    return None if exact_places else SensitivePhotos(store)
