/** Colours and marks for clusters that stay apart on light and on dark ground, and for colour-blind people. */

/*
 * Eight colours a theme, found by search: contrast with the ground of at least 3:1 (WCAG 2.2, 1.4.11), and, under full
 * protanopia, deuteranopia and tritanopia (Machado, Oliveira and Fernandes, 2009) as well as without, no two of them
 * closer than 0.15 in Oklab; of Okabe and Ito's eight, the closest two are half as far apart.
 */
const LIGHT = ["#0420fd", "#f7620e", "#773491", "#3692fe", "#aa1708", "#a77093", "#4a0b0c", "#0d0360"];
const DARK = ["#15aefe", "#f4f871", "#e86d9a", "#87fcfb", "#c4bb0c", "#335ffd", "#b71797", "#73670d"];

/** Marks besides the colours, as `mark` of a cluster counts them. */
export const MARKS = ["disc", "square", "triangle", "diamond"];

/** The ground, the colours, and the colour of what is in no cluster, as the system's theme wants them. */
export function palette() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  return dark
    ? { dark, colours: DARK, none: "#767d79", ground: "#0d0f0e", ink: "#f4f6f4" }
    : { dark, colours: LIGHT, none: "#8b918d", ground: "#fdfdfb", ink: "#1c211f" };
}

/**
 * Give each cluster a colour and a mark such that clusters near each other on the map differ: the largest cluster
 * chooses first, and each takes what its nearest neighbours use least.
 * @param {Map<number, {count: number, x: number, y: number}>} places As `clusterPlaces` gives them.
 * @param {Map<number, {colour: number, mark: number}>} [before] What was given before; clusters that are there still
 *   keep it.
 * @returns {Map<number, {colour: number, mark: number}>} Places in `palette().colours` and in `MARKS`.
 */
export function paint(places, before = new Map()) {
  const order = [...places].sort(([a, one], [b, other]) => other.count - one.count || a - b);
  const chosen = new Map([...before].filter(([id]) => places.has(id)));
  for (const [id, place] of order) {
    if (chosen.has(id)) continue;
    const costs = new Float64Array(LIGHT.length);
    const marks = new Float64Array(LIGHT.length * MARKS.length);
    for (const [other, { colour, mark }] of chosen) {
      const there = places.get(other);
      const near = 1 / (0.02 + Math.hypot(there.x - place.x, there.y - place.y)) ** 2;
      costs[colour] += near;
      marks[colour * MARKS.length + mark] += near;
    }
    const colour = costs.indexOf(Math.min(...costs));
    const own = marks.subarray(colour * MARKS.length, (colour + 1) * MARKS.length);
    chosen.set(id, { colour, mark: own.indexOf(Math.min(...own)) });
  }
  return chosen;
}

/** "#rrggbb" as a pixel of ImageData seen as a little-endian number; `share` of it, the rest of the ground. */
export function pixel(colour, ground = colour, share = 1) {
  const part = (at) => {
    const [own, under] = [colour, ground].map((text) => Number.parseInt(text.slice(at, at + 2), 16));
    return Math.round(own * share + under * (1 - share));
  };
  return ((255 << 24) | (part(5) << 16) | (part(3) << 8) | part(1)) >>> 0;
}
