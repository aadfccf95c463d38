/** What is known of photos, fetched many at a time and kept for a while. */

import { api } from "./api.js";

const AT_ONCE = 200;
const KEPT = 5000;

export class Facts {
  #photos = new Map();
  #asked = new Map();

  /** The photo as the API gives it, or undefined if it was not fetched yet. */
  of(id) {
    return this.#photos.get(id);
  }

  /** Remember what some other answer said of photos. */
  put(photos) {
    for (const photo of photos) {
      this.#photos.delete(photo.id);
      this.#photos.set(photo.id, photo);
    }
    for (const id of this.#photos.keys()) {
      if (this.#photos.size <= KEPT) break;
      this.#photos.delete(id);
    }
  }

  /** Forget everything, since labels have changed. */
  clear() {
    this.#photos.clear();
  }

  /**
   * Fetch what is not known of these photos; a photo that is asked for already is not asked for twice.
   * @param {number[]} ids
   * @param {AbortSignal} signal
   */
  async fetch(ids, signal) {
    const missing = ids.filter((id) => !this.#photos.has(id) && !this.#asked.has(id));
    for (let start = 0; start < missing.length; start += AT_ONCE) {
      const part = missing.slice(start, start + AT_ONCE);
      const answer = api("/api/photos", { query: { ids: part.join(",") }, signal })
        .then(({ photos }) => this.put(photos))
        .finally(() => part.forEach((id) => this.#asked.delete(id)));
      part.forEach((id) => this.#asked.set(id, answer));
    }
    const waited = new Set(ids.map((id) => this.#asked.get(id)).filter(Boolean));
    await Promise.allSettled(waited);
  }
}

/** Shared by the pages, so that a photo seen in the grid is known when it is opened. */
export const facts = new Facts();

addEventListener("catalog-changed", () => facts.clear());
