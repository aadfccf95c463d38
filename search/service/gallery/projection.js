/** Places on a plane: the Mercator projection of the sphere, as web maps use it, and round numbers for a graticule. */

const EQUATOR_METRES = 40_075_016.7;
const FARTHEST = 85;
const RADIAN = Math.PI / 180;

/** Degrees north and east to a plane that is 1 wide: x rightwards from 180° W, y downwards from 85° N or so. */
export function project(lat, lon) {
  const angle = Math.max(-FARTHEST, Math.min(FARTHEST, lat)) * RADIAN;
  return [lon / 360 + 0.5, 0.5 - Math.log(Math.tan(Math.PI / 4 + angle / 2)) / (2 * Math.PI)];
}

/** The other way round: degrees north and east. */
export function inverse(x, y) {
  return [(2 * Math.atan(Math.exp((0.5 - y) * 2 * Math.PI)) - Math.PI / 2) / RADIAN, (x - 0.5) * 360];
}

/** Metres that a CSS pixel spans at a latitude, `scale` pixels being a turn of the earth. */
export const metresPerPixel = (lat, scale) => (EQUATOR_METRES * Math.cos(lat * RADIAN)) / scale;

/**
 * Round degrees between two.
 * @param {number} from
 * @param {number} to
 * @param {number} most About how many there may be.
 * @returns {{values: number[], digits: number}} And how many digits after the point they need.
 */
export function steps(from, to, most) {
  const least = (to - from) / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(least));
  const step = least > 20 ? 30 : [1, 2, 5, 10].map((one) => one * power).find((one) => one >= least);
  const first = Math.ceil(from / step);
  const values = Array.from(
    { length: Math.max(0, Math.floor(to / step) - first + 1) },
    (_, place) => (first + place) * step,
  );
  return { values, digits: Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)) };
}

/**
 * Sightings by place, the places with most of them first.
 * @param {object[]} sightings With `lat` and `lon`.
 * @returns {{x: number, y: number, lat: number, lon: number, coarse: boolean, ids: number[]}[]}
 */
export function groupPlaces(sightings) {
  const places = new Map();
  for (const { id, lat, lon, coarse } of sightings) {
    const key = `${lat.toFixed(5)},${lon.toFixed(5)},${coarse}`;
    if (!places.has(key)) {
      const [x, y] = project(lat, lon);
      places.set(key, { x, y, lat, lon, coarse, ids: [] });
    }
    places.get(key).ids.push(id);
  }
  return [...places.values()].sort(
    (one, other) => other.ids.length - one.ids.length || one.ids[0] - other.ids[0],
  );
}
