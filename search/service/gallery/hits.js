/** A hit of a search as a tile. */

import { thumbUrl } from "./api.js";
import { button, h, picture } from "./dom.js";
import { date, fileName, place, similarity } from "./format.js";
import { href } from "./route.js";

/**
 * A tile with the photo, how alike it is, its label, time and place.
 * @param {object} hit Hit of the API.
 * @param {{onlike?: Function, onunlike?: Function, onsearch?: Function}} [actions] Each makes a button; told the hit.
 */
export function hitTile(hit, { onlike, onunlike, onsearch } = {}) {
  const name = hit.verified ?? hit.label ?? fileName(hit.path);
  const act = (mark, label, then) =>
    then && button("", { icon: mark, class: "small", label, onclick: () => then(hit) });
  const where = place(hit.lat, hit.lon, hit.coarse);
  return h(
    "li",
    { class: "tile" },
    h(
      "a",
      { class: "tile", href: href("photo", hit.photo_id), title: hit.path },
      picture(thumbUrl(hit.photo_id, 320)),
      h(
        "span",
        { class: "badge num" },
        h("span", { class: "visually-hidden" }, "Similarity "),
        similarity(hit.similarity),
      ),
      h(
        "span",
        { class: "caption" },
        h(
          "span",
          { class: "species clip" },
          name,
          hit.verified &&
            h("span", { class: "mark" }, " ✓", h("span", { class: "visually-hidden" }, " verified")),
        ),
        h("span", { class: "soft clip" }, date(hit.captured_at) || "No date"),
        where && h("span", { class: "soft clip" }, where),
      ),
    ),
    (onlike || onunlike || onsearch) &&
      h(
        "span",
        { class: "row tile-actions" },
        act("plus", `More like ${name}`, onlike),
        act("minus", `Less like ${name}`, onunlike),
        act("similar", `Search by this photo of ${name}`, onsearch),
      ),
  );
}
