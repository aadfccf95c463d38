"""How often a test repeats itself: seldom among all tests, often in `make soak`."""

from __future__ import annotations

import os

__all__ = ["repeats"]


def repeats(usual: int, soak: int) -> int:
    """Return how often to repeat what goes wrong seldom."""
    return soak if os.environ.get("BIRDSEARCH_SOAK") else usual
