/** The map of a clustering: photos that look alike lie near each other; some are looped and labelled or set apart. */

import { api, catalog, thumbSize, thumbUrl } from "./api.js";
import { clusterName, editor } from "./clusteredits.js";
import { announce, button, emptyState, h, icon, picture, toast } from "./dom.js";
import { number, plural } from "./format.js";
import { showJob } from "./jobs.js";
import { labelDialog } from "./label_dialog.js";
import { MapView } from "./mapview.js";
import { readPoints } from "./points.js";
import { go, href } from "./route.js";

const SHOWN = 60;
const KEYS = [
  ["+ −", "zoom"],
  ["arrows", "move"],
  ["0", "whole"],
  ["L", "lasso"],
  ["Enter", "select"],
  ["Shift", "add to the selection"],
];

/** Show the map of a run. */
export async function show(root, run, signal) {
  const page = h("div", { class: "page map-page" });
  root.append(page);
  const [data, { runs }, { features }] = await Promise.all([
    readRun(run, page, signal),
    api("/api/clusters", { signal }),
    catalog(),
  ]);
  if (data === null) {
    return page.replaceChildren(
      emptyState(
        "clusters",
        "There is no map yet",
        "Working it out was cancelled.",
        h("a", { class: "btn", href: href("clusters", String(run)) }, "Back to the clusters"),
      ),
    );
  }
  const fixed = features.read_only || !runs.find((one) => one.run === run)?.current;
  return new MapPage(run, data, fixed, signal).into(page);
}

/** The points and the clusters of a run; the map is worked out first if need be. */
async function readRun(run, place, signal) {
  const { clusters } = await api(`/api/clusters/${run}`, { signal });
  let answer = await api(`/api/clusters/${run}/map`, { signal });
  if (!(answer instanceof ArrayBuffer)) {
    if ((await showJob(place, "Working out the map", answer, signal)) === null) return null;
    answer = await api(`/api/clusters/${run}/map`, { signal });
  }
  return { clusters, points: readPoints(answer) };
}

class MapPage {
  #selection = [];
  #shown = SHOWN;

  constructor(run, data, fixed, signal) {
    Object.assign(this, { run, fixed, signal });
    this.take(data);
    this.edits = editor(run, signal, (next) => this.#edited(next));
    this.map = new MapView(
      {
        hover: (point, left, top) => this.#hover(point, left, top),
        select: (points, add) => this.#select(points, add),
        lasso: (on) => this.lassoButton.setAttribute("aria-pressed", String(on)),
      },
      signal,
    );
  }

  take({ clusters, points }) {
    this.points = points;
    this.clusters = new Map(
      [...clusters]
        .sort((one, other) => other.photos - one.photos || one.id - other.id)
        .map((one) => [one.id, one]),
    );
  }

  get #names() {
    return new Map(
      [...this.clusters.values()].map((one) => [one.id, one.name || one.label || clusterName(one)]),
    );
  }

  into(page) {
    const tool = (name, mark, does) => button("", { icon: mark, label: name, onclick: does });
    this.lassoButton = button("Lasso", {
      icon: "region",
      "aria-pressed": "false",
      onclick: () => this.map.setLasso(!this.map.lasso),
    });
    this.tip = h("div", { class: "map-tip", hidden: true });
    this.aside = h("section", { class: "map-selection stack", "aria-label": "Selected photos" });
    this.list = h("ul", { class: "map-clusters" });
    const find = h("input", {
      type: "search",
      id: "map-find",
      placeholder: "Name or label",
      "aria-label": "Find a cluster",
      oninput: () => this.#fillList(find.value.toLowerCase()),
    });
    const bar = h(
      "div",
      { class: "map-tools", role: "toolbar", "aria-label": "Map" },
      this.lassoButton,
      button("Select all in view", { onclick: () => this.#select(this.map.inView(), false) }),
      h(
        "span",
        { class: "spacer row" },
        tool("Zoom out", "minus", () => this.map.zoomBy(1 / 1.6)),
        tool("Zoom in", "plus", () => this.map.zoomBy(1.6)),
        button("Whole", { onclick: () => (this.#highlight(null), this.map.showAll()) }),
      ),
    );
    this.count = h("p", { class: "soft num" });
    page.replaceChildren(
      h(
        "div",
        { class: "page-head" },
        h("h1", {}, "Map"),
        this.count,
        h("a", { class: "btn spacer", href: href("clusters", String(this.run)) }, icon("photos"), "Sheets"),
      ),
      h(
        "div",
        { class: "map-split" },
        h(
          "div",
          { class: "map-frame" },
          bar,
          h("div", { class: "map-window" }, this.map.element, this.tip),
          h(
            "p",
            { class: "soft keys", id: "map-keys" },
            KEYS.map(([key, does]) => [h("kbd", {}, key), ` ${does} `]),
          ),
        ),
        h(
          "div",
          { class: "map-aside stack" },
          this.aside,
          h(
            "section",
            { class: "stack map-legend", "aria-label": "Clusters" },
            h("h2", {}, "Clusters"),
            find,
            this.list,
          ),
        ),
      ),
    );
    this.#refresh();
  }

  #refresh() {
    this.count.textContent = `${plural(this.points.count, "photo")} · ${plural(this.clusters.size, "cluster")} · near means alike`;
    this.map.show(this.points, this.#names);
    this.#fillList("");
    this.#select([], false);
  }

  #fillList(wanted) {
    const names = this.#names;
    const shown = [...this.clusters.values()].filter((one) =>
      `${clusterName(one)} ${one.label ?? ""}`.toLowerCase().includes(wanted),
    );
    this.list.replaceChildren(...shown.map((one) => this.#row(one, names.get(one.id))));
    if (shown.length === 0)
      this.list.append(h("li", { class: "soft" }, "No cluster has such a name or label."));
  }

  #row(one, name) {
    const { colour, mark } = this.map.look(one.id);
    const dot = h("span", {
      class: `dot mark-${mark}`,
      "aria-hidden": "true",
      style: { background: colour },
    });
    const chosen = this.map.highlight === one.id;
    const zoom = h(
      "button",
      {
        type: "button",
        class: "map-cluster",
        "aria-pressed": String(chosen),
        dataset: { id: one.id },
        title: `Zoom to ${name}`,
        onclick: () => this.#highlight(this.map.highlight === one.id ? null : one.id),
      },
      dot,
      h("span", { class: "clip" }, name),
      h(
        "span",
        { class: "soft num" },
        number(one.photos),
        h("span", { class: "visually-hidden" }, " photos"),
      ),
    );
    const all = button("", {
      icon: "plus",
      class: "small quiet",
      label: `Select all of ${name}`,
      onclick: () => this.#select(this.#of(one.id), false),
    });
    return h("li", {}, zoom, all);
  }

  #of(id) {
    const found = [];
    this.points.cluster.forEach((cluster, i) => cluster === id && found.push(i));
    return found;
  }

  #highlight(id) {
    this.map.setHighlight(id);
    if (id !== null) {
      this.map.zoomTo(id);
      announce(`Zoomed to ${this.#names.get(id)}`);
    }
    for (const one of this.list.querySelectorAll(".map-cluster"))
      one.setAttribute("aria-pressed", String(Number(one.dataset.id) === id));
  }

  #hover(point, left, top) {
    this.tip.hidden = point < 0;
    if (point < 0) return;
    const photo = this.points.photo[point];
    const cluster = this.clusters.get(this.points.cluster[point]);
    const name = cluster ? this.#names.get(cluster.id) : "in no cluster";
    if (this.tip.dataset.photo !== String(photo)) {
      this.tip.dataset.photo = photo;
      this.tip.replaceChildren(
        picture(thumbUrl(photo, thumbSize(180)), "", { lazy: false }),
        h("span", { class: "caption" }, `Photo ${photo}`, h("span", { class: "soft" }, ` ${name}`)),
      );
      if (this.map.element.matches(":focus-visible")) announce(`Photo ${photo}, ${name}`);
    }
    const { clientWidth, clientHeight } = this.map.element;
    const { offsetWidth, offsetHeight } = this.tip;
    const x = left + 16 + offsetWidth > clientWidth ? left - 16 - offsetWidth : left + 16;
    this.tip.style.left = `${Math.max(4, x)}px`;
    this.tip.style.top = `${Math.max(4, Math.min(clientHeight - offsetHeight - 4, top - offsetHeight / 2))}px`;
  }

  #select(points, add) {
    const before = new Set(add ? this.#selection : []);
    // A photo that is tapped again is taken off.
    if (add && points.length === 1 && before.has(points[0])) before.delete(points[0]);
    else for (const point of points) before.add(point);
    this.#selection = [...before];
    this.#shown = SHOWN;
    this.map.setSelected(this.#selection);
    this.#fillSelection();
    if (this.#selection.length > 0) announce(`${plural(this.#selection.length, "photo")} selected`);
  }

  #fillSelection() {
    const some = this.#selection;
    if (some.length === 0) {
      return this.aside.replaceChildren(
        h("h2", {}, "Selection"),
        h(
          "p",
          { class: "soft" },
          "Nothing yet. Take the lasso and draw round some photos, point at one, or choose a cluster below.",
        ),
      );
    }
    const photos = some.map((i) => this.points.photo[i]);
    const parts = this.#parts();
    const size = thumbSize(90);
    const tiles = photos
      .slice(0, this.#shown)
      .map((id) =>
        h(
          "li",
          {},
          h(
            "a",
            { class: "tile", href: href("photo", String(id)), "aria-label": `Photo ${id}` },
            picture(thumbUrl(id, size)),
          ),
        ),
      );
    this.aside.replaceChildren(
      h(
        "div",
        { class: "row" },
        h("h2", { class: "num" }, `${plural(some.length, "photo")} selected`),
        button("Clear", { class: "small quiet spacer", onclick: () => this.#select([], false) }),
      ),
      ...(this.fixed ? [] : [this.#actions(photos, parts)]),
      h("ul", { class: "map-thumbs" }, tiles),
      ...(photos.length > this.#shown
        ? [
            button(`Show more of ${number(photos.length)}`, {
              class: "small",
              onclick: () => ((this.#shown += 4 * SHOWN), this.#fillSelection()),
            }),
          ]
        : []),
    );
    return undefined;
  }

  /** Selected photos by cluster, the largest part first. */
  #parts() {
    const parts = new Map();
    for (const i of this.#selection) {
      const id = this.points.cluster[i];
      if (!parts.has(id)) parts.set(id, []);
      parts.get(id).push(this.points.photo[i]);
    }
    return [...parts].sort(([, one], [, other]) => other.length - one.length);
  }

  #actions(photos, parts) {
    const out = parts
      .filter(([id, some]) => this.clusters.has(id) && some.length < this.clusters.get(id).photos)
      .slice(0, 3)
      .map(([id, some]) =>
        button(
          parts.length === 1
            ? "Make it a cluster"
            : `Make the ${number(some.length)} of ${this.#names.get(id)} a cluster`,
          { class: "small", onclick: () => this.edits.takeOut(this.clusters.get(id), some) },
        ),
      );
    const label = button("Label…", {
      class: "small primary",
      icon: "label",
      onclick: () => this.#label(photos),
    });
    return h(
      "div",
      { class: "row" },
      label,
      out,
      parts.length > 1 &&
        h(
          "p",
          { class: "soft num" },
          `From ${plural(parts.length, "cluster")}; photos leave one cluster at a time.`,
        ),
    );
  }

  #label(photos) {
    if (photos.length > 5000)
      return toast("At most 5,000 photos are labelled at once. Select fewer.", { bad: true });
    return labelDialog(photos, this.signal);
  }

  /** After an edit the new run takes the old one's place; the view stays. */
  async #edited(next) {
    if (this.signal.aborted) return go(href("clusters", String(next), "map"));
    const holder = h("div", {});
    this.aside.replaceChildren(holder);
    try {
      const data = await readRun(next, holder, this.signal);
      if (data === null) return go(href("clusters", String(next)));
      history.replaceState(history.state, "", href("clusters", String(next), "map"));
      this.run = next;
      this.take(data);
      this.#refresh();
    } catch (error) {
      if (!this.signal.aborted) toast(error.message, { bad: true });
    }
    return undefined;
  }
}
