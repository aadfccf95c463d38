/** The list of photos that was on show last, so that a photo knows its neighbours and a grid its place. */

let last = { address: "#/photos", ids: [], place: null };

/** Remember a list: the address that shows it, its photos in order, and where in it somebody was. */
export function rememberList(address, ids, place = null) {
  last = { address, ids, place };
}

/** The list of this address as it was left, or null. */
export const listAt = (address) => (last.address === address ? last : null);

/**
 * What stands beside a photo in the last list.
 * @returns {{address: string, index: number, total: number, before: ?number, after: ?number}} `index` is -1 if it is
 *   not in it.
 */
export function around(id) {
  const index = last.ids.indexOf(id);
  const at = (step) => (index < 0 ? null : (last.ids[index + step] ?? null));
  return { address: last.address, index, total: last.ids.length, before: at(-1), after: at(1) };
}

/** Come back to this photo when the list is shown again. */
export function returnTo(id) {
  const index = last.ids.indexOf(id);
  if (index >= 0) last.place = { ...last.place, active: index };
}
