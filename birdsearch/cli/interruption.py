"""The message of an interrupted command: what is kept, and what the next run does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from birdsearch.errors import BirdsearchError, StalledError

__all__ = ["Terminated", "kept_by", "saying_what_is_kept"]

# Commands that may take long and keep what they found only at their end, or step by step.
_KEPT = {
    "label": "No photo got another label: those of the last whole run stay. The next run labels every photo anew.",
    "dedup": "Fingerprints that were made are kept, and so is the log of what was moved: the next run goes on, "
    "`birdsearch dedup undo` moves files back.",
    "sightings": "Nothing of this run is stored: the sightings of the last whole run stay.",
    "cluster": "Nothing of this run is stored: the clusters of the last whole run stay.",
    "probe": "Nothing of this run is stored: the probe in use stays.",
    "eval": "An evaluation writes nothing into the catalog, so that nothing is lost.",
    "check": "A check writes nothing, so that nothing is lost.",
    "rebuild": "Photos, labels and vectors are untouched; the next run makes the index anew.",
    "annotate": "Labels are recorded all together or not at all.",
    "demo": "What was made is kept; the same command goes on with it.",
}


class Terminated(BaseException):
    """SIGTERM arrived: unwinds like KeyboardInterrupt, so that the batch in hand is finished."""


class _Counted(Protocol):
    """The progress of an `index` run: files to read, None before that is known, and files written."""

    planned_files: int | None
    committed_files: int


def kept_by(arguments: Sequence[str]) -> str:
    """Describe what an interrupted command has kept; empty if there is nothing to say."""
    command = next((word for word in arguments if not word.startswith("-")), "")
    return _KEPT.get(command, "")


@contextlib.contextmanager
def saying_what_is_kept(catalog: Path, run: _Counted) -> Iterator[None]:
    """Add to an interrupt of `index`, as a note, what is kept."""
    try:
        yield
    except (KeyboardInterrupt, Terminated) as error:
        error.add_note(_kept(catalog, run, _photos(catalog)))
        raise
    except StalledError as error:
        # The catalog may be what does not answer.
        error.add_note(_kept(catalog, run, None))
        raise


def _kept(catalog: Path, run: _Counted, photos: int | None) -> str:
    known = "" if photos is None else f": {_counted(photos, 'photo')}"
    of_how_many = (
        "" if run.planned_files is None else f" of the {_counted(run.planned_files, 'file')} to read"
    )
    wrote = f"{run.committed_files:,}{of_how_many}" if run.committed_files else f"none{of_how_many} yet"
    return f"Kept in {catalog}{known}; of this run: {wrote}. The next run goes on from there."


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _photos(catalog: Path) -> int | None:
    """Count the photos of the catalog; None if it cannot be read."""
    from birdsearch.indexer.catalog.store import CatalogStore

    try:
        if not CatalogStore.exists(catalog):
            return 0
        with CatalogStore.open(catalog) as store:
            return store.counts().photos
    except BirdsearchError:
        return None
