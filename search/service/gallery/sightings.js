/** Sightings: when, where and what, each a way into the other two. */

import { api, catalog } from "./api.js";
import { button, emptyState, h, toast } from "./dom.js";
import { number, plural } from "./format.js";
import { showJob } from "./jobs.js";
import { PlaceMap } from "./placemap.js";
import { keepState } from "./route.js";
import { SightingList } from "./sightinglist.js";
import { taxonField } from "./taxa.js";
import { Timeline } from "./timeline.js";

const PAGE = 500;
const MOST = 20_000;
const FILTERS = ["taxon", "since", "until"];

/** Show the page; see app.js. */
export async function show(root, { query }, signal) {
  const { features } = await catalog();
  const page = h("div", { class: "page sightings-page" });
  root.append(page);
  const filters = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]));
  await new SightingsPage(page, features, filters, signal).load();
}

class SightingsPage {
  #all = [];
  #period = null;
  #area = null;
  #chosen = null;

  constructor(page, features, filters, signal) {
    Object.assign(this, { page, features, filters, signal });
  }

  async load() {
    await this.#fetch();
    if (this.total === 0 && !this.#filtered)
      return this.page.replaceChildren(
        h("div", { class: "page-head" }, h("h1", {}, "Sightings")),
        this.#none(),
      );
    this.#build();
    return this.#fill();
  }

  get #filtered() {
    return FILTERS.some((name) => this.filters[name]);
  }

  async #fetch() {
    const sightings = [];
    let answer = { next: null };
    do {
      answer = await api("/api/sightings", {
        query: { ...this.filters, limit: PAGE, cursor: answer.next },
        signal: this.signal,
      });
      sightings.push(...answer.sightings);
    } while (answer.next !== null && sightings.length < MOST);
    this.#all = sightings;
    this.total = answer.total;
    this.#period = this.#area = this.#chosen = null;
  }

  #none() {
    const words =
      "A sighting is what was seen of one kind of bird at one place in one go, however many photos were taken of it. Finding them changes no photo.";
    const act = this.features.read_only
      ? h("p", {}, "This gallery is read only. Find sightings with “birdsearch sightings”.")
      : button("Find sightings", { class: "primary", icon: "sightings", onclick: () => this.#find() });
    return emptyState("sightings", "No sightings yet", words, act);
  }

  async #find() {
    try {
      const done = await showJob(
        this.page,
        "Finding sightings",
        await api("/api/sightings", { method: "POST", signal: this.signal }),
        this.signal,
      );
      if (done === null) toast("Finding sightings was cancelled.");
    } catch (error) {
      if (this.signal.aborted) return;
      toast(error.message, { bad: true });
    }
    await this.load();
  }

  #build() {
    this.timeline = new Timeline((period) => this.#set({ period }));
    this.places = new PlaceMap((area) => this.#set({ area }), this.signal);
    this.list = new SightingList((id) => this.#choose(id));
    this.count = h("p", { class: "soft num" });
    this.brush = h("p", { class: "row brush", role: "status" });
    this.note = h("p", { class: "notice" });
    this.split = h(
      "div",
      { class: "sightings-split" },
      h("div", { class: "stack" }, this.timeline.element, this.places.element),
      h(
        "section",
        { class: "sightings-side", "aria-label": "List of sightings" },
        this.brush,
        this.list.element,
      ),
    );
    const again = button("Find again", {
      class: "quiet spacer",
      hidden: this.features.read_only,
      onclick: () => this.#find(),
    });
    this.page.replaceChildren(
      h("div", { class: "page-head" }, h("h1", {}, "Sightings"), this.count, again),
      this.#filterForm(),
      this.note,
      this.split,
    );
  }

  #fill() {
    this.count.textContent = plural(this.total, "sighting");
    this.note.textContent =
      this.total === 0
        ? "No sighting is like that. Choose another bird, or more time."
        : `The first ${number(this.#all.length)} of ${number(this.total)} are shown. Choose a time to see others.`;
    this.note.hidden = this.total > 0 && this.total === this.#all.length;
    this.split.hidden = this.total === 0;
    this.clear.hidden = !this.#filtered;
    this.timeline.show(this.#all);
    this.places.show(this.#all);
    this.#set({});
  }

  async #filter(change) {
    this.filters = { ...this.filters, ...change };
    keepState(this.filters);
    try {
      await this.#fetch();
      this.#fill();
    } catch (error) {
      if (!this.signal.aborted) toast(error.message, { bad: true });
    }
  }

  #filterForm() {
    const species = taxonField({
      label: "Bird",
      signal: this.signal,
      value: this.filters.taxon,
      onpick: (taxon) => this.#filter({ taxon: taxon.name }),
    });
    species.input.addEventListener(
      "change",
      () => species.input.value.trim() === "" && this.#filter({ taxon: "" }),
    );
    const day = (name) =>
      h("input", {
        type: "date",
        id: `sightings-${name}`,
        value: this.filters[name],
        onchange: (event) => this.#filter({ [name]: event.target.value }),
      });
    const inputs = [species.input, day("since"), day("until")];
    const field = (input, label) => h("div", { class: "field" }, h("label", { for: input.id }, label), input);
    const empty = () => {
      for (const input of inputs) input.value = "";
      this.#filter({ taxon: "", since: "", until: "" });
    };
    this.clear = button("Clear", { class: "quiet", icon: "close", onclick: empty });
    return h(
      "div",
      { class: "row sightings-filters" },
      species,
      field(inputs[1], "From"),
      field(inputs[2], "To"),
      this.clear,
    );
  }

  /** A period or an area was chosen, or given up with null; all three parts show what is left. */
  #set(change) {
    if ("period" in change) this.#period = change.period;
    if ("area" in change) this.#area = change.area;
    const shown = this.#all.filter(
      (one) => (!this.#period || this.#period.has(one)) && (!this.#area || this.#area.has(one.id)),
    );
    if (this.#chosen !== null && !shown.some((one) => one.id === this.#chosen)) this.#chosen = null;
    const ids = new Set(shown.map((one) => one.id));
    this.timeline.mark(ids, this.#period, this.#byId(this.#chosen));
    this.places.mark(ids, this.#area, this.#chosen);
    this.list.show(shown, this.#chosen);
    const narrowed = [this.#period?.name, this.#area && "this place"].filter(Boolean).join(", ");
    const whole =
      narrowed &&
      button("Show all", {
        class: "small quiet",
        icon: "close",
        onclick: () => this.#set({ period: null, area: null }),
      });
    this.brush.replaceChildren(
      ...[h("strong", { class: "num" }, plural(shown.length, "sighting")), narrowed, whole].filter(Boolean),
    );
  }

  #byId(id) {
    return this.#all.find((one) => one.id === id) ?? null;
  }

  /** One sighting was chosen in the list: its day and its place are marked and brought into view. */
  #choose(id) {
    this.#chosen = this.#chosen === id ? null : id;
    this.#set({});
    if (this.#chosen !== null) {
      this.timeline.reveal(this.#byId(this.#chosen));
      this.places.reveal(this.#chosen);
    }
  }
}
