/** One cluster: all its photos, the odd ones marked and unticked; the ticked ones are labelled at once. */

import { api, catalog, thumbSize, thumbUrl } from "./api.js";
import { clusterName, editor } from "./clusteredits.js";
import { sheetFacts } from "./clusters.js";
import { announce, button, h, icon, picture } from "./dom.js";
import { number, percent, plural } from "./format.js";
import { go, href } from "./route.js";
import { taxonField } from "./taxa.js";

const PAGE = 200;
/** Stands for the photos in no cluster; there is nothing to edit about them. */
const NONE = -1;

/** Show the page; see app.js. */
export async function show(root, run, id, signal) {
  const [{ clusters }, { runs }, { features }] = await Promise.all([
    api(`/api/clusters/${run}`, { signal }),
    api("/api/clusters", { signal }),
    catalog(),
  ]);
  const cluster = id === NONE ? { id, name: "In no cluster" } : clusters.find((one) => one.id === id);
  if (cluster === undefined)
    throw new Error(`There is no cluster ${id} in these clusters; an edit may have merged it into another.`);
  const fixed = id === NONE || features.read_only || !runs.find((one) => one.run === run)?.current;
  const order = [...clusters].sort((one, other) => other.photos - one.photos || one.id - other.id);
  await new ClusterPage({ run, cluster, order, fixed, signal }).into(root);
}

class ClusterPage {
  #photos = [];
  #off = new Set();
  #next = null;
  #last = -1;
  #only = "all";

  constructor(options) {
    Object.assign(this, options);
    this.edits = editor(this.run, this.signal, (next, { op }) => this.#edited(next, op));
  }

  async into(root) {
    const { cluster, run } = this;
    const at = this.order.indexOf(cluster);
    const beside = (step, name, mark) => {
      const other = this.order[at + step];
      return (
        other &&
        h(
          "a",
          {
            class: "btn icon",
            href: href("clusters", String(run), String(other.id)),
            "aria-label": `${name}: ${clusterName(other)}`,
            title: name,
          },
          icon(mark),
        )
      );
    };
    this.tiles = h("ul", { class: "tiles small members", "aria-label": `Photos of ${clusterName(cluster)}` });
    this.more = h("p", { class: "soft", role: "status" });
    this.actions = h("div", { class: "members-bar" });
    root.append(
      h(
        "div",
        { class: "page" },
        h("p", {}, h("a", { href: href("clusters", String(run)) }, "All clusters")),
        h(
          "div",
          { class: "page-head" },
          h("h1", {}, clusterName(cluster)),
          cluster.label &&
            h(
              "span",
              {},
              h("span", { class: "species" }, cluster.label),
              h("span", { class: "soft num" }, ` on ${percent(cluster.label_share)}`),
            ),
          cluster.id !== NONE && h("span", { class: "soft num" }, sheetFacts(cluster)),
          h(
            "div",
            { class: "row spacer" },
            !this.fixed && [
              button("Name", { icon: "pen", onclick: () => this.edits.name(cluster) }),
              button("Split", { onclick: () => this.edits.split(cluster) }),
              button("Undo the last edit", {
                class: "quiet",
                icon: "undo",
                onclick: () => this.edits.undo(),
              }),
            ],
            beside(-1, "Previous cluster", "back"),
            beside(1, "Next cluster", "next"),
          ),
        ),
        this.fixed &&
          cluster.id !== NONE &&
          h(
            "p",
            { class: "notice" },
            "These clusters are older, or this gallery is read only: they can be looked at, but not edited.",
          ),
        this.#toolbar(),
        this.tiles,
        this.more,
      ),
    );
    await this.#loadPage();
    const end = new IntersectionObserver(
      (seen) => seen.some((one) => one.isIntersecting) && this.#loadPage(),
      { rootMargin: "1200px" },
    );
    end.observe(this.more);
    this.signal.addEventListener("abort", () => end.disconnect());
  }

  #toolbar() {
    const { signal } = this;
    this.view = h(
      "div",
      { class: "segment", role: "group", "aria-label": "Which photos" },
      [
        ["all", "All"],
        ["odd", "Odd ones"],
        ["off", "Unticked"],
      ].map(([key, text]) =>
        button(text, {
          class: "small",
          "aria-pressed": String(key === "all"),
          dataset: { key },
          onclick: () => this.#show(key),
        }),
      ),
    );
    if (this.fixed) return h("div", { class: "row members-top" }, this.view);
    this.field = taxonField({
      label: "What the ticked ones show",
      signal,
      value: this.cluster.label ?? "",
      onpick: () => this.labelButton.focus(),
    });
    this.labelButton = button("Label", { class: "primary", icon: "label", onclick: () => this.#label() });
    this.outButton = button("Take the unticked out", { onclick: () => this.#takeOut() });
    const ticks = h(
      "span",
      { class: "row" },
      button("Tick all", { class: "small quiet", onclick: () => this.#tickAll(() => true) }),
      button("Untick odd", { class: "small quiet", onclick: () => this.#tickAll((photo) => !photo.odd) }),
      button("Tick none", { class: "small quiet", onclick: () => this.#tickAll(() => false) }),
    );
    return h(
      "div",
      { class: "members-top stack" },
      h("div", { class: "row members-label" }, this.field, this.labelButton, this.outButton),
      h("div", { class: "row" }, this.view, ticks),
    );
  }

  async #loadPage() {
    if (this.loading || (this.#next === null && this.#photos.length > 0)) return;
    this.loading = true;
    this.more.textContent = "Loading more photos.";
    try {
      const query = { limit: PAGE, cursor: this.#next };
      const page = await api(`/api/clusters/${this.run}/${this.cluster.id}`, { query, signal: this.signal });
      Object.assign(this, { total: page.total });
      this.#next = page.next;
      const from = this.#photos.length;
      this.#photos.push(...page.photos);
      for (const photo of page.photos) if (photo.odd) this.#off.add(photo.photo_id);
      this.tiles.append(...page.photos.map((photo, at) => this.#tile(photo, from + at)));
      this.more.textContent = "";
    } catch (error) {
      if (!this.signal.aborted)
        this.more.replaceChildren(
          `${error.message} `,
          button("Try again", { class: "small", onclick: () => this.#loadPage() }),
        );
    } finally {
      this.loading = false;
    }
    this.#count();
  }

  /** All of them, so that nothing is labelled that might be odd but was not looked at by the server's measure. */
  async #loadAll() {
    while (this.#next !== null && !this.signal.aborted) {
      const before = this.#photos.length;
      await this.#loadPage();
      if (this.#photos.length === before && !this.loading) return false;
      if (this.loading) await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return true;
  }

  #tile(photo, index) {
    const id = photo.photo_id;
    const name = `Photo ${id}${photo.label ? `, ${photo.label}` : ""}${photo.odd ? ", odd" : ""}`;
    const tick =
      !this.fixed &&
      h("input", {
        type: "checkbox",
        class: "member-tick",
        checked: !this.#off.has(id),
        "aria-label": name,
        onclick: (event) => this.#tick(index, tick.checked, event.shiftKey),
      });
    const strange = photo.label && this.cluster.label && photo.label !== this.cluster.label;
    const item = h(
      "li",
      { class: `tile member${photo.odd ? " odd" : ""}` },
      tick,
      h(
        "a",
        { href: href("photo", String(id)), "aria-label": name },
        picture(thumbUrl(id, thumbSize(150))),
        photo.odd &&
          h("span", { class: "badge warn", title: "It fits the others less than nearly all do" }, "odd"),
        h("span", { class: `caption clip${strange ? "" : " soft"}` }, photo.label ?? "no label"),
      ),
    );
    return Object.assign(item, { photo });
  }

  #tick(index, on, range) {
    const [from, to] =
      range && this.#last >= 0 ? [Math.min(this.#last, index), Math.max(this.#last, index)] : [index, index];
    for (const item of [...this.tiles.children].slice(from, to + 1)) if (!item.hidden) this.#set(item, on);
    this.#last = index;
    this.#count();
  }

  #set(item, on) {
    if (on) this.#off.delete(item.photo.photo_id);
    else this.#off.add(item.photo.photo_id);
    item.querySelector(".member-tick").checked = on;
  }

  async #tickAll(wanted) {
    if (!(await this.#loadAll())) return;
    for (const item of this.tiles.children) this.#set(item, wanted(item.photo));
    this.#show(this.#only);
  }

  async #show(key) {
    this.#only = key;
    for (const one of this.view.children) one.setAttribute("aria-pressed", String(one.dataset.key === key));
    if (key !== "all") await this.#loadAll();
    for (const item of this.tiles.children)
      item.hidden = key !== "all" && !(key === "odd" ? item.photo.odd : this.#off.has(item.photo.photo_id));
    const shown = [...this.tiles.children].filter((item) => !item.hidden).length;
    announce(`${plural(shown, "photo")} shown`);
    this.#count();
  }

  #count() {
    if (this.fixed) return;
    const on = this.total - this.#off.size;
    this.labelButton.lastChild.textContent = `Label ${number(on)} ticked`;
    this.labelButton.disabled = on === 0;
    this.outButton.textContent = `Take ${number(this.#off.size)} unticked out`;
    this.outButton.disabled = this.#off.size === 0 || on === 0;
  }

  async #label() {
    const taxon = this.field.input.value.trim();
    if (!taxon) return this.field.input.focus();
    if (!(await this.#loadAll())) return;
    await this.edits.label(this.cluster, taxon, [...this.#off], this.total - this.#off.size);
  }

  async #takeOut() {
    if (!(await this.#loadAll())) return;
    await this.edits.takeOut(this.cluster, [...this.#off]);
  }

  /** After an edit the same cluster of the new run is shown; a label makes no new run. */
  #edited(next, op) {
    if (op === "label") return dispatchEvent(new Event("hashchange"));
    if (this.signal.aborted) return go(href("clusters", String(next)));
    if (next === this.run) dispatchEvent(new Event("hashchange"));
    else go(href("clusters", String(next), String(this.cluster.id)));
    return undefined;
  }
}
