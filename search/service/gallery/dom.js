/** Small helpers for the document: elements, icons, messages. Text is always text, never markup. */

import { ICONS } from "./icons.js";
import { load } from "./loading.js";

const SVG = "http://www.w3.org/2000/svg";
const TOAST_MS = 6000;

/**
 * Make an element.
 * @param {string} tag Name of the element.
 * @param {object} [attrs] Attributes; `on...` functions listen, `style` and `dataset` are objects, `value` and
 *   `checked` are properties, true gives an empty attribute, null, undefined and false leave it out.
 * @param {...(Node|string|number|null|false|Array)} children Nodes or text; null and false are left out.
 * @returns {HTMLElement}
 */
export function h(tag, attrs, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attrs ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style" || name === "dataset") Object.assign(element[name], value);
    else if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** A line icon by its name in icons.js, hidden from screen readers. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon-mark");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A button; `attrs.icon` puts an icon before the text, `attrs.label` names a button that has none. */
export function button(text, attrs = {}) {
  const { icon: mark, label, class: extra = "", ...rest } = attrs;
  const named = label ? { "aria-label": label, title: label } : {};
  return h(
    "button",
    { type: "button", class: `btn ${text ? "" : "icon"} ${extra}`.trim(), ...named, ...rest },
    mark && icon(mark),
    text,
  );
}

/** Tell screen readers something without moving the focus. */
export function announce(text) {
  const live = document.getElementById("live");
  live.textContent = "";
  setTimeout(() => (live.textContent = text), 50);
}

/**
 * Show a passing message at the foot of the page; it stays while the pointer or the focus is on it.
 * @param {string} text The message.
 * @param {{bad?: boolean, action?: string, onaction?: Function}} [options] `action` names a button.
 * @returns {Function} Takes the message away.
 */
export function toast(text, { bad = false, action, onaction } = {}) {
  const box = document.getElementById("toasts");
  const close = () => item.remove();
  const item = h(
    "div",
    { class: `toast${bad ? " bad" : ""}` },
    h("span", {}, text),
    action && button(action, { class: "small", onclick: () => (close(), onaction()) }),
    bad && button("", { class: "small icon", icon: "close", label: "Dismiss", onclick: close }),
  );
  while (box.children.length > 2) box.firstElementChild.remove();
  box.append(item);
  // Again on top of everything, dialogs included.
  if (box.matches(":popover-open")) box.hidePopover();
  box.showPopover();
  announce(text);
  const expire = () => (item.matches(":hover, :focus-within") ? setTimeout(expire, TOAST_MS) : close());
  if (!bad) setTimeout(expire, TOAST_MS);
  return close;
}

/** What a page shows where there is nothing: a picture, a heading, words and what to do. */
export function emptyState(mark, title, words, ...actions) {
  return h("div", { class: "empty" }, icon(mark), h("h2", {}, title), words && h("p", {}, words), ...actions);
}

/**
 * An error where the content would stand, with a way to try again.
 * @param {Error} error What happened; its message is shown.
 * @param {Function} [again] Tries again.
 */
export function errorState(error, again) {
  const retry = again && button("Try again", { icon: "undo", onclick: again });
  const box = emptyState("warning", "That did not work", error.message, retry);
  box.setAttribute("role", "alert");
  return box;
}

/**
 * A modal dialog; Escape closes it, and the focus goes back to where it was.
 * @param {string} title Its heading.
 * @param {...Node} body What is in it.
 * @returns {HTMLDialogElement} Open; it is gone from the page once closed.
 */
export function openDialog(title, ...body) {
  const heading = h("h2", { id: `dialog-${crypto.getRandomValues(new Uint32Array(1))[0]}` }, title);
  const dialog = h("dialog", { "aria-labelledby": heading.id }, heading, ...body);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** A picture in its well; a portrait is shown whole rather than cut, a missing one says so. */
export function picture(url, alt = "", { whole = false, lazy = true, ...attrs } = {}) {
  const well = h("span", { class: "well" });
  const img = h("img", {
    alt,
    loading: lazy ? "lazy" : null,
    decoding: "async",
    draggable: "false",
    ...attrs,
  });
  img.addEventListener("load", () => {
    const ratio = img.naturalWidth / img.naturalHeight;
    img.classList.toggle("whole", whole || ratio < 1.15 || ratio > 2.2);
  });
  well.append(img);
  load(img, url, () => well.classList.add("broken"));
  return well;
}

/** True while keys belong to a field or a dialog and not to the page. */
export function typing(event) {
  const target = event.target;
  return (
    event.ctrlKey ||
    event.metaKey ||
    event.altKey ||
    document.querySelector("dialog[open]") !== null ||
    (target instanceof Element &&
      target.closest("input:not([type=checkbox], [type=radio]), select, textarea") !== null)
  );
}
