/** Clusters: what was found, as contact sheets; `#/clusters/RUN/ID` is one of them, `#/clusters/RUN/map` the map. */

import { api, catalog, thumbSize, thumbUrl } from "./api.js";
import { clusterName, editor } from "./clusteredits.js";
import { button, emptyState, h, icon, picture, toast } from "./dom.js";
import { date, moment, number, percent, plural } from "./format.js";
import { showJob } from "./jobs.js";
import { go, href } from "./route.js";

const SHEET = 8;
/** Stands for the photos in no cluster. */
const NONE = -1;
const ORDERS = {
  size: ["Largest first", (one, other) => other.photos - one.photos],
  name: [
    "By name",
    (one, other) => clusterName(one).localeCompare(clusterName(other), "en", { numeric: true }),
  ],
  loose: ["Loosest first", (one, other) => one.tightness - other.tightness],
  mixed: ["Most mixed first", (one, other) => (one.label_share ?? 0) - (other.label_share ?? 0)],
};

/** What made a run, where it is not a clustering. */
const EDITS = { name: "named", merge: "merged", split: "split", undo: "undone" };

/** Show the page; see app.js. */
export async function show(root, { path: [run, part], query }, signal) {
  if (part === "map") return (await import("./map.js")).show(root, Number(run), signal);
  if (part) return (await import("./cluster.js")).show(root, Number(run), Number(part), signal);
  const [{ runs }, { features }] = await Promise.all([api("/api/clusters", { signal }), catalog()]);
  const page = h("div", { class: "page" });
  root.append(page);
  const start = async () => {
    try {
      const done = await showJob(
        page,
        "Clustering the photos",
        await api("/api/clusters", { json: {}, signal }),
        signal,
      );
      if (done === null) toast("Clustering was cancelled.");
    } catch (error) {
      if (signal.aborted) return;
      toast(error.message, { bad: true });
    }
    root.replaceChildren();
    await show(root, { path: [], query }, signal);
  };
  if (runs.length === 0)
    return page.append(
      h("div", { class: "page-head" }, h("h1", {}, "Clusters")),
      neverClustered(features, start),
    );
  const current = runs.find((one) => one.current) ?? runs[0];
  const shown = runs.find((one) => String(one.run) === run) ?? current;
  const { clusters, warnings } = await api(`/api/clusters/${shown.run}`, { signal });
  const fixed = features.read_only || shown.run !== current.run;
  new Sheets({ shown, current, runs, clusters, warnings, features, fixed, start, signal }).into(page);
}

function neverClustered(features, start) {
  const words =
    "Clustering puts photos that look alike together, without knowing any names, so that many can be labelled at once. It changes no photo and no label.";
  const act = features.read_only
    ? h("p", {}, "This gallery is read only. Cluster with “birdsearch cluster”.")
    : button("Find clusters", { class: "primary", icon: "clusters", onclick: start });
  return emptyState("clusters", "The photos are not clustered yet", words, act);
}

/** All clusters of a run, some of them selected. */
class Sheets {
  #order = "size";
  #filter = "";

  constructor(options) {
    Object.assign(this, options);
    this.selected = new Set();
    this.edits = editor(this.shown.run, this.signal, (next) =>
      next === this.shown.run ? dispatchEvent(new Event("hashchange")) : go(href("clusters", String(next))),
    );
  }

  into(page) {
    const { shown, current, fixed } = this;
    this.list = h("ul", { class: "sheets" });
    this.bar = h("div", {
      class: "selection-bar",
      role: "toolbar",
      "aria-label": "Selected clusters",
      hidden: true,
    });
    const facts = `${plural(shown.clusters, "cluster")} · ${plural(shown.photos, "photo")} · ${number(shown.unclustered)} in none`;
    const older =
      shown.run !== current.run &&
      h(
        "p",
        { class: "notice" },
        "These are older clusters; they can be looked at, but not edited. ",
        h("a", { href: href("clusters") }, "Show the current ones"),
      );
    const head = h(
      "div",
      { class: "page-head" },
      h("h1", {}, "Clusters"),
      h("p", { class: "soft num" }, facts),
      h(
        "div",
        { class: "row spacer" },
        !fixed &&
          button("Undo the last edit", { class: "quiet", icon: "undo", onclick: () => this.edits.undo() }),
        !this.features.read_only && button("Cluster again", { class: "quiet", onclick: this.start }),
        h("a", { class: "btn", href: href("clusters", String(shown.run), "map") }, icon("clusters"), "Map"),
      ),
    );
    const warned =
      this.warnings.length > 0 &&
      h(
        "div",
        { class: "notice warn" },
        this.warnings.map((text) => h("p", {}, `${text[0].toUpperCase()}${text.slice(1)}.`)),
      );
    page.replaceChildren(...[head, older, warned, this.#controls(), this.list, this.bar].filter(Boolean));
    this.#fill();
  }

  #controls() {
    const filter = h("input", {
      type: "search",
      id: "cluster-filter",
      placeholder: "Name or label",
      oninput: () => ((this.#filter = filter.value.toLowerCase()), this.#fill()),
    });
    const order = h(
      "select",
      { id: "cluster-order", onchange: () => ((this.#order = order.value), this.#fill()) },
      Object.entries(ORDERS).map(([key, [text]]) => h("option", { value: key }, text)),
    );
    const run = h(
      "select",
      { id: "cluster-run", onchange: () => go(href("clusters", run.value)) },
      this.runs.map((one) =>
        h(
          "option",
          { value: one.run, selected: one.run === this.shown.run },
          `${moment(one.at)} · ${EDITS[one.method] ?? one.method}${one.current ? " (current)" : ""}`,
        ),
      ),
    );
    const field = (label, control) =>
      h("div", { class: "row control" }, h("label", { for: control.id, class: "soft" }, label), control);
    return h(
      "div",
      { class: "row sheets-controls" },
      field("Find", filter),
      field("Order", order),
      this.runs.length > 1 && field("Made", run),
    );
  }

  #fill() {
    const wanted = (one) => `${clusterName(one)} ${one.label ?? ""}`.toLowerCase().includes(this.#filter);
    const shown = this.clusters
      .filter(wanted)
      .sort((one, other) => ORDERS[this.#order][1](one, other) || one.id - other.id);
    this.list.replaceChildren(...shown.map((one) => this.#sheet(one)));
    if (this.shown.unclustered > 0 && !this.#filter) this.list.append(this.#loose());
    if (shown.length === 0)
      this.list.append(h("li", { class: "soft" }, "No cluster has such a name or label."));
  }

  #sheet(one) {
    const name = clusterName(one);
    const address = href("clusters", String(this.shown.run), String(one.id));
    const tick = h("input", {
      type: "checkbox",
      checked: this.selected.has(one.id),
      "aria-label": `Select ${name}`,
      onchange: () => this.#select(one.id, tick.checked),
    });
    const size = thumbSize(130);
    return h(
      "li",
      { class: "card sheet" },
      h(
        "div",
        { class: "row sheet-head" },
        !this.fixed && tick,
        h("h2", {}, h("a", { href: address }, name)),
        one.label &&
          h(
            "span",
            { class: "soft" },
            h("span", { class: "species" }, one.label),
            ` ${percent(one.label_share)}`,
          ),
        h("span", { class: "spacer soft num" }, plural(one.photos, "photo")),
      ),
      h(
        "a",
        { href: address, class: "sheet-photos", tabindex: "-1", "aria-hidden": "true" },
        one.thumbs.slice(0, SHEET).map((id) => picture(thumbUrl(id, size))),
      ),
      h("p", { class: "soft num" }, sheetFacts(one)),
    );
  }

  #loose() {
    const link = h("a", { href: href("clusters", String(this.shown.run), String(NONE)) }, "In no cluster");
    const head = h(
      "div",
      { class: "row sheet-head" },
      h("h2", {}, link),
      h("span", { class: "spacer soft num" }, plural(this.shown.unclustered, "photo")),
    );
    return h(
      "li",
      { class: "card sheet" },
      head,
      h("p", { class: "soft" }, "Unlike enough others to be put with them."),
    );
  }

  #select(id, on) {
    if (on) this.selected.add(id);
    else this.selected.delete(id);
    const chosen = this.clusters.filter((one) => this.selected.has(one.id));
    this.bar.hidden = chosen.length === 0;
    if (chosen.length === 0) return;
    const [first] = chosen;
    this.bar.replaceChildren(
      h(
        "strong",
        { class: "num" },
        `${plural(chosen.length, "cluster")}, ${plural(
          chosen.reduce((sum, one) => sum + one.photos, 0),
          "photo",
        )}`,
      ),
      ...(chosen.length > 1
        ? [button("Merge", { class: "primary", onclick: () => this.edits.merge(chosen) })]
        : [
            button("Name", { icon: "pen", onclick: () => this.edits.name(first) }),
            button("Split", { onclick: () => this.edits.split(first) }),
            h(
              "a",
              { class: "btn", href: href("clusters", String(this.shown.run), String(first.id)) },
              icon("label"),
              "Label",
            ),
          ]),
      button("", {
        class: "quiet",
        icon: "close",
        label: "Select none",
        onclick: () => (this.selected.clear(), this.#fill(), this.#select(-1, false)),
      }),
    );
  }
}

/** What is known of a cluster, in a line. */
export function sheetFacts(one) {
  const [from, to] = [date(one.first), date(one.last)];
  const tight =
    one.tightness === null || one.tightness === undefined
      ? ""
      : one.tightness >= 0.7
        ? "tight"
        : one.tightness >= 0.5
          ? "fairly tight"
          : "loose";
  return [
    plural(one.events, "event"),
    one.sites ? plural(one.sites, "site") : "",
    from && (from === to ? from : `${from} – ${to}`),
    tight,
  ]
    .filter(Boolean)
    .join(" · ");
}
