/** Moving copies to quarantine: what will happen in plain words, then the job, then a way back. */

import { api } from "./api.js";
import { button, h, openDialog, toast } from "./dom.js";
import { bytes, plural } from "./format.js";
import { showJob } from "./jobs.js";

const movable = (groups) => groups.flatMap((group) => group.files.filter((file) => file.role !== "keep" && file.role !== "reference" && file.role !== "linked"));
const sizeOf = (files) => files.reduce((sum, file) => sum + file.bytes, 0);

/**
 * Ask, then move.
 * @param {object[]} groups Whose copies may be moved; `decided` is set on those that were looked at.
 * @param {{body: HTMLElement, reload: Function, signal: AbortSignal}} page Where the progress is shown.
 */
export async function applyCopies(groups, page) {
  const chosen = await ask(groups);
  if (chosen === null || page.signal.aborted) return;
  try {
    const job = await api("/api/duplicates/apply", { json: { groups: chosen.map((group) => group.id) }, signal: page.signal });
    const done = await showJob(page.body, "Moving copies to quarantine", job, page.signal);
    const moved = done?.result?.moved ?? movable(chosen).length;
    if (done) toast(`${plural(moved, "copy", "copies")} moved to quarantine.`, { action: "Take it back", onaction: () => takeBack(page.reload, page.signal) });
  } catch (error) {
    if (page.signal.aborted) return;
    toast(error.message, { bad: true });
  }
  dispatchEvent(new Event("catalog-changed"));
  await page.reload();
}

/** Put back what the last move took away. */
export async function takeBack(reload, signal) {
  try {
    await api("/api/duplicates/undo", { method: "POST", signal });
    toast("The last move was taken back: the files are where they were.");
    dispatchEvent(new Event("catalog-changed"));
    await reload();
  } catch (error) {
    if (!signal.aborted) toast(error.message, { bad: true });
  }
}

/** @returns {Promise<object[]|null>} The groups to apply, or null. */
function ask(groups) {
  const looked = groups.filter((group) => group.decided);
  const words = h("p", { role: "status" });
  const sets = looked.length > 0 && looked.length < groups.length ? [looked, groups] : [groups];
  let chosen = sets[0];
  const say = () => {
    const files = movable(chosen);
    words.textContent = `${plural(files.length, "file")} (${bytes(sizeOf(files))}) of ${plural(chosen.length, "group")} will be moved.`;
    go.disabled = files.length === 0;
  };
  const choice = (set, text) => {
    const input = h("input", { type: "radio", name: "set", checked: set === chosen, onchange: () => ((chosen = set), say()) });
    return h("label", { class: "check" }, input, text);
  };
  const go = button("Move them", { class: "primary", type: "submit" });
  return new Promise((resolve) => {
    const form = h(
      "form",
      { method: "dialog" },
      sets.length > 1 && h("fieldset", {}, h("legend", { class: "visually-hidden" }, "Which groups"), choice(looked, `The ${plural(looked.length, "group")} that you decided on`), choice(groups, `All ${plural(groups.length, "group")}`)),
      words,
      h("ul", { class: "bullets" },
        h("li", {}, "The kept file of each group stays where it is."),
        h("li", {}, "The others are moved into a quarantine folder beside them. Nothing is deleted."),
        h("li", {}, "“Take back the last move” puts every file where it was, today or later.")),
      h("div", { class: "actions" }, button("Cancel", { class: "quiet", onclick: () => dialog.close() }), go),
    );
    const dialog = openDialog("Move copies to quarantine?", form);
    say();
    form.addEventListener("submit", () => resolve(chosen));
    dialog.addEventListener("close", () => resolve(null));
  });
}
