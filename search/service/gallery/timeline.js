/** A bar for each day, month or year in which something was seen; long times with nothing are drawn short. */

import { button, h } from "./dom.js";
import { plural } from "./format.js";

const UNITS = { day: [10, "Days"], month: [7, "Months"], year: [4, "Years"] };
const MOST_DAYS = 62;
const MOST_MONTHS = 36;
/** So many empty days, months or years in a row are still drawn one by one. */
const LONGEST_GAP = 3;
const names = {
  day: new Intl.DateTimeFormat("en-GB", {
    weekday: "short",
    day: "numeric",
    month: "long",
    year: "numeric",
    timeZone: "UTC",
  }),
  month: new Intl.DateTimeFormat("en-GB", { month: "long", year: "numeric", timeZone: "UTC" }),
  year: new Intl.DateTimeFormat("en-GB", { year: "numeric", timeZone: "UTC" }),
};
const shortMonth = new Intl.DateTimeFormat("en-US", { month: "short", timeZone: "UTC" });

/** A day, month or year that was chosen. */
class Period {
  constructor(unit, key) {
    Object.assign(this, { unit, key, name: names[unit].format(startOf(key)) });
  }

  has(sighting) {
    return sighting.first?.startsWith(this.key) ?? false;
  }
}

/** "2024", "2024-05" or "2024-05-11" as an instant. */
const startOf = (key) => new Date(`${key}${"-01-01".slice(key.length - 4)}T00:00:00Z`);

/** Whole days, months or years from the start of time to a key. */
function ordinal(unit, key) {
  const [year, month = 1] = key.split("-").map(Number);
  if (unit === "year") return year;
  return unit === "month" ? year * 12 + month : Math.round(startOf(key) / 86_400_000);
}

/** The timeline; `onperiod` is told the period that was chosen, or null. */
export class Timeline {
  #sightings = [];
  #unit = "day";
  #period = null;
  #marked = null;
  #bars = new Map();

  constructor(onperiod) {
    this.onperiod = onperiod;
    this.units = h(
      "div",
      { class: "segment", role: "group", "aria-label": "A bar stands for" },
      Object.entries(UNITS).map(([unit, [, name]]) =>
        button(name, {
          class: "small",
          dataset: { unit },
          "aria-pressed": "false",
          onclick: () => this.#setUnit(unit),
        }),
      ),
    );
    this.strip = h("div", {
      class: "timeline-strip",
      role: "toolbar",
      "aria-label": "Timeline",
      "aria-describedby": "timeline-keys",
    });
    this.undated = h("p", { class: "soft" });
    this.element = h(
      "section",
      { class: "timeline card", "aria-label": "When" },
      h(
        "div",
        { class: "row" },
        h("h2", {}, "When"),
        this.undated,
        h("span", { class: "spacer" }, this.units),
      ),
      this.strip,
      h(
        "p",
        { class: "visually-hidden", id: "timeline-keys" },
        "Left and right arrows go between bars, Enter chooses one, plus and minus change what a bar stands for.",
      ),
    );
    this.strip.addEventListener("keydown", (event) => this.#key(event));
    this.strip.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
  }

  show(sightings) {
    this.#sightings = sightings.filter((one) => one.first);
    const without = sightings.length - this.#sightings.length;
    this.undated.textContent = without ? `${plural(without, "sighting")} without a time` : "";
    const count = (unit) => new Set(this.#sightings.map((one) => one.first.slice(0, UNITS[unit][0]))).size;
    this.#unit = count("day") <= MOST_DAYS ? "day" : count("month") <= MOST_MONTHS ? "month" : "year";
    this.#draw();
  }

  /**
   * @param {Set<number>} shown Ids of the sightings that the other parts leave.
   * @param {Period|null} period What is chosen.
   * @param {object|null} chosen One sighting that is marked.
   */
  mark(shown, period, chosen) {
    this.#marked = { shown, chosen };
    this.#period = period;
    for (const [key, { bar, fill, some }] of this.#bars) {
      const left = some.filter((one) => shown.has(one.id)).length;
      fill.style.height = `${(100 * left) / some.length}%`;
      bar.setAttribute("aria-pressed", String(period?.key === key));
      if (chosen?.first?.startsWith(key)) bar.setAttribute("aria-current", "true");
      else bar.removeAttribute("aria-current");
    }
  }

  /** Bring the bar of a sighting into view. */
  reveal(sighting) {
    const bar = this.#bars.get(sighting?.first?.slice(0, UNITS[this.#unit][0]))?.bar;
    if (bar) this.strip.scrollLeft = bar.offsetLeft - this.strip.clientWidth / 2;
  }

  #setUnit(unit) {
    if (unit === this.#unit) return;
    const middle = this.#barAt(this.strip.scrollLeft + this.strip.clientWidth / 2);
    this.#unit = unit;
    this.#draw();
    const near = [...this.#bars.keys()].find((key) => key >= (middle ?? "").slice(0, key.length)) ?? null;
    if (near) this.strip.scrollLeft = this.#bars.get(near).bar.offsetLeft - this.strip.clientWidth / 2;
  }

  #barAt(left) {
    return (
      [...this.#bars].find(([, { bar }]) => bar.offsetLeft >= left)?.[0] ?? [...this.#bars.keys()].at(-1)
    );
  }

  #draw() {
    const unit = this.#unit;
    for (const one of this.units.children)
      one.setAttribute("aria-pressed", String(one.dataset.unit === unit));
    const groups = new Map();
    for (const one of this.#sightings) {
      const key = one.first.slice(0, UNITS[unit][0]);
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(one);
    }
    const most = Math.max(1, ...[...groups.values()].map((some) => some.length));
    this.#bars.clear();
    const parts = [];
    let last = null;
    for (const [key, some] of [...groups].sort(([one], [other]) => (one < other ? -1 : 1))) {
      parts.push(...this.#gap(last, key));
      const bar = this.#bar(key, some, most, last);
      this.#bars.set(key, bar);
      parts.push(bar.bar);
      last = key;
    }
    this.strip.replaceChildren(...parts);
    this.strip.querySelector(".timeline-bar")?.setAttribute("tabindex", "0");
    if (this.#marked) this.mark(this.#marked.shown, this.#period, this.#marked.chosen);
  }

  #gap(last, key) {
    if (last === null) return [];
    const empty = ordinal(this.#unit, key) - ordinal(this.#unit, last) - 1;
    if (empty <= LONGEST_GAP)
      return Array.from({ length: empty }, () =>
        h("span", { class: "timeline-none", "aria-hidden": "true" }),
      );
    return [
      h(
        "span",
        { class: "timeline-gap", title: `${plural(empty, this.#unit)} with nothing` },
        `${empty}`,
        h("span", { class: "visually-hidden" }, ` ${this.#unit}s with nothing`),
      ),
    ];
  }

  #bar(key, some, most, last) {
    const fill = h("i", { style: { height: "100%" } });
    const column = h(
      "span",
      {
        class: "timeline-column",
        "aria-hidden": "true",
        style: { height: `${Math.max(3, (100 * some.length) / most)}%` },
      },
      fill,
    );
    const bar = h(
      "button",
      {
        type: "button",
        class: "timeline-bar",
        dataset: this.#over(key, last),
        tabindex: "-1",
        "aria-pressed": "false",
        "aria-label": `${names[this.#unit].format(startOf(key))}: ${plural(some.length, "sighting")}`,
        title: `${names[this.#unit].format(startOf(key))}: ${plural(some.length, "sighting")}`,
        onclick: () => this.onperiod(this.#period?.key === key ? null : new Period(this.#unit, key)),
        onfocus: () => this.#rove(bar),
      },
      h("span", { class: "timeline-well", "aria-hidden": "true" }, column),
      h("span", { class: "timeline-tick num", "aria-hidden": "true" }, this.#tick(key)),
    );
    return { bar, fill, some };
  }

  #tick(key) {
    if (this.#unit === "year") return key;
    return this.#unit === "month" ? shortMonth.format(startOf(key)) : String(Number(key.slice(8)));
  }

  /** What the style sheet writes below the first bar of a month and of a year. */
  #over(key, last) {
    const starts = (length) => key.length > length && last?.slice(0, length) !== key.slice(0, length);
    const month = this.#unit === "day" && starts(7) ? shortMonth.format(startOf(key)) : "";
    const year = starts(4) ? key.slice(0, 4) : "";
    return this.#unit === "day" ? { upper: month, lower: year } : { upper: year, lower: "" };
  }

  #rove(bar) {
    for (const one of this.strip.querySelectorAll('.timeline-bar[tabindex="0"]')) one.tabIndex = -1;
    bar.tabIndex = 0;
  }

  #key(event) {
    const bars = [...this.#bars.values()].map((one) => one.bar);
    const at = bars.indexOf(document.activeElement);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: bars.length - 1 }[event.key];
    const units = Object.keys(UNITS);
    const unit = units[units.indexOf(this.#unit) + ({ "+": -1, "=": -1, "-": 1 }[event.key] ?? Number.NaN)];
    if (to !== undefined) bars[Math.max(0, Math.min(bars.length - 1, to))]?.focus();
    else if (unit) {
      this.#setUnit(unit);
      this.strip.querySelector('[tabindex="0"]')?.focus();
    } else return;
    event.preventDefault();
  }

  #wheel(event) {
    const wide = this.strip.scrollWidth > this.strip.clientWidth;
    if (event.ctrlKey || !wide || Math.abs(event.deltaX) > Math.abs(event.deltaY)) return;
    const before = this.strip.scrollLeft;
    this.strip.scrollLeft += event.deltaY;
    if (this.strip.scrollLeft !== before) event.preventDefault();
  }
}
