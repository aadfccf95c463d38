"""Where things live on this machine: one frozen object, made at the edges and passed on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Places and switches that come from the environment.

    Attributes:
        catalog: Folder of the catalog that commands use unless told otherwise.
        cache: Folder for what can be fetched or made again (downloaded weights).
        weights_dir: Folder that is searched for weights files before the cache, or None.
        runtime: What runs the network: a key of `birdsearch.model.RUNTIMES`, or `auto`.
    """

    catalog: Path
    cache: Path
    weights_dir: Path | None
    runtime: str = "auto"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read `BIRDSEARCH_CATALOG`, `BIRDSEARCH_CACHE`, `BIRDSEARCH_WEIGHTS_DIR` and `BIRDSEARCH_RUNTIME`.

        Args:
            environ: Variables to read instead of the process's own.

        Returns:
            The settings, with the platform's user folders where a variable is unset or empty.
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
        )
