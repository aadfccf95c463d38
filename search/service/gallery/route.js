/** Where the gallery is, as the address says it: `#/page/rest?query`. */

/** @returns {{page: string, path: string[], query: URLSearchParams}} */
export function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const [page, ...rest] = path.split("/").filter(Boolean).map(decodeURIComponent);
  return { page: page || "photos", path: rest, query: new URLSearchParams(query) };
}

/** The address of a page: `href("photo", 12)`, `href("photos", {camera: "nikon"})`. */
export function href(...parts) {
  const last = parts.at(-1);
  const query = last instanceof Object ? toQuery(parts.pop()) : "";
  return `#/${parts.map(encodeURIComponent).join("/")}${query && `?${query}`}`;
}

/** Query text of an object or URLSearchParams; empty values are left out, a list repeats its name. */
export function toQuery(values) {
  const query = new URLSearchParams();
  const entries = values instanceof URLSearchParams ? values : Object.entries(values ?? {});
  for (const [name, value] of entries) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") query.append(name, one);
    }
  }
  return query.toString();
}

/** Go to a page, as a link would. */
export const go = (address) => (location.hash = address);

/** Write the state of the page on show into its address, without showing it anew. */
export function keepState(values) {
  const { page, path } = route();
  history.replaceState(history.state, "", href(page, ...path, values));
}
