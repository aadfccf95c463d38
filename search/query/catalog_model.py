"""The model of a catalog's vectors: found again by its hash, and never another one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from birdsearch.display_path import display_path
from birdsearch.errors import BirdsearchError, ModelMismatchError, WeightsError
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.model.weights import DEFAULT_WEIGHTS, file_sha256, is_weights_name, resolve_weights
from birdsearch.settings import Settings

if TYPE_CHECKING:
    from birdsearch.model.inference import Model

__all__ = ["catalog_model", "check_given"]


def check_given(
    record: ModelRecord | None, given: Model | str | os.PathLike[str], settings: Settings
) -> None:
    """Verify, without loading it, that a model is the catalog's own.

    Args:
        record: The catalog's model, or None if it has none yet.
        given: A loaded model, a weights file, or the name of published weights.
        settings: Where weights are looked for.

    Raises:
        ModelMismatchError: It is another model, or prepares pixels in another way.
        WeightsError: The file is not there.
    """
    if record is None:
        return
    if isinstance(given, str | os.PathLike):
        path = resolve_weights(given, settings, download=False)
        sha256 = file_sha256(path)
        if sha256 != record.sha256:
            raise _mismatch(record, str(path), sha256)
    elif given.sha256 != record.sha256:
        raise _mismatch(record, given.name, given.sha256)
    elif given.preprocessing != record.preprocessing:
        raise ModelMismatchError(
            f"the catalog was made with the preprocessing {record.preprocessing}, and {given.name} uses "
            f"{given.preprocessing}: their vectors do not compare. Change over with "
            "`birdsearch index --reembed`"
        )


def catalog_model(
    record: ModelRecord | None,
    given: Model | str | os.PathLike[str] | None,
    settings: Settings,
    device: str,
) -> Model:
    """Load the model that a query has to be embedded with; nothing is downloaded.

    It is looked for where it was when the catalog was made, then by its name.

    Args:
        record: The catalog's model, or None if it has none yet: then the default model.
        given: A loaded model, a weights file or a name that is used instead of looking.
        settings: Where weights are looked for.
        device: Where it runs, as `load_model` takes it.

    Returns:
        The model, its hash and preprocessing being those of the catalog.

    Raises:
        WeightsError: The weights are nowhere to be found.
        ModelMismatchError: The weights found are others than the catalog's.
        CheckpointError: The weights file is not a checkpoint.
    """
    if given is not None:
        check_given(record, given, settings)
        if not isinstance(given, str | os.PathLike):
            return given
        source: str | os.PathLike[str] = given
    else:
        source = DEFAULT_WEIGHTS if record is None else _last_known(record, settings)
    # Both have read the file and found it to be the record's.
    sha256 = None if record is None else record.sha256
    from birdsearch.model.inference import load_model

    model = load_model(source, settings=settings, download=False, device=device, sha256=sha256)
    check_given(record, model, settings)
    return model


def _last_known(record: ModelRecord, settings: Settings) -> Path:
    """Return the weights file with the catalog's hash."""
    path = None if record.weights_path is None else Path(os.fsdecode(record.weights_path))
    found: tuple[str, str] | None = None
    if path is not None and path.is_file():
        sha256 = file_sha256(path)
        if sha256 == record.sha256:
            return path
        found = (str(path), sha256)
    reason = ""
    if is_weights_name(record.name):
        try:
            path = resolve_weights(record.name, settings, download=False)
        except BirdsearchError as error:
            reason = f" {error}"
        else:
            sha256 = file_sha256(path)
            if sha256 == record.sha256:
                return path
            found = (str(path), sha256)
    if found is not None:
        raise _mismatch(record, *found)
    shown = "an unknown place" if record.weights_path is None else display_path(record.weights_path)
    raise WeightsError(
        f"the weights that the catalog was made with, {record.name} (sha256 {record.sha256}), are not at "
        f"{shown} any more; name the file with --weights FILE.{reason}"
    )


def _mismatch(record: ModelRecord, name: str, sha256: str) -> ModelMismatchError:
    return ModelMismatchError(
        f"the catalog was made with {record.name} (sha256 {record.sha256}), and {name} is another model "
        f"(sha256 {sha256}): their vectors do not compare. Name the catalog's own weights with --weights "
        "FILE, or change over with `birdsearch index --reembed`"
    )
