"""Numbered schema migrations: each brings a catalog from one version to the next in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from birdsearch.indexer.catalog.migrations import (
    m001_first_schema,
    m002_labels,
    m003_order,
    m004_speed,
    m005_identity,
    m006_archive,
    m007_checksums,
)

__all__ = ["MIGRATIONS", "SCHEMA_VERSION"]

# Statements that bring a catalog from version i to version i + 1. Those already released never change.
MIGRATIONS: tuple[Sequence[str], ...] = (
    m001_first_schema.STATEMENTS,
    m002_labels.STATEMENTS,
    m003_order.STATEMENTS,
    m004_speed.STATEMENTS,
    m005_identity.STATEMENTS,
    m006_archive.STATEMENTS,
    m007_checksums.STATEMENTS,
)

SCHEMA_VERSION = len(MIGRATIONS)
