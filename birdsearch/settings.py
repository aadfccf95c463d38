"""Settings of this machine, as one frozen object made at the edges and passed on, and defaults that parts share."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from birdsearch.errors import InvalidInputError

__all__ = ["DEFAULT_CONFIDENCE", "STALL_S", "Settings"]

DEFAULT_CONFIDENCE = 0.8
"""How sure a label has to be before it is rolled up to genus, family, order or bird, 0..1."""

STALL_S = 600.0
"""How long a stage of a run may give no sign of life, in seconds; far longer than any takes on a slow machine."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Paths and switches that come from the environment.

    Attributes:
        catalog: Folder of the catalog that commands use by default.
        cache: Folder for what can be fetched or made again (downloaded weights).
        weights_dir: Folder that is searched for weights files before the cache, or None.
        runtime: What runs the network: a key of `birdsearch.model.RUNTIMES`, or `auto`.
        stall_s: How long a stage of a run may give no sign of life, in seconds; 0 for as long as it likes.
    """

    catalog: Path
    cache: Path
    weights_dir: Path | None
    runtime: str = "auto"
    stall_s: float = STALL_S

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read `BIRDSEARCH_CATALOG`, `_CACHE`, `_WEIGHTS_DIR`, `_RUNTIME` and `_STALL_SECONDS`.

        Args:
            environ: Variables to read instead of the process's own.

        Returns:
            The settings, with the platform's user folders where a variable is unset or empty.

        Raises:
            InvalidInputError: `BIRDSEARCH_STALL_SECONDS` is not a number of seconds.
        """
        env = os.environ if environ is None else environ
        catalog = env.get("BIRDSEARCH_CATALOG") or Path(platformdirs.user_data_dir("birdsearch")) / "catalog"
        cache = env.get("BIRDSEARCH_CACHE") or platformdirs.user_cache_dir("birdsearch")
        weights_dir = env.get("BIRDSEARCH_WEIGHTS_DIR")
        return cls(
            catalog=Path(catalog).expanduser(),
            cache=Path(cache).expanduser(),
            weights_dir=Path(weights_dir).expanduser() if weights_dir else None,
            runtime=env.get("BIRDSEARCH_RUNTIME") or "auto",
            stall_s=_seconds("BIRDSEARCH_STALL_SECONDS", env.get("BIRDSEARCH_STALL_SECONDS"), STALL_S),
        )


def _seconds(name: str, value: str | None, default: float) -> float:
    try:
        found = float(value) if value else default
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise InvalidInputError(f"{name} is {value!r}; it has to be a number of seconds, or 0 for no limit")
    return found
