/** The list of sightings; the chosen one shows its photos. */

import { thumbSize, thumbUrl } from "./api.js";
import { button, h, picture } from "./dom.js";
import { date, moment, number, percent, place, plural } from "./format.js";
import { href } from "./route.js";

const PAGE = 60;

/** The list; `onchoose` is told the id of a sighting that was clicked. */
export class SightingList {
  #rows = [];
  #most = PAGE;
  #chosen = null;

  constructor(onchoose) {
    this.onchoose = onchoose;
    this.rows = h("ol", { class: "sightings-list" });
    this.more = button("Show more", {
      class: "small",
      onclick: () => ((this.#most += 4 * PAGE), this.#draw()),
    });
    this.element = h("div", { class: "stack" }, this.rows, this.more);
  }

  /** Show these sightings, one of them chosen or none. */
  show(sightings, chosen) {
    if (sightings.length !== this.#rows.length || sightings.some((one, at) => one !== this.#rows[at]))
      this.#most = PAGE;
    this.#rows = sightings;
    this.#chosen = chosen;
    const at = sightings.findIndex((one) => one.id === chosen);
    if (at >= this.#most) this.#most = at + PAGE;
    const focused = this.rows.contains(document.activeElement) && document.activeElement.dataset.id;
    this.#draw();
    if (focused) this.rows.querySelector(`[data-id="${focused}"]`)?.focus({ preventScroll: true });
  }

  #draw() {
    this.rows.replaceChildren(...this.#rows.slice(0, this.#most).map((one) => this.#row(one)));
    this.more.hidden = this.#rows.length <= this.#most;
    this.more.textContent = `Show more of ${number(this.#rows.length)}`;
  }

  #row(one) {
    const chosen = one.id === this.#chosen;
    const name = one.taxon ?? "Not named";
    const sure = one.probability === null || one.probability === undefined ? "" : percent(one.probability);
    const where = one.site ?? place(one.lat, one.lon, one.coarse);
    const span =
      one.first && one.last && one.last !== one.first
        ? ` – ${one.last.slice(0, 10) === one.first.slice(0, 10) ? one.last.slice(11, 16) : date(one.last)}`
        : "";
    const head = h(
      "button",
      {
        type: "button",
        class: "sighting",
        "aria-expanded": String(chosen),
        dataset: { id: one.id },
        onclick: () => this.onchoose(one.id),
      },
      picture(thumbUrl(one.photo_ids[0], thumbSize(110))),
      h(
        "span",
        { class: "sighting-words" },
        h(
          "span",
          {},
          h("span", { class: "species" }, name),
          sure && h("span", { class: "soft num" }, ` ${sure}`),
          one.verified && h("span", { class: "tag good" }, "verified"),
        ),
        h("span", { class: "soft num" }, one.first ? `${moment(one.first)}${span}` : "no time"),
        h("span", { class: "soft num" }, [where || "no place", plural(one.photos, "photo")].join(" · ")),
      ),
    );
    return h("li", { class: chosen ? "on" : "" }, head, chosen && this.#photos(one));
  }

  #photos(one) {
    const links = one.photo_ids.map((id) =>
      h(
        "a",
        { class: "tile", href: href("photo", String(id)), "aria-label": `Photo ${id}` },
        picture(thumbUrl(id, thumbSize(130))),
      ),
    );
    const rest = one.photos - one.photo_ids.length;
    return h(
      "div",
      { class: "sighting-photos" },
      one.scientific_name && h("p", { class: "sci" }, one.scientific_name),
      h("div", { class: "strip" }, links),
      rest > 0 && h("p", { class: "soft num" }, `and ${plural(rest, "more photo")}`),
    );
  }
}
