"""Every place that is told goes by one module."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[4]
NAMES = {"latitude", "longitude", "latitudes", "longitudes", "lat", "lon"}
ASKS = {
    "birdsearch.search.query.location_privacy.coarsening": "hides what is to be hidden",
    "birdsearch.search.sightings.find": "tells places of frames as `with_shown_places` and `shown_place` give them",
}
"""Modules that tell places as they may be told."""

MAY = {
    "search/query/location_privacy/facts.py": "finds out what is hidden",
    "search/query/retrieval.py": "gives hits to the Python API, which tells everything; outputs coarsen them",
    "search/sightings/build.py": "joins what is within reach of each other, and so hidden as a whole",
    "search/sightings/parts.py": "joins what is within reach of each other, and so hidden as a whole",
}
"""What reads places without asking, and why it may."""


def test_what_reads_a_place_asks_whether_it_may_be_told() -> None:
    found = set()
    for folder in ("search", "birdsearch/cli", "birdsearch/client"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            imports = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
            reads = any(isinstance(node, ast.Attribute) and node.attr in NAMES for node in ast.walk(tree))
            if reads and not imports & ASKS.keys() and path.name != "coarsening.py":
                found.add(str(path.relative_to(ROOT)))
    assert found == MAY.keys()
