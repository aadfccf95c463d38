/** One photo: large, with what is known of it, its label and why, what people verified, and photos like it. */

import { api, thumbUrl } from "./api.js";
import { button, errorState, h, icon, toast, typing } from "./dom.js";
import { labelPanel } from "./evidence.js";
import { facts } from "./facts.js";
import { fileName, moment, nameOf, number, percent, place, verifiedAs } from "./format.js";
import { hitTile } from "./hits.js";
import { labelDialog } from "./label_dialog.js";
import { around, returnTo } from "./lists.js";
import { go, href } from "./route.js";
import { Stage } from "./stage.js";

/** Show the page; see app.js. */
export async function show(root, { path: [text] }, signal) {
  const id = Number(text);
  const near = around(id);
  returnTo(id);
  let photo = facts.of(id);
  const label = h("div", { class: "stack" }, h("p", { class: "soft" }, "Looking at its neighbours …"));
  const alike = h("section", { class: "stack alike" });
  const side = h("aside", { class: "stack" });
  const stage = new Stage(signal);
  root.append(
    h(
      "div",
      { class: "page photo-page" },
      toolbar(id, near),
      h("div", { class: "photo-split" }, stage.root, side),
      alike,
    ),
  );

  const draw = () => {
    document.title = `${nameOf(photo) ?? `Photo ${id}`} · birdsearch`;
    if (!stage.root.hasChildNodes())
      stage.show(photo, `${nameOf(photo) ?? "Photo"}, ${fileName(photo.path)}`);
    side.replaceChildren(
      head(photo, () => labelDialog([id], signal, relabelled)),
      label,
      verified(photo),
      details(photo),
    );
  };
  const reload = async () => {
    photo = await api(`/api/photos/${id}`, { signal });
    facts.put([photo]);
    draw();
  };
  const relabelled = () => reload().catch((error) => signal.aborted || toast(error.message, { bad: true }));
  if (photo) draw();
  keys(near, stage, signal);
  // What the grid knows is shown at once; the photo itself may know more.
  await reload();
  for (const next of [near.after, near.before]) if (next !== null) new Image().src = thumbUrl(next, 1280);

  try {
    const answer = await api("/api/search", { json: { photo_id: id, k: 12 }, signal });
    label.replaceChildren(labelPanel(answer));
    alike.append(
      h(
        "div",
        { class: "row" },
        h("h2", {}, "Photos like this"),
        h("a", { class: "btn quiet small", href: href("find", { photo: id }) }, icon("find"), "Search on"),
      ),
      h(
        "ul",
        { class: "tiles small" },
        answer.hits.map((hit) => hitTile(hit)),
      ),
    );
  } catch (error) {
    if (!signal.aborted) label.replaceChildren(errorState(error));
  }
}

function toolbar(id, { address, index, total, before, after }) {
  const step = (to, mark, label) =>
    to === null
      ? button("", { icon: mark, label, disabled: true })
      : h("a", { class: "btn icon", href: href("photo", to), "aria-label": label, title: label }, icon(mark));
  return h(
    "div",
    { class: "row photo-bar" },
    h(
      "a",
      { class: "btn quiet", href: address },
      icon("back"),
      address.startsWith("#/photos") ? "All photos" : "Back",
    ),
    index >= 0 && h("span", { class: "soft num spacer" }, `${number(index + 1)} of ${number(total)}`),
    index >= 0 && step(before, "back", "Previous photo"),
    index >= 0 && step(after, "next", "Next photo"),
  );
}

function head(photo, relabel) {
  const positive = verifiedAs(photo);
  const scientific = positive?.scientific_name ?? photo.label?.scientific_name;
  const name = nameOf(photo);
  return h(
    "div",
    { class: "stack tight" },
    h("h1", {}, name ?? fileName(photo.path)),
    scientific && scientific !== name && h("p", { class: "sci" }, scientific),
    h(
      "p",
      { class: "row" },
      positive
        ? h("span", { class: "tag good" }, "Verified")
        : photo.label && h("span", { class: "tag" }, predicted(photo.label)),
    ),
    h(
      "div",
      { class: "row" },
      button(positive ? "Correct" : "Label", {
        icon: "label",
        class: positive ? "" : "primary",
        onclick: relabel,
      }),
      h("a", { class: "btn", href: href("find", { photo: photo.id }) }, icon("similar"), "Find alike"),
      photo.image &&
        h(
          "a",
          { class: "btn quiet", href: photo.image, target: "_blank", rel: "noopener" },
          icon("image"),
          "Original",
        ),
    ),
  );
}

function predicted({ rank, probability, species_probability: ofSpecies }) {
  if (rank === "bird") return `Not sure, ${percent(ofSpecies)}`;
  return `Predicted ${rank}, ${percent(probability)}`;
}

function details(photo) {
  const where = place(photo.lat, photo.lon, photo.coarse);
  const rows = [
    ["Taken", moment(photo.captured_at) || "Not known"],
    [
      "Place",
      where ? h("a", { href: href("photos", { near: `${photo.lat},${photo.lon},10` }) }, where) : "Not known",
    ],
    ["Camera", photo.camera && h("a", { href: href("photos", { camera: photo.camera }) }, photo.camera)],
    ["Lens", photo.lens],
    ["Size", `${number(photo.width)} × ${number(photo.height)} ${photo.format}`],
    [photo.files.length > 1 ? "Files" : "File", h("ul", {}, photo.files.map(fileRow))],
    ["Number", `#${photo.id}`],
  ];
  return h(
    "section",
    { class: "stack tight" },
    h("h2", {}, "Facts"),
    h(
      "dl",
      { class: "facts" },
      rows.filter(([, value]) => value).map(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]),
    ),
    photo.coarse &&
      h("p", { class: "soft" }, "The place is shown coarsely, since this species is sensitive."),
  );
}

function fileRow({ path, state }) {
  return h("li", {}, path, state === "present" ? null : [" ", h("span", { class: "tag warn" }, state)]);
}

function verified(photo) {
  if (photo.verified.length === 0) return null;
  const tone = { positive: "good", negative: "bad", uncertain: "warn" };
  const word = { positive: "is", negative: "is not", uncertain: "may be" };
  return h(
    "section",
    { class: "stack tight" },
    h("h2", {}, "What people said"),
    h(
      "ul",
      { class: "stack tight" },
      photo.verified.map((one) =>
        h(
          "li",
          {},
          h("span", { class: `tag ${tone[one.verdict] ?? ""}` }, word[one.verdict] ?? one.verdict),
          " ",
          h("span", { class: "species" }, one.taxon),
          h(
            "span",
            { class: "soft" },
            ` ${[one.who, moment(one.at), one.source].filter(Boolean).join(", ")}`,
          ),
        ),
      ),
    ),
  );
}

function keys({ address, before, after }, stage, signal) {
  const listen = (event) => {
    if (typing(event)) return;
    if (event.target.closest?.(".strip")) return;
    if (event.key === "ArrowLeft" && before !== null) go(href("photo", before));
    else if (event.key === "ArrowRight" && after !== null) go(href("photo", after));
    else if (event.key === "Escape") go(address);
    else if (event.key === " " && !event.target.closest?.("a, button")) stage.toggle();
    else return;
    event.preventDefault();
  };
  addEventListener("keydown", listen, { signal });
}
