/** A map of places with nothing from elsewhere: meridians, parallels, a scale, and what was seen. */

import { button, h } from "./dom.js";
import { place as placeText, plural } from "./format.js";
import { View, gestures } from "./gestures.js";
import { groupPlaces, inverse, metresPerPixel, project, steps } from "./projection.js";

const SVG = "http://www.w3.org/2000/svg";
/** Places closer than this many CSS pixels share a mark. */
const APART = 40;
/** Half a cell to which places of sensitive species are coarsened, in degrees. */
const COARSE = 0.05;

/** An SVG element. */
function svg(tag, attrs = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attrs)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** The map; `onarea` is told the ids of the sightings at the place that was chosen, or null. */
export class PlaceMap {
  #view = new View({ least: 200, most: 2e8 });
  #places = [];
  #marks = [];
  #markedScale = 0;
  #shown = null;
  #chosen = null;
  #area = null;
  #queued = false;

  constructor(onarea, signal) {
    this.onarea = onarea;
    this.grid = svg("g", { class: "graticule" });
    this.layer = svg("g", {});
    this.picture = svg(
      "svg",
      { class: "places-svg", role: "group", "aria-label": "Places" },
      this.grid,
      this.layer,
    );
    this.bar = h("i");
    this.barText = h("span", { class: "num" });
    this.note = h("p", { class: "soft" });
    const tool = (name, mark, factor) =>
      button("", { icon: mark, class: "small", label: name, onclick: () => this.#zoomBy(factor) });
    this.window = h(
      "div",
      {
        class: "places-window",
        tabindex: "0",
        role: "group",
        "aria-label": "Map of places. Arrow keys move it, plus and minus zoom, 0 shows all.",
      },
      this.picture,
      h("p", { class: "places-scale soft" }, this.bar, this.barText),
    );
    this.element = h(
      "section",
      { class: "places card", "aria-label": "Where" },
      h(
        "div",
        { class: "row" },
        h("h2", {}, "Where"),
        h(
          "span",
          { class: "row spacer" },
          tool("Zoom out", "minus", 1 / 2),
          tool("Zoom in", "plus", 2),
          button("Whole", { class: "small", onclick: () => this.#whole() }),
        ),
      ),
      this.window,
      this.note,
    );
    gestures(
      this.window,
      {
        move: (dx, dy) => this.#change(() => this.#view.move(dx, dy)),
        zoom: (factor, x, y) => this.#change(() => this.#view.zoom(factor, x, y)),
        whole: () => this.#whole(),
        tap: (event) => this.#tap(event),
      },
      signal,
    );
    const sizes = new ResizeObserver(() => this.#resize());
    sizes.observe(this.window);
    signal.addEventListener("abort", () => sizes.disconnect());
  }

  show(sightings) {
    const placed = sightings.filter((one) => one.lat !== null && one.lat !== undefined);
    this.#places = groupPlaces(placed);
    const coarse = placed.filter((one) => one.coarse).length;
    const without = sightings.length - placed.length;
    const notes = [
      coarse &&
        `${plural(coarse, "sighting")} of sensitive birds ${coarse === 1 ? "is" : "are"} told only to a square of 0.1°, about 11 km, drawn with a dashed line.`,
      without && `${plural(without, "sighting")} without a place.`,
      this.#places.length === 0 && "None of these has a place.",
    ];
    this.note.textContent = notes.filter(Boolean).join(" ");
    this.#whole();
  }

  /** Bring out the sightings that are left, the area that was chosen, and one sighting. */
  mark(shown, area, chosen) {
    this.#shown = shown;
    this.#area = area;
    this.#chosen = chosen;
    this.#markedScale = 0;
    this.#draw();
  }

  /** Bring the place of a sighting into view. */
  reveal(id) {
    const found = this.#places.find((one) => one.ids.includes(id));
    if (!found) return;
    const [left, top] = this.#view.toScreen(found.x, found.y);
    if (left < 30 || top < 30 || left > this.#view.width - 30 || top > this.#view.height - 30) {
      this.#change(() => Object.assign(this.#view, { x: found.x, y: found.y }));
    }
  }

  #resize() {
    const first = this.#view.width <= 1;
    Object.assign(this.#view, { width: this.window.clientWidth, height: this.window.clientHeight });
    if (first) this.#whole();
    else this.#draw();
  }

  #change(how) {
    how();
    this.#view.keepWithin([0, 0, 1, 1]);
    this.#draw();
  }

  #zoomBy(factor) {
    this.#change(() => this.#view.zoom(factor, this.#view.width / 2, this.#view.height / 2));
  }

  #whole() {
    if (this.#places.length === 0 || this.#view.width <= 1) return this.#draw();
    const [x, y] = [this.#places.map((one) => one.x), this.#places.map((one) => one.y)];
    const least = 2e-5;
    this.#view.fit(
      [Math.min(...x) - least, Math.min(...y) - least, Math.max(...x) + least, Math.max(...y) + least],
      48,
    );
    return this.#draw();
  }

  #tap(event) {
    const mark = document.elementFromPoint(event.clientX, event.clientY)?.closest("[data-mark]");
    if (mark && this.picture.contains(mark)) this.#pick(this.#marks[Number(mark.dataset.mark)]);
    else if (this.#area) this.#pick(null);
  }

  #pick(mark) {
    const ids = mark && new Set(mark.ids);
    const same =
      ids && this.#area && ids.size === this.#area.size && mark.ids.every((id) => this.#area.has(id));
    this.onarea(same ? null : ids);
  }

  #draw() {
    if (this.#queued || this.#view.width <= 1) return;
    this.#queued = true;
    requestAnimationFrame(() => {
      this.#queued = false;
      this.picture.setAttribute("viewBox", `0 0 ${this.#view.width} ${this.#view.height}`);
      this.#drawGrid();
      if (this.#markedScale !== this.#view.scale) this.#makeMarks();
      for (const mark of this.#marks) {
        const [left, top] = this.#view.toScreen(mark.x, mark.y);
        mark.element.setAttribute("transform", `translate(${left.toFixed(1)} ${top.toFixed(1)})`);
      }
    });
  }

  #makeMarks() {
    this.#markedScale = this.#view.scale;
    const focused = document.activeElement?.closest?.("[data-mark]");
    const focusedId =
      focused && this.layer.contains(focused) ? this.#marks[Number(focused.dataset.mark)].ids[0] : null;
    const marks = [];
    for (const one of this.#places) {
      const near =
        !one.coarse &&
        marks.find(
          (mark) => !mark.coarse && Math.hypot(mark.x - one.x, mark.y - one.y) * this.#view.scale < APART,
        );
      if (near) near.ids.push(...one.ids);
      else marks.push({ ...one, ids: [...one.ids] });
    }
    // Areas lie beneath points.
    marks.sort((one, other) => other.coarse - one.coarse);
    this.#marks = marks;
    marks.forEach((mark, index) => (mark.element = this.#mark(mark, index)));
    this.layer.replaceChildren(...marks.map((mark) => mark.element));
    if (focusedId !== null) marks.find((mark) => mark.ids.includes(focusedId))?.element.focus();
  }

  #mark(mark, index) {
    const on = this.#shown ? mark.ids.filter((id) => this.#shown.has(id)).length : mark.ids.length;
    const chosen = mark.ids.includes(this.#chosen);
    const picked = this.#area !== null && mark.ids.some((id) => this.#area.has(id));
    const name = `${placeText(mark.lat, mark.lon, mark.coarse)}: ${plural(mark.ids.length, "sighting")}`;
    const element = svg("g", {
      class: `place${mark.coarse ? " coarse" : ""}${on === 0 ? " off" : ""}${chosen ? " chosen" : ""}`,
      "data-mark": index,
      role: "button",
      tabindex: "0",
      "aria-pressed": String(picked),
      "aria-label": name,
    });
    element.append(svg("title", {}));
    element.firstChild.textContent = name;
    const radius = Math.min(22, 7 + 2.2 * Math.sqrt(mark.ids.length));
    if (mark.coarse) {
      const [width, height] = this.#cell(mark);
      element.append(svg("rect", { x: -width / 2, y: -height / 2, width, height, rx: 2 }));
    } else element.append(svg("circle", { r: radius }));
    if (mark.ids.length > 1 || mark.coarse) {
      const text = svg("text", { "text-anchor": "middle", dy: "0.35em" });
      text.textContent = on < mark.ids.length && on > 0 ? `${on}/${mark.ids.length}` : mark.ids.length;
      element.append(text);
    }
    element.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      event.stopPropagation();
      this.#pick(mark);
    });
    return element;
  }

  /** Width and height of the cell of a coarse place in CSS pixels, large enough to be hit. */
  #cell({ lat, lon }) {
    const [left, top] = project(lat + COARSE, lon - COARSE);
    const [right, bottom] = project(lat - COARSE, lon + COARSE);
    return [Math.max(24, (right - left) * this.#view.scale), Math.max(24, (bottom - top) * this.#view.scale)];
  }

  #drawGrid() {
    const view = this.#view;
    const [[left, top], [right, bottom]] = [view.toScreen(0, 0), view.toScreen(1, 1)].map(([x, y]) => [
      Math.max(0, Math.min(view.width, x)),
      Math.max(0, Math.min(view.height, y)),
    ]);
    const [north, west] = inverse(...view.toPlane(left, top));
    const [south, east] = inverse(...view.toPlane(right, bottom));
    const lines = [];
    const label = (x, y, text, anchor) => {
      const element = svg("text", { x, y, "text-anchor": anchor });
      element.textContent = text;
      return element;
    };
    const degrees = (value, digits, plus, minus) =>
      `${Math.abs(value).toFixed(digits)}° ${value < 0 ? minus : plus}`.replace(/^(0(?:\.0*)?°).*/, "$1");
    const across = steps(west, east, (right - left) / 110);
    for (const lon of across.values) {
      const [x] = view.toScreen(...project(0, lon));
      lines.push(svg("line", { x1: x, x2: x, y1: top, y2: bottom }));
      if (x < right - 60) lines.push(label(x + 4, top + 13, degrees(lon, across.digits, "E", "W"), "start"));
    }
    const down = steps(south, north, (bottom - top) / 80);
    for (const lat of down.values) {
      const [, y] = view.toScreen(...project(lat, 0));
      lines.push(svg("line", { x1: left, x2: right, y1: y, y2: y }));
      if (y > top + 30) lines.push(label(right - 4, y - 4, degrees(lat, down.digits, "N", "S"), "end"));
    }
    this.grid.replaceChildren(...lines);
    const perPixel = metresPerPixel((north + south) / 2, view.scale);
    const longest = perPixel * Math.min(140, view.width / 3);
    const power = 10 ** Math.floor(Math.log10(longest));
    const metres = [5, 2, 1].map((one) => one * power).find((one) => one <= longest);
    this.bar.style.width = `${metres / perPixel}px`;
    this.barText.textContent = metres >= 1000 ? `${metres / 1000} km` : `${metres} m`;
  }
}
