/** Numbers, times and places as people read them. */

const count = new Intl.NumberFormat("en");
const day = new Intl.DateTimeFormat("en-GB", {
  day: "numeric",
  month: "short",
  year: "numeric",
  timeZone: "UTC",
});
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: "UTC" });

/** 12345 -> "12,345". */
export const number = (value) => count.format(value);

/** (1, "photo") -> "1 photo", (2, "photo") -> "2 photos"; a third word is an irregular plural. */
export const plural = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;

/** 0.874 -> "87 %"; what rounds to nothing or to all, but is not, says so. */
export function percent(share) {
  if (share === null || share === undefined) return "–";
  if (share > 0 && share < 0.005) return "< 1 %";
  if (share < 1 && share >= 0.995) return "> 99 %";
  return `${Math.round(share * 100)} %`;
}

/** Cosine similarity, two digits; three where hits are close to 1. */
export const similarity = (value) => value.toFixed(value >= 0.985 ? 3 : 2);

/** A local wall-clock time without zone as the instant of the same name in UTC, so that no browser shifts it. */
const wall = (iso) => new Date(`${iso.slice(0, 19)}${iso.length > 10 ? "" : "T00:00:00"}Z`);

/** "2023-05-14T06:30:00" -> "14 May 2023"; empty without a time. */
export const date = (iso) => (iso ? day.format(wall(iso)) : "");

/** "2023-05-14T06:30:00" -> "14 May 2023, 06:30"; empty without a time. */
export const moment = (iso) =>
  iso ? `${date(iso)}${iso.length > 10 ? `, ${clock.format(wall(iso))}` : ""}` : "";

/** (31.25, 34.8) -> "31.25° N, 34.8° E"; a coarsened place says that it is one. */
export function place(lat, lon, coarse = false) {
  if (lat === null || lat === undefined) return "";
  const digits = coarse ? 1 : 4;
  const side = (value, plus, minus) =>
    `${Number(Math.abs(value).toFixed(digits))}° ${value < 0 ? minus : plus}`;
  return `${coarse ? "near " : ""}${side(lat, "N", "S")}, ${side(lon, "E", "W")}`;
}

/** 1536000 -> "1.5 MB". */
export function bytes(value) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let step = 0;
  for (; value >= 1000 && step < units.length - 1; step++) value /= 1000;
  return `${step === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[step]}`;
}

/** "archive/2024/a.jpg" -> "a.jpg". */
export const fileName = (path) => path.slice(path.lastIndexOf("/") + 1);

/** Seconds as "12 s", "4 min" or "2 h 10 min". */
export function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** What people verified a photo to be, or undefined. */
export const verifiedAs = (photo) => photo.verified.find((one) => one.verdict === "positive");

/** What a photo shows, as far as known; with a question mark where no rank is sure enough. Null without any label. */
export function nameOf(photo) {
  const { label } = photo;
  return (
    verifiedAs(photo)?.taxon ??
    (label === null ? null : label.rank === "bird" ? `${label.species}?` : label.name)
  );
}
