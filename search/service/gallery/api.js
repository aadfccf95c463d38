/** The HTTP API: requests, errors as sentences, the token dialog, jobs. */

import { button, h, openDialog } from "./dom.js";
import { toQuery } from "./route.js";

/** An answer that is not the one asked for; the message is for a person. */
export class ApiError extends Error {
  /**
   * @param {string} message For a person.
   * @param {number} status HTTP status, 0 if there was no answer.
   * @param {object|null} problem The problem document (RFC 9457), if there was one.
   * @param {number|null} retryAfter Seconds after which to try again, if the server said.
   */
  constructor(message, status = 0, problem = null, retryAfter = null) {
    super(message);
    this.name = "ApiError";
    Object.assign(this, { status, problem, retryAfter });
  }
}

/**
 * Ask the API; asks for the token if one is needed, then goes on.
 * @param {string} path Such as `/api/photos`.
 * @param {{method?: string, query?: object, json?: *, form?: FormData, signal?: AbortSignal}} [options] `json` or
 *   `form` is sent with POST unless `method` says otherwise.
 * @returns {Promise<*>} The JSON, an ArrayBuffer of binary data, or null if the answer is empty.
 * @throws {ApiError} Whatever is not a success; an AbortError if the signal aborts.
 */
export async function api(path, options = {}) {
  const response = await request(path, options);
  if (response.status !== 401) return read(response);
  await logIn();
  options.signal?.throwIfAborted();
  return read(await request(path, options));
}

async function request(path, { method, query, json, form, signal }) {
  const text = toQuery(query);
  const body = form ?? (json === undefined ? undefined : JSON.stringify(json));
  const headers = { Accept: "application/json, application/octet-stream" };
  if (json !== undefined) headers["Content-Type"] = "application/json";
  try {
    return await fetch(text ? `${path}?${text}` : path, {
      method: method ?? (body === undefined ? "GET" : "POST"),
      headers,
      body,
      signal,
      credentials: "same-origin",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("birdsearch does not answer. Is “birdsearch serve” still running?");
  }
}

async function read(response) {
  const type = response.headers.get("Content-Type") ?? "";
  if (!response.ok) throw await toError(response, type);
  if (type.startsWith("application/octet-stream")) return response.arrayBuffer();
  return type.includes("json") ? response.json() : null;
}

async function toError(response, type) {
  const problem = type.includes("json") ? await response.json().catch(() => null) : null;
  const retry = Number(response.headers.get("Retry-After")) || null;
  return new ApiError(sentence(response.status, problem, retry), response.status, problem, retry);
}

function sentence(status, problem, retry) {
  const detail = problem?.detail ?? "";
  const places = (problem?.errors ?? []).map((one) => `${one.where}: ${one.message}`).join("; ");
  const again = retry ? ` Try again in ${retry} s.` : "";
  if (status === 401) return "That token is not the one.";
  if (status === 413) return `That photo is too large for this server${detail && ` (${detail})`}.`;
  if (status === 503) return `birdsearch is busy or not ready${detail && ` (${detail})`}.${again}`;
  if (status >= 500)
    return "birdsearch hit an error of its own. The server's log has the details; try again.";
  const said = places || detail || problem?.title || `the server answered ${status}`;
  return `${said[0].toUpperCase()}${said.slice(1)}${/[.!?]$/.test(said) ? "" : "."}${again}`;
}

let loggingIn = null;

/** Ask for the token, once however many requests wait for it. */
function logIn() {
  loggingIn ??= askForToken().finally(() => (loggingIn = null));
  return loggingIn;
}

function askForToken() {
  const words = h(
    "p",
    { class: "soft" },
    "Its owner started this gallery with a token. Ask for it, or look in the token file.",
  );
  const input = h("input", {
    id: "token",
    type: "password",
    autocomplete: "current-password",
    required: true,
  });
  const wrong = h("p", { class: "notice bad", role: "alert", hidden: true });
  const submit = button("Open the gallery", { class: "primary", type: "submit" });
  const form = h(
    "form",
    {},
    words,
    h("div", { class: "field" }, h("label", { for: "token" }, "Token"), input),
    wrong,
    h("div", { class: "actions" }, submit),
  );
  const dialog = openDialog("This gallery is locked", form);
  input.focus();
  return new Promise((resolve, reject) => {
    dialog.addEventListener("close", () =>
      reject(new ApiError("The gallery is locked. Reload to enter the token.", 401)),
    );
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      submit.disabled = true;
      try {
        await read(await request("/api/session", { json: { token: input.value } }));
        resolve();
        dialog.close();
      } catch (error) {
        wrong.textContent = error.message;
        wrong.hidden = false;
        input.select();
      } finally {
        submit.disabled = false;
      }
    });
  });
}

let catalogAnswer = null;

/** What the catalog is; asked once, again with `fresh`. */
export function catalog(fresh = false) {
  if (fresh || catalogAnswer === null) {
    catalogAnswer = api("/api/catalog");
    catalogAnswer.catch(() => (catalogAnswer = null));
  }
  return catalogAnswer;
}

/**
 * Address of a thumbnail.
 * @param {number} id Photo.
 * @param {160|320|640|1280} [size] Longest side.
 * @param {number[]|null} [box] Region x, y, w, h of the frame, 0..1.
 */
export function thumbUrl(id, size = 320, box = null) {
  return `/api/photos/${id}/thumb?${toQuery({ size, box: box?.map((one) => one.toFixed(4)).join(",") })}`;
}

/** The size of thumbnail that a picture of so many CSS pixels needs on this screen. */
export function thumbSize(pixels) {
  const needed = pixels * Math.min(devicePixelRatio, 2);
  return [160, 320, 640].find((size) => size >= needed * 0.9) ?? 1280;
}

/**
 * Follow a job until it ends.
 * @param {{id: *}} job What a 202 answered.
 * @param {Function} onprogress Told the job at each change.
 * @param {AbortSignal} signal Stops following; the job goes on.
 * @returns {Promise<object>} The finished job.
 * @throws {ApiError} It failed, or the server is gone.
 */
export async function followJob(job, onprogress, signal) {
  const last = await new Promise((resolve, reject) => {
    const events = new EventSource(`/api/jobs/${job.id}/events`);
    const stop = (settle, value) => (events.close(), settle(value));
    signal.addEventListener("abort", () => stop(reject, signal.reason), { once: true });
    events.addEventListener("progress", (event) => {
      const now = JSON.parse(event.data);
      onprogress(now);
      if (["done", "failed", "cancelled"].includes(now.state)) stop(resolve, now);
    });
    events.addEventListener("error", () => {
      // The browser reconnects by itself; once it gives up, the job's own address says what became of it.
      if (events.readyState !== EventSource.CLOSED) return;
      api(`/api/jobs/${job.id}`, { signal }).then(
        (now) =>
          now.state === "running" || now.state === "queued"
            ? stop(resolve, followJob(now, onprogress, signal))
            : stop(resolve, now),
        (error) => stop(reject, error),
      );
    });
  });
  if (last.state === "failed") {
    const problem = last.error ?? {};
    throw new ApiError(sentence(problem.status ?? 422, problem, null), problem.status, problem);
  }
  return last;
}
