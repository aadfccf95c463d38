/** A field that completes names of birds: an ARIA combobox over /api/taxa. */

import { api } from "./api.js";
import { h } from "./dom.js";
import { plural } from "./format.js";

const WAIT_MS = 120;
const SHOWN = 8;
let fields = 0;

/**
 * Make the field.
 * @param {object} options
 * @param {string} options.label Its name.
 * @param {Function} options.onpick Told the taxon `{name, scientific_name, rank, ...}` that was chosen.
 * @param {AbortSignal} options.signal Ends it.
 * @param {string} [options.value] What stands in it at first.
 * @param {string} [options.hint] Words below it.
 * @returns {HTMLElement & {input: HTMLInputElement}} The field; `input` takes the focus.
 */
export function taxonField({ label, onpick, signal, value = "", hint = "" }) {
  const id = `taxon-${++fields}`;
  let taxa = [];
  let active = -1;
  let timer = 0;
  let asking = new AbortController();

  const input = h("input", {
    id,
    value,
    role: "combobox",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
    "aria-autocomplete": "list",
    "aria-expanded": "false",
    "aria-controls": `${id}-list`,
  });
  const list = h("ul", {
    id: `${id}-list`,
    class: "menu",
    role: "listbox",
    "aria-label": label,
    hidden: true,
  });
  const note = h("p", { class: "hint", role: "status" }, hint);

  function close() {
    list.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function pick(index) {
    const taxon = taxa[index];
    input.value = taxon.name;
    close();
    onpick(taxon);
  }

  function mark(index) {
    active = index;
    [...list.children].forEach((option, at) => option.setAttribute("aria-selected", at === index));
    list.children[index]?.scrollIntoView({ block: "nearest" });
    if (index < 0) input.removeAttribute("aria-activedescendant");
    else input.setAttribute("aria-activedescendant", `${id}-${index}`);
  }

  function show() {
    list.replaceChildren(
      ...taxa.map((taxon, index) =>
        h(
          "li",
          { id: `${id}-${index}`, role: "option", "aria-selected": "false" },
          h("span", { class: "species" }, taxon.name),
          taxon.scientific_name &&
            taxon.scientific_name !== taxon.name &&
            h("span", { class: "sci" }, taxon.scientific_name),
          h(
            "span",
            { class: "soft spacer" },
            taxon.rank === "species" ? "" : taxon.rank,
            taxon.photos ? ` ${plural(taxon.photos, "photo")}` : "",
          ),
        ),
      ),
    );
    list.hidden = taxa.length === 0;
    input.setAttribute("aria-expanded", String(taxa.length > 0));
    note.textContent = taxa.length ? hint : `No bird is named “${input.value.trim()}”. Try fewer letters.`;
    mark(taxa.length ? 0 : -1);
  }

  async function complete() {
    asking.abort();
    asking = new AbortController();
    const text = input.value.trim();
    if (!text) {
      close();
      note.textContent = hint;
      return;
    }
    try {
      const ended = AbortSignal.any([asking.signal, signal]);
      taxa = (await api("/api/taxa", { query: { q: text, limit: SHOWN }, signal: ended })).taxa;
      show();
    } catch (error) {
      if (error.name !== "AbortError") note.textContent = error.message;
    }
  }

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(complete, WAIT_MS);
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !list.hidden) close();
    else if (event.key === "ArrowDown" && taxa.length && !list.hidden) mark((active + 1) % taxa.length);
    else if (event.key === "ArrowUp" && taxa.length && !list.hidden)
      mark((active - 1 + taxa.length) % taxa.length);
    else if (event.key === "Enter" && active >= 0) pick(active);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  // Before the field loses the focus, so that the list is still there to be clicked.
  list.addEventListener("pointerdown", (event) => event.preventDefault());
  list.addEventListener("click", (event) => {
    const option = event.target.closest("li");
    if (option) pick([...list.children].indexOf(option));
  });
  input.addEventListener("blur", close);

  const field = h("div", { class: "field combo" }, h("label", { for: id }, label), input, list, note);
  return Object.assign(field, { input });
}
