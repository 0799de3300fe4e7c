/** Calls a function as often as a moving plot needs, in frames of the browser, and at most a third of the time. */

const LEAST_MS = 40;
const MOST_MS = 250;
/** Without motion, the plot moves in steps. */
const STEP_MS = 1_000;
/** The width of a plot, in pixels. */
const WIDTH = 1_200;
const SHARE = 2;

export class Pace {
  #timer = 0;
  #frame = 0;
  #isRunning = false;
  #still = matchMedia("(prefers-reduced-motion: reduce)");

  /**
   * @param {() => void} work
   * @param {() => number} length of the window, in milliseconds
   */
  constructor(work, length) {
    this.work = work;
    this.length = length;
  }

  start() {
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#plan(0);
  }

  stop() {
    this.#isRunning = false;
    clearTimeout(this.#timer);
    cancelAnimationFrame(this.#frame);
  }

  close() {
    this.stop();
  }

  /** @param {number} wait */
  #plan(wait) {
    this.#timer = window.setTimeout(() => {
      this.#frame = requestAnimationFrame(() => this.#run());
    }, wait);
  }

  #run() {
    const began = performance.now();
    this.work();
    // After the browser has painted the frame, which takes most of the time.
    this.#timer = window.setTimeout(() => {
      const took = performance.now() - began;
      const step = this.#still.matches ? STEP_MS : Math.min(Math.max(this.length() / WIDTH, LEAST_MS), MOST_MS);
      if (this.#isRunning) this.#plan(Math.max(step - took, SHARE * took));
    });
  }
}
