"""A cluster report as one web page: nothing beside it, nothing fetched, one script that draws the map."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from html import escape

import numpy as np
from PIL import Image

from birdsearch.display_path import display_path
from birdsearch.indexer.catalog.clusters import OUTLIER
from birdsearch.search.clusters.report import ClusterRow, Overview, picks
from birdsearch.search.clusters.sites import SiteCheck
from birdsearch.search.export.cluster_map import MAP_STYLE, SCRIPT
from birdsearch.search.export.page import data_uri, whole_page
from birdsearch.search.export.sheet_photos import Pictures, Thumbnail, file_name, shorten_middle
from birdsearch.search.query.hits import QueryPhoto

__all__ = ["jpeg_uri", "report_page", "sheet_page", "thumbnail"]

_SIDE = 240
_NAME_LENGTH = 24
_MOST_SITES = 6
# Clusters beyond these are in the table only: the page would hold too much.
_MOST_SHEETS = 150
_QUALITY = 80
_MONTHS = "JFMAMJJASOND"

_STYLE = """
:root { color-scheme: light dark; --bg: #f4f5f7; --card: #fff; --well: #e9ecf0; --text: #1c2127;
  --soft: #5d6773; --line: #d9dee4; --faint: #eceff3; --accent: #1f6feb; --warn: #9a5b00; }
@media screen and (prefers-color-scheme: dark) { :root { --bg: #14171b; --card: #1e2329; --well: #272d35;
  --text: #e8ebef; --soft: #9aa5b1; --line: #333b45; --faint: #272d35; --accent: #6cb0ff; --warn: #f0b357; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 88rem; padding: 2rem clamp(1rem, 3vw, 2.5rem) 3rem; background: var(--bg);
  color: var(--text); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.55rem; line-height: 1.25; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 0 0 .6rem; overflow-wrap: anywhere; }
h2 small { font-weight: 400; color: var(--soft); font-size: .87rem; }
section { margin: 2.2rem 0 0; }
a { color: inherit; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
.wide { overflow-x: auto; width: fit-content; max-width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .36rem .8rem; text-align: left; vertical-align: baseline; overflow-wrap: break-word; }
thead th { font-size: .87rem; font-weight: 600; color: var(--soft); border-bottom: 1px solid var(--line); }
tbody tr + tr > * { border-top: 1px solid var(--faint); }
.n { text-align: right; }
.n, .day { white-space: nowrap; }
.note, .soft { color: var(--soft); font-size: .87rem; margin: .5rem 0 0; max-width: 52rem;
  overflow-wrap: anywhere; }
.warn { color: var(--warn); margin: .5rem 0 0; max-width: 52rem; }
.cluster { display: grid; grid-template-columns: minmax(0, 1fr) minmax(200px, 250px); gap: 1.5rem; }
.cluster h2 { grid-column: 1 / -1; margin: 0 0 -.7rem; }
@media (max-width: 800px) { .cluster { grid-template-columns: minmax(0, 1fr); } }
ol { list-style: none; margin: 0; padding: 0; display: grid; gap: .8rem; align-content: start;
  grid-template-columns: repeat(auto-fill, minmax(132px, 1fr)); }
ol li { background: var(--card); border: 1px solid var(--line); border-radius: 8px; overflow: hidden; }
ol li.weak { border: 2px dashed var(--warn); }
.well { position: relative; aspect-ratio: 1; background: var(--well); display: grid; place-items: center; }
.well img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }
.none { color: var(--soft); font-size: .8rem; text-align: center; padding: .8rem; overflow-wrap: anywhere; }
.about { padding: .35rem .55rem .5rem; font-size: .78rem; line-height: 1.35; color: var(--soft); }
.about div { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.about b { color: var(--text); font-weight: 600; }
.weak .about .mark { color: var(--warn); }
aside { font-size: .87rem; }
aside h3 { font-size: .8rem; font-weight: 600; color: var(--soft); margin: .9rem 0 .25rem; }
aside h3:first-child { margin-top: 0; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 9px; }
.scale svg text { font-size: 11px; }
svg rect { fill: var(--accent); }
svg .axis { stroke: var(--line); }
.sites { margin: 0; padding: 0; list-style: none; }
.sites li { display: grid; grid-template-columns: minmax(0, 1fr) auto; column-gap: .6rem; margin: .2rem 0; }
.sites span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.sites i { grid-column: 1 / -1; display: block; height: 6px; border-radius: 3px; background: var(--well); }
.sites i b { display: block; height: 100%; border-radius: 3px; background: var(--accent); }
.scale { max-width: 34rem; padding: .8rem 1rem; }
.scale .chance { fill: var(--soft); opacity: .45; }
.scale .found { fill: var(--warn); }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .2rem 1.2rem; margin: 0;
  font-size: .87rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
"""

_COLUMNS = (
    ("Cluster", True), ("Name", False), ("Photos", True), ("Events", True), ("Strength", True),
    ("{}s", True), ("First", False), ("Last", False), ("Label", False), ("Verified", True), ("Purity", True),
)  # fmt: skip


def report_page(
    found: Overview, map_html: str, facts: Sequence[tuple[str, str]], progress: Callable[[], None]
) -> str:
    """A page with the map, the table, a contact sheet of each cluster, and the outliers.

    Args:
        found: The clusters.
        map_html: The section with the map; empty for none.
        facts: What was done and with what, as pairs of texts.
        progress: Called after each contact sheet.

    Returns:
        The page. Thumbnails are in it as data and without metadata, no coordinates are shown, and every text from
        outside is escaped.
    """
    members = found.state.view_ids
    title = f"{len(found.rows)} clusters of {len(members):,} photos"
    said = "" if found.check is None else found.check.sentence
    lines = [f'<p class="warn">{escape(_sentence(text))}</p>' for text in found.warnings if text != said]
    if found.check is not None and found.check.is_warning:
        lines.insert(
            0,
            f'<p class="warn">Clusters follow the {escape(found.check.kind)}: <a href="#sites">see below</a>.</p>',
        )
    parts = ["".join(lines), map_html, _check_section(found.check), _table(found)]
    for row in found.rows[:_MOST_SHEETS]:
        parts.append(_cluster(found, row))
        progress()
    if len(found.rows) > _MOST_SHEETS:
        rest = len(found.rows) - _MOST_SHEETS
        parts.append(
            f'<section><p class="note">{rest} smaller clusters are in the table only; '
            "<code>birdsearch cluster show ID --sheet FILE</code> shows one.</p></section>"
        )
    if found.outliers is not None:
        parts.append(_cluster(found, found.outliers))
        progress()
    about = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts)
    parts.append(f"<section><h2>How it was made</h2><dl>{about}</dl></section>")
    return _page(title, "\n".join(part for part in parts if part), has_map=bool(map_html))


def sheet_page(found: Overview, row: ClusterRow, most: int) -> str:
    """A page with the contact sheet of one cluster, the strongest members first.

    Args:
        found: The clusters.
        row: The one.
        most: How many photos are shown.
    """
    return _page(f"Cluster {row.id} {row.name}".strip(), _cluster(found, row, most), has_map=False)


def _page(title: str, body: str, *, has_map: bool) -> str:
    if not has_map:
        return whole_page(title, _STYLE, body)
    return whole_page(title, _STYLE + MAP_STYLE, body, SCRIPT)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


# -- tables and figures --------------------------------------------------------------------------------------


def _table(found: Overview) -> str:
    kind = found.members.site_kind.capitalize()
    rows = [*found.rows, *([found.outliers] if found.outliers is not None else [])]
    cells = [_cells(row, number) for number, row in enumerate(rows)]
    # A column in which nothing stands says nothing.
    used = [place for place in range(len(_COLUMNS)) if any(row[place] for row in cells)]
    head = "".join(
        f'<th scope="col"{_side(right)}>{escape(name.format(kind))}</th>'
        for name, right in (_COLUMNS[place] for place in used)
    )
    lines = "\n".join(
        "<tr>" + "".join(f"<td{_side(_COLUMNS[place][1])}>{row[place]}</td>" for place in used) + "</tr>"
        for row in cells
    )
    purity = "" if found.purity is None else f" Over all clusters the purity is {found.purity:.0%}."
    return (
        f'<section><h2>Clusters</h2><div class="wide card"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{lines}</tbody></table></div>"
        '<p class="note">Strength: how well members fit, 0 to 1. Label: the commonest verified one, else the '
        "commonest estimate. Purity: part of the verified members that have the commonest label; labels that were "
        "given to a cluster as a whole do not count."
        f"{purity}</p></section>"
    )


def _cells(row: ClusterRow, number: int) -> list[str]:
    is_shown = row.id is None or number < _MOST_SHEETS
    name = "outliers" if row.id is None else str(row.id)
    return [
        f'<a href="#{_anchor(row)}">{name}</a>' if is_shown else name,
        escape(row.name),
        f"{row.photos:,}",
        f"{row.events:,}",
        "" if row.id is None else f"{row.strength:.2f}",
        str(row.sites or ""),
        _day(row.first),
        _day(row.last),
        escape(_label(row)),
        str(row.verified or ""),
        "" if row.purity is None else f"{row.purity:.0%}",
    ]


def _day(time: str | None) -> str:
    return "" if time is None else f'<span class="day">{escape(time[:10])}</span>'


def _label(row: ClusterRow) -> str:
    if row.label is None:
        return ""
    return row.label if row.verified else f"{row.label} (estimate, {row.label_share or 0:.0%})"


def _side(right: bool) -> str:
    return ' class="n"' if right else ""


def _anchor(row: ClusterRow) -> str:
    return "outliers" if row.id is None else f"c{row.id}"


def _check_section(check: SiteCheck | None) -> str:
    if check is None:
        return ""
    low, high = (20 + 460 * max(0.0, value) for value in (check.chance, check.chance_high))
    at = 20 + 460 * min(1.0, max(0.0, check.information))
    ticks = "".join(
        f'<text x="{20 + 460 * tick / 4:g}" y="44" text-anchor="middle">{tick / 4:g}</text>'
        for tick in range(5)
    )
    return (
        f'<section id="sites"><h2>Do the clusters follow the {escape(check.kind)}?</h2><div class="card scale">'
        '<svg viewBox="0 0 500 48" role="img" aria-label="Mutual information of cluster and site, 0 to 1">'
        f'<line class="axis" x1="20" x2="480" y1="28" y2="28"/><rect class="chance" x="{low:.1f}" y="19" '
        f'width="{max(3.0, high - low):.1f}" height="9"/><rect class="found" x="{at - 2:.1f}" y="13" width="4" '
        f'height="15"/>{ticks}<text x="{at:.1f}" y="9" text-anchor="middle">these clusters</text></svg></div>'
        f'<p class="{"warn" if check.is_warning else "note"}">{escape(_sentence(check.sentence))}.</p>'
        '<p class="note">Grey: where sites dealt out at random lie. 1 would be one cluster for each site.</p>'
        "</section>"
    )


def _bars(counts: Sequence[int], labels: Sequence[str], what: str) -> str:
    """A small bar chart; empty if there is nothing to count."""
    most = max(counts)
    if not most:
        return '<p class="soft">not known</p>'
    step, first = 240 / len(counts), 0 if len(counts) > 12 else 1
    bars = "".join(
        f'<rect x="{place * step + 1:.1f}" y="{40 - 38 * count / most:.1f}" width="{step - 2:.1f}" '
        f'height="{38 * count / most:.1f}"><title>{what} {place + first}: {count}</title></rect>'
        for place, count in enumerate(counts)
        if count
    )
    texts = "".join(
        f'<text x="{(place + 0.5) * step:.1f}" y="51" text-anchor="middle">{label}</text>'
        for place, label in enumerate(labels)
        if label
    )
    return (
        f'<svg viewBox="0 0 240 54" role="img" aria-label="Photos by {what}">{bars}'
        f'<line class="axis" x1="0" x2="240" y1="40.5" y2="40.5"/>{texts}</svg>'
    )


def _times(times: Iterable[str]) -> str:
    months, hours = [0] * 12, [0] * 24
    for time in times:
        months[int(time[5:7]) - 1] += 1
        hours[int(time[11:13])] += 1
    clock = [str(hour) if hour % 6 == 0 else "" for hour in range(24)]
    return f"<h3>Months</h3>{_bars(months, _MONTHS, 'month')}<h3>Hours</h3>{_bars(hours, clock, 'hour')}"


def _site_bars(kind: str, sites: Sequence[str | None]) -> str:
    counts = Counter(site for site in sites if site is not None)
    if not counts:
        return f'<h3>{escape(kind.capitalize())}s</h3><p class="soft">not known</p>'
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rows = "".join(
        f'<li><span title="{escape(site)}">{escape(_end(site))}</span><span>{count:,}</span>'
        f'<i><b style="width:{count / ranked[0][1]:.1%}"></b></i></li>'
        for site, count in ranked[:_MOST_SITES]
    )
    rest = len(ranked) - _MOST_SITES
    more = f'<p class="soft">and {rest} more</p>' if rest > 0 else ""
    return f'<h3>{escape(kind.capitalize())}s</h3><ul class="sites">{rows}</ul>{more}'


def _end(site: str) -> str:
    """Of a folder its last two parts."""
    return "…/" + "/".join(site.split("/")[-2:]) if site.count("/") > 2 else site


# -- photos --------------------------------------------------------------------------------------------------


def _cluster(found: Overview, row: ClusterRow, most: int = 12) -> str:
    state, members = found.state, found.members
    places = (state.cluster_ids == (OUTLIER if row.id is None else row.id)).nonzero()[0]
    pictures = Pictures(_SIDE)
    # Where all fit equally well, and among outliers, none is weaker than another.
    has_weak = row.id is not None and float(np.ptp(state.strengths[places])) > 0
    tiles = "".join(
        _tile(found, int(places[place]), pictures, is_weak=weak and has_weak)
        for place, weak in picks(members.order[places], members.events[places], most)
    )
    head = "Outliers" if row.id is None else f"{row.id} {row.name}".strip()
    facts = [f"{row.photos:,} photos", f"{row.events:,} events"]
    if row.id is not None:
        facts.append(f"strength {row.strength:.2f}")
    if row.label is not None:
        facts.append(_label(row))
    if row.purity is not None:
        facts.append(f"purity {row.purity:.0%} of {row.judged}")
    warning = (
        f'<p class="warn">Nearly all of it is from one {escape(members.site_kind)}: {escape(row.one_site)}. It may '
        "show the background rather than the bird.</p>"
        if row.one_site is not None
        else ""
    )
    listed = places.tolist()
    times = [time for place in listed if (time := members.captured_at[place]) is not None]
    aside = _times(times) + _site_bars(members.site_kind, [members.sites[place] for place in listed])
    about = escape(" · ".join(facts))
    return (
        f'<section class="cluster" id="{_anchor(row)}"><h2>{escape(head)} <small>{about}</small>'
        f"</h2><div><ol>{tiles}</ol>{warning}</div><aside>{aside}</aside></section>"
    )


def _tile(found: Overview, place: int, pictures: Pictures, *, is_weak: bool) -> str:
    members = found.members
    photo_id = int(members.photo_ids[place])
    path = display_path(members.files[place])
    name = file_name(path)
    label, taken = members.label(place), (members.captured_at[place] or "")[:16].replace("T", " ")
    shown = thumbnail(pictures, members.files[place])
    if shown.image is None:
        picture = f'<p class="none">Not shown: {escape(shown.problem)}</p>'
    else:
        picture = (
            f'<img src="{jpeg_uri(shown.image)}" alt="{escape(name)}" data-photo="{photo_id}" loading="lazy">'
        )
    mark = ' <span class="mark">weakest</span>' if is_weak else ""
    short = shorten_middle(name, lambda text: len(text) <= _NAME_LENGTH)
    lines = [f"<b>{found.state.strengths[place]:.2f}</b>{mark} #{photo_id}"]
    lines += [escape(text) for text in (label, taken) if text]
    about = "".join(f"<div>{line}</div>" for line in lines)
    return (
        f'<li{" class=weak" if is_weak else ""}><div class="well">{picture}</div><div class="about">{about}'
        f'<div title="{escape(path)}">{escape(short)}</div></div></li>'
    )


def thumbnail(pictures: Pictures, file: bytes) -> Thumbnail:
    """A photo made small, without its metadata; an empty path has none."""
    if not file:
        return Thumbnail(None, "no file of it is known")
    return pictures.query(QueryPhoto(display_path(file), None, None, file))


def jpeg_uri(image: Image.Image, quality: int = _QUALITY) -> str:
    """A picture as a JPEG in a link."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return data_uri(buffer.getvalue(), "jpeg")
