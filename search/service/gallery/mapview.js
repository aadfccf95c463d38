/** The map of a clustering as something to look at, move in and select on. */

import { h } from "./dom.js";
import { View, gestures } from "./gestures.js";
import { MARKS, paint, palette, pixel } from "./palette.js";
import { clusterPlaces, inLoop, inRectangle, nearest, stretches } from "./points.js";
import { Raster } from "./raster.js";

const HOVER_PIXELS = 14;
const TOUCH_PIXELS = 24;
/** A frame in motion may take so many ms; if the last one took longer, the next is painted more coarsely. */
const BUDGET_MS = 11;
const REST_MS = 160;
const LEAST_MARKED_RADIUS = 2.6;
/** More selected points than these are told by their brightness alone. */
const MOST_RINGS = 200;

/** The canvas with its view, highlights and selection; tells what happens through the handlers. */
export class MapView {
  #raster;
  #view = new View({ least: 100, most: 200_000 });
  #motion = { coarse: false, timer: 0, step: 1 };
  #queued = false;
  #loop = null;
  #fitted = false;

  /**
   * @param {object} on Handlers.
   * @param {(point: number, left: number, top: number) => void} on.hover The point under the pointer or, when keys
   *   move the map, in its middle, and where that is; -1 when there is none.
   * @param {(points: number[], add: boolean) => void} on.select What was tapped or looped.
   * @param {(lasso: boolean) => void} on.lasso The lasso was taken up or put down.
   * @param {AbortSignal} signal
   */
  constructor(on, signal) {
    this.on = on;
    this.lasso = false;
    this.names = new Map();
    this.highlight = null;
    this.hovered = -1;
    this.selected = new Set();
    this.points = null;
    this.canvas = h("canvas", { class: "map-points" });
    this.overlay = h("canvas", { class: "map-overlay" });
    this.element = h(
      "div",
      {
        class: "map-stage",
        tabindex: "0",
        role: "application",
        "aria-label": "Map of the photos",
        "aria-describedby": "map-keys",
      },
      this.canvas,
      this.overlay,
    );
    this.#raster = new Raster(this.canvas);
    this.#listen(signal);
  }

  #listen(signal) {
    const theme = matchMedia("(prefers-color-scheme: dark)");
    theme.addEventListener("change", () => this.#recolour(), { signal });
    const sizes = new ResizeObserver(() => this.#resize());
    sizes.observe(this.element);
    signal.addEventListener("abort", () => sizes.disconnect());
    const moved = (change) => (change(), this.#limit(), this.draw(true));
    gestures(
      this.element,
      {
        move: (dx, dy) => (moved(() => this.#view.move(dx, dy)), this.#aimAtMiddle()),
        zoom: (factor, x, y) => (moved(() => this.#view.zoom(factor, x, y)), this.#aimAtMiddle()),
        whole: () => this.showAll(),
        tap: (event, x, y) => {
          const point = this.#pointAt(x, y, event.pointerType === "touch" ? TOUCH_PIXELS : HOVER_PIXELS);
          this.#hover(point);
          this.on.select(point < 0 ? [] : [point], event.shiftKey || event.ctrlKey || event.metaKey);
        },
        taken: (event) => this.lasso && event.isPrimary,
      },
      signal,
    );
    const listen = (name, handler) => this.element.addEventListener(name, handler, { signal });
    listen("pointermove", (event) => {
      if (event.buttons === 0 && event.pointerType !== "touch")
        this.#hover(this.#pointAt(...this.#place(event), HOVER_PIXELS));
    });
    listen("pointerleave", () => this.#hover(-1));
    listen("keydown", (event) => {
      if (event.key === "l" || event.key === "L") this.setLasso(!this.lasso);
      else if (event.key === "Escape" && this.lasso) this.setLasso(false);
      else if (event.key === "Enter" && this.hovered >= 0) this.on.select([this.hovered], true);
      else return;
      event.preventDefault();
    });
    listen("blur", () => this.#hover(-1));
    this.#listenForLoops(listen);
  }

  #listenForLoops(listen) {
    listen("pointerdown", (event) => {
      if (!this.lasso || !event.isPrimary || event.button > 0) return;
      this.element.setPointerCapture(event.pointerId);
      this.#hover(-1);
      this.#loop = [this.#place(event)];
    });
    listen("pointermove", (event) => {
      if (!this.#loop || !event.isPrimary) return;
      this.#loop.push(this.#place(event));
      this.#drawOverlay();
    });
    listen("pointerup", (event) => {
      if (!this.#loop || !event.isPrimary) return;
      const loop = this.#loop.map(([x, y]) => this.#view.toPlane(x, y));
      this.#loop = null;
      this.on.select(
        inLoop(this.points, loop).filter((i) => this.#isBright(i)),
        event.shiftKey,
      );
      this.setLasso(false);
    });
    listen("pointercancel", () => ((this.#loop = null), this.draw()));
  }

  /**
   * Show other points; the view stays unless it is the first time.
   * @param {import("./points.js").Points} points
   * @param {Map<number, string>} names Of the clusters that have one.
   */
  show(points, names) {
    this.points = points;
    this.names = names;
    this.places = clusterPlaces(points);
    this.paints = paint(this.places, this.paints);
    const slots = new Map([[-1, 0], ...[...this.places.keys()].map((id, place) => [id, place + 1])]);
    this.slot = points.cluster.map((id) => slots.get(id));
    this.slots = slots;
    if (!this.#fitted && this.#view.width > 1) this.showAll();
    this.#recolour();
  }

  /** Bring one cluster out and dim the rest; null for none. */
  setHighlight(id) {
    this.highlight = id;
    this.#recolour();
  }

  setSelected(points) {
    this.selected = new Set(points);
    this.#recolour();
  }

  /** Take the lasso up, or put it down: a drag then draws a loop instead of moving the map. */
  setLasso(lasso) {
    this.lasso = lasso;
    this.#loop = null;
    this.element.classList.toggle("lasso", lasso);
    this.on.lasso(lasso);
    this.draw();
  }

  showAll() {
    this.#fitted = true;
    this.#view.fit([0, 0, 1, 1], 16);
    this.draw(true);
  }

  /** Zoom to one cluster. */
  zoomTo(id) {
    const place = this.places.get(id);
    if (!place) return;
    this.#view.fit(place.bounds, Math.min(this.#view.width, this.#view.height) / 6);
    this.draw(true);
  }

  zoomBy(factor) {
    this.#view.zoom(factor, this.#view.width / 2, this.#view.height / 2);
    this.#limit();
    this.draw(true);
  }

  /** Points in view, the dimmed ones left out. */
  inView() {
    return inRectangle(this.points, this.#bounds()).filter((i) => this.#isBright(i));
  }

  /** The colour and the mark of a cluster, for a key. */
  look(id) {
    const { colours, none } = palette();
    const { colour, mark } = this.paints.get(id) ?? {};
    return { colour: colour === undefined ? none : colours[colour], mark: MARKS[mark ?? 0] };
  }

  /** Ask for a frame; `moving` ones may be coarser, and a fine one follows. */
  draw(moving = false) {
    if (moving) {
      clearTimeout(this.#motion.timer);
      this.#motion.coarse = true;
      this.#motion.timer = setTimeout(() => ((this.#motion.coarse = false), this.draw()), REST_MS);
    }
    if (this.#queued) return;
    this.#queued = true;
    requestAnimationFrame(() => {
      this.#queued = false;
      if (this.points && this.#view.width > 1) this.#drawPoints();
    });
  }

  #place(event) {
    const box = this.element.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  #bounds(margin = 0) {
    const { width, height } = this.#view;
    return [...this.#view.toPlane(-margin, -margin), ...this.#view.toPlane(width + margin, height + margin)];
  }

  #limit() {
    this.#view.keepWithin([0, 0, 1, 1]);
  }

  #isBright(i) {
    return this.highlight === null || this.points.cluster[i] === this.highlight;
  }

  #pointAt(x, y, reach) {
    if (!this.points) return -1;
    return nearest(this.points, ...this.#view.toPlane(x, y), reach / this.#view.scale);
  }

  #aimAtMiddle() {
    if (!this.element.matches(":focus-visible")) return this.#hover(-1);
    this.#hover(this.#pointAt(this.#view.width / 2, this.#view.height / 2, 80));
  }

  #hover(point) {
    if (point === this.hovered && point < 0) return;
    this.hovered = point;
    const place = point < 0 ? [0, 0] : this.#view.toScreen(this.points.x[point], this.points.y[point]);
    this.on.hover(point, ...place);
    this.#drawOverlay();
  }

  #resize() {
    const { clientWidth, clientHeight } = this.element;
    Object.assign(this.#view, { width: clientWidth, height: clientHeight });
    if (!this.#fitted && this.points) this.showAll();
    this.draw();
  }

  /** Colour every point: each cluster has a bright and a dim colour, and dim points are painted below bright ones. */
  #recolour() {
    if (!this.points) return;
    const { colours, none, ground } = palette();
    const count = this.slots.size;
    this.look32 = {
      ground: pixel(ground),
      colours: new Uint32Array(2 * count),
      marks: new Uint8Array(2 * count),
    };
    for (const [id, slot] of this.slots) {
      const own = this.paints.get(id);
      const colour = own ? colours[own.colour] : none;
      this.look32.colours[slot] = pixel(colour, ground, own ? 1 : 0.55);
      this.look32.colours[slot + count] = pixel(colour, ground, 0.2);
      this.look32.marks.fill(own?.mark ?? 0, slot, slot + 1);
      this.look32.marks.fill(own?.mark ?? 0, slot + count, slot + count + 1);
    }
    const isDim = (i) => !this.#isBright(i) || (this.selected.size > 0 && !this.selected.has(i));
    this.back = new Int32Array(this.points.count).fill(-1);
    this.front = new Int32Array(this.points.count).fill(-1);
    this.slot.forEach((slot, i) => {
      if (isDim(i)) this.back[i] = slot + count;
      else if (slot === 0) this.back[i] = slot;
      else this.front[i] = slot;
    });
    this.draw();
  }

  #radius() {
    const crowd = Math.sqrt((this.#view.width * this.#view.height) / Math.max(1, this.points.count));
    const whole = Math.min(this.#view.width, this.#view.height);
    return Math.min(6, Math.max(1.1, 0.22 * crowd) * (this.#view.scale / whole) ** 0.45);
  }

  #drawPoints() {
    const began = performance.now();
    const { coarse, step } = this.#motion;
    const ratio = coarse && this.#motion.low ? 1 : Math.min(2, devicePixelRatio);
    const { width, height, scale } = this.#view;
    const radius = this.#radius();
    const round = radius < LEAST_MARKED_RADIUS;
    const [left, top] = this.#view.toScreen(0, 0);
    const marks = round ? new Uint8Array(this.look32.marks.length) : this.look32.marks;
    const how = {
      toPixels: [scale, left, top].map((one) => one * ratio),
      radius: radius * ratio,
      ...this.look32,
      marks,
    };
    const visible = [...stretches(this.points, this.#bounds())];
    this.#raster.start(width, height, ratio, this.look32.ground);
    this.#raster.paint(this.points, visible, { ...how, slot: this.back, step: coarse ? step : 1 });
    this.#raster.paint(this.points, visible, { ...how, slot: this.front, step: coarse ? step : 1 });
    this.#raster.finish();
    if (coarse) this.#adapt(performance.now() - began, ratio);
    this.#drawOverlay();
  }

  /** Make the next frame in motion cheaper if this one took too long: first fewer pixels, then fewer points. */
  #adapt(took, ratio) {
    const motion = this.#motion;
    if (took > BUDGET_MS) {
      if (ratio > 1) motion.low = true;
      else motion.step = Math.min(16, motion.step * 2);
    } else if (took < BUDGET_MS / 3 && motion.step > 1) motion.step /= 2;
  }

  #drawOverlay() {
    if (!this.points) return;
    const { width, height } = this.#view;
    const ratio = Math.min(2, devicePixelRatio);
    const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.overlay.width !== across) this.overlay.width = across;
    if (this.overlay.height !== down) this.overlay.height = down;
    const pen = this.overlay.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    drawOverlay(pen, this, this.#view, { radius: this.#radius(), loop: this.#loop });
  }
}

/** Rings round what is selected and hovered, the loop being drawn, and names where there is room. */
function drawOverlay(pen, map, view, { radius, loop }) {
  const { ink, ground } = palette();
  const ring = (i, size, line) => {
    const [x, y] = view.toScreen(map.points.x[i], map.points.y[i]);
    if (x < -20 || y < -20 || x > view.width + 20 || y > view.height + 20) return;
    pen.moveTo(x + size, y);
    pen.arc(x, y, size, 0, 2 * Math.PI);
    pen.lineWidth = line;
  };
  pen.strokeStyle = ink;
  pen.beginPath();
  if (map.selected.size <= MOST_RINGS) for (const i of map.selected) ring(i, radius + 1.5, 1.2);
  pen.stroke();
  if (map.hovered >= 0) {
    pen.beginPath();
    ring(map.hovered, radius + 5, 2.5);
    pen.stroke();
  }
  if (!loop) drawNames(pen, map, view, { ink, ground });
  if (loop?.length > 1) {
    pen.beginPath();
    for (const [x, y] of loop) pen.lineTo(x, y);
    pen.closePath();
    pen.globalAlpha = 0.12;
    pen.fillStyle = ink;
    pen.fill();
    pen.globalAlpha = 1;
    pen.setLineDash([5, 4]);
    pen.lineWidth = 1.5;
    pen.stroke();
    pen.setLineDash([]);
  }
}

/** Names of the largest clusters in view, each above its points, none over another. */
function drawNames(pen, map, view, { ink, ground }) {
  pen.font = "600 12px system-ui, sans-serif";
  Object.assign(pen, { textAlign: "center", textBaseline: "middle", lineWidth: 4, lineJoin: "round" });
  const taken = [];
  const largest = [...map.places].sort(([, one], [, other]) => other.count - one.count).slice(0, 400);
  for (const [id, place] of largest) {
    if (map.highlight !== null && id !== map.highlight) continue;
    const [middle, centre] = view.toScreen(place.x, place.y);
    if (middle < 0 || centre < 0 || middle > view.width || centre > view.height) continue;
    const y = Math.max(12, centre - Math.min(60, (place.y - place.bounds[1]) * view.scale + 14));
    const text = map.names.get(id);
    if (!text) continue;
    const half = pen.measureText(text).width / 2 + 6;
    const x = Math.max(half, Math.min(view.width - half, middle));
    const box = [x - half, y - 10, x + half, y + 10];
    if (taken.some((one) => box[0] < one[2] && box[2] > one[0] && box[1] < one[3] && box[3] > one[1]))
      continue;
    taken.push(box);
    pen.strokeStyle = ground;
    pen.strokeText(text, x, y);
    pen.fillStyle = ink;
    pen.fillText(text, x, y);
    if (taken.length === 40) break;
  }
}
