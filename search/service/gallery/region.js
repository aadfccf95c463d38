/** A picture on which a box can be drawn, with the pointer or with keys. */

import { announce, button, h } from "./dom.js";

const LEAST = 0.03;
const STEP = 0.02;
const START = [0.3, 0.3, 0.4, 0.4];
const NOT_GIVEN = 4;

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const inWords = ([x, y, w, hgt]) =>
  ["left", x, "top", y, "width", w, "height", hgt]
    .map((one) => (typeof one === "number" ? `${Math.round(one * 100)} %` : one))
    .join(" ");

/**
 * Make the picture.
 * @param {string} url Of the picture.
 * @param {object} options
 * @param {number[]|null} options.box The box so far: x, y, w, h of the frame, 0..1.
 * @param {string} options.alt What the picture shows.
 * @param {Function} options.onchange Told the box, or null when it is taken away, once it is drawn.
 * @returns {HTMLElement}
 */
export function regionPicture(url, { box, alt, onchange }) {
  let now = box;
  const img = h("img", { alt, src: url, draggable: "false", onload: fit });
  const frame = h("div", {
    class: "region-box",
    tabindex: "0",
    role: "application",
    "aria-roledescription": "region",
    "aria-describedby": "region-help",
    onkeydown: key,
    onblur: settle,
  });
  const plate = h("div", { class: "region", onpointerdown: press }, img, frame);
  const help = h(
    "p",
    { class: "soft", id: "region-help" },
    "Draw a box round the bird to search by it alone. ",
    h(
      "span",
      { class: "for-keys" },
      "With keys: arrows move the box, with Shift they size it, Enter searches, Delete removes it.",
    ),
  );
  const add = button("Draw a box", {
    icon: "region",
    class: "small",
    onclick: () => (draw(START), frame.focus()),
  });
  const remove = button("Whole photo", { icon: "close", class: "small", onclick: () => commit(null) });
  draw(now);

  /** As wide as there is room, but never higher than most of the window. */
  function fit() {
    plate.style.setProperty("--ratio", img.naturalWidth / img.naturalHeight);
  }

  function draw(next) {
    now = next;
    frame.hidden = next === null;
    remove.hidden = next === null;
    add.hidden = next !== null;
    plate.classList.toggle("boxed", next !== null);
    if (next === null) return;
    const [x, y, w, hgt] = next.map((one) => `${one * 100}%`);
    Object.assign(frame.style, { left: x, top: y, width: w, height: hgt });
    frame.setAttribute("aria-label", `Region: ${inWords(next)}`);
  }

  const same = (one, other) => (one ?? []).join() === (other ?? []).join();

  function commit(next) {
    draw(next);
    if (same(next, box)) return;
    box = next;
    onchange(next);
  }

  function settle() {
    if (now !== null && !same(now, box)) commit(now);
  }

  function key(event) {
    const steps = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
    if (event.key in steps) {
      const [dx, dy] = steps[event.key];
      const [x, y, w, hgt] = now;
      if (event.shiftKey) draw([x, y, clamp(w + dx, LEAST, 1 - x), clamp(hgt + dy, LEAST, 1 - y)]);
      else draw([clamp(x + dx, 0, 1 - w), clamp(y + dy, 0, 1 - hgt), w, hgt]);
      announce(inWords(now));
    } else if (event.key === "Enter") settle();
    else if (event.key === "Delete" || event.key === "Backspace") commit(null);
    else return;
    event.preventDefault();
  }

  function press(event) {
    // A finger scrolls the page until there is a box.
    if (event.button !== 0 || (event.pointerType === "touch" && now === null)) return;
    event.preventDefault();
    const before = now;
    const area = img.getBoundingClientRect();
    const at = (to) => [
      clamp((to.clientX - area.left) / area.width, 0, 1),
      clamp((to.clientY - area.top) / area.height, 0, 1),
    ];
    const [x0, y0] = at(event);
    const inBox = before !== null && event.target === frame;
    let isDrag = false;
    plate.setPointerCapture(event.pointerId);
    const ended = new AbortController();

    plate.addEventListener(
      "pointermove",
      (to) => {
        isDrag ||= Math.hypot(to.clientX - event.clientX, to.clientY - event.clientY) > NOT_GIVEN;
        if (!isDrag) return;
        const [x, y] = at(to);
        if (inBox)
          draw([
            clamp(before[0] + x - x0, 0, 1 - before[2]),
            clamp(before[1] + y - y0, 0, 1 - before[3]),
            before[2],
            before[3],
          ]);
        else draw([Math.min(x, x0), Math.min(y, y0), Math.abs(x - x0), Math.abs(y - y0)]);
      },
      { signal: ended.signal },
    );
    const end = (isKept) => {
      ended.abort();
      const isDrawn = isDrag && now !== null && now[2] >= LEAST && now[3] >= LEAST;
      if (isKept && isDrawn) commit(now);
      else draw(before);
    };
    plate.addEventListener("pointerup", () => end(true), { signal: ended.signal });
    plate.addEventListener("pointercancel", () => end(false), { signal: ended.signal });
  }

  return h("div", { class: "stack tight" }, plate, h("div", { class: "row" }, add, remove), help);
}
