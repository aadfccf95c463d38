/**
 * Find photos like one: dropped, pasted, picked, of the catalog, or like some examples and unlike others.
 *
 * The address holds the whole question (`photo`, `box`, `like`, `unlike`, `k`, filters), but for a picture from
 * outside, which stays in this window: its address says `upload`.
 */

import { api, thumbUrl } from "./api.js";
import { conditions, filterChips } from "./chips.js";
import { announce, button, emptyState, h, icon, picture, toast } from "./dom.js";
import { labelPanel } from "./evidence.js";
import { nameOf, number, plural } from "./format.js";
import { hitTile } from "./hits.js";
import { listAt, rememberList } from "./lists.js";
import { regionPicture } from "./region.js";
import { go, href } from "./route.js";

const FIRST = 48;
const MOST = 1000;
const PICTURES = "image/*,.heic,.heif,.cr2,.cr3,.nef,.arw,.dng,.orf,.rw2,.raf";

/** A picture from outside, for as long as this window lives: its file, an address to show it, its embedding. */
let upload = null;

const ids = (text) => (text ? text.split(",").map(Number).filter(Number.isInteger) : []);

function questionOf(query) {
  const box = query.get("box")?.split(",").map(Number) ?? null;
  return {
    photo: Number(query.get("photo")) || null,
    upload: query.has("upload"),
    box: box?.length === 4 && box.every(Number.isFinite) ? box : null,
    like: ids(query.get("like")),
    unlike: ids(query.get("unlike")),
    k: Math.min(Number(query.get("k")) || FIRST, MOST),
    where: conditions(query),
  };
}

function addressOf(question) {
  const { photo, box, like, unlike, k, where } = question;
  return href("find", {
    photo,
    upload: question.upload ? 1 : null,
    box: box?.map((one) => Number(one.toFixed(4))).join(","),
    like: like.join(","),
    unlike: unlike.join(","),
    k: k === FIRST ? null : k,
    ...where,
  });
}

/** Show the page; see app.js. */
export async function show(root, { query }, signal) {
  const question = questionOf(query);
  const ask = (change) => go(addressOf({ ...question, ...change }));
  accept(root, question, signal);
  const hasQuestion = question.photo || question.upload || question.like.length;
  if (question.upload && upload === null) {
    root.append(h("div", { class: "page" }, lost()));
    return;
  }
  if (!hasQuestion) {
    await showStart(root, question, signal);
    return;
  }

  const answerLabel = h("div", { class: "stack" });
  const hits = h(
    "section",
    { class: "stack", "aria-busy": "true" },
    h("p", { class: "soft", role: "status" }, "Searching …"),
  );
  const about = h("aside", { class: "stack" }, asked(question, ask), examples(question, ask), answerLabel);
  const filters = filterChips({ where: question.where, onchange: (where) => ask({ where }), signal });
  const anew = h("a", { class: "btn quiet spacer", href: "#/find" }, icon("find"), "New");
  root.append(
    h("h1", { class: "visually-hidden" }, "Photos like this"),
    h("div", { class: "toolbar" }, filters, anew),
    h("div", { class: "page split" }, about, hits),
  );

  const answer = await search(question, signal);
  if (question.upload) upload.vector = { box: String(question.box), values: answer.vector };
  if (answer.labels.length)
    answerLabel.replaceChildren(h("div", { class: "card" }, labelPanel(answer, { open: innerWidth > 760 })));
  hits.removeAttribute("aria-busy");
  hits.replaceChildren(...results(answer, question, ask));
  comeBack(
    hits,
    answer.hits.map((hit) => hit.photo_id),
    signal,
  );
  announce(`${plural(answer.hits.length, "photo")} found`);
}

/** Show the place where these hits were left, and remember it when they are left. */
function comeBack(hits, shown, signal) {
  const address = location.hash;
  const place = listAt(address)?.place;
  rememberList(address, shown, place);
  signal.addEventListener("abort", () => rememberList(address, shown, { top: scrollY }));
  if (!place) return;
  scrollTo(0, place.top);
  hits.querySelector(`a[href="${href("photo", shown[place.active] ?? "")}"]`)?.focus({ preventScroll: true });
}

function search({ photo, upload: isUpload, box, like, unlike, k, where }, signal) {
  const request = { like, unlike, k, where };
  if (photo) return api("/api/search", { json: { photo_id: photo, box, ...request }, signal });
  if (!isUpload) return api("/api/search", { json: request, signal });
  // Once the picture was sent for this box, its embedding asks on: nothing is sent twice.
  if (upload.vector?.box === String(box))
    return api("/api/search", { json: { vector: upload.vector.values, ...request }, signal });
  const form = new FormData();
  form.append("photo", upload.file, upload.file.name || "pasted.png");
  form.append("request", JSON.stringify({ box, ...request }));
  return api("/api/search", { form, signal });
}

/** What is asked about: the picture, on which a box can be drawn. */
function asked({ photo, upload: isUpload, box, like }, ask) {
  if (!photo && !isUpload) return h("h2", {}, `Like ${plural(like.length, "example")}`);
  const url = photo ? thumbUrl(photo, 640) : upload.url;
  const alt = photo ? `Photo ${photo}, which is asked about` : `${upload.file.name}, which is asked about`;
  return h(
    "section",
    { class: "stack tight" },
    h(
      "h2",
      {},
      photo ? h("a", { href: href("photo", photo) }, `Photo #${photo}`) : upload.file.name || "Pasted photo",
    ),
    regionPicture(url, { box, alt, onchange: (next) => ask({ box: next }) }),
  );
}

/** The plus and minus examples, each of which can be taken away. */
function examples({ like, unlike }, ask) {
  if (like.length + unlike.length === 0) return null;
  const list = (name, title, sign, values) =>
    values.length > 0 && [
      h("h3", {}, title),
      h(
        "ul",
        { class: "strip examples", "aria-label": title, tabindex: "0" },
        values.map((id) =>
          h(
            "li",
            { class: "tile" },
            h("a", { href: href("photo", id), "aria-label": `Photo ${id}` }, picture(thumbUrl(id, 160))),
            h("span", { class: `badge ${sign === "plus" ? "good" : "bad"}` }, sign === "plus" ? "+" : "−"),
            button("", {
              icon: "close",
              class: "small",
              label: `Remove example ${id}`,
              onclick: () => ask({ [name]: values.filter((one) => one !== id) }),
            }),
          ),
        ),
      ),
    ];
  return h(
    "section",
    { class: "stack tight" },
    list("like", "More like", "plus", like),
    list("unlike", "Less like", "minus", unlike),
  );
}

function results(answer, question, ask) {
  const notes = answer.warnings.map((text) => h("p", { class: "notice warn" }, text));
  if (answer.hits.length === 0) {
    const isFiltered = Object.keys(question.where).length > 0;
    return [
      ...notes,
      emptyState(
        "find",
        "Nothing like it here",
        isFiltered ? "Only photos that meet the filters are looked at." : "The catalog holds no other photo.",
        isFiltered &&
          button("Search without filters", { class: "primary", onclick: () => ask({ where: {} }) }),
      ),
    ];
  }
  const { like, unlike } = question;
  const add = (name, other) => (hit) =>
    ask({
      [name]: [...new Set([...question[name], hit.photo_id])],
      [other]: question[other].filter((id) => id !== hit.photo_id),
    });
  const actions = {
    onlike: add("like", "unlike"),
    onunlike: add("unlike", "like"),
    onsearch: (hit) => go(href("find", { photo: hit.photo_id, ...question.where })),
  };
  const shown = answer.hits.filter((hit) => !like.includes(hit.photo_id) && !unlike.includes(hit.photo_id));
  const more =
    answer.hits.length >= question.k && question.k < MOST
      ? button("Show more", { icon: "plus", onclick: () => ask({ k: Math.min(question.k * 4, MOST) }) })
      : null;
  return [
    ...notes,
    h("h2", {}, "Most alike first ", h("span", { class: "soft num" }, number(shown.length))),
    h(
      "ul",
      { class: "tiles hits" },
      shown.map((hit) => hitTile(hit, actions)),
    ),
    more && h("div", { class: "row" }, more),
  ].filter(Boolean);
}

async function showStart(root, question, signal) {
  const recent = h("ul", { class: "tiles small" });
  const file = h("input", {
    type: "file",
    id: "file",
    accept: PICTURES,
    class: "visually-hidden",
    onchange: () => file.files[0] && take(file.files[0], question),
  });
  const box = h(
    "div",
    { class: "drop" },
    icon("image"),
    h("h1", {}, "Which bird is this, and where else do I have it?"),
    h("p", { class: "soft" }, "Drop a photo here, paste one, or"),
    h(
      "div",
      { class: "row" },
      file,
      h("label", { for: "file", class: "btn primary" }, icon("image"), "Choose a photo"),
    ),
    h("p", { class: "soft" }, "It is only looked at: not kept, not added to the catalog."),
  );
  root.append(h("div", { class: "page stack" }, box, h("h2", {}, "Or start from one of yours"), recent));
  const { photos } = await api("/api/photos", { query: { sort: "-captured_at", limit: 18 }, signal });
  recent.append(
    ...photos.map((photo) =>
      h(
        "li",
        {},
        h(
          "a",
          {
            class: "tile",
            href: href("find", { photo: photo.id }),
            "aria-label": `Search by ${nameOf(photo) ?? photo.path}`,
          },
          picture(thumbUrl(photo.id, 320)),
        ),
      ),
    ),
  );
  if (photos.length === 0)
    recent.replaceWith(
      h("p", { class: "soft" }, "There is none yet: index a folder with “birdsearch index FOLDER”."),
    );
}

function lost() {
  return emptyState(
    "image",
    "The photo is no longer here",
    "A photo from outside the catalog lives only as long as this window. Drop, paste or choose it again.",
    h("a", { class: "btn primary", href: "#/find" }, "New search"),
  );
}

function take(file, question) {
  if (upload) URL.revokeObjectURL(upload.url);
  upload = { file, url: URL.createObjectURL(file), vector: null };
  const address = addressOf({ ...question, photo: null, upload: true, box: null, like: [], unlike: [] });
  if (location.hash === address) dispatchEvent(new Event("hashchange"));
  else go(address);
}

/** Photos may be dropped anywhere on the page, or pasted. */
function accept(root, question, signal) {
  const first = (data) =>
    [...data.files].find((file) => file.type.startsWith("image/") || /\.\w{3,4}$/.test(file.name));
  addEventListener("dragover", (event) => (event.preventDefault(), root.classList.add("dropping")), {
    signal,
  });
  addEventListener(
    "dragleave",
    (event) => event.relatedTarget === null && root.classList.remove("dropping"),
    {
      signal,
    },
  );
  addEventListener(
    "drop",
    (event) => {
      event.preventDefault();
      root.classList.remove("dropping");
      const file = first(event.dataTransfer);
      if (file) take(file, question);
      else toast("That is not a photo. Drop an image file.", { bad: true });
    },
    { signal },
  );
  addEventListener(
    "paste",
    (event) => first(event.clipboardData) && take(first(event.clipboardData), question),
    {
      signal,
    },
  );
}
