/** Label some photos at once. */

import { api } from "./api.js";
import { button, h, openDialog, toast } from "./dom.js";
import { plural } from "./format.js";
import { taxonField } from "./taxa.js";

/**
 * Ask for a name and record it for photos, with a way to undo.
 * @param {number[]} ids The photos.
 * @param {AbortSignal} signal Ends it.
 * @param {Function} [ondone] Called once the labels are recorded, and once they are taken back.
 */
export function labelDialog(ids, signal, ondone) {
  const problem = h("p", { class: "notice bad", role: "alert", hidden: true });
  const submit = button("Record", { class: "primary", type: "submit" });
  const field = taxonField({ label: "They show", signal, onpick: () => submit.focus() });
  const form = h(
    "form",
    {},
    h(
      "p",
      { class: "soft" },
      "Recorded as verified by you. Photos like these are then labelled with its help.",
    ),
    field,
    problem,
    h(
      "div",
      { class: "actions" },
      button("Cancel", { class: "quiet", onclick: () => dialog.close() }),
      submit,
    ),
  );
  const dialog = openDialog(`Label ${plural(ids.length, "photo")}`, form);
  field.input.focus();
  signal.addEventListener("abort", () => dialog.close(), { once: true });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const name = field.input.value.trim();
    if (!name) return field.input.focus();
    submit.disabled = true;
    try {
      const items = ids.map((id) => ({ photo_id: id, taxon: name, verdict: "positive" }));
      const { run_id: run } = await api("/api/annotations", { json: { items } });
      dialog.close();
      changed(signal, ondone);
      // Without a run, all of them had this label already, and there is nothing to undo.
      const way = run === null ? {} : { action: "Undo", onaction: () => undo(run, signal, ondone) };
      toast(`${plural(ids.length, "photo")} labelled ${name}.`, way);
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
      submit.disabled = false;
    }
  });
}

async function undo(run, signal, ondone) {
  try {
    await api(`/api/annotations/${run}`, { method: "DELETE" });
    changed(signal, ondone);
    toast("Undone.");
  } catch (error) {
    toast(error.message, { bad: true });
  }
}

function changed(signal, ondone) {
  dispatchEvent(new Event("catalog-changed"));
  if (!signal.aborted) ondone?.();
}
