/** Copies: groups of files that show one picture, one decision each, and moving what is not kept to quarantine. */

import { api, catalog, thumbUrl } from "./api.js";
import { applyCopies, takeBack } from "./applycopies.js";
import { Comparison } from "./compare.js";
import { groupView, sameContent } from "./copygroup.js";
import { announce, button, emptyState, h, picture, toast, typing } from "./dom.js";
import { bytes, date, number, plural } from "./format.js";
import { showJob } from "./jobs.js";

const PAGE = 50;

/** Show the page; see app.js. */
export async function show(root, params, signal) {
  const { features } = await catalog();
  const note = h("p", { class: "soft num" });
  const actions = h("div", { class: "row spacer" });
  const body = h("div", {});
  root.append(
    h("div", { class: "page" }, h("div", { class: "page-head" }, h("h1", {}, "Copies"), note, actions), body),
  );
  const load = async () => {
    const first = await api("/api/duplicates", { query: { limit: PAGE }, signal });
    note.textContent = first.found_at ? `Searched ${date(first.found_at)}` : "";
    actions.replaceChildren();
    if (first.state === "running") return follow({ id: first.job });
    if (first.state === "none") return body.replaceChildren(neverSearched(features, search));
    const again = !features.read_only && button("Search again", { class: "quiet", onclick: search });
    if (features.apply)
      actions.append(
        button("Take back the last move", {
          class: "quiet",
          icon: "undo",
          onclick: () => takeBack({ body, reload: load, signal }),
        }),
      );
    actions.append(...[again].filter(Boolean));
    if (first.groups.length === 0) {
      return body.replaceChildren(
        emptyState(
          "check",
          "No copies left",
          "No two photos in this catalog show the same picture, or you have decided on all that do.",
        ),
      );
    }
    note.textContent += ` · ${plural(first.total, "group")}, ${bytes(first.movable_bytes)} in copies`;
    new Review(first, { features, body, signal, reload: load }).start();
  };
  const follow = async (job) => {
    try {
      const done = await showJob(body, "Looking for copies", job, signal);
      if (done === null) toast("The search was cancelled.");
    } catch (error) {
      if (signal.aborted) return;
      toast(error.message, { bad: true });
    }
    await load();
  };
  const search = async () => {
    try {
      await follow(await api("/api/duplicates", { method: "POST", signal }));
    } catch (error) {
      if (!signal.aborted) toast(error.message, { bad: true });
    }
  };
  await load();
}

function neverSearched(features, search) {
  const words =
    "Copies are the same picture saved twice: exact, resized, re-encoded or lightly edited. Searching reads the photos; it changes none.";
  const go = features.read_only
    ? h("p", {}, "This gallery is read only. Search with “birdsearch dedup”.")
    : button("Find copies", { class: "primary", icon: "copies", onclick: search });
  return emptyState("copies", "Nobody has looked for copies yet", words, go);
}

/** Going through the groups; every decision is sent at once and can be taken back. */
class Review {
  #index = 0;
  #file = 0;
  #done = [];
  #busy = false;

  constructor(first, { features, body, signal, reload }) {
    Object.assign(this, {
      features,
      body,
      signal,
      reload,
      groups: first.groups,
      next: first.next,
      total: first.total,
    });
    this.fixed = features.read_only;
  }

  start() {
    const { signal } = this;
    this.zoomed = h("output", { class: "num soft", "aria-live": "off" });
    this.comparison = new Comparison(
      this.features.originals,
      (zoom) => (this.zoomed.value = `${Math.round(zoom * 100)} %`),
      signal,
    );
    this.count = h("p", { class: "num", tabindex: "-1", id: "copies-count" });
    this.stage = h("div", { class: "stack" });
    this.film = h("ol", { class: "strip film", "aria-label": "Groups" });
    this.undo = button("Undo", { icon: "undo", disabled: true, onclick: () => this.#undo() });
    this.keepButton = button("Keep this one", { class: "primary", onclick: () => this.#keep(this.#file) });
    this.distinctButton = button("Not duplicates", { onclick: () => this.#distinct() });
    for (const [one, key] of [
      [this.keepButton, "K"],
      [this.distinctButton, "D"],
      [this.undo, "U"],
    ])
      one.append(h("kbd", { "aria-hidden": "true" }, key));
    const zoom = (name, mark, factor) =>
      button("", { icon: mark, label: name, onclick: () => this.comparison.zoomBy(factor) });
    const bar = h(
      "div",
      { class: "decide" },
      button("", { icon: "back", label: "Previous group", onclick: () => this.#go(this.#index - 1) }),
      this.count,
      button("", { icon: "next", label: "Next group", onclick: () => this.#go(this.#index + 1) }),
      !this.fixed && [this.keepButton, this.distinctButton, this.undo],
      h(
        "span",
        { class: "row spacer" },
        zoom("Zoom out", "minus", 1 / 1.5),
        this.zoomed,
        zoom("Zoom in", "plus", 1.5),
        button("Whole", { onclick: () => this.comparison.whole() }),
      ),
    );
    this.body.replaceChildren(h("div", { class: "stack" }, bar, this.stage, this.film, this.#foot()));
    addEventListener("keydown", (event) => this.#key(event), { signal });
    this.#show();
  }

  #foot() {
    const keys = [
      ["← →", "group"],
      ["1–9", "file"],
      ["K", "keep it"],
      ["D", "not duplicates"],
      ["U", "undo"],
      ["+ −", "zoom"],
      ["Shift + arrows", "move"],
      ["0", "whole"],
    ];
    return h(
      "div",
      { class: "row copies-foot" },
      h(
        "p",
        { class: "soft keys", id: "copies-keys" },
        keys.map(([key, does]) => [h("kbd", {}, key), ` ${does} `]),
      ),
      h("span", { class: "spacer" }),
      this.features.apply && !this.fixed
        ? button("Move copies to quarantine…", { icon: "folder", onclick: () => this.#apply() })
        : h(
            "p",
            { class: "soft" },
            "Nothing is moved from here. “birdsearch dedup --apply” moves copies; “birdsearch serve --apply” lets this page do it.",
          ),
    );
  }

  #key(event) {
    if (event.key === "z" && (event.ctrlKey || event.metaKey) && !document.querySelector("dialog[open]")) {
      event.preventDefault();
      return this.#undo();
    }
    if (typing(event)) return;
    const ways = { ArrowLeft: [-0.2, 0], ArrowRight: [0.2, 0], ArrowUp: [0, -0.2], ArrowDown: [0, 0.2] };
    const key = event.key.toLowerCase();
    if (event.shiftKey && ways[event.key]) this.comparison.nudge(...ways[event.key]);
    else if (event.key === "ArrowRight") this.#go(this.#index + 1);
    else if (event.key === "ArrowLeft") this.#go(this.#index - 1);
    else if (/^[1-9]$/.test(key)) this.#choose(Number(key) - 1);
    else if (key === "+" || key === "=") this.comparison.zoomBy(1.5);
    else if (key === "-") this.comparison.zoomBy(1 / 1.5);
    else if (key === "0") this.comparison.whole();
    else if (key === "u") this.#undo();
    else if (key === "k" && !this.fixed) this.#keep(this.#file);
    else if (key === "d" && !this.fixed) this.#distinct();
    else return;
    event.preventDefault();
  }

  get #group() {
    return this.groups[this.#index];
  }

  async #go(index) {
    if (index < 0 || index >= this.total) return;
    if (index >= this.groups.length) await this.#more();
    if (index >= this.groups.length) return;
    this.#index = index;
    this.#show();
    announce(`Group ${index + 1} of ${this.total}`);
  }

  async #more() {
    if (this.next === null) return;
    const page = await api("/api/duplicates", {
      query: { limit: PAGE, cursor: this.next },
      signal: this.signal,
    });
    this.groups.push(...page.groups);
    this.next = page.next;
  }

  #show() {
    const group = this.#group;
    this.comparison.clear();
    this.view = groupView(group, this.comparison, {
      fixed: this.fixed,
      choose: (index) => this.#choose(index),
      keep: (index) => this.#keep(index),
    });
    const decided =
      group.decided === "distinct" &&
      h("p", { class: "notice good" }, "You said that these are not duplicates. None of them will be moved.");
    const same =
      sameContent(group) &&
      h(
        "p",
        { class: "notice" },
        "These files are the same, byte for byte. One of them is kept; which one makes no difference to the picture.",
      );
    this.stage.replaceChildren(...[decided, same, this.view.element].filter(Boolean));
    this.count.textContent = `${number(this.#index + 1)} of ${number(this.total)}`;
    this.keepButton.disabled = group.decided === "distinct";
    this.distinctButton.disabled = sameContent(group) || group.decided === "distinct";
    this.#choose(
      Math.max(
        0,
        group.files.findIndex((file) => file.role === "keep"),
      ),
    );
    this.#fillFilm();
  }

  #choose(index) {
    if (index >= this.#group.files.length) return;
    this.#file = index;
    this.view.choose(index);
  }

  #fillFilm() {
    const marks = { keep: ["decided", "good"], distinct: ["not duplicates", ""] };
    const [from, to] = [Math.max(0, this.#index - 12), Math.min(this.groups.length, this.#index + 25)];
    const items = this.groups.slice(from, to).map((group, place) => {
      const index = from + place;
      const mark = marks[group.decided];
      const name = `Group ${index + 1}, ${plural(group.files.length, "file")}${mark ? `, ${mark[0]}` : ""}`;
      return h(
        "li",
        {},
        h(
          "button",
          {
            type: "button",
            class: `tile${index === this.#index ? " on" : ""}`,
            "aria-label": name,
            "aria-current": index === this.#index ? "true" : null,
            onclick: () => this.#go(index),
          },
          picture(thumbUrl(group.files[0].photo_id, 160)),
          h(
            "span",
            { class: `badge ${mark?.[1] ?? ""}`, "aria-hidden": "true" },
            mark ? mark[0] : `${group.files.length}`,
          ),
        ),
      );
    });
    this.film.replaceChildren(...items);
    const current = items[this.#index - from];
    this.film.scrollLeft =
      current.offsetLeft - this.film.offsetLeft - this.film.clientWidth / 2 + current.clientWidth / 2;
  }

  /** Send a decision; only once the server has it does the page go on. */
  async #decide(work) {
    if (this.#busy) return;
    this.#busy = true;
    try {
      await work();
    } catch (error) {
      if (!this.signal.aborted) toast(error.message, { bad: true });
    } finally {
      this.#busy = false;
    }
  }

  #keep(index) {
    const group = this.#group;
    const file = group.files[index];
    if (!file || group.decided === "distinct") return;
    return this.#decide(async () => {
      const before = { decided: group.decided, kept: group.files.find((one) => one.role === "keep") };
      await this.#sendKeep(group, file);
      this.#done.push({
        group,
        what: `Keeping ${file.path}`,
        back: async () => {
          await this.#sendKeep(group, before.kept);
          group.decided = before.decided;
        },
      });
      this.#decided(group, "keep");
    });
  }

  /** The others are compared with the file that is kept now, so the answer says anew how they differ. */
  async #sendKeep(group, { photo_id, path }) {
    const { files } = await api("/api/duplicates/keep", {
      json: { group: group.id, photo_id, path },
      signal: this.signal,
    });
    group.files = files;
  }

  #distinct() {
    const group = this.#group;
    if (sameContent(group) || group.decided === "distinct") return;
    const json = { photo_ids: [...new Set(group.files.map((file) => file.photo_id))] };
    return this.#decide(async () => {
      const before = group.decided;
      await api("/api/duplicates/distinct", { json, signal: this.signal });
      this.#done.push({
        group,
        what: "Not duplicates",
        back: async () => {
          await api("/api/duplicates/distinct", { method: "DELETE", json, signal: this.signal });
          group.decided = before;
        },
      });
      this.#decided(group, "distinct");
    });
  }

  #decided(group, what) {
    group.decided = what;
    this.undo.disabled = false;
    if (this.#index + 1 < this.total) this.#go(this.#index + 1);
    else {
      this.#show();
      toast("That was the last group.");
    }
  }

  #undo() {
    const last = this.#done.at(-1);
    if (!last) return;
    return this.#decide(async () => {
      await last.back();
      this.#done.pop();
      this.undo.disabled = this.#done.length === 0;
      this.#index = this.groups.indexOf(last.group);
      this.#show();
      announce(`Taken back: ${last.what}`);
    });
  }

  async #apply() {
    while (this.next !== null) await this.#more();
    await applyCopies(
      this.groups.filter((group) => group.decided !== "distinct"),
      { body: this.body, reload: this.reload, signal: this.signal },
    );
  }
}
