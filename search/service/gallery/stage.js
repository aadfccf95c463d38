/** The photo to look at: there at once if it was preloaded, and closer on demand. */

import { thumbUrl } from "./api.js";
import { emptyState, h } from "./dom.js";
import { load, watch } from "./loading.js";

const LARGE = 1280;
const KEPT = 8;
const CLOSER = 2.6;

export class Stage {
  #images = new Map();

  /** @param {AbortSignal} signal Ends it. */
  constructor(signal) {
    this.root = h("div", { class: "stage" });
    this.root.addEventListener("click", (event) => this.toggle(event), { signal });
    this.root.addEventListener("pointermove", (event) => event.pointerType === "mouse" && this.#aim(event), {
      signal,
    });
  }

  /** Fetch and decode a photo that may be shown next. */
  preload(photo) {
    let img = this.#images.get(photo.id);
    if (img) return img;
    img = h("img", { alt: "", draggable: "false" });
    img.src = thumbUrl(photo.id, LARGE);
    img.decode().catch(() => {});
    this.#images.set(photo.id, img);
    for (const id of this.#images.keys()) {
      if (this.#images.size <= KEPT) break;
      if (id !== photo.id) this.#images.delete(id);
    }
    return img;
  }

  /**
   * Show a photo.
   * @param {object} photo Photo of the API.
   * @param {string} [alt] What it shows.
   */
  show(photo, alt = "The photo to look at") {
    const img = this.preload(photo);
    this.toggle(null, false);
    img.alt = alt;
    this.#shape(photo.width, photo.height);
    this.root.replaceChildren(img);
    const ready = () => {
      img.style.backgroundImage = "none";
      if (img.isConnected) this.#shape(img.naturalWidth, img.naturalHeight);
    };
    const gone = () => img.isConnected && this.root.replaceChildren(missing());
    if (img.complete && img.naturalWidth) ready();
    else {
      // The thumbnail of the grid is often there already: it stands in until the large one is.
      img.style.backgroundImage = `url("${thumbUrl(photo.id, 320)}")`;
      img.addEventListener("load", ready, { once: true });
      const see = img.complete ? load : watch;
      see(img, thumbUrl(photo.id, LARGE), gone);
    }
  }

  /** Look closer, or at all of it again; a click says where. */
  toggle(event = null, on = !this.root.classList.contains("closer")) {
    this.root.classList.toggle("closer", on);
    const img = this.root.querySelector("img");
    if (!img) return;
    img.style.transform = on ? `scale(${CLOSER})` : "none";
    if (event) this.#aim(event);
    else img.style.transformOrigin = "50% 50%";
  }

  #aim(event) {
    const img = this.root.querySelector("img");
    if (!img || !this.root.classList.contains("closer")) return;
    const area = this.root.getBoundingClientRect();
    const share = (at, from, length) => `${Math.max(0, Math.min(1, (at - from) / length)) * 100}%`;
    const [x, y] = [share(event.clientX, area.left, area.width), share(event.clientY, area.top, area.height)];
    img.style.transformOrigin = `${x} ${y}`;
  }

  #shape(width, height) {
    this.root.style.aspectRatio = `${width} / ${height}`;
  }
}

function missing() {
  return emptyState(
    "image",
    "No picture",
    "The file of this photo is gone or cannot be read. “birdsearch status” says why.",
  );
}
