/** A value that is read from the API again and again. */

import { Problem, Unreachable } from "./api.js";

/**
 * The last value that was read, and what became of the read after it. A failure keeps the value.
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
    this.#running?.abort();
    const controller = new AbortController();
    this.#running = controller;
    this.isLoading = true;
    this.onChange();
    try {
      const value = await read(controller.signal);
      if (controller.signal.aborted) return;
      this.value = value;
      this.failure = null;
    } catch (error) {
      if (controller.signal.aborted) return;
      if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
      this.failure = error;
    }
    this.isLoading = false;
    this.onChange();
  }

  /** Cancel a read that is running. */
  close() {
    this.#running?.abort();
  }

  /** Drop the value, as it is of something else. */
  clear() {
    this.close();
    this.value = null;
    this.failure = null;
    this.isLoading = false;
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
