"""The files that a clustering can be written to: its members, a report, a contact sheet of one cluster."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import BirdsearchError, InvalidInputError
from birdsearch.indexer.catalog.clusters import OUTLIER
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.views import view_facts
from birdsearch.search.clusters.catalog import load_unit
from birdsearch.search.clusters.map import EmbeddingMap, map_embeddings
from birdsearch.search.clusters.report import ClusterRow, Overview, member_rows, picks
from birdsearch.search.export.cluster_map import map_data
from birdsearch.search.export.cluster_page import report_page, sheet_page, thumbnail
from birdsearch.search.export.cluster_plots import draw_map
from birdsearch.search.export.page import jpeg_uri
from birdsearch.search.export.sheet_photos import Pictures
from birdsearch.search.export.tables import write_table
from birdsearch.search.export.write import write_file
from birdsearch.version import __version__

__all__ = ["ReportFiles", "write_cluster_sheet", "write_members", "write_report"]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""

_COLUMNS = ("photo_id", "path", "cluster_id", "name", "strength", "event", "captured_at", "label")
# Thumbnails on the map beside those of the contact sheets.
_HOVERS, _HOVER_SIDE, _HOVER_QUALITY = 400, 128, 72
_SHEET = 60


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """The files of a report.

    Attributes:
        page: The web page.
        picture: The map as a PNG, or None if it could not be drawn.
        members: The table of members.
        notes: What is missing and why.
    """

    page: Path
    picture: Path | None
    members: Path
    notes: tuple[str, ...]


def write_members(path: Path, found: Overview) -> None:
    """Write a row for each member: photo id, path, cluster id, name, strength, event, time and label.

    The file appears whole or not at all. In CSV, text that a spreadsheet would run as a formula gets a leading
    apostrophe.

    Args:
        path: Where; the suffix names a format of `birdsearch.search.export.tables`.
        found: The clusters.

    Raises:
        InvalidInputError: The suffix is another, the file cannot be written, or pyarrow is not installed.
    """
    write_table(path, member_rows(found), _COLUMNS)


def write_report(
    store: CatalogStore, found: Overview, folder: Path, progress: Progress | None = None
) -> ReportFiles:
    """Write a report: `clusters.html`, `map.png` and `members.csv`.

    Args:
        store: An open catalog.
        found: The clusters.
        folder: Where; made if it is not there. Files of an older report are replaced.
        progress: Called with what is done, how much of it, and of how much.

    Returns:
        What was written.

    Raises:
        InvalidInputError: The folder cannot be written to.
    """
    told = progress or (lambda _what, _done, _total: None)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(f"{folder}: cannot make this folder ({error.strerror})") from error
    told("map", 0, 1)
    layout, shown = _layout(store, found)
    told("map", 1, 1)
    picture, notes = _picture(found, layout, shown)
    thumbs = _hover_thumbs(found, shown, told)
    sheets, done = len(found.rows) + (found.outliers is not None), 0

    def sheet_done() -> None:
        nonlocal done
        done += 1
        told("contact sheets", done, sheets)

    note = f"{layout.note}. Near points are alike; directions and large distances mean nothing."
    data = map_data(found, layout, shown, thumbs) if len(shown) else None
    page = report_page(found, data, note, _facts(found, layout), sheet_done)
    files = ReportFiles(
        folder / "clusters.html",
        None if picture is None else folder / "map.png",
        folder / "members.csv",
        notes,
    )
    write_members(files.members, found)
    if files.picture is not None and picture is not None:
        write_file(files.picture, picture)
    write_file(files.page, page)
    return files


def _layout(store: CatalogStore, found: Overview) -> tuple[EmbeddingMap, NDArray[np.int64]]:
    """Return the map, and which member of the state each of its points is.

    Vectors go in by content, so that the map does not depend on the order in which photos were indexed.
    """
    view_ids = found.state.view_ids
    _, digests = view_facts(store, view_ids)
    order = np.array(sorted(range(len(view_ids)), key=digests.__getitem__), dtype=np.int64)
    unit, is_whole = load_unit(store, found.state.model_id, view_ids[order])
    layout = map_embeddings(unit)
    return layout, order[is_whole][layout.rows]


def _picture(
    found: Overview, layout: EmbeddingMap, shown: NDArray[np.int64]
) -> tuple[bytes | None, tuple[str, ...]]:
    by_id = {row.id: index for index, row in enumerate(found.rows)}
    groups = np.array([by_id.get(each, -1) for each in found.state.cluster_ids[shown].tolist()], np.int64)
    names = [f"{row.id} {row.name}".strip() for row in found.rows]
    title = f"{len(shown):,} photos in {len(names)} clusters ({layout.method})"
    try:
        return draw_map(layout.points, groups, names, title), ()
    except BirdsearchError as error:
        return None, (f"no map.png: {error}",)


def _hover_thumbs(found: Overview, shown: NDArray[np.int64], told: Progress) -> dict[int, str]:
    """Return thumbnails for the map, of photos that no contact sheet shows, from all clusters in turn."""
    state, members = found.state, found.members
    turns: list[list[int]] = []
    for row in (*found.rows, *([found.outliers] if found.outliers else [])):
        of_row = np.flatnonzero(state.cluster_ids == (OUTLIER if row.id is None else row.id))
        on_sheet = {member for member, _ in picks(members.order[of_row], members.events[of_row])}
        rest = np.array(
            [member for number, member in enumerate(of_row.tolist()) if number not in on_sheet], int
        )
        rest = rest[np.isin(rest, shown)]
        # Spread over the members, from the strongest to the weakest.
        ranked = rest[np.argsort(members.order[rest], kind="stable")]
        share = max(1, _HOVERS // max(1, len(found.rows)))
        step = np.unique(np.linspace(0, len(ranked) - 1, min(share, len(ranked))).astype(int))
        turns.append(ranked[step].tolist() if len(ranked) else [])
    wanted = [member for turn in turns for member in turn][:_HOVERS]
    thumbs: dict[int, str] = {}
    pictures = Pictures(_HOVER_SIDE)
    for number, member in enumerate(wanted, start=1):
        image = thumbnail(pictures, members.files[member]).image
        if image is not None:
            thumbs[int(members.photo_ids[member])] = jpeg_uri(image, _HOVER_QUALITY)
        told("thumbnails", number, len(wanted))
    return thumbs


def _facts(found: Overview, layout: EmbeddingMap) -> list[tuple[str, str]]:
    clustering = found.clustering
    listed = [
        ("run", f"{found.state.run_id} ({found.state.command}, {found.state.at})"),
        ("clustering", f"{clustering.method}, run {clustering.run_id}, {clustering.at}"),
        ("clustered", "every frame" if clustering.parameters.get("frames") else "one photo an event"),
    ]
    for name in ("parameters", "scores"):
        values = clustering.parameters.get(name, {})
        listed += [(f"{key}", _shown(value)) for key, value in values.items()]
    listed += [("map", layout.note), ("birdsearch", __version__)]
    return listed


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_cluster_sheet(path: Path, found: Overview, row: ClusterRow, most: int = _SHEET) -> None:
    """Write a contact sheet of one cluster: strongest, some between, weakest.

    Args:
        path: `.png` or `.html`.
        found: The clusters.
        row: The one.
        most: How many photos are shown.

    Raises:
        InvalidInputError: The suffix is another, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix == ".html":
        content = sheet_page(found, row, most)
    elif suffix == ".png":
        from birdsearch.search.export.cluster_sheet import draw_cluster

        buffer = io.BytesIO()
        draw_cluster(found, row, most).save(buffer, format="PNG", optimize=True)
        content = buffer.getvalue()
    else:
        raise InvalidInputError(f"a contact sheet is written as .png or .html, not {path.name!r}")
    write_file(path, content)
