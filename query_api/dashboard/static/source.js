/** A value that is read from the API again and again. */

import { Problem, Unreachable } from "./api.js";

const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 15_000;

/**
 * The last value that was read, and what became of the read after it. A failure keeps the value. A read that may
 * succeed later is tried again.
 *
 * @template T
 */
export class Source {
  /** @type {T | null} */
  value = null;
  /** @type {Problem | Unreachable | null} */
  failure = null;
  isLoading = false;
  /** @type {AbortController | null} */
  #running = null;
  #retry = 0;
  #failures = 0;

  /** @param {() => void} onChange */
  constructor(onChange) {
    this.onChange = onChange;
  }

  /**
   * Read the value. A read that is still running is cancelled.
   *
   * @param {(signal: AbortSignal) => Promise<T>} read
   */
  async load(read) {
    this.close();
    const controller = new AbortController();
    this.#running = controller;
    this.isLoading = true;
    this.onChange();
    try {
      const value = await read(controller.signal);
      if (controller.signal.aborted) return;
      this.value = value;
      this.failure = null;
      this.#failures = 0;
    } catch (error) {
      if (controller.signal.aborted) return;
      if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
      this.failure = error;
      this.#planRetry(error, read);
    }
    this.isLoading = false;
    this.onChange();
  }

  /**
   * @param {Problem | Unreachable} failure
   * @param {(signal: AbortSignal) => Promise<T>} read
   */
  #planRetry(failure, read) {
    if (failure instanceof Problem && !failure.isTemporary) return;
    const asked = failure instanceof Problem ? (failure.retryAfter ?? 0) * 1000 : 0;
    const wait = Math.max(asked, Math.min(FIRST_RETRY_MS * 2 ** this.#failures, LAST_RETRY_MS));
    this.#failures += 1;
    this.#retry = window.setTimeout(() => void this.load(read), wait);
  }

  /** The failure, unless the banner says it: the connection or the database is away, and a value is shown. */
  get toTell() {
    const { failure } = this;
    const isInBanner = failure instanceof Unreachable || failure?.details.status === 503;
    return isInBanner && this.value !== null ? null : failure;
  }

  /**
   * The time until the value is read again, in milliseconds. 0, never, if the role may not read it.
   *
   * @param {number} usual
   */
  interval(usual) {
    return this.failure instanceof Problem && this.failure.details.status === 403 ? 0 : usual;
  }

  /** Cancel a read that is running, or that is to be tried again. */
  close() {
    this.#running?.abort();
    clearTimeout(this.#retry);
  }
}

/** Calls a function at an interval while the page is visible, and at once when it becomes visible again. */
export class Repeat {
  #timer = 0;
  #wasDue = false;

  /**
   * @param {() => void} work
   * @param {() => number} interval the time until the next call, in milliseconds; 0: no call
   */
  constructor(work, interval) {
    this.work = work;
    this.interval = interval;
    this.seen = () => {
      if (!document.hidden && this.#wasDue) this.#run();
    };
    document.addEventListener("visibilitychange", this.seen);
    this.plan();
  }

  /** Start the time until the next call. */
  plan() {
    clearTimeout(this.#timer);
    const interval = this.interval();
    if (interval > 0) this.#timer = window.setTimeout(() => this.#run(), interval);
  }

  #run() {
    this.#wasDue = document.hidden;
    if (document.hidden) return;
    this.work();
    this.plan();
  }

  close() {
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.seen);
  }
}
