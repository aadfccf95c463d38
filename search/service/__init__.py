"""The HTTP service: a JSON API over a catalog, and the gallery that uses it."""

from __future__ import annotations
