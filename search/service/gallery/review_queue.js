/**
 * The photos to verify next, and what was decided of them.
 *
 * A decision counts at once: the next photo is on show while the label is still on its way. Labels are written one
 * after the other, in the order of the decisions. One that could not be written brings its photo back.
 */

import { api } from "./api.js";

const BATCH = 20;
const REFILL_BELOW = 8;
const MOST = 200;
const IDLE_MS = 60_000;
const PACE_OF = 30;

export class ReviewQueue extends EventTarget {
  #shown = new Set();
  #past = [];
  #writing = Promise.resolve();
  #filling = null;
  #isDry = false;

  /**
   * Events: `change` when the photo on show or the counts changed, `trouble` (detail: `{error, isBack}`) when a label
   * could not be written, which brings its photo back, or taken back, or no photos could be fetched.
   * @param {object} query Filters and `order`, as /api/review takes them.
   * @param {AbortSignal} signal Ends fetching; decisions that were made are still written.
   */
  constructor(query, signal) {
    super();
    Object.assign(this, { query, signal, items: [], verified: 0, photos: 0, pending: 0, decided: 0 });
  }

  /** The photo on show, as /api/review gives it, or undefined. */
  get current() {
    return this.items[0];
  }

  /** True if there is something to take back. */
  get canUndo() {
    return this.#past.length > 0;
  }

  /** Decisions a minute of late, pauses of over a minute left out; null before there are some. */
  get pace() {
    const times = this.#past.slice(-PACE_OF).map((one) => one.at);
    const gaps = times
      .slice(1)
      .map((at, index) => at - times[index])
      .filter((gap) => gap < IDLE_MS);
    if (gaps.length < 3) return null;
    return (60_000 * gaps.length) / gaps.reduce((sum, gap) => sum + gap, 0);
  }

  /** Fetch more if few are left. Resolves once there is a photo to show, or none is left. */
  async fill() {
    if (this.items.length < REFILL_BELOW && !this.#isDry) {
      this.#filling ??= this.#fetch().finally(() => (this.#filling = null));
      if (this.items.length === 0) await this.#filling;
      else this.#filling.catch((error) => this.#trouble(error));
    }
  }

  async #fetch() {
    // What was skipped or is not written yet is proposed again: so many more are asked for.
    const limit = Math.min(BATCH + this.items.length + this.#past.length, MOST);
    const answer = await api("/api/review", { query: { ...this.query, limit }, signal: this.signal });
    Object.assign(this, { verified: answer.verified, photos: answer.photos });
    const fresh = answer.items.filter(({ photo }) => !this.#shown.has(photo.id));
    fresh.forEach(({ photo }) => this.#shown.add(photo.id));
    this.#isDry = fresh.length === 0;
    this.items.push(...fresh);
    this.#changed();
  }

  /** Decide of the photo on show and go on to the next. `verdict` is one of the API's, or `skip`. */
  decide(verdict, taxon) {
    const item = this.items.shift();
    const entry = { item, verdict, taxon, at: performance.now(), run: null };
    this.#past.push(entry);
    if (verdict !== "skip") {
      this.decided += 1;
      if (verdict === "positive") this.verified += 1;
      this.#write(async () => {
        const items = [{ photo_id: item.photo.id, taxon, verdict }];
        try {
          entry.run = (await api("/api/annotations", { json: { items } })).run_id;
        } catch (error) {
          this.#bringBack(entry);
          this.#trouble(error, true);
        }
      });
    }
    this.#changed();
    this.fill().catch((error) => this.#trouble(error));
  }

  /** Take the last decision back and show its photo again. */
  undo() {
    const entry = this.#past.at(-1);
    if (!entry) return null;
    this.#bringBack(entry);
    if (entry.verdict !== "skip") {
      this.#write(async () => {
        // Null if the label was in force already or was never written: nothing is to be taken back.
        if (entry.run !== null) await api(`/api/annotations/${entry.run}`, { method: "DELETE" });
      });
    }
    return entry;
  }

  #bringBack(entry) {
    const index = this.#past.indexOf(entry);
    if (index < 0) return;
    this.#past.splice(index, 1);
    if (entry.verdict !== "skip") this.decided -= 1;
    if (entry.verdict === "positive") this.verified -= 1;
    this.items.unshift(entry.item);
    this.#changed();
  }

  #write(task) {
    this.pending += 1;
    this.#writing = this.#writing
      .then(task)
      .catch((error) => this.#trouble(error))
      .finally(() => {
        this.pending -= 1;
        if (this.pending === 0) dispatchEvent(new Event("catalog-changed"));
      });
  }

  #trouble(error, isBack = false) {
    if (error.name === "AbortError") return;
    this.dispatchEvent(new CustomEvent("trouble", { detail: { error, isBack } }));
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
