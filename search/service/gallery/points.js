/** The points of a map of embeddings: read, sorted into cells, and looked up by place. */

const CELLS = 64;

/**
 * @typedef {object} Points In the order of their cells, so that a part of the map is a few stretches of the arrays.
 * @property {number} count
 * @property {Float32Array} x 0..1, rightwards.
 * @property {Float32Array} y 0..1, upwards in the data, downwards here.
 * @property {Int32Array} cluster -1 for none.
 * @property {Int32Array} photo
 * @property {Uint32Array} start Where each cell starts, row by row, and the end of the last.
 */

/**
 * Read what `/api/clusters/{run}/map` sends: uint32 n, float32 x[n], float32 y[n], int32 cluster[n], int32 photo[n].
 * @param {ArrayBuffer} buffer Little-endian, as every machine with a browser is.
 * @returns {Points}
 */
export function readPoints(buffer) {
  const count = new DataView(buffer).getUint32(0, true);
  if (buffer.byteLength !== 4 + 16 * count) {
    throw new Error(`the map has ${buffer.byteLength} bytes, which is not what ${count} points take`);
  }
  const column = (Kind, place) => new Kind(buffer, 4 + 4 * count * place, count);
  const y = column(Float32Array, 1).map((value) => 1 - value);
  return sorted(count, column(Float32Array, 0), y, column(Int32Array, 2), column(Int32Array, 3));
}

const cellOf = (value) => Math.min(CELLS - 1, Math.max(0, Math.floor(value * CELLS)));

/** A counting sort by cell. */
function sorted(count, x, y, cluster, photo) {
  const start = new Uint32Array(CELLS * CELLS + 1);
  const cells = new Uint16Array(count);
  for (let i = 0; i < count; i++) {
    cells[i] = cellOf(y[i]) * CELLS + cellOf(x[i]);
    start[cells[i] + 1]++;
  }
  for (let i = 0; i < CELLS * CELLS; i++) start[i + 1] += start[i];
  const next = start.slice();
  const points = { count, x: new Float32Array(count), y: new Float32Array(count), start };
  Object.assign(points, { cluster: new Int32Array(count), photo: new Int32Array(count) });
  for (let i = 0; i < count; i++) {
    const place = next[cells[i]]++;
    points.x[place] = x[i];
    points.y[place] = y[i];
    points.cluster[place] = cluster[i];
    points.photo[place] = photo[i];
  }
  return points;
}

/** Stretches [from, to) of the arrays that hold all points of a rectangle, and perhaps some around it. */
export function* stretches({ start }, [left, top, right, bottom]) {
  if (right < 0 || bottom < 0 || left > 1 || top > 1) return;
  const [first, last] = [cellOf(left), cellOf(right)];
  for (let row = cellOf(top); row <= cellOf(bottom); row++) {
    const [from, to] = [start[row * CELLS + first], start[row * CELLS + last + 1]];
    if (to > from) yield [from, to];
  }
}

/** The point nearest to a place, no farther than a distance; -1 if there is none. */
export function nearest(points, x, y, reach) {
  let [found, best] = [-1, reach * reach];
  for (const [from, to] of stretches(points, [x - reach, y - reach, x + reach, y + reach])) {
    for (let i = from; i < to; i++) {
      const apart = (points.x[i] - x) ** 2 + (points.y[i] - y) ** 2;
      if (apart < best) [found, best] = [i, apart];
    }
  }
  return found;
}

/** Points within a rectangle. */
export function inRectangle(points, bounds) {
  const [left, top, right, bottom] = bounds;
  const found = [];
  for (const [from, to] of stretches(points, bounds)) {
    for (let i = from; i < to; i++) {
      if (points.x[i] >= left && points.x[i] <= right && points.y[i] >= top && points.y[i] <= bottom)
        found.push(i);
    }
  }
  return found;
}

/** Points within a closed line, by the even-odd rule. */
export function inLoop(points, loop) {
  if (loop.length < 3) return [];
  const [across, down] = [loop.map(([x]) => x), loop.map(([, y]) => y)];
  const bounds = [Math.min(...across), Math.min(...down), Math.max(...across), Math.max(...down)];
  return inRectangle(points, bounds).filter((i) => {
    const [x, y] = [points.x[i], points.y[i]];
    let inside = false;
    for (let a = 0, b = loop.length - 1; a < loop.length; b = a++) {
      const above = down[a] > y !== down[b] > y;
      if (above && x < ((across[b] - across[a]) * (y - down[a])) / (down[b] - down[a]) + across[a])
        inside = !inside;
    }
    return inside;
  });
}

/**
 * Where each cluster lies: its middle, and bounds that leave out its farthest tenth, so that one stray photo does not
 * make a zoom to the cluster useless.
 * @returns {Map<number, {count: number, x: number, y: number, bounds: number[]}>} By cluster, -1 left out.
 */
export function clusterPlaces(points) {
  const members = new Map();
  for (let i = 0; i < points.count; i++) {
    const id = points.cluster[i];
    if (id < 0) continue;
    if (!members.has(id)) members.set(id, []);
    members.get(id).push(i);
  }
  const places = new Map();
  for (const [id, some] of members) {
    const x = Float32Array.from(some, (i) => points.x[i]).sort();
    const y = Float32Array.from(some, (i) => points.y[i]).sort();
    const at = (values, share) => values[Math.round(share * (values.length - 1))];
    const bounds = [at(x, 0.05), at(y, 0.05), at(x, 0.95), at(y, 0.95)];
    places.set(id, { count: some.length, x: at(x, 0.5), y: at(y, 0.5), bounds });
  }
  return places;
}
