/** Edits of clusters: each asks what it needs, tells the server, and can be undone from where it is announced. */

import { api } from "./api.js";
import { button, h, openDialog, toast } from "./dom.js";
import { plural } from "./format.js";

/** What a cluster is called: its name, or its number. */
export const clusterName = (cluster) => cluster.name || `Cluster ${cluster.id}`;

let forget = () => {};

/** Show a message, in place of the last one, whose way to undo would now undo something else. */
function tell(text, options) {
  forget();
  forget = toast(text, options);
}

/**
 * Ways to edit the clusters of a run.
 * @param {number} run The run on show, the current one.
 * @param {AbortSignal} signal Ends it.
 * @param {(run: number, edit: object) => void} ondone Told the run that an edit made, and the edit.
 */
export function editor(run, signal, ondone) {
  let now = run;
  const send = async (edit, said) => {
    const answer = await api(`/api/clusters/${now}/edits`, { json: edit, signal });
    now = answer.run;
    dispatchEvent(new Event("catalog-changed"));
    tell(said, {
      action: "Undo",
      onaction: edit.op === "label" ? () => unlabel(answer.annotation_run) : undo,
    });
    ondone(now, edit);
    return answer;
  };
  const tried = async (edit, said) => {
    try {
      return await send(edit, said);
    } catch (error) {
      if (!signal.aborted) toast(error.message, { bad: true });
      return null;
    }
  };
  // An edit is undone from a message that may outlive the page, so this does not end with it.
  const undo = async () => {
    try {
      now = (await api(`/api/clusters/${now}/edits`, { json: { op: "undo" } })).run;
      tell("The last edit was undone.");
      ondone(now, { op: "undo" });
    } catch (error) {
      toast(error.message, { bad: true });
    }
  };
  const unlabel = async (labels) => {
    try {
      const { undone } = await api(`/api/annotations/${labels}`, { method: "DELETE" });
      dispatchEvent(new Event("catalog-changed"));
      tell(`${plural(undone, "label")} taken back.`);
      ondone(now, { op: "label" });
    } catch (error) {
      toast(error.message, { bad: true });
    }
  };
  return {
    undo,
    /** Put clusters into the first of them. */
    merge: (clusters) =>
      confirmed(`Merge ${plural(clusters.length, "cluster")}?`, "Merge", signal, send, () => ({
        edit: { op: "merge", clusters: clusters.map((one) => one.id) },
        said: `Merged into ${clusterName(clusters[0])}.`,
        words: h(
          "ul",
          { class: "bullets" },
          clusters.map((one) => h("li", {}, `${clusterName(one)}: ${plural(one.photos, "photo")}`)),
        ),
      })),
    /** Give a cluster a name. */
    name: (cluster) => {
      const input = h("input", {
        id: "cluster-name",
        value: cluster.name ?? "",
        maxlength: 200,
        autocomplete: "off",
      });
      return confirmed(`Name ${clusterName(cluster)}`, "Save", signal, send, () => ({
        edit: { op: "name", cluster: cluster.id, name: input.value.trim() },
        said: input.value.trim() ? `Named ${input.value.trim()}.` : "The name was taken away.",
        words: h(
          "div",
          { class: "field" },
          h("label", { for: "cluster-name" }, "Name"),
          input,
          h("p", { class: "hint" }, "Your own word for it, such as “gulls on the pier”. It labels no photo."),
        ),
      }));
    },
    /** Cluster the photos of one cluster again. */
    split: (cluster) => {
      const input = h("input", {
        id: "cluster-parts",
        type: "number",
        min: 2,
        max: 50,
        value: 2,
        required: true,
      });
      return confirmed(`Split ${clusterName(cluster)}`, "Split", signal, send, () => ({
        edit: { op: "split", cluster: cluster.id, into: Number(input.value) },
        said: `Split into ${input.value}. The largest part keeps the name.`,
        words: h(
          "div",
          { class: "field" },
          h("label", { for: "cluster-parts" }, "Into how many parts"),
          input,
          h("p", { class: "hint" }, "By how the photos look. Photos of one event stay together."),
        ),
      }));
    },
    /** Put some photos of a cluster into one of their own. */
    takeOut: (cluster, photos) =>
      tried(
        { op: "move", cluster: cluster.id, photo_ids: photos },
        `${plural(photos.length, "photo")} taken out into a cluster of their own.`,
      ),
    /** Label all photos of a cluster but some. */
    label: (cluster, taxon, except, count) =>
      tried(
        { op: "label", cluster: cluster.id, taxon, except },
        `${plural(count, "photo")} labelled ${taxon}.`,
      ),
  };
}

/** A dialog whose form sends an edit; an error is shown in it, so that it can be put right. */
function confirmed(title, act, signal, send, describe) {
  const bad = h("p", { class: "notice bad", role: "alert", hidden: true });
  const submit = button(act, { class: "primary", type: "submit" });
  const form = h(
    "form",
    {},
    describe().words,
    bad,
    h(
      "div",
      { class: "actions" },
      button("Cancel", { class: "quiet", onclick: () => dialog.close() }),
      submit,
    ),
  );
  const dialog = openDialog(title, form);
  form.querySelector("input")?.select();
  signal.addEventListener("abort", () => dialog.close(), { once: true });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    const { edit, said } = describe();
    try {
      await send(edit, said);
      dialog.close();
    } catch (error) {
      if (error.name === "AbortError") return;
      bad.textContent = error.message;
      bad.hidden = false;
      submit.disabled = false;
    }
  });
}
