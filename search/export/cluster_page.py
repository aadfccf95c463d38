"""A cluster report as one web page: nothing beside it, nothing fetched, one script that draws the map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from birdsearch.display_path import display_path
from birdsearch.indexer.catalog.clusters import OUTLIER
from birdsearch.search.clusters.report import ClusterRow, Overview, picks
from birdsearch.search.clusters.sites import SiteCheck
from birdsearch.search.export.page import jpeg_uri, read_asset, render
from birdsearch.search.export.sheet_photos import Pictures, Thumbnail, file_name, shorten_middle
from birdsearch.search.query.hits import QueryPhoto

__all__ = ["map_script", "report_page", "sheet_page", "thumbnail"]

_SIDE = 240
_NAME_LENGTH = 24
_MOST_SITES = 6
# Clusters beyond these are in the table only: the page would hold too much.
_MOST_SHEETS = 150
_QUALITY = 80
_MONTHS = "JFMAMJJASOND"
_CHART_WIDTH, _CHART_HEIGHT, _CHART_BASE = 240, 38, 40

_COLUMNS = (
    ("cluster", "Cluster", True), ("name", "Name", False), ("photos", "Photos", True),
    ("events", "Events", True), ("strength", "Strength", True), ("sites", "{}s", True),
    ("first", "First", False), ("last", "Last", False), ("label", "Label", False),
    ("verified", "Verified", True), ("purity", "Purity", True),
)  # fmt: skip


def report_page(
    found: Overview,
    map_data: Mapping[str, Any] | None,
    map_note: str,
    facts: Sequence[tuple[str, str]],
    progress: Callable[[], None],
) -> bytes:
    """Return a page with the map, the table, a contact sheet of each cluster, and the outliers.

    Args:
        found: The clusters.
        map_data: What the map shows, in JSON types; None for no map.
        map_note: What is said below the map.
        facts: What was done and with what, as pairs of texts.
        progress: Called after each contact sheet.

    Returns:
        The page. Thumbnails are in it as data and without metadata, and no coordinates are shown.
    """
    said = "" if found.check is None else found.check.sentence
    sheets = []
    for row in found.rows[:_MOST_SHEETS]:
        sheets.append(_sheet(found, row))
        progress()
    outliers = None
    if found.outliers is not None:
        outliers = _sheet(found, found.outliers)
        progress()
    return render(
        "cluster.html",
        title=f"{len(found.rows)} clusters of {len(found.state.view_ids):,} photos",
        script="" if map_data is None else map_script(),
        map=None if map_data is None else {"data": map_data, "note": map_note},
        warnings=[_sentence(text) for text in found.warnings if text != said],
        check=None if found.check is None else _check(found.check),
        table=_table(found),
        clusters=sheets,
        omitted=len(found.rows) - len(sheets),
        outliers=outliers,
        facts=facts,
    )


def sheet_page(found: Overview, row: ClusterRow, most: int) -> bytes:
    """Return a page with the contact sheet of one cluster, the strongest members first.

    Args:
        found: The clusters.
        row: The one.
        most: How many photos are shown.
    """
    nothing: dict[str, Any] = {"map": None, "warnings": [], "check": None, "table": None, "facts": []}
    return render(
        "cluster.html",
        title=f"Cluster {row.id} {row.name}".strip(),
        clusters=[_sheet(found, row, most)],
        omitted=0,
        outliers=None,
        **nothing,
    )


def map_script() -> str:
    """Return the script that draws the map."""
    return read_asset("map.js")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


# -- tables and figures --------------------------------------------------------------------------------------


def _table(found: Overview) -> dict[str, object]:
    kind = found.members.site_kind.capitalize()
    clusters = [*found.rows, *([found.outliers] if found.outliers is not None else [])]
    rows = [_table_row(row, number) for number, row in enumerate(clusters)]
    columns = [
        {"key": key, "title": title.format(kind), "is_number": is_number}
        for key, title, is_number in _COLUMNS
        # An empty column says nothing.
        if any(row[key] for row in rows)
    ]
    purity = None if found.purity is None else f"{found.purity:.0%}"
    return {"columns": columns, "rows": rows, "purity": purity}


def _table_row(row: ClusterRow, number: int) -> dict[str, str]:
    is_shown = row.id is None or number < _MOST_SHEETS
    return {
        "anchor": _anchor(row) if is_shown else "",
        "cluster": "outliers" if row.id is None else str(row.id),
        "name": row.name,
        "photos": f"{row.photos:,}",
        "events": f"{row.events:,}",
        "strength": "" if row.id is None else f"{row.strength:.2f}",
        "sites": str(row.sites or ""),
        "first": (row.first or "")[:10],
        "last": (row.last or "")[:10],
        "label": _label(row),
        "verified": str(row.verified or ""),
        "purity": "" if row.purity is None else f"{row.purity:.0%}",
    }


def _label(row: ClusterRow) -> str:
    if row.label is None:
        return ""
    return row.label if row.verified else f"{row.label} (estimate, {row.label_share or 0:.0%})"


def _anchor(row: ClusterRow) -> str:
    return "outliers" if row.id is None else f"c{row.id}"


def _check(check: SiteCheck) -> dict[str, object]:
    low, high = (20 + 460 * max(0.0, value) for value in (check.chance, check.chance_high))
    return {
        "kind": check.kind,
        "is_warning": check.is_warning,
        "sentence": _sentence(check.sentence),
        "low": low,
        "width": max(3.0, high - low),
        "at": 20 + 460 * min(1.0, max(0.0, check.information)),
    }


def _chart(counts: Sequence[int], labels: Sequence[str], first: int) -> dict[str, object] | None:
    """Return the bars and the texts of a small chart, or None if there is nothing to count."""
    most = max(counts)
    if not most:
        return None
    step = _CHART_WIDTH / len(counts)
    bars = []
    for index, count in enumerate(counts):
        if count:
            height = _CHART_HEIGHT * count / most
            bars.append(
                {
                    "x": index * step + 1,
                    "y": _CHART_BASE - height,
                    "width": step - 2,
                    "height": height,
                    "name": index + first,
                    "count": count,
                }
            )
    texts = [{"x": (index + 0.5) * step, "text": label} for index, label in enumerate(labels) if label]
    return {"bars": bars, "texts": texts}


def _time_charts(times: Iterable[str]) -> dict[str, object]:
    months, hours = [0] * 12, [0] * 24
    for time in times:
        months[int(time[5:7]) - 1] += 1
        hours[int(time[11:13])] += 1
    clock = [str(hour) if hour % 6 == 0 else "" for hour in range(24)]
    return {"months": _chart(months, _MONTHS, 1), "hours": _chart(hours, clock, 0)}


def _site_bars(sites: Iterable[str | None]) -> dict[str, object]:
    counts = Counter(site for site in sites if site is not None)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {
        "sites": [
            {
                "name": site,
                "short_name": _last_folders(site),
                "count": count,
                "percent": 100 * count / ranked[0][1],
            }
            for site, count in ranked[:_MOST_SITES]
        ],
        "more_sites": max(0, len(ranked) - _MOST_SITES),
    }


def _last_folders(site: str) -> str:
    return "…/" + "/".join(site.split("/")[-2:]) if site.count("/") > 2 else site


# -- photos --------------------------------------------------------------------------------------------------


def _sheet(found: Overview, row: ClusterRow, most: int = 12) -> dict[str, object]:
    state, members = found.state, found.members
    rows = (state.cluster_ids == (OUTLIER if row.id is None else row.id)).nonzero()[0]
    pictures = Pictures(_SIDE)
    # Where all fit equally well, and among outliers, none is weaker than another.
    has_weak = row.id is not None and float(np.ptp(state.strengths[rows])) > 0
    photos = [
        _photo(found, int(rows[index]), pictures, is_weak=weak and has_weak)
        for index, weak in picks(members.order[rows], members.events[rows], most)
    ]
    facts = [f"{row.photos:,} photos", f"{row.events:,} events"]
    if row.id is not None:
        facts.append(f"strength {row.strength:.2f}")
    if row.label is not None:
        facts.append(_label(row))
    if row.purity is not None:
        facts.append(f"purity {row.purity:.0%} of {row.judged}")
    times = [time for index in rows.tolist() if (time := members.captured_at[index]) is not None]
    return {
        "anchor": _anchor(row),
        "title": "Outliers" if row.id is None else f"{row.id} {row.name}".strip(),
        "facts": " · ".join(facts),
        "photos": photos,
        "one_site": row.one_site,
        "site_kind": members.site_kind,
        **_time_charts(times),
        **_site_bars(members.sites[index] for index in rows.tolist()),
    }


def _photo(found: Overview, index: int, pictures: Pictures, *, is_weak: bool) -> dict[str, object]:
    members = found.members
    path = display_path(members.files[index])
    name = file_name(path)
    taken = (members.captured_at[index] or "")[:16].replace("T", " ")
    shown = thumbnail(pictures, members.files[index])
    return {
        "id": int(members.photo_ids[index]),
        "path": path,
        "name": name,
        "short_name": shorten_middle(name, lambda text: len(text) <= _NAME_LENGTH),
        "strength": float(found.state.strengths[index]),
        "is_weak": is_weak,
        "lines": [text for text in (members.label(index), taken) if text],
        "uri": None if shown.image is None else jpeg_uri(shown.image, _QUALITY),
        "problem": shown.problem,
    }


def thumbnail(pictures: Pictures, file: bytes) -> Thumbnail:
    """Return a photo made small, without its metadata; an empty path has none."""
    if not file:
        return Thumbnail(None, "no file of it is known")
    return pictures.query(QueryPhoto(display_path(file), None, None, file))
