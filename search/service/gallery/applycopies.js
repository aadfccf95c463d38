/** Moving copies to quarantine: what will happen in plain words, then the job, then a way back. */

import { api } from "./api.js";
import { button, h, openDialog, toast } from "./dom.js";
import { bytes, plural } from "./format.js";
import { showJob } from "./jobs.js";

const movable = (groups) => groups.flatMap((group) => group.files.filter((file) => file.role === "copy"));
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
    const job = await api("/api/duplicates/apply", {
      json: { groups: chosen.map((group) => group.id) },
      signal: page.signal,
    });
    const done = await showJob(page.body, "Moving copies to quarantine", job, page.signal);
    const { moved = 0, refused = 0, refusals = [] } = done?.result ?? {};
    if (moved > 0)
      toast(`${plural(moved, "copy", "copies")} moved to quarantine.`, {
        action: "Take it back",
        onaction: () => takeBack(page),
      });
    if (refused > 0) tellRefused("These files were not moved", refusals, refused);
  } catch (error) {
    if (page.signal.aborted) return;
    toast(error.message, { bad: true });
  }
  dispatchEvent(new Event("catalog-changed"));
  await page.reload();
}

/** Put back what the last move took away; takes what `applyCopies` takes. */
export async function takeBack({ body, reload, signal }) {
  try {
    const job = await api("/api/duplicates/undo", { method: "POST", signal });
    const done = await showJob(body, "Putting copies back", job, signal);
    const { restored = 0, refused = 0, refusals = [] } = done?.result ?? {};
    toast(`${plural(restored, "file")} put back to where ${restored === 1 ? "it was" : "they were"}.`);
    if (refused > 0) tellRefused("These files could not be put back", refusals, refused);
  } catch (error) {
    if (signal.aborted) return;
    toast(error.message, { bad: true });
  }
  dispatchEvent(new Event("catalog-changed"));
  await reload();
}

function tellRefused(title, refusals, count) {
  const close = button("Close", { class: "primary", onclick: () => dialog.close() });
  const more =
    count > refusals.length &&
    h("p", { class: "soft" }, `And ${plural(count - refusals.length, "more", "more")}.`);
  const list = h(
    "ul",
    { class: "bullets" },
    refusals.map(({ path, reason }) => h("li", {}, `${path}: ${reason}`)),
  );
  const dialog = openDialog(
    title,
    h("div", { class: "body" }, list, more, h("div", { class: "actions" }, close)),
  );
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
    const input = h("input", {
      type: "radio",
      name: "set",
      checked: set === chosen,
      onchange: () => ((chosen = set), say()),
    });
    return h("label", { class: "check" }, input, text);
  };
  const go = button("Move them", { class: "primary", type: "submit" });
  return new Promise((resolve) => {
    const form = h(
      "form",
      { method: "dialog" },
      sets.length > 1 &&
        h(
          "fieldset",
          {},
          h("legend", { class: "visually-hidden" }, "Which groups"),
          choice(looked, `The ${plural(looked.length, "group")} that you decided on`),
          choice(groups, `All ${plural(groups.length, "group")}`),
        ),
      words,
      h(
        "ul",
        { class: "bullets" },
        h("li", {}, "The kept file of each group stays where it is."),
        h("li", {}, "The others are moved into a quarantine folder beside them. Nothing is deleted."),
        h("li", {}, "“Take back the last move” puts every file where it was, today or later."),
      ),
      h("div", { class: "actions" }, button("Cancel", { class: "quiet", onclick: () => dialog.close() }), go),
    );
    const dialog = openDialog("Move copies to quarantine?", form);
    say();
    form.addEventListener("submit", () => resolve(chosen));
    dialog.addEventListener("close", () => resolve(null));
  });
}
