"""The map of a cluster report on a page: a canvas, its data, and the few lines of script that draw it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdsearch.display_path import display_path
from birdsearch.search.clusters.map import EmbeddingMap
from birdsearch.search.clusters.report import Overview
from birdsearch.search.export.cluster_plots import OUTLIER_COLOUR, colours

__all__ = ["MAP_STYLE", "SCRIPT", "map_data", "map_section"]

# Labels and sites beyond these share the colour of what is unknown.
_MOST_KINDS = 200
_STEPS = 9999

MAP_STYLE = """
.map { position: relative; padding: .6rem; }
.map canvas { display: block; width: 100%; height: min(70vh, 44rem); border-radius: 6px; cursor: grab;
  touch-action: none; background: var(--well); }
.map .bar { display: flex; flex-wrap: wrap; gap: .5rem 1.2rem; align-items: center; margin: 0 0 .6rem;
  font-size: .87rem; color: var(--soft); }
.map select, .map button { font: inherit; color: var(--text); background: var(--card);
  border: 1px solid var(--line); border-radius: 5px; padding: .15rem .5rem; }
.tip { position: absolute; pointer-events: none; max-width: 19rem; background: var(--card); color: var(--text);
  border: 1px solid var(--line); border-radius: 6px; padding: .45rem .55rem; font-size: .8rem; line-height: 1.35;
  box-shadow: 0 2px 10px #0003; overflow-wrap: anywhere; }
.tip img { max-width: 11rem; max-height: 11rem; margin: 0 0 .3rem; border-radius: 4px; }
.key { display: flex; flex-wrap: wrap; gap: .15rem .9rem; margin: .6rem 0 0; padding: 0; max-height: 9.5rem;
  overflow: auto; list-style: none; font-size: .82rem; }
.key button { all: unset; cursor: pointer; display: inline-flex; align-items: center; gap: .35rem; }
.key button:focus-visible { outline: 2px solid var(--accent); }
.key .off { opacity: .35; }
.key i { width: .7rem; height: .7rem; border-radius: 50%; flex: none; }
"""

# Texts go in by `textContent` only; nothing is fetched.
SCRIPT = """
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("map-data").textContent);
  const canvas = document.getElementById("map"), tip = document.getElementById("tip");
  const pick = document.getElementById("colour"), key = document.getElementById("key");
  const pen = canvas.getContext("2d"), count = data.x.length;
  let zoom = 1, left = 0, top = 0, width = 1, height = 1, only = -2, shown = -1, queued = false;
  const kind = () => data.kinds[pick.selectedIndex];
  const side = () => Math.min(width, height) * 0.96 * zoom;
  const px = i => left + width / 2 + (data.x[i] / data.steps - 0.5) * side();
  const py = i => top + height / 2 - (data.y[i] / data.steps - 0.5) * side();
  function draw() {
    queued = false;
    const scale = window.devicePixelRatio || 1, colour = kind();
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const radius = Math.max(1.2, Math.min(5, 90 / Math.sqrt(count))) * Math.min(3, Math.sqrt(zoom));
    for (const late of [false, true]) {
      for (let i = 0; i < count; i++) {
        const group = colour.of[i];
        if ((group >= 0) !== late) continue;
        const x = px(i), y = py(i);
        if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
        pen.globalAlpha = only === -2 || only === group ? (group < 0 ? 0.5 : 0.8) : 0.06;
        pen.fillStyle = group < 0 ? data.none : colour.colours[group];
        pen.beginPath();
        pen.arc(x, y, radius, 0, 6.2832);
        pen.fill();
      }
    }
    if (shown >= 0) {
      pen.globalAlpha = 1;
      pen.lineWidth = 2;
      pen.strokeStyle = getComputedStyle(canvas).color;
      pen.beginPath();
      pen.arc(px(shown), py(shown), radius + 4, 0, 6.2832);
      pen.stroke();
    }
  }
  function redraw() { if (!queued) { queued = true; requestAnimationFrame(draw); } }
  function resize() {
    const scale = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
    width = box.width; height = box.height;
    canvas.width = Math.round(width * scale); canvas.height = Math.round(height * scale);
    redraw();
  }
  function line(text) { const row = document.createElement("div"); row.textContent = text; tip.append(row); }
  function picture(photo) {
    const found = document.querySelector(`img[data-photo="${photo}"]`);
    const source = found ? found.src : data.thumbs[photo];
    if (!source) return;
    const image = document.createElement("img");
    image.src = source; image.alt = "";
    tip.append(image);
  }
  function hover(event) {
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    let best = 144, found = -1;
    for (let i = 0; i < count; i++) {
      if (only !== -2 && kind().of[i] !== only) continue;
      const apart = (px(i) - x) ** 2 + (py(i) - y) ** 2;
      if (apart < best) { best = apart; found = i; }
    }
    if (found !== shown) {
      shown = found;
      tip.replaceChildren();
      if (found >= 0) {
        picture(data.photo[found]);
        line(`#${data.photo[found]} ${data.name[found]}`);
        for (const one of data.kinds) {
          line(`${one.title}: ${one.of[found] >= 0 ? one.names[one.of[found]] : one.none}`);
        }
        line(data.folders[data.folder[found]]);
      }
      redraw();
    }
    tip.hidden = found < 0;
    if (found < 0) return;
    const base = tip.parentElement.getBoundingClientRect();
    const across = event.clientX - base.left, down = event.clientY - base.top;
    tip.style.left = `${across > base.width / 2 ? Math.max(4, across - tip.offsetWidth - 14) : across + 14}px`;
    tip.style.top = `${Math.max(4, Math.min(down + 10, base.height - tip.offsetHeight - 8))}px`;
  }
  let drag = null;
  canvas.addEventListener("pointerdown", event => {
    drag = [event.clientX - left, event.clientY - top];
    canvas.setPointerCapture(event.pointerId);
    tip.hidden = true;
  });
  canvas.addEventListener("pointerup", () => { drag = null; });
  canvas.addEventListener("pointermove", event => {
    if (!drag) { hover(event); return; }
    left = event.clientX - drag[0]; top = event.clientY - drag[1];
    redraw();
  });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; shown = -1; redraw(); });
  canvas.addEventListener("wheel", event => {
    event.preventDefault();
    const box = canvas.getBoundingClientRect();
    const x = event.clientX - box.left - width / 2, y = event.clientY - box.top - height / 2;
    const next = Math.max(0.5, Math.min(80, zoom * Math.exp(-event.deltaY * 0.0015)));
    left = x - (x - left) * next / zoom; top = y - (y - top) * next / zoom;
    zoom = next;
    redraw();
  }, { passive: false });
  document.getElementById("whole").addEventListener("click", () => { zoom = 1; left = top = 0; redraw(); });
  function legend() {
    only = -2;
    const one = kind();
    key.replaceChildren();
    const entries = one.names.map((name, place) => [name, place, one.colours[place]]);
    if (one.of.some(group => group < 0)) entries.push([one.none, -1, data.none]);
    for (const [name, place, shade] of entries) {
      const item = document.createElement("li"), button = document.createElement("button");
      const dot = document.createElement("i"), text = document.createElement("span");
      button.type = "button"; dot.style.background = shade; text.textContent = name;
      button.addEventListener("click", () => {
        only = only === place ? -2 : place;
        for (const other of key.querySelectorAll("button")) {
          other.classList.toggle("off", only !== -2 && other !== button);
        }
        redraw();
      });
      button.append(dot, text); item.append(button); key.append(item);
    }
    redraw();
  }
  for (const one of data.kinds) pick.append(new Option(one.title));
  pick.addEventListener("change", legend);
  new ResizeObserver(resize).observe(canvas);
  legend();
})();
"""


def map_data(found: Overview, layout: EmbeddingMap, places: NDArray[np.int64]) -> dict[str, Any]:
    """What the script draws, in JSON types.

    Args:
        found: The clusters.
        layout: Their map.
        places: (M,) int64, which member of the state each point is.

    Returns:
        Points, photos, and for cluster, label and site the names, the colours and which each point has.
    """
    state, members = found.state, found.members
    listed = places.tolist()
    by_id = {row.id: place for place, row in enumerate(found.rows)}
    shown = {row.id: f"{row.id} {row.name}".strip() for row in found.rows}
    kinds = [
        {
            "title": "cluster",
            "names": list(shown.values()),
            "colours": colours(len(shown)),
            "of": [by_id.get(cluster_id, -1) for cluster_id in state.cluster_ids[places].tolist()],
            "none": "outlier",
        },
        _kind("label", [members.label(place) for place in listed]),
        _kind(members.site_kind, [members.sites[place] for place in listed]),
    ]
    folders: dict[str, int] = {}
    paths = [display_path(members.files[place]) for place in listed]
    steps = np.rint(layout.points * _STEPS).astype(int)
    return {
        "steps": _STEPS,
        "x": steps[:, 0].tolist(),
        "y": steps[:, 1].tolist(),
        "photo": members.photo_ids[places].tolist(),
        "name": [os.path.basename(path) for path in paths],  # noqa: PTH119 text for people
        "folder": [folders.setdefault(os.path.dirname(path), len(folders)) for path in paths],  # noqa: PTH120
        "folders": list(folders),
        "kinds": [kind for kind in kinds if kind["names"]],
        "none": OUTLIER_COLOUR,
    }


def _kind(title: str, values: Sequence[str | None]) -> dict[str, Any]:
    counts = Counter(value for value in values if value is not None)
    names = [name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))][:_MOST_KINDS]
    place = {name: number for number, name in enumerate(names)}
    return {
        "title": title,
        "names": names,
        "colours": colours(len(names)),
        "of": [-1 if value is None else place.get(value, -1) for value in values],
        "none": "unknown or rare",
    }


def map_section(data: Mapping[str, Any], thumbs: Mapping[int, str], note: str) -> str:
    """The map as HTML, with its data; the page has to hold `SCRIPT` after it.

    Args:
        data: As `map_data` makes it.
        thumbs: Data URI by photo id, of photos that are not on the page anyway.
        note: What is said below the map.
    """
    text = json.dumps(
        {**data, "thumbs": {str(key): uri for key, uri in thumbs.items()}}, separators=(",", ":")
    )
    # So that no text from outside can end the element.
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return f"""<section><h2>Map</h2><div class="map card">
<div class="bar"><label>Colour by <select id="colour"></select></label>
<button id="whole" type="button">Whole map</button>
<span>wheel: zoom; drag: move; point: photo; click a name below: only that</span></div>
<canvas id="map" role="img" aria-label="Map of the photos: alike ones are near each other"></canvas>
<div id="tip" class="tip" hidden></div><ul id="key" class="key"></ul></div>
<p class="note">{escape(note)}</p>
<script type="application/json" id="map-data">{text}</script></section>"""
