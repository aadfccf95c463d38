/** Conditions on photos (WHERE of the API) as chips that can be taken away, and a form that adds them. */

import { catalog } from "./api.js";
import { button, h, icon, openDialog } from "./dom.js";
import { taxonField } from "./taxa.js";

/** Names of the conditions in an address and in a request. */
export const CONDITIONS = ["since", "until", "near", "bbox", "camera", "under", "taxon", "verified"];

const MOMENT = "\\d{4}(-\\d\\d(-\\d\\d)?)?";

/** The conditions of an address as an object: `under` is a list, `verified` a boolean, the others text. */
export function conditions(query) {
  const where = {};
  for (const name of CONDITIONS) {
    const values = query.getAll(name).filter(Boolean);
    if (values.length === 0) continue;
    if (name === "under") where.under = values;
    else where[name] = name === "verified" ? values[0] === "true" : values[0];
  }
  return where;
}

const TEXTS = {
  since: (value) => ["calendar", `Since ${value}`],
  until: (value) => ["calendar", `Until ${value}`],
  near: (value) => {
    const [lat, lon, km] = value.split(",");
    return ["sightings", `Within ${km} km of ${lat}, ${lon}`];
  },
  bbox: () => ["sightings", "Inside an area"],
  camera: (value) => ["camera", value],
  under: (value) => ["folder", value],
  taxon: (value) => ["bird", `Verified: ${value}`],
  verified: (value) => ["check", value ? "Verified" : "Not verified"],
};

/**
 * The chips of an address, and the button that adds one.
 * @param {object} options
 * @param {object} options.where What holds now, as `conditions` gives it.
 * @param {Function} options.onchange Told the new conditions.
 * @param {AbortSignal} options.signal Ends it.
 * @returns {HTMLElement}
 */
export function filterChips({ where, onchange, signal }) {
  const without = (name, value) => {
    const { [name]: now, ...rest } = where;
    const left = Array.isArray(now) ? now.filter((one) => one !== value) : [];
    onchange(left.length ? { ...rest, [name]: left } : rest);
  };
  const pairs = Object.entries(where).flatMap(([name, value]) => [value].flat().map((one) => [name, one]));
  const chips = pairs.map(([name, value]) => {
    const [mark, text] = TEXTS[name](value);
    const remove = h(
      "button",
      {
        type: "button",
        class: "chip-x",
        "aria-label": `Remove filter: ${text}`,
        onclick: () => without(name, value),
      },
      icon("close"),
    );
    return h("li", { class: "chip on" }, icon(mark), h("span", { class: "clip" }, text), remove);
  });
  const open = () => filterDialog({ where, onchange, signal });
  return h(
    "div",
    { class: "chips" },
    button("Filter", { icon: "filter", onclick: open, "aria-haspopup": "dialog" }),
    chips.length > 0 && h("ul", { class: "chips", "aria-label": "Filters" }, chips),
    chips.length > 1 && button("Clear all", { class: "quiet small", onclick: () => onchange({}) }),
  );
}

async function filterDialog({ where, onchange, signal }) {
  const { cameras = [], roots = [] } = await catalog().catch(() => ({}));
  const [lat = "", lon = "", km = ""] = (where.near ?? "").split(",");
  const input = (name, attrs) => h("input", { id: `where-${name}`, name, autocomplete: "off", ...attrs });
  const field = (name, label, control) =>
    h("div", { class: "field" }, h("label", { for: `where-${name}` }, label), control);
  const choice = (name, value, options) =>
    h(
      "select",
      { id: `where-${name}`, name },
      options.map(([key, text]) => h("option", { value: key, selected: key === value }, text)),
    );
  const hints = (name, values) =>
    h(
      "datalist",
      { id: `where-${name}-list` },
      values.map((value) => h("option", { value })),
    );

  const species = taxonField({ label: "Verified as", onpick: () => {}, signal, value: where.taxon });
  const time = {
    pattern: MOMENT,
    placeholder: "2023-05",
    title: "A year, month or day: 2023, 2023-05 or 2023-05-14",
  };
  const degrees = { type: "number", step: "any" };
  const form = h(
    "form",
    { method: "dialog" },
    h(
      "div",
      { class: "pair" },
      field("since", "Taken since", input("since", { ...time, value: where.since ?? "" })),
      field("until", "Taken until", input("until", { ...time, value: where.until ?? "" })),
    ),
    h(
      "fieldset",
      { class: "field" },
      h("legend", {}, "Near a place"),
      h(
        "div",
        { class: "triple" },
        field("lat", "Latitude", input("lat", { ...degrees, min: -90, max: 90, value: lat })),
        field("lon", "Longitude", input("lon", { ...degrees, min: -180, max: 180, value: lon })),
        field("km", "Within km", input("km", { ...degrees, min: 0, value: km })),
      ),
    ),
    h(
      "div",
      { class: "pair" },
      field("camera", "Camera", input("camera", { list: "where-camera-list", value: where.camera ?? "" })),
      field("under", "Folder", input("under", { list: "where-under-list", value: where.under?.[0] ?? "" })),
    ),
    hints("camera", cameras),
    hints(
      "under",
      roots.map((root) => root.name),
    ),
    species,
    field(
      "verified",
      "Labels",
      choice("verified", String(where.verified ?? ""), [
        ["", "All photos"],
        ["true", "Verified"],
        ["false", "Not yet verified"],
      ]),
    ),
    h(
      "div",
      { class: "actions" },
      button("Cancel", { class: "quiet", onclick: () => dialog.close() }),
      button("Show these", { class: "primary", type: "submit" }),
    ),
  );
  const dialog = openDialog("Which photos", form);
  signal.addEventListener("abort", () => dialog.close(), { once: true });
  form.addEventListener("submit", () => {
    const said = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]));
    const near = said.lat && said.lon ? `${said.lat},${said.lon},${said.km || 10}` : "";
    const rest = where.under?.slice(1) ?? [];
    const next = {
      ...(where.bbox && !near ? { bbox: where.bbox } : {}),
      since: said.since,
      until: said.until,
      near,
      camera: said.camera,
      under: said.under ? [said.under, ...rest] : rest,
      taxon: species.input.value.trim(),
    };
    if (said.verified) next.verified = said.verified === "true";
    onchange(
      Object.fromEntries(
        Object.entries(next).filter(([, value]) => value === true || value === false || value.length),
      ),
    );
  });
}
