/** Verify one photo after the other: a proposal with its evidence, and one key for each decision. */

import { catalog } from "./api.js";
import { conditions, filterChips } from "./chips.js";
import { announce, button, emptyState, h, icon, openDialog, toast, typing } from "./dom.js";
import { labelBars, sources, sureOf, voters } from "./evidence.js";
import { moment, number, percent, place } from "./format.js";
import { ReviewQueue } from "./review_queue.js";
import { go, href } from "./route.js";
import { Stage } from "./stage.js";
import { taxonField } from "./taxa.js";

const ORDERS = [
  ["informative", "Most to learn from"],
  ["doubtful", "Most doubtful"],
  ["unknown", "Maybe of no known label"],
];
const AHEAD = 3;

const KEYS = [
  [["Enter", "A"], "Accept the proposed name"],
  [["1", "…", "5"], "It is this other label"],
  [["C", "/"], "Correct: type the name"],
  [["R"], "Reject: it is not that"],
  [["U"], "Unsure: it may be that"],
  [["S", "→"], "Skip, decide nothing"],
  [["Z", "←"], "Take the last decision back"],
  [["Space"], "Look closer"],
  [["?"], "This help"],
];

/** Show the page; see app.js. */
export async function show(root, { query }, signal) {
  const where = conditions(query);
  const order = ORDERS.some(([key]) => key === query.get("order")) ? query.get("order") : ORDERS[0][0];
  const queue = new ReviewQueue({ ...where, order }, signal);
  const stage = new Stage(signal);

  const ask = (change) => {
    const next = { where, order, ...change };
    go(href("label", { ...next.where, order: next.order === ORDERS[0][0] ? null : next.order }));
  };
  const choose = h(
    "select",
    { "aria-label": "Which photos come first", onchange: (event) => ask({ order: event.target.value }) },
    ORDERS.map(([key, text]) => h("option", { value: key, selected: key === order }, text)),
  );
  const pace = h("p", { class: "soft num spacer pace" });
  const done = h("i");
  const bar = h(
    "div",
    { class: "toolbar" },
    filterChips({ where, onchange: (next) => ask({ where: next }), signal }),
    choose,
    pace,
    button("", { icon: "help", label: "Keys", class: "help", onclick: help }),
    h("span", { class: "progress", "aria-hidden": "true" }, done),
  );
  const side = h("aside", { class: "stack", "aria-label": "Proposed label and its evidence" });
  const field = taxonField({
    label: "It is a",
    signal,
    hint: "Enter takes the marked name, Escape goes back.",
    onpick: (taxon) => decide("positive", taxon.name),
  });
  field.hidden = true;
  const buttons = actionBar({ accept, correct, reject, unsure, skip, undo });
  const body = h(
    "div",
    { class: "page label-page" },
    h("p", { class: "soft", role: "status" }, "Choosing what is worth your time …"),
  );
  root.append(bar, body);

  queue.addEventListener("change", draw);
  queue.addEventListener("trouble", ({ detail: { error, isBack } }) => {
    toast(isBack ? `${error.message} Its photo is back.` : error.message, { bad: true });
  });
  addEventListener("keydown", press, { signal });
  addEventListener("beforeunload", (event) => queue.pending > 0 && event.preventDefault(), { signal });
  field.addEventListener("keydown", (event) => event.key === "Escape" && closeField());

  const { features } = await catalog();
  await queue.fill();
  draw();

  function draw() {
    if (signal.aborted) return;
    drawProgress();
    const item = queue.current;
    if (!item) {
      body.replaceChildren(nothingLeft());
      return;
    }
    if (!side.isConnected) {
      const locked =
        features.read_only &&
        h("p", { class: "notice warn" }, "This gallery is read-only: look, but nothing is recorded.");
      body.replaceChildren(
        h(
          "div",
          { class: "photo-split" },
          h("div", { class: "stack tight" }, stage.root, buttons),
          h("div", { class: "stack" }, locked, field, side),
        ),
      );
    }
    if (side.dataset.photo === String(item.photo.id)) return;
    side.dataset.photo = item.photo.id;
    closeField();
    stage.show(item.photo);
    queue.items.slice(1, AHEAD).forEach(({ photo }) => stage.preload(photo));
    side.replaceChildren(...proposal(item, (label) => decide("positive", label.name)));
    announce(`${nameOf(item)}? ${percent(item.labels[0]?.probability)}`);
  }

  function drawProgress() {
    const { verified, photos, decided } = queue;
    const speed = queue.pace === null ? null : `${Math.round(queue.pace)} a minute`;
    const counts = photos ? `${number(verified)} of ${number(photos)} verified` : null;
    pace.textContent = [decided ? `${number(decided)} decided` : null, speed, counts]
      .filter(Boolean)
      .join(" · ");
    done.style.width = `${photos ? (100 * verified) / photos : 0}%`;
    buttons.querySelector("[data-act=undo]").disabled = !queue.canUndo;
  }

  function decide(verdict, taxon) {
    if (!queue.current) return;
    if (features.read_only && verdict !== "skip") {
      toast("This gallery is read-only: it was started with --read-only.");
      return;
    }
    if (verdict !== "skip" && !taxon) correct();
    else queue.decide(verdict, taxon);
  }

  function accept() {
    decide("positive", nameOf(queue.current));
  }

  function reject() {
    decide("negative", nameOf(queue.current));
  }

  function unsure() {
    decide("uncertain", nameOf(queue.current));
  }

  function skip() {
    decide("skip");
  }

  function undo() {
    const entry = queue.undo();
    if (entry) announce(`Taken back: ${entry.taxon ?? "skipped"}`);
  }

  function correct() {
    if (!queue.current) return;
    field.hidden = false;
    field.input.value = "";
    field.input.focus();
    field.scrollIntoView({ block: "nearest" });
  }

  function closeField() {
    if (field.hidden) return;
    field.hidden = true;
    document.getElementById("main").focus({ preventScroll: true });
  }

  function press(event) {
    if (typing(event)) return;
    const isOnControl = event.target.closest?.("a, button, summary, [tabindex='0']") !== null;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const act =
      { a: accept, c: correct, "/": correct, r: reject, u: unsure, s: skip, z: undo, "?": help }[key] ??
      (isOnControl
        ? null
        : { Enter: accept, ArrowRight: skip, ArrowLeft: undo, " ": () => stage.toggle() }[key]);
    const label = queue.current?.labels[Number(key) - 1];
    if (!act && !label) return;
    event.preventDefault();
    if (event.repeat) return;
    if (act) act();
    else decide("positive", label.name);
  }

  function nothingLeft() {
    const isFiltered = Object.keys(where).length > 0;
    return emptyState(
      "check",
      queue.decided ? "That was the last one. Sleep well." : "Nothing waits for you here",
      isFiltered
        ? "Every photo that meets the filters is verified, or was skipped today."
        : "Every photo is verified, or was skipped today. New ones appear when more are indexed.",
      queue.canUndo && button("Take the last one back", { icon: "undo", onclick: undo }),
      h("a", { class: "btn", href: "#/photos" }, "See all photos"),
    );
  }
}

/** The name that Enter accepts: the likeliest species of network and verified photos together. */
const nameOf = (item) => item?.labels[0]?.name ?? null;

function proposal({ photo, labels, unknown, evidence, reason }, onpick) {
  const where = place(photo.lat, photo.lon, photo.coarse);
  const context = [moment(photo.captured_at), where, photo.camera].filter(Boolean).join(" · ");
  const [top] = labels;
  const more = h(
    "p",
    { class: "soft" },
    context,
    " ",
    h("a", { href: href("photo", photo.id) }, `Photo #${photo.id}`),
  );
  if (!top) {
    const words =
      "There is no label to propose: the network has no classes and nothing is verified. Type the name.";
    return [h("h1", {}, "Which bird is this?"), more, h("p", { class: "soft" }, words)];
  }
  const scientific = top.scientific_name && top.scientific_name !== top.name;
  return [
    h(
      "div",
      { class: "stack tight" },
      h("h1", {}, `${top.name}?`),
      scientific && h("p", { class: "sci" }, top.scientific_name),
      reason && h("p", { class: "reason" }, icon("help"), `${reason[0].toUpperCase()}${reason.slice(1)}`),
      more,
    ),
    h(
      "div",
      { class: "stack tight" },
      labelBars(labels.slice(0, 5), onpick),
      evidence?.rank !== "species" && sureOf(evidence),
    ),
    sources(top, unknown, evidence),
    voters(evidence, top.name),
  ].filter(Boolean);
}

function actionBar({ accept, correct, reject, unsure, skip, undo }) {
  const one = (act, mark, text, key, onclick, extra = "") => {
    const made = button(text, { icon: mark, class: extra, onclick, dataset: { act } });
    made.append(h("kbd", { "aria-hidden": "true" }, key));
    return made;
  };
  return h(
    "div",
    { class: "verdicts", role: "group", "aria-label": "Decide" },
    one("accept", "check", "Accept", "↵", accept, "primary"),
    one("correct", "pen", "Correct", "C", correct),
    one("reject", "close", "Reject", "R", reject),
    one("unsure", "unsure", "Unsure", "U", unsure),
    one("skip", "next", "Skip", "S", skip),
    one("undo", "undo", "Undo", "Z", undo),
  );
}

function help() {
  const rows = KEYS.map(([keys, words]) => [
    h(
      "dt",
      {},
      keys.map((key) => h("kbd", {}, key)),
    ),
    h("dd", {}, words),
  ]);
  const close = button("Back to the photos", { class: "primary", onclick: () => dialog.close() });
  const dialog = openDialog(
    "One key a decision",
    h("dl", { class: "facts key-list" }, rows),
    h("div", { class: "actions" }, close),
  );
}
