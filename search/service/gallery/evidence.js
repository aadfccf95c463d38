/** A label and what it rests on: the network, the verified photos, and the ones of them that voted. */

import { thumbUrl } from "./api.js";
import { h, picture } from "./dom.js";
import { percent, similarity } from "./format.js";
import { href } from "./route.js";

/** A share 0..1 as a bar; the number stands beside it in words. */
export function bar(share, extra = "") {
  const fill = h("i");
  fill.style.width = `${Math.max(0, Math.min(1, share ?? 0)) * 100}%`;
  return h("span", { class: `bar ${extra}`.trim(), "aria-hidden": "true" }, fill);
}

/** A name with its bar and number. */
export function barRow(name, share, extra = "") {
  return h(
    "div",
    { class: "bar-row" },
    h("dt", {}, name),
    h("dd", { class: "num" }, percent(share)),
    h("dd", { class: "bar-cell" }, bar(share, extra)),
  );
}

/**
 * The likeliest labels, each with its bar.
 * @param {object[]} labels LabelEstimate of the API.
 * @param {Function} [onpick] Makes each a button; told the label.
 */
export function labelBars(labels, onpick) {
  const row = (label, index) => {
    const text = [
      h(
        "span",
        { class: "bar-name" },
        onpick && h("kbd", {}, index + 1),
        h("span", { class: "species" }, label.name),
        flag(label.flag),
      ),
      h("span", { class: "num" }, percent(label.probability)),
      h("span", { class: "bar-cell" }, bar(label.probability)),
    ];
    if (!onpick) return h("li", { class: "bar-row" }, text);
    return h("li", {}, h("button", { type: "button", class: "bar-row", onclick: () => onpick(label) }, text));
  };
  return h("ol", { class: "bars", "aria-label": "Likeliest labels" }, labels.map(row));
}

/** What the checklist says against a label. */
export function flag(text) {
  return text ? h("span", { class: "tag warn" }, text) : null;
}

/**
 * The two sources of a label and the doubt about both.
 * @param {{p_model: number, p_knn: ?number}} label The label.
 * @param {?number} unknown Chance that the bird is of no known label.
 * @param {?object} evidence LabelEvidence of the API.
 */
export function sources(label, unknown, evidence) {
  const voted = label.p_knn !== null && label.p_knn !== undefined;
  return h(
    "div",
    { class: "stack tight" },
    h(
      "dl",
      { class: "bars small" },
      barRow("The network alone", label.p_model),
      voted
        ? barRow("Your verified photos alone", label.p_knn)
        : h("p", { class: "soft" }, "No verified photo is near enough to vote."),
      unknown !== null && unknown !== undefined && barRow("A bird of no known label", unknown, "warn"),
    ),
    evidence && h("p", { class: "soft" }, weight(evidence, voted)),
  );
}

function weight(evidence, voted) {
  const part = voted ? `Verified photos made ${percent(evidence.lambda)} of this decision. ` : "";
  const fitted = evidence.calibrated
    ? "The numbers were fitted on your verified photos."
    : "The numbers are not yet fitted on your photos: verify some more, then run “birdsearch label --fit”.";
  return part + fitted;
}

/** The verified photos that voted, nearest first; those of another label stand out. */
export function voters(evidence, name) {
  if (!evidence?.neighbours.length) return null;
  const one = (voter) =>
    h(
      "li",
      {},
      h(
        "a",
        { class: "tile", href: href("photo", voter.photo_id) },
        picture(thumbUrl(voter.photo_id, 160)),
        h("span", { class: "badge num" }, similarity(voter.similarity)),
        h(
          "span",
          { class: `caption clip species${voter.label === name ? "" : " other"}`, title: voter.label },
          voter.label,
        ),
      ),
    );
  return h(
    "section",
    { class: "stack tight" },
    h("h2", { class: "minor" }, "Verified photos that voted"),
    h(
      "ul",
      { class: "strip", tabindex: "0", "aria-label": "Verified photos that voted, nearest first" },
      evidence.neighbours.slice(0, 12).map(one),
    ),
  );
}

/** In one line: the label at the finest rank that is sure enough. */
export function sureOf(evidence) {
  if (!evidence) return null;
  const { name, rank, probability } = evidence;
  if (rank === "bird")
    return h("p", { class: "soft" }, "Not sure enough of any species, genus, family or order.");
  return h(
    "p",
    {},
    h("span", { class: "soft" }, `Sure of the ${rank} `),
    h("span", { class: "species" }, name),
    h("span", { class: "soft num" }, ` ${percent(probability)}`),
    " ",
    flag(evidence.flag),
  );
}

/** Labels, sources and voters together, below a line that folds them away. */
export function labelPanel({ labels, unknown, evidence }, { open = true } = {}) {
  if (!labels?.length)
    return h("p", { class: "soft" }, "No label: the network has no classes and nothing is verified yet.");
  const [top] = labels;
  return h(
    "details",
    { class: "label-panel", open },
    h(
      "summary",
      {},
      "Likely ",
      h("span", { class: "species" }, top.name),
      h("span", { class: "soft num" }, ` ${percent(top.probability)}`),
    ),
    h(
      "div",
      { class: "stack" },
      sureOf(evidence),
      labelBars(labels),
      sources(top, unknown, evidence),
      voters(evidence, top.name),
    ),
  );
}
