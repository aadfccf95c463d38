"""Keep Pillow's warnings about bad files to itself."""

from __future__ import annotations

import contextlib
import re
import threading
import warnings
from typing import cast

__all__ = ["pillow_is_quiet"]


class _Quiet:
    """Ignore the warnings of Pillow's modules, and of no others, while any thread is inside.

    `warnings.catch_warnings` swaps the filters of the whole process and loses changes when threads overlap,
    so one filter is put in by the first thread and taken out by the last.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._filter = ("ignore", None, Warning, re.compile(r"(PIL|pillow_heif)\."), 0)

    def __enter__(self) -> None:
        with self._lock:
            self._depth += 1
            if self._depth == 1:
                cast("list[object]", warnings.filters).insert(0, self._filter)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                # Another `catch_warnings` may have taken it out already.
                with contextlib.suppress(ValueError):
                    cast("list[object]", warnings.filters).remove(self._filter)


pillow_is_quiet = _Quiet()
"""Context manager for code that makes Pillow parse unchecked input."""
