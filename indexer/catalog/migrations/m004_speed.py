"""What made each vector: the settings of a run, and the run of an embedding; how a vector index is searched."""

from __future__ import annotations

__all__ = ["STATEMENTS"]

STATEMENTS = (
    "ALTER TABLE run ADD COLUMN settings TEXT",
    "ALTER TABLE embedding ADD COLUMN run_id INTEGER REFERENCES run (id)",
    "ALTER TABLE snapshot ADD COLUMN lists INTEGER",
    "ALTER TABLE snapshot ADD COLUMN recall FLOAT",
    "ALTER TABLE snapshot ADD COLUMN effort TEXT",
)
