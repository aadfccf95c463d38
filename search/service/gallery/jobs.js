/** The progress of a job that the server runs, with a way to end it. */

import { api, followJob } from "./api.js";
import { button, h } from "./dom.js";
import { number } from "./format.js";

/**
 * Show a job until it ends.
 * @param {HTMLElement} place What is replaced by the progress.
 * @param {string} title What is being done.
 * @param {{id: *}} job As a 202 answered.
 * @param {AbortSignal} signal Stops showing it; the job goes on.
 * @returns {Promise<object|null>} The finished job, or null if it was cancelled.
 * @throws {import("./api.js").ApiError} It failed.
 */
export async function showJob(place, title, job, signal) {
  const fill = h("i");
  const bar = h("div", { class: "progress", role: "progressbar", "aria-label": title }, fill);
  const words = h("p", { class: "soft num" }, "Waiting for its turn.");
  const cancel = button("Cancel", { class: "small", onclick: () => end() });
  const end = async () => {
    cancel.disabled = true;
    await api(`/api/jobs/${job.id}`, { method: "DELETE" }).catch(
      (error) => (words.textContent = error.message),
    );
  };
  place.replaceChildren(
    h(
      "div",
      { class: "card stack job" },
      h("h2", {}, title),
      bar,
      h("div", { class: "row" }, words, h("span", { class: "spacer" }), cancel),
    ),
  );
  const onprogress = ({ state, done, total, message }) => {
    if (total) {
      fill.style.width = `${(100 * done) / total}%`;
      Object.entries({ valuenow: done, valuemin: 0, valuemax: total }).forEach(([name, value]) =>
        bar.setAttribute(`aria-${name}`, value),
      );
    }
    const counted = total ? `${number(done)} of ${number(total)}` : done ? number(done) : "";
    words.textContent =
      state === "queued"
        ? "Waiting for its turn."
        : [message, counted].filter(Boolean).join(" · ") || "Working.";
  };
  const last = await followJob(job, onprogress, signal);
  return last.state === "cancelled" ? null : last;
}
