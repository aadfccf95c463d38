/** Pictures side by side, zoomed and moved in step, however many pixels each has. */

import { thumbUrl } from "./api.js";
import { h } from "./dom.js";
import { gestures } from "./gestures.js";
import { load } from "./loading.js";

const MOST_ZOOM = 24;
/** From this zoom on the largest picture that the server gives is fetched. */
const SHARP_ZOOM = 1.3;

/** The part of the pictures on show: what is in the middle, as shares of width and height, and the zoom. */
export class Comparison {
  #panes = [];
  #at = { x: 0.5, y: 0.5, zoom: 1 };

  /**
   * @param {boolean} originals The server gives the photos themselves, so show these when zoomed in.
   * @param {(zoom: number) => void} onzoom Told the zoom when it changes.
   * @param {AbortSignal} signal
   */
  constructor(originals, onzoom, signal) {
    Object.assign(this, { originals, onzoom, signal });
    this.sizes = new ResizeObserver(() => this.#place());
    signal.addEventListener("abort", () => this.sizes.disconnect());
  }

  /**
   * Make the pane of one picture.
   * @param {{photo_id: number, width: number, height: number}} file
   * @param {string} name What a screen reader calls it.
   * @returns {HTMLElement}
   */
  pane(file, name) {
    const img = h("img", { alt: "", decoding: "async", draggable: "false" });
    const element = h(
      "div",
      { class: "pane", tabindex: "0", role: "img", "aria-label": name, "aria-describedby": "copies-keys" },
      img,
    );
    const pane = { element, img, file, level: 0 };
    gestures(
      element,
      {
        move: (dx, dy) => this.#move(pane, dx, dy),
        zoom: (factor, x, y) => this.#zoom(pane, factor, x, y),
        whole: () => this.whole(),
        arrows: false,
      },
      this.signal,
    );
    this.#panes.push(pane);
    this.sizes.observe(element);
    load(img, thumbUrl(file.photo_id, 640), () => element.classList.add("broken"));
    return element;
  }

  /** Drop the panes of the group that was on show; the zoom starts anew. */
  clear() {
    this.sizes.disconnect();
    this.#panes = [];
    this.#at = { x: 0.5, y: 0.5, zoom: 1 };
    this.onzoom(1);
  }

  whole() {
    this.#at = { x: 0.5, y: 0.5, zoom: 1 };
    this.#place();
  }

  /** Zoom about the middle, as the buttons do. */
  zoomBy(factor) {
    this.#at.zoom = Math.min(MOST_ZOOM, Math.max(1, this.#at.zoom * factor));
    this.#place();
  }

  /** Move what is on show by shares of a pane, as keys do; false if all is on show already. */
  nudge(x, y) {
    if (this.#at.zoom === 1) return false;
    this.#at.x += x / this.#at.zoom;
    this.#at.y += y / this.#at.zoom;
    this.#place();
    return true;
  }

  /** CSS pixels that the whole picture takes in a pane, at no zoom. */
  #fitted({ element, file, img }) {
    const [width, height] = [file.width || img.naturalWidth || 3, file.height || img.naturalHeight || 2];
    const fit = Math.min(element.clientWidth / width, element.clientHeight / height);
    return [width * fit, height * fit];
  }

  #move(pane, dx, dy) {
    const [width, height] = this.#fitted(pane);
    this.#at.x -= dx / (width * this.#at.zoom);
    this.#at.y -= dy / (height * this.#at.zoom);
    this.#place();
  }

  #zoom(pane, factor, left, top) {
    const [width, height] = this.#fitted(pane);
    const before = this.#at.zoom;
    const zoom = Math.min(MOST_ZOOM, Math.max(1, before * factor));
    const away = [left - pane.element.clientWidth / 2, top - pane.element.clientHeight / 2];
    this.#at.x += (away[0] / width) * (1 / before - 1 / zoom);
    this.#at.y += (away[1] / height) * (1 / before - 1 / zoom);
    this.#at.zoom = zoom;
    this.#place();
  }

  #place() {
    const at = this.#at;
    const slack = 0.5 - 0.5 / at.zoom;
    at.x = Math.min(0.5 + slack, Math.max(0.5 - slack, at.x));
    at.y = Math.min(0.5 + slack, Math.max(0.5 - slack, at.y));
    for (const pane of this.#panes) {
      const [width, height] = this.#fitted(pane);
      const left = pane.element.clientWidth / 2 - at.x * width * at.zoom;
      const top = pane.element.clientHeight / 2 - at.y * height * at.zoom;
      Object.assign(pane.img.style, {
        width: `${width}px`,
        height: `${height}px`,
        transform: `translate(${left}px, ${top}px) scale(${at.zoom})`,
      });
      pane.element.classList.toggle("zoomed", at.zoom > 1);
      if (at.zoom > SHARP_ZOOM) this.#sharpen(pane);
    }
    this.onzoom(at.zoom);
  }

  /** Replace the small picture by the best there is, once it has come. */
  async #sharpen(pane) {
    if (pane.level > 0) return;
    pane.level = 1;
    const id = pane.file.photo_id;
    for (const source of [this.originals && `/api/photos/${id}/image`, thumbUrl(id, 1280)].filter(Boolean)) {
      const better = new Image();
      better.src = source;
      try {
        await better.decode();
        pane.img.src = source;
        return;
      } catch {
        // The original may be of a kind that no browser shows, such as RAW; the thumbnail then is the best there is.
      }
    }
  }
}
