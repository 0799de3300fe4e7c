/** Requests to the API, and the state of the connection to it. */

import { addressOf } from "./state/address.js";
import { EventParser } from "./state/events.js";

/** @typedef {import("./state/address.js").Query} Query */
/** @typedef {import("../records.js").ProblemDetails} ProblemDetails */

/** A response that is an error. `details`: the problem (RFC 9457), in the words of the API. */
export class Problem extends Error {
  /**
   * @param {ProblemDetails} details
   * @param {number | null} retryAfter seconds after which the API asks to be tried again
   */
  constructor(details, retryAfter) {
    super(details.detail);
    this.details = details;
    this.retryAfter = retryAfter;
  }

  /** Whether the request may succeed later without a change. */
  get isTemporary() {
    return this.details.status === 503 || this.details.status === 429;
  }
}

/** No response: the service is stopped, or the network is away. */
export class Unreachable extends Error {
  constructor() {
    super("The service does not respond.");
  }
}

/**
 * The state of the connection. `since`: the time of the first request of those that failed last; null while requests
 * are answered.
 *
 * @type {{since: Date | null, reason: string, listeners: Set<() => void>}}
 */
export const connection = { since: null, reason: "", listeners: new Set() };

/** A service that has answered nothing for so long does not respond, although nothing has failed. */
const SILENT_MS = 10_000;
/** Requests without an answer, and the timer since the last answer while there are some. */
const silence = { requests: 0, timer: 0 };

/**
 * Wait for the answer to a request, and note if the service is silent. Rejects as the request does.
 *
 * @template T
 * @param {Promise<T>} answer
 */
async function watched(answer) {
  silence.requests += 1;
  silence.timer ||= timeSilence();
  let isAnswered = false;
  try {
    const found = await answer;
    isAnswered = true;
    return found;
  } finally {
    silence.requests -= 1;
    if (isAnswered || silence.requests === 0) {
      clearTimeout(silence.timer);
      silence.timer = silence.requests ? timeSilence() : 0;
    }
  }
}

function timeSilence() {
  const since = new Date();
  return window.setTimeout(() => {
    silence.timer = 0;
    noteConnection("The service has not answered for 10 seconds.", since);
  }, SILENT_MS);
}

/**
 * @param {string | null} reason why there is no answer; null: there is one
 * @param {Date} since
 */
function noteConnection(reason, since = new Date()) {
  if ((reason === null) === (connection.since === null) && connection.reason === (reason ?? "")) return;
  connection.since = reason === null ? null : (connection.since ?? since);
  connection.reason = reason ?? "";
  for (const listener of connection.listeners) listener();
}

/** Called, with the words of the API, when it refuses the browser's credentials. @type {{listeners: Set<(detail: string) => void>}} */
export const unauthenticated = { listeners: new Set() };

/**
 * Tell that the browser has no credentials.
 *
 * @param {string} detail
 */
export function refused(detail) {
  for (const listener of unauthenticated.listeners) listener(detail);
}

/**
 * @template T
 * @typedef {object} Answer
 * @property {T} data
 * @property {Headers} headers
 */

/**
 * Send a request. Throws Problem, Unreachable, or the AbortError of the signal.
 *
 * @template T
 * @param {string} method
 * @param {string} path
 * @param {{query?: Query, body?: unknown, signal?: AbortSignal | undefined}} options
 * @returns {Promise<Answer<T>>}
 */
export async function send(method, path, { query = {}, body, signal } = {}) {
  const headers = new Headers({ Accept: "application/json, application/problem+json" });
  if (body !== undefined) headers.set("Content-Type", "application/json");
  /** @type {RequestInit} */
  const request = { method, headers, cache: "no-store", credentials: "same-origin" };
  if (body !== undefined) request.body = JSON.stringify(body);
  if (signal) request.signal = signal;
  const [answer, text] = await watched(answered(fetch(addressOf(path, query), request)));
  if (!answer.ok) throw problemOf(answer, text);
  noteConnection(null);
  return { data: /** @type {T} */ (text ? JSON.parse(text) : null), headers: answer.headers };
}

/**
 * Read server-sent events until the stream ends. Throws Problem, Unreachable, or the AbortError of the signal.
 *
 * Unlike EventSource, it has the words of a refusal.
 *
 * @param {string} path
 * @param {Query} query
 * @param {AbortSignal} signal
 * @param {{opened: (headers: Headers) => void, event: (event: import("./state/events.js").ServerEvent) => void}} actions
 */
export async function listen(path, query, signal, { opened, event }) {
  const headers = { Accept: "text/event-stream, application/problem+json" };
  const answer = await reached(
    fetch(addressOf(path, query), { headers, cache: "no-store", credentials: "same-origin", signal }),
  );
  if (!answer.ok || !answer.body) throw problemOf(answer, await reached(answer.text()));
  noteConnection(null);
  opened(answer.headers);
  const parser = new EventParser(event);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reached(reader.read());
    if (done) return;
    parser.push(value);
  }
}

/**
 * @param {Promise<Response>} asked
 * @returns {Promise<[Response, string]>}
 */
async function answered(asked) {
  const answer = await reached(asked);
  return [answer, await reached(answer.text())];
}

/**
 * @template T
 * @param {Promise<T>} wanted
 * @returns {Promise<T>}
 */
async function reached(wanted) {
  try {
    return await wanted;
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    const lost = new Unreachable();
    noteConnection(lost.message);
    throw lost;
  }
}

/**
 * @param {Response} answer
 * @param {string} text
 */
function problemOf(answer, text) {
  const details = detailsOf(answer, text);
  if (answer.status === 401 && new URL(answer.url).pathname !== "/session") refused(details.detail);
  const retryAfter = answer.headers.get("Retry-After");
  noteConnection(answer.status === 503 ? details.detail : null);
  return new Problem(details, retryAfter === null ? null : Number(retryAfter));
}

/**
 * @param {Response} answer
 * @param {string} text
 * @returns {ProblemDetails}
 */
function detailsOf(answer, text) {
  try {
    const details = JSON.parse(text);
    if (typeof details.detail === "string") return details;
  } catch {
    // The answer of a proxy, in HTML.
  }
  const title = answer.statusText || `Status ${answer.status}`;
  const detail = `The answer has the status ${answer.status}, and is not from this service.`;
  return { type: "about:blank", title, status: answer.status, detail, instance: new URL(answer.url).pathname };
}

/**
 * @template T
 * @param {string} path
 * @param {Query} [query]
 * @param {AbortSignal} [signal]
 * @returns {Promise<Answer<T>>}
 */
export function get(path, query = {}, signal) {
  return send("GET", path, { query, signal });
}
