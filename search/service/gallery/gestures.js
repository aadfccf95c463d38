/** Dragging, pinching, turning the wheel and pressing keys, told as moves and zooms. */

const TAP_PIXELS = 5;
const KEY_ZOOM = 1.4;
const KEY_MOVE = 60;
const ARROWS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/**
 * Listen to an element for moves and zooms. Give the element `touch-action: none` in the style sheet.
 * @param {Element} element What is dragged; places are CSS pixels from its top left corner.
 * @param {object} on What to call.
 * @param {(dx: number, dy: number) => void} on.move The content moved by so many CSS pixels.
 * @param {(factor: number, x: number, y: number) => void} on.zoom Zoom by a factor, this place staying where it is.
 * @param {() => void} [on.whole] Show everything (key 0, double click).
 * @param {(event: PointerEvent, x: number, y: number) => void} [on.tap] Pressed and let go in one place.
 * @param {(event: PointerEvent) => boolean} [on.taken] True if somebody else wants this drag.
 * @param {boolean} [on.arrows] Arrow keys move the content; true unless said otherwise.
 * @param {AbortSignal} signal Stops listening.
 */
export function gestures(element, on, signal) {
  const fingers = new Map();
  let travelled = 0;
  const at = (event) => {
    const box = element.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const listen = (name, handler, options) => element.addEventListener(name, handler, { signal, ...options });

  listen("pointerdown", (event) => {
    if (event.button > 0 || on.taken?.(event)) return;
    if (fingers.size === 0) travelled = 0;
    fingers.set(event.pointerId, at(event));
    element.setPointerCapture(event.pointerId);
  });
  listen("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const now = at(event);
    const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    travelled += Math.hypot(dx, dy);
    const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
    fingers.set(event.pointerId, now);
    if (!other) {
      if (travelled > TAP_PIXELS) on.move(dx, dy);
      return;
    }
    on.move(dx / 2, dy / 2);
    const apart = (one) => Math.max(1, Math.hypot(one[0] - other[0], one[1] - other[1]));
    on.zoom(apart(now) / apart(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
  });
  const lift = (event) => {
    if (!fingers.delete(event.pointerId) || fingers.size > 0) return;
    if (event.type === "pointerup" && travelled <= TAP_PIXELS) on.tap?.(event, ...at(event));
  };
  listen("pointerup", lift);
  listen("pointercancel", lift);
  listen(
    "wheel",
    (event) => {
      event.preventDefault();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
      // A pinch on a touchpad comes as a wheel with Ctrl, in small steps.
      const step = event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0018);
      on.zoom(Math.exp(-Math.max(-1, Math.min(1, step))), ...at(event));
    },
    { passive: false },
  );
  if (on.whole) listen("dblclick", on.whole);
  listen("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [x, y] = [element.clientWidth / 2, element.clientHeight / 2];
    if (event.key === "+" || event.key === "=") on.zoom(KEY_ZOOM, x, y);
    else if (event.key === "-") on.zoom(1 / KEY_ZOOM, x, y);
    else if (event.key === "0" && on.whole) on.whole();
    else if (ARROWS[event.key] && on.arrows !== false)
      on.move(...ARROWS[event.key].map((way) => way * KEY_MOVE));
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}

/** A plane seen through a window: what is in the middle, and how many CSS pixels a unit of the plane takes. */
export class View {
  /**
   * @param {{least: number, most: number}} limits Of the scale.
   */
  constructor({ least, most }) {
    Object.assign(this, { x: 0, y: 0, scale: 1, width: 1, height: 1, least, most });
  }

  /** Where a place of the plane is in the window. */
  toScreen(x, y) {
    return [(x - this.x) * this.scale + this.width / 2, (y - this.y) * this.scale + this.height / 2];
  }

  /** What place of the plane is at a place of the window. */
  toPlane(left, top) {
    return [(left - this.width / 2) / this.scale + this.x, (top - this.height / 2) / this.scale + this.y];
  }

  move(dx, dy) {
    this.x -= dx / this.scale;
    this.y -= dy / this.scale;
  }

  zoom(factor, left, top) {
    const [x, y] = this.toPlane(left, top);
    this.scale = Math.min(this.most, Math.max(this.least, this.scale * factor));
    this.x = x - (left - this.width / 2) / this.scale;
    this.y = y - (top - this.height / 2) / this.scale;
  }

  /**
   * Show a part of the plane whole.
   * @param {number[]} bounds Least x, least y, greatest x, greatest y.
   * @param {number} [margin] CSS pixels left free on each side.
   */
  fit([left, top, right, bottom], margin = 24) {
    const across = Math.max(1, this.width - 2 * margin) / Math.max(right - left, 1e-9);
    const down = Math.max(1, this.height - 2 * margin) / Math.max(bottom - top, 1e-9);
    this.scale = Math.min(this.most, Math.max(this.least, Math.min(across, down)));
    this.x = (left + right) / 2;
    this.y = (top + bottom) / 2;
  }

  /** Keep the middle of the window within a part of the plane. */
  keepWithin([left, top, right, bottom]) {
    this.x = Math.min(right, Math.max(left, this.x));
    this.y = Math.min(bottom, Math.max(top, this.y));
  }
}
