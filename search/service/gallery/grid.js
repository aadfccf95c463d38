/**
 * A grid of any number of photos of which only those in view are in the document.
 *
 * Rows have one height, so that the place of every photo is known without asking; the page itself scrolls. Facts and
 * pictures are fetched for rows that stay in view, and given up for those that leave. To assistive technology it is an
 * ARIA grid with its true count of rows, and one tab stop that the arrow keys move.
 */

import { thumbSize, thumbUrl } from "./api.js";
import { h, icon, picture } from "./dom.js";
import { date, nameOf, number, verifiedAs } from "./format.js";
import { giveUp } from "./loading.js";
import { href } from "./route.js";

const GAP = 6;
const CAPTION = 44;
const LEAST_WITH_CAPTION = 130;
const OVERSCAN = 2;
const SETTLED_MS = 90;
const LONG_PRESS_MS = 450;

export class PhotoGrid {
  #rows = new Map();
  #frame = 0;
  #settling = 0;
  #lastTop = 0;
  #anchor = 0;
  #pressed = false;

  /**
   * @param {object} options
   * @param {number[]} options.ids The photos, in order.
   * @param {number} options.size Wished width of a cell in CSS pixels.
   * @param {string} options.label Name of the grid.
   * @param {import("./facts.js").Facts} options.facts What is known of the photos.
   * @param {AbortSignal} options.signal Ends it.
   * @param {Function} [options.onselect] Told the set of selected ids.
   * @param {Function} [options.onview] Told the index of the first photo in view, once scrolling rests.
   */
  constructor({ ids, size, label, facts, signal, onselect, onview }) {
    Object.assign(this, { ids, size, facts, signal, onselect, onview });
    this.selected = new Set();
    this.active = 0;
    this.root = h("div", {
      class: "grid",
      role: "grid",
      "aria-label": label,
      "aria-multiselectable": "true",
    });
    this.root.addEventListener("keydown", (event) => this.#key(event));
    this.root.addEventListener("click", (event) => this.#click(event));
    this.root.addEventListener("pointerdown", (event) => this.#press(event));
    this.root.addEventListener("contextmenu", (event) => this.#pressed && event.preventDefault());
    this.root.addEventListener("focusin", (event) => this.#focused(event));
    addEventListener("scroll", () => this.#later(), { passive: true, signal });
    const watch = new ResizeObserver(() => this.#measure());
    watch.observe(this.root);
    signal.addEventListener("abort", () => (watch.disconnect(), clearTimeout(this.#settling)));
  }

  /** Put the grid into its place; it needs to be in the document to know its width. */
  start({ top = 0, active = 0, selected = [] } = {}) {
    this.selected = new Set(selected);
    this.active = Math.min(active, Math.max(0, this.ids.length - 1));
    this.#measure();
    scrollTo(0, top);
    this.#draw();
  }

  /** What `start` needs to come back to the same place. */
  place() {
    return { top: scrollY, active: this.active, selected: [...this.selected] };
  }

  /** Change the wished width of the cells; the photo on top stays on top. */
  resize(size) {
    this.size = size;
    this.#measure();
  }

  /** Bring a photo into view and, if told so, give it the focus. */
  show(index, { focus = false, block = "nearest" } = {}) {
    this.active = Math.max(0, Math.min(index, this.ids.length - 1));
    const top = Math.floor(this.active / this.columns) * this.rowHeight;
    const from = this.root.getBoundingClientRect().top + scrollY;
    const inset = this.#inset();
    const room = innerHeight - inset.top - inset.bottom;
    const above = from + top - inset.top;
    const below = above + this.rowHeight - room;
    if (top === 0) scrollTo(0, 0);
    else if (block === "start" || scrollY > above) scrollTo(0, above);
    else if (scrollY < below) scrollTo(0, below);
    this.#draw();
    if (focus) this.#cell(this.active)?.firstElementChild.focus({ preventScroll: true });
  }

  /** Select or unselect photos by index; the last of them starts the next range. */
  toggle(indexes, on) {
    for (const index of indexes) {
      const id = this.ids[index];
      if (on ?? !this.selected.has(id)) this.selected.add(id);
      else this.selected.delete(id);
      this.#anchor = index;
    }
    this.#marked();
  }

  /** Replace the selection. */
  select(ids) {
    this.selected = new Set(ids);
    this.#marked();
  }

  /** Show the facts of photos again after they changed. */
  refresh() {
    for (const row of this.#rows.values()) for (const cell of row.children) this.#describe(cell);
    this.#settled();
  }

  #measure() {
    const width = this.root.clientWidth;
    if (width === 0) return;
    const first = this.rowHeight ? this.#firstInView() : 0;
    const columns = Math.max(2, Math.floor((width + GAP) / (this.size + GAP)));
    const cell = (width - GAP * (columns - 1)) / columns;
    const isBare = cell < LEAST_WITH_CAPTION;
    const rowHeight = Math.round(isBare ? cell : (cell * 2) / 3 + CAPTION) + GAP;
    if (columns === this.columns && rowHeight === this.rowHeight) return;
    const moved = this.rowHeight !== undefined && first >= this.columns;
    Object.assign(this, { columns, rowHeight, thumb: thumbSize(cell) });
    const rows = Math.ceil(this.ids.length / columns);
    this.root.classList.toggle("bare", isBare);
    this.root.style.setProperty("--columns", columns);
    this.root.style.setProperty("--row", `${rowHeight - GAP}px`);
    this.root.style.height = `${rows * rowHeight}px`;
    this.root.setAttribute("aria-rowcount", rows);
    this.root.setAttribute("aria-colcount", columns);
    this.root.replaceChildren();
    this.#rows.clear();
    const active = this.active;
    if (moved) this.show(first, { block: "start" });
    this.active = active;
    this.#draw();
  }

  /** Space at the edges of the window that the header, the toolbar and the navigation cover. */
  #inset() {
    const bar = document.querySelector(".toolbar")?.getBoundingClientRect().bottom ?? 0;
    const nav = document.querySelector(".site-nav").getBoundingClientRect();
    return { top: Math.max(0, bar) + GAP, bottom: nav.top > innerHeight / 2 ? innerHeight - nav.top : 0 };
  }

  #firstInView() {
    const hidden = this.#inset().top - this.root.getBoundingClientRect().top;
    return Math.max(0, Math.round(hidden / this.rowHeight)) * this.columns;
  }

  #later() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      if (!this.signal.aborted) this.#draw();
    });
  }

  #draw() {
    if (!this.columns) return;
    const top = -this.root.getBoundingClientRect().top;
    const last = Math.ceil(this.ids.length / this.columns) - 1;
    const from = Math.max(0, Math.floor(top / this.rowHeight) - OVERSCAN);
    const to = Math.min(last, Math.ceil((top + innerHeight) / this.rowHeight) + OVERSCAN);
    const focused = this.root.contains(document.activeElement);
    if (!focused && (this.active < from * this.columns || this.active >= (to + 1) * this.columns)) {
      this.active = Math.min(this.#firstInView(), this.ids.length - 1);
    }
    const kept = Math.floor(this.active / this.columns);
    for (const [row, element] of this.#rows) {
      if ((row < from || row > to) && row !== kept) {
        for (const img of element.querySelectorAll("img")) giveUp(img);
        element.remove();
        this.#rows.delete(row);
      }
    }
    if (last >= 0 && (kept < from || kept > to)) this.#row(kept);
    for (let row = from; row <= to; row++) this.#row(row);
    for (const link of this.root.querySelectorAll("a[tabindex='0']")) link.tabIndex = -1;
    const stop = this.#cell(this.active);
    if (stop) stop.firstElementChild.tabIndex = 0;
    const isFast = Math.abs(top - this.#lastTop) > innerHeight / 2;
    this.#lastTop = top;
    if (!isFast) this.#load();
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => this.#settled(), SETTLED_MS);
  }

  #row(row) {
    if (this.#rows.has(row)) return;
    const element = h("div", { class: "grid-row", role: "row", "aria-rowindex": row + 1 });
    element.style.transform = `translateY(${row * this.rowHeight}px)`;
    const end = Math.min((row + 1) * this.columns, this.ids.length);
    for (let index = row * this.columns; index < end; index++) element.append(this.#make(index));
    const after = [...this.#rows.keys()].filter((one) => one > row);
    this.root.insertBefore(element, after.length ? this.#rows.get(Math.min(...after)) : null);
    this.#rows.set(row, element);
  }

  #make(index) {
    const id = this.ids[index];
    const link = h(
      "a",
      { href: href("photo", id), tabindex: "-1", draggable: "false" },
      h("span", { class: "well" }),
    );
    const cell = h(
      "div",
      { role: "gridcell", class: "cell", "aria-colindex": (index % this.columns) + 1, dataset: { index } },
      link,
      h("span", { class: "tick", "aria-hidden": "true" }, icon("check")),
    );
    cell.setAttribute("aria-selected", this.selected.has(id));
    link.append(h("span", { class: "caption" }));
    this.#describe(cell);
    return cell;
  }

  #describe(cell) {
    const index = Number(cell.dataset.index);
    const photo = this.facts.of(this.ids[index]);
    const where = `${number(index + 1)} of ${number(this.ids.length)}`;
    const [link] = cell.children;
    if (!photo) return link.setAttribute("aria-label", `Photo ${where}`);
    const verified = verifiedAs(photo);
    const name = nameOf(photo) ?? "No label";
    const state = verified ? "verified" : photo.label ? "not verified" : "";
    const taken = date(photo.captured_at) || "No date";
    // What is seen stands first and in one piece, so that who speaks to the page can say it.
    link.setAttribute("aria-label", [name, taken, state, where].filter(Boolean).join(", "));
    link.title = photo.path;
    cell.classList.toggle("verified", verified !== undefined);
    link
      .querySelector(".caption")
      .replaceChildren(
        h(
          "span",
          { class: "species clip" },
          name,
          verified && h("span", { class: "mark", "aria-hidden": "true" }, " ✓"),
        ),
        " ",
        h("span", { class: "soft clip" }, taken),
      );
  }

  #load() {
    for (const link of this.root.querySelectorAll("a")) {
      if (link.querySelector("img")) continue;
      const id = this.ids[Number(link.parentElement.dataset.index)];
      link.firstElementChild.replaceWith(picture(thumbUrl(id, this.thumb), "", { lazy: false }));
    }
  }

  async #settled() {
    if (this.signal.aborted) return;
    this.#load();
    this.onview?.(this.#firstInView());
    const shown = [...this.#rows.values()].flatMap((row) => [...row.children]);
    await this.facts.fetch(
      shown.map((cell) => this.ids[Number(cell.dataset.index)]),
      this.signal,
    );
    for (const cell of shown) this.#describe(cell);
    this.onview?.(this.#firstInView());
  }

  #cell(index) {
    return this.#rows.get(Math.floor(index / this.columns))?.children[index % this.columns] ?? null;
  }

  #marked() {
    for (const cell of this.root.querySelectorAll(".cell")) {
      cell.setAttribute("aria-selected", this.selected.has(this.ids[Number(cell.dataset.index)]));
    }
    this.root.classList.toggle("selecting", this.selected.size > 0 || this.selecting === true);
    this.onselect?.(this.selected);
  }

  #focused(event) {
    const cell = event.target.closest(".cell");
    if (cell) this.active = Number(cell.dataset.index);
  }

  #key(event) {
    const page = Math.max(1, Math.floor((innerHeight - this.#inset().top) / this.rowHeight)) * this.columns;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns };
    Object.assign(steps, { PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity });
    if (event.key in steps && !event.altKey) {
      const to = Math.max(0, Math.min(this.active + steps[event.key], this.ids.length - 1));
      if (event.shiftKey) this.#range(this.selected.size ? this.#anchor : this.active, to);
      this.show(to, { focus: true });
    } else if (event.key === " ") {
      if (event.shiftKey) this.#range(this.#anchor, this.active);
      else this.toggle([this.active]);
    } else if (event.key === "a" && (event.ctrlKey || event.metaKey)) this.select(this.ids);
    else if (event.key === "Escape" && this.selected.size) this.select([]);
    else return;
    event.preventDefault();
  }

  #range(from, to) {
    const [low, high] = from < to ? [from, to] : [to, from];
    this.toggle(
      Array.from({ length: high - low + 1 }, (_, step) => low + step),
      true,
    );
    this.#anchor = from;
  }

  #click(event) {
    const cell = event.target.closest(".cell");
    if (!cell || event.ctrlKey || event.metaKey) return;
    const index = Number(cell.dataset.index);
    const chosen = event.target.closest(".tick") || this.root.classList.contains("selecting");
    if (!chosen && !event.shiftKey && !this.#pressed) return;
    event.preventDefault();
    if (this.#pressed) this.#pressed = false;
    else if (event.shiftKey) this.#range(this.#anchor, index);
    else this.toggle([index]);
  }

  /** A long press with a finger starts a selection. */
  #press(event) {
    this.#pressed = false;
    const cell = event.target.closest(".cell");
    if (!cell || event.pointerType === "mouse") return;
    const done = new AbortController();
    const timer = setTimeout(() => {
      this.#pressed = true;
      this.toggle([Number(cell.dataset.index)]);
    }, LONG_PRESS_MS);
    const stop = () => (clearTimeout(timer), done.abort());
    const moved = (to) => Math.hypot(to.clientX - event.clientX, to.clientY - event.clientY) > 8 && stop();
    addEventListener("pointermove", moved, { signal: done.signal });
    for (const type of ["pointerup", "pointercancel"]) addEventListener(type, stop, { signal: done.signal });
  }
}
