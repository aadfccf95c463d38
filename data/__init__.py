"""Facts and small files that birdsearch carries."""

from __future__ import annotations

__all__: list[str] = []
