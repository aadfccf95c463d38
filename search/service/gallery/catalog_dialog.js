/** What the catalog is, and work on all of it: looking for new photos, labelling anew, locking the gallery. */

import { api, catalog } from "./api.js";
import { button, h, openDialog, toast } from "./dom.js";
import { date, number, plural } from "./format.js";
import { showJob } from "./jobs.js";

const JOBS = {
  index: {
    text: "Look for new photos",
    title: "Looking through the folders",
    icon: "folder",
    done: "The folders were looked through.",
  },
  label: {
    text: "Label all photos anew",
    title: "Labelling all photos",
    icon: "label",
    done: "All photos were labelled with what is verified now.",
  },
};

/** Open the dialog. Closing it ends no job. */
export async function catalogDialog() {
  const answer = await catalog(true).catch((error) => toast(error.message, { bad: true }));
  if (!answer?.features) return;
  const closed = new AbortController();
  const place = h("div", { class: "row" });
  const dialog = openDialog(
    answer.name,
    h(
      "div",
      { class: "body" },
      h(
        "dl",
        { class: "facts" },
        facts(answer).map(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]),
      ),
      answer.features.read_only ? h("p", { class: "soft" }, "This gallery is read-only.") : place,
      h(
        "div",
        { class: "actions" },
        answer.features.token && lock(),
        button("Close", { onclick: () => dialog.close() }),
      ),
    ),
  );
  dialog.addEventListener("close", () => closed.abort());
  offer(place, closed.signal);
}

function facts({
  photos,
  verified_photos: verified,
  files_missing: missing,
  first,
  last,
  roots,
  model,
  version,
}) {
  return [
    ["Photos", number(photos)],
    ["Verified", number(verified)],
    missing > 0 && ["Missing", plural(missing, "file")],
    first && ["Taken", `${date(first)} to ${date(last)}`],
    [
      "Folders",
      h(
        "ul",
        {},
        roots.map((root) => h("li", {}, `${root.name}, ${plural(root.photos, "photo")}`)),
      ),
    ],
    ["Network", model ? `${model.name}, ${plural(model.classes, "label")}` : "None yet"],
    ["Version", version],
  ].filter(Boolean);
}

function offer(place, signal) {
  place.replaceChildren(
    ...Object.entries(JOBS).map(([kind, { text, icon }]) =>
      button(text, { icon, onclick: () => start(place, kind, signal) }),
    ),
  );
}

async function start(place, kind, signal) {
  const { title, done } = JOBS[kind];
  try {
    const last = await showJob(place, title, await api("/api/jobs", { json: { kind }, signal }), signal);
    toast(last ? done : "It was stopped. What was done by then is kept.");
    dispatchEvent(new Event("catalog-changed"));
  } catch (error) {
    if (signal.aborted) return;
    toast(error.message, { bad: true });
  }
  offer(place, signal);
}

function lock() {
  const end = async () => {
    await api("/api/session", { method: "DELETE" });
    location.reload();
  };
  return button("Lock this gallery", { icon: "lock", class: "quiet", onclick: end });
}
