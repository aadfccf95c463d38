"""The `--runtime` option, shared by the commands that run the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from birdsearch.model.runtimes.table import AUTO, RUNTIMES

if TYPE_CHECKING:
    from birdsearch.settings import Settings

__all__ = ["runtime_option"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _settings(_ctx: click.Context, _param: click.Parameter, runtime: str | None) -> Settings:
    from birdsearch.settings import Settings

    found = Settings.from_environment()
    return found if runtime is None else dataclasses.replace(found, runtime=runtime)


def runtime_option(command: _Command) -> _Command:
    """Add `--runtime NAME`; what is passed, as `settings`, is the environment's `Settings` with that runtime."""
    return click.option(
        "--runtime",
        "settings",
        type=click.Choice((AUTO, *RUNTIMES)),
        callback=_settings,
        help="What runs the network. auto: the fastest here, measured once; torch: the reference."
        "  [env var: BIRDSEARCH_RUNTIME; default: auto]",
    )(command)
