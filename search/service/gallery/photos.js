/** All photos: filters, order, a date to jump to, a selection to label or to search by. */

import { api, catalog } from "./api.js";
import { conditions, filterChips } from "./chips.js";
import { button, emptyState, h, openDialog, toast } from "./dom.js";
import { facts } from "./facts.js";
import { date, number } from "./format.js";
import { PhotoGrid } from "./grid.js";
import { labelDialog } from "./label_dialog.js";
import { listAt, rememberList } from "./lists.js";
import { go, href } from "./route.js";

const SORTS = [
  ["-captured_at", "Newest first"],
  ["captured_at", "Oldest first"],
  ["-id", "Added last"],
  ["id", "Added first"],
];
const SIZE_KEY = "birdsearch.grid-size";
const SIZES = { least: 96, usual: 208, phone: 116, most: 420 };

/** Show the page; see app.js. */
export async function show(root, { query }, signal) {
  const where = conditions(query);
  const sort = SORTS.some(([key]) => key === query.get("sort")) ? query.get("sort") : "-captured_at";
  const address = location.hash || "#/photos";
  const left = listAt(address);
  const heading = h("h1", { class: "visually-hidden" }, "Photos");
  const view = h("output", { class: "soft num spacer view-note" });
  const body = h(
    "div",
    { class: "page grid-page" },
    h("p", { class: "soft", role: "status" }, "Looking up the photos …"),
  );
  const bar = h("div", { class: "toolbar" });
  root.append(heading, bar, body);

  const request = api("/api/photo-ids", { query: { ...where, sort }, signal });
  // Coming back shows at once what was there; whether it still is so is seen when the answer comes.
  const ids = left?.ids.length ? left.ids : (await request).ids;
  const grid = new PhotoGrid({
    ids,
    size: Number(localStorage.getItem(SIZE_KEY)) || (innerWidth < 600 ? SIZES.phone : SIZES.usual),
    label: "Photos",
    facts,
    signal,
    onselect: (selected) => chosen.replaceWith((chosen = selectionBar(selected))),
    onview: (index) => (view.textContent = viewText(index)),
  });
  let chosen = h("span", { hidden: true });

  function viewText(index) {
    const taken = sort.endsWith("captured_at") && date(facts.of(ids[index])?.captured_at);
    return [taken, `${number(index + 1)} of ${number(ids.length)}`].filter(Boolean).join(" · ");
  }

  function change(next) {
    go(href("photos", { ...next.where, sort: next.sort === "-captured_at" ? null : next.sort }));
  }

  function controls() {
    const order = h(
      "select",
      { "aria-label": "Order", onchange: (event) => change({ where, sort: event.target.value }) },
      SORTS.map(([key, text]) => h("option", { value: key, selected: key === sort }, text)),
    );
    const size = h("input", {
      type: "range",
      class: "size",
      "aria-label": "Size of the pictures",
      min: SIZES.least,
      max: SIZES.most,
      step: 4,
      value: grid.size,
      oninput: (event) => {
        grid.resize(Number(event.target.value));
        localStorage.setItem(SIZE_KEY, event.target.value);
      },
    });
    const jump =
      sort.endsWith("captured_at") &&
      button("", {
        icon: "calendar",
        label: "Jump to a date",
        "aria-haspopup": "dialog",
        onclick: jumpDialog,
      });
    const select = button("", {
      icon: "check",
      label: "Select photos",
      "aria-pressed": "false",
      onclick: toggleSelecting,
    });
    bar.append(
      filterChips({ where, onchange: (next) => change({ where: next, sort }), signal }),
      order,
      jump,
      select,
      size,
      view,
      chosen,
    );
  }

  function toggleSelecting(event) {
    grid.selecting = !grid.selecting;
    event.currentTarget.setAttribute("aria-pressed", grid.selecting);
    if (grid.selecting) grid.select(grid.selected);
    else grid.select([]);
  }

  function selectionBar(selected) {
    if (selected.size === 0) return h("span", { hidden: true });
    const chosenIds = [...selected];
    return h(
      "div",
      { class: "selection", role: "group", "aria-label": "Selected photos" },
      h("strong", { class: "num", role: "status" }, `${number(selected.size)} selected`),
      button("Label", {
        icon: "label",
        class: "small primary",
        onclick: () => labelDialog(chosenIds, signal, labelled),
      }),
      button("Find alike", {
        icon: "similar",
        class: "small",
        onclick: () =>
          go(
            href(
              "find",
              selected.size === 1 ? { photo: chosenIds[0] } : { like: chosenIds.slice(0, 20).join(",") },
            ),
          ),
      }),
      button("", {
        icon: "close",
        class: "small",
        label: "Clear the selection",
        onclick: () => grid.select([]),
      }),
    );
  }

  function labelled() {
    grid.select([]);
    grid.refresh();
  }

  async function jumpDialog() {
    const { first, last } = await catalog();
    const input = h("input", {
      id: "jump",
      type: "date",
      min: first?.slice(0, 10),
      max: last?.slice(0, 10),
      required: true,
    });
    const years = [];
    for (
      let year = Number(last?.slice(0, 4));
      year >= Number(first?.slice(0, 4)) && years.length < 24;
      year--
    ) {
      years.push(button(String(year), { class: "small", onclick: () => jump(String(year)) }));
    }
    const form = h(
      "form",
      { method: "dialog" },
      h("div", { class: "field" }, h("label", { for: "jump" }, "Day"), input),
      years.length > 1 && h("div", { class: "row", role: "group", "aria-label": "Years" }, years),
      h(
        "div",
        { class: "actions" },
        button("Cancel", { class: "quiet", onclick: () => dialog.close() }),
        button("Jump", { class: "primary", type: "submit" }),
      ),
    );
    form.addEventListener("submit", () => jump(input.value));
    const dialog = openDialog("Jump to a date", form);

    async function jump(day) {
      dialog.close();
      const newest = sort.startsWith("-");
      const bound = newest ? { until: earlier(where.until, day) } : { since: later(where.since, day) };
      const { photos } = await api("/api/photos", { query: { ...where, ...bound, sort, limit: 1 }, signal });
      const index = photos.length ? ids.indexOf(photos[0].id) : -1;
      if (index < 0) toast(`No photo here was taken ${newest ? "until" : "since"} ${day}.`);
      else grid.show(index, { focus: true, block: "start" });
    }
  }

  if (ids.length === 0) {
    controls();
    body.replaceChildren(nothing(Object.keys(where).length > 0, () => change({ where: {}, sort })));
    return;
  }
  controls();
  body.replaceChildren(grid.root);
  grid.start(left?.place ?? {});
  if (left?.place) grid.show(left.place.active, { focus: true });
  rememberList(address, ids, left?.place);
  signal.addEventListener("abort", () => rememberList(address, ids, { ...grid.place() }));

  const now = (await request).ids;
  if (now.length !== ids.length || now.some((id, index) => id !== ids[index])) {
    rememberList("", []);
    toast("The photos have changed since you looked.", {
      action: "Show them anew",
      onaction: () => dispatchEvent(new Event("hashchange")),
    });
  }
}

const earlier = (bound, day) => (bound && bound < day ? bound : day);
const later = (bound, day) => (bound && bound > day ? bound : day);

function nothing(isFiltered, clear) {
  if (isFiltered) {
    return emptyState(
      "filter",
      "No photo meets these filters",
      "A photo that lacks a fact, such as a place, meets no condition on it.",
      button("Clear the filters", { class: "primary", onclick: clear }),
    );
  }
  return emptyState(
    "photos",
    "No photos yet",
    "Index a folder with “birdsearch index FOLDER”, then reload this page. Your photos stay where they are.",
  );
}
