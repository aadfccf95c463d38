/**
 * The shell: which page is on show, and the way between pages.
 *
 * A page is a module with `async function show(root, params, signal)`: it fills `root`, which is empty, and returns
 * once there is something to see. `params` is `{path: string[], query: URLSearchParams}` of the address
 * `#/page/path...?query`. `signal` aborts when the page is left: pass it to requests and to addEventListener on window
 * or document.
 */

import { ApiError, catalog } from "./api.js";
import { announce, errorState, h, icon } from "./dom.js";
import { number, plural } from "./format.js";
import { href, route } from "./route.js";

const PAGES = {
  photos: { title: "Photos", load: () => import("./photos.js") },
  find: { title: "Find", load: () => import("./find.js") },
  label: { title: "Label", load: () => import("./label.js") },
  copies: { title: "Copies", load: () => import("./copies.js") },
  clusters: { title: "Clusters", load: () => import("./clusters.js") },
  sightings: { title: "Sightings", load: () => import("./sightings.js") },
  photo: { title: "Photo", load: () => import("./photo.js"), under: "photos" },
};

const main = document.getElementById("main");
const note = document.getElementById("site-note");
let leaving = new AbortController();
let first = true;

async function showPage() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const { page, path, query } = route();
  const entry = PAGES[page];
  if (entry === undefined) return location.replace(href("photos"));
  document.title = `${entry.title} · birdsearch`;
  markCurrent(entry.under ?? page);
  const root = h("div", { class: `on-${page}` });
  main.replaceChildren(root);
  if (!first) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
    announce(entry.title);
  }
  first = false;
  try {
    const module = await entry.load();
    if (!signal.aborted) await module.show(root, { path, query }, signal);
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return;
    if (!(error instanceof ApiError)) console.error(error);
    root.replaceChildren(errorState(error, showPage));
  }
}

function markCurrent(page) {
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.dataset.page === page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function fillNavigation() {
  const links = Object.entries(PAGES).filter(([, entry]) => entry.under === undefined);
  document
    .getElementById("nav")
    .replaceChildren(
      ...links.map(([page, { title }]) =>
        h("li", {}, h("a", { href: href(page), dataset: { page } }, icon(page), title)),
      ),
    );
}

/** The count of photos in the header; asked for again when a page says that it changed. */
async function fillNote(fresh) {
  const { photos, verified_photos: verified } = await catalog(fresh);
  note.textContent = `${plural(photos, "photo")} · ${number(verified)} verified`;
}

history.scrollRestoration = "manual";
fillNavigation();
addEventListener("hashchange", showPage);
note.addEventListener("click", async () => (await import("./catalog_dialog.js")).catalogDialog());
addEventListener("catalog-changed", () => fillNote(true).catch(() => {}));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
fillNote(false).catch(() => {});
showPage();
