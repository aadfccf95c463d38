"""The model of an index run: known by its file, and loaded only if there is something to embed."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from birdsearch.indexer.catalog.records import ModelRecord

if TYPE_CHECKING:
    from birdsearch.model.inference import Model

__all__ = ["LoadingModel", "ModelSource", "input_size_of"]


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model that need not be loaded to know which it is.

    Attributes:
        load: Loads it; called once at most, in a thread of its own.
        sha256: SHA-256 of its weights file, or None if only loading tells.
        path: The weights file, or None if it is not known or not looked for yet.
        input_size: (height, width) of its input in pixels, or None if only loading tells.
    """

    load: Callable[[], Model]
    sha256: str | None = None
    path: Path | None = None
    input_size: tuple[int, int] | None = None


class LoadingModel:
    """A model that loads beside other work.

    Args:
        source: A loaded model, or one to be loaded.
    """

    def __init__(self, source: Model | ModelSource) -> None:
        self._source = source
        self._model: Model | None = None if isinstance(source, ModelSource) else source
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def is_loaded(self) -> bool:
        """True if it is there already."""
        return self._model is not None

    @property
    def path(self) -> Path | None:
        """The weights file, if it is known."""
        return self._source.path

    @property
    def input_size(self) -> tuple[int, int] | None:
        """(height, width) of its input in pixels, if it is known."""
        return self._source.input_size

    def may_be(self, record: ModelRecord) -> bool:
        """Return whether what is known of the model, its hash until it is loaded, agrees with a record."""
        if isinstance(self._source, ModelSource):
            return self._source.sha256 == record.sha256
        return (self._source.sha256, self._source.preprocessing) == (record.sha256, record.preprocessing)

    def begin(self) -> None:
        """Begin to load it, if that has not begun."""
        with self._lock:
            if self._thread is None and isinstance(self._source, ModelSource):
                # A process that gives up on it, since it hangs, can end.
                self._thread = threading.Thread(
                    target=self._load, args=(self._source,), name="birdsearch-model", daemon=True
                )
                self._thread.start()

    def _load(self, source: ModelSource) -> None:
        try:
            self._model = source.load()
        except BaseException as error:
            self._error = error

    def get(self) -> Model:
        """Return the model, once it is loaded.

        Raises:
            BirdsearchError: It cannot be loaded.
        """
        self.begin()
        self.close()
        if self._error is not None:
            raise self._error
        if self._model is None:
            raise RuntimeError("the model's thread ended without a model")
        return self._model

    def close(self) -> None:
        """Wait for a loading that has begun: a process must not end in the middle of one."""
        if self._thread is not None:
            self._thread.join()


def input_size_of(record: ModelRecord) -> tuple[int, int] | None:
    """Return (height, width) of a model's input, from the name of its preprocessing; None if it has none."""
    found = re.search(r"-(\d+)x(\d+)/", record.preprocessing)
    return (int(found[1]), int(found[2])) if found else None
