/** The stream of stored readings of several devices, which is opened again whenever it is lost. */

import { listen, Problem, Unreachable } from "../../api.js";

/** @typedef {import("../../state/events.js").ServerEvent} ServerEvent */
/**
 * @typedef {object} Actions
 * @property {(headers: Headers) => void} opened from now on no stored reading is missed
 * @property {(event: ServerEvent) => void} event
 * @property {() => void} changed the state
 */

const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 15_000;
/** The service sends an event at least every 15 seconds. */
const SILENT_MS = 40_000;
const WATCH_MS = 5_000;

export class LiveStream {
  /** @type {"closed" | "opening" | "open" | "ended"} */
  state = "closed";
  /** Since when the stream is lost, in milliseconds since 1970; null while it is not. @type {number | null} */
  lostAt = null;
  /** Why it is lost or has ended. */
  reason = "";
  /** What a request for the stream was answered with. @type {Problem | null} */
  refusal = null;
  #devices = /** @type {string[]} */ ([]);
  #running = new AbortController();
  #retry = 0;
  #failures = 0;
  #heardAt = 0;
  #watch = 0;

  /** @param {Actions} actions */
  constructor(actions) {
    this.actions = actions;
  }

  /** @param {string[]} devices */
  open(devices) {
    this.close();
    this.#devices = devices;
    if (devices.length === 0) return;
    this.#watch = window.setInterval(() => this.#look(), WATCH_MS);
    void this.#listen();
  }

  /** Close the stream. It is not lost then. */
  close() {
    this.#stop();
    this.state = "closed";
    this.lostAt = null;
    this.refusal = null;
  }

  #stop() {
    this.#running.abort();
    clearTimeout(this.#retry);
    clearInterval(this.#watch);
  }

  async #listen() {
    const controller = new AbortController();
    this.#running = controller;
    this.state = "opening";
    this.#heardAt = performance.now();
    this.actions.changed();
    try {
      await listen("/stats/live", { device_id: this.#devices }, controller.signal, {
        opened: headers => this.#opened(headers),
        event: event => this.#take(event),
      });
      this.#lost("The service has closed the stream.", null);
    } catch (error) {
      if (controller.signal.aborted) return;
      if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
      this.#lost(error.message, error instanceof Problem ? error : null);
    }
  }

  /** @param {Headers} headers */
  #opened(headers) {
    this.state = "open";
    this.lostAt = null;
    this.refusal = null;
    this.#failures = 0;
    this.actions.opened(headers);
    this.actions.changed();
  }

  /** @param {ServerEvent} event */
  #take(event) {
    this.#heardAt = performance.now();
    if (event.name === "end") this.#end(event.data.detail);
    this.actions.event(event);
  }

  /** @param {string} detail */
  #end(detail) {
    this.#stop();
    this.state = "ended";
    this.lostAt = Date.now();
    this.reason = `The stream has ended: ${detail}.`;
    this.actions.changed();
  }

  /**
   * @param {string} reason
   * @param {Problem | null} refusal
   */
  #lost(reason, refusal) {
    if (this.state === "ended") return;
    this.state = "opening";
    this.lostAt ??= Date.now();
    this.reason = reason;
    this.refusal = refusal;
    const wait = Math.min(FIRST_RETRY_MS * 2 ** this.#failures, LAST_RETRY_MS);
    this.#failures += 1;
    this.#retry = window.setTimeout(() => void this.#listen(), Math.max(wait, (refusal?.retryAfter ?? 0) * 1000));
    this.actions.changed();
  }

  /** Count an open stream without any event as lost: the network may be gone without a sign. */
  #look() {
    if (this.state !== "open" || performance.now() - this.#heardAt < SILENT_MS) return;
    this.#running.abort();
    this.#lost("Nothing arrives from the service.", null);
  }
}
