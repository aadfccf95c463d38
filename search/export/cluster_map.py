"""The data of the map in a cluster report."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdsearch.display_path import display_path
from birdsearch.search.clusters.map import EmbeddingMap
from birdsearch.search.clusters.report import Overview
from birdsearch.search.export.cluster_plots import OUTLIER_COLOUR, colours

__all__ = ["map_data"]

# Labels and sites beyond these share the colour of what is unknown.
_MOST_KINDS = 200
_STEPS = 9999


def map_data(
    found: Overview, layout: EmbeddingMap, rows: NDArray[np.int64], thumbs: Mapping[int, str]
) -> dict[str, Any]:
    """Return what the map's script draws, in JSON types.

    Args:
        found: The clusters.
        layout: Their map.
        rows: (M,) int64, which member of the state each point is.
        thumbs: Data URI by photo id, of photos that are not on the page anyway.

    Returns:
        Points, photos, and for cluster, label and site the names, the colours and which each point has.
    """
    state, members = found.state, found.members
    members_shown = rows.tolist()
    group_of = {row.id: group for group, row in enumerate(found.rows)}
    shown = {row.id: f"{row.id} {row.name}".strip() for row in found.rows}
    kinds = [
        {
            "title": "cluster",
            "names": list(shown.values()),
            "colours": colours(len(shown)),
            "of": [group_of.get(cluster_id, -1) for cluster_id in state.cluster_ids[rows].tolist()],
            "none": "outlier",
        },
        _kind("label", [members.label(index) for index in members_shown]),
        _kind(members.site_kind, [members.sites[index] for index in members_shown]),
    ]
    folders: dict[str, int] = {}
    paths = [display_path(members.files[index]) for index in members_shown]
    steps = np.rint(layout.points * _STEPS).astype(int)
    return {
        "steps": _STEPS,
        "x": steps[:, 0].tolist(),
        "y": steps[:, 1].tolist(),
        "photo": members.photo_ids[rows].tolist(),
        "name": [os.path.basename(path) for path in paths],  # noqa: PTH119 text for people
        "folder": [folders.setdefault(os.path.dirname(path), len(folders)) for path in paths],  # noqa: PTH120
        "folders": list(folders),
        "kinds": [kind for kind in kinds if kind["names"]],
        "none": OUTLIER_COLOUR,
        "thumbs": {str(photo_id): uri for photo_id, uri in thumbs.items()},
    }


def _kind(title: str, values: Sequence[str | None]) -> dict[str, Any]:
    counts = Counter(value for value in values if value is not None)
    names = [name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))][:_MOST_KINDS]
    group_of = {name: group for group, name in enumerate(names)}
    return {
        "title": title,
        "names": names,
        "colours": colours(len(names)),
        "of": [-1 if value is None else group_of.get(value, -1) for value in values],
        "none": "unknown or rare",
    }
