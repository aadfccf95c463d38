/** One group of copies: its files side by side, why one is kept, and the facts in which they differ. */

import { button, h } from "./dom.js";
import { bytes, fileName, moment, number, similarity } from "./format.js";

/** Facts of a file: name, text, and a number of which the largest is best, if there is one. */
const FACTS = [
  [
    "Pixels",
    (file) => `${number(file.width)} × ${number(file.height)}`,
    (file) => file.width * file.height,
    "most",
  ],
  ["Size", (file) => bytes(file.bytes), (file) => file.bytes, "largest"],
  ["Format", (file) => (file.format ?? "unknown").toUpperCase()],
  ["Taken", (file) => moment(file.captured_at) || "no time"],
  ["Folder", (file) => file.path.slice(0, -fileName(file.path).length - 1) || "–"],
  ["Verified", (file) => file.verified ?? "no"],
];

/** What becomes of a file, by its role. */
const ROLES = { keep: "Kept", copy: "Copy", reference: "In a reference folder", linked: "Has other paths" };

/** True if all files have the same content, so that they cannot be told apart as pictures. */
export const sameContent = (group) =>
  group.exact || group.files.every((file) => file.photo_id === group.files[0].photo_id);

/**
 * Show a group.
 * @param {object} group As /api/duplicates gives it.
 * @param {import("./compare.js").Comparison} comparison Makes the panes.
 * @param {object} on
 * @param {(index: number) => void} on.choose A file was pointed at.
 * @param {(index: number) => void} on.keep A file was chosen to be kept.
 * @param {boolean} on.fixed Nothing can be changed.
 * @returns {{element: HTMLElement, choose: (index: number) => void}}
 */
export function groupView(group, comparison, on) {
  const files = group.files;
  const differ = new Set(FACTS.filter(([, text]) => new Set(files.map(text)).size > 1).map(([name]) => name));
  const figures = files.map((file, index) => copyFigure(group, index, { differ, comparison, on }));
  const element = h("div", { class: "copies" }, figures);
  element.style.setProperty("--files", files.length);
  return {
    element,
    choose(index) {
      figures.forEach((figure, at) => figure.classList.toggle("on", at === index));
    },
  };
}

function copyFigure(group, index, { differ, comparison, on }) {
  const file = group.files[index];
  const kept = file.role === "keep";
  const name = fileName(file.path);
  const role = h("span", { class: `tag ${kept ? "good" : ""}` }, ROLES[file.role] ?? file.role);
  const keep =
    !on.fixed &&
    !kept &&
    button("Keep this one", {
      icon: "check",
      class: "small",
      "aria-label": `Keep this one: ${name}`,
      onclick: () => on.keep(index),
    });
  const rows = FACTS.map(([term, text, amount, best]) => {
    const differs = differ.has(term);
    const top = differs && amount && group.files.every((other) => amount(other) <= amount(file));
    const value = differs ? h("mark", {}, text(file)) : text(file);
    return [
      h("dt", {}, term, differs && h("span", { class: "visually-hidden" }, " (differs)")),
      h("dd", { class: "num" }, value, top && h("span", { class: "tag good" }, best)),
    ];
  });
  return h(
    "article",
    {
      class: "copy",
      "aria-label": `File ${index + 1}, ${name}`,
      onpointerdown: () => on.choose(index),
      onfocusin: () => on.choose(index),
    },
    comparison.pane(file, `Picture of ${name}`),
    h(
      "div",
      { class: "copy-body" },
      h(
        "div",
        { class: "row" },
        h("kbd", { "aria-hidden": "true" }, index + 1),
        role,
        h("span", { class: "spacer" }),
        keep,
      ),
      h("p", { class: "copy-name clip", title: file.path }, name),
      h("p", { class: "soft" }, why(file, kept)),
      h("dl", { class: "facts" }, rows),
    ),
  );
}

function why(file, kept) {
  if (kept) return file.why;
  const alike =
    file.similarity === null || file.similarity === undefined
      ? ""
      : `similarity ${similarity(file.similarity)}`;
  return [file.why, alike].filter(Boolean).join(" · ");
}
