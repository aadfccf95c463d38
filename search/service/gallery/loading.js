/** Pictures: asked for again while the service is busy, and given up once nobody looks at them any more. */

/** Between two tries, in ms, unless the service says how long; then the picture counts as missing. */
const WAITS_MS = [400, 1000, 2000, 4000, 8000, 15000, 30000];
const BUSY = new Set([408, 425, 429, 502, 503, 504]);

const loading = new WeakMap();

/**
 * Load a picture.
 * @param {HTMLImageElement} img Where it goes.
 * @param {string} url Its address.
 * @param {Function} onmissing Called if it cannot be had.
 */
export function load(img, url, onmissing) {
  giveUp(img);
  watch(img, url, onmissing);
  img.src = url;
}

/** See a picture through that is being loaded already; otherwise as `load`. */
export function watch(img, url, onmissing) {
  loading.get(img)?.abort();
  const ended = new AbortController();
  loading.set(img, ended);
  img.addEventListener("load", () => ended.abort(), { signal: ended.signal });
  // An element does not say why it failed: the first answer is asked for once more.
  const failed = () => again(img, url, ended, onmissing);
  img.addEventListener("error", failed, { once: true, signal: ended.signal });
}

/** Load a picture no further, and forget what was loaded of it. */
export function giveUp(img) {
  loading.get(img)?.abort();
  loading.delete(img);
  img.removeAttribute("src");
}

async function again(img, url, ended, onmissing) {
  const { signal } = ended;
  let least = 0;
  for (const wait of WAITS_MS) {
    await pause(Math.max(least, wait * (0.75 + Math.random() / 2)), signal);
    if (signal.aborted || !img.isConnected) return;
    try {
      const answer = await fetch(url, { signal });
      if (answer.ok) return show(img, await answer.blob(), onmissing, signal);
      await answer.body?.cancel();
      if (!BUSY.has(answer.status)) break;
      least = 1000 * (Number(answer.headers.get("Retry-After")) || 0);
    } catch {
      // No answer at all: as if it was busy.
      least = 0;
    }
  }
  if (!signal.aborted) onmissing();
}

function show(img, blob, onmissing, signal) {
  if (signal.aborted) return;
  const local = URL.createObjectURL(blob);
  const done = () => URL.revokeObjectURL(local);
  img.addEventListener("load", done, { once: true });
  img.addEventListener("error", () => (done(), onmissing()), { once: true });
  signal.addEventListener("abort", done, { once: true });
  img.src = local;
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
