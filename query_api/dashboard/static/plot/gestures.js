/** Touch on a plot, which uPlot does not have: drag sideways to select, pinch to zoom. The page scrolls vertically. */

/** @typedef {import("./uplot.js").UPlot} UPlot */
/** @typedef {{min: number, max: number}} Window seconds since 1970 */

const MOVED_PX = 6;

/**
 * @param {UPlot} plot
 * @param {{zoom: (window: Window) => void, preview: (window: Window) => void}} actions `preview`: during a pinch
 * @param {AbortSignal} signal
 */
export function listenToTouch(plot, actions, signal) {
  const gesture = new Gesture(plot, actions);
  const { over } = plot;
  over.addEventListener("pointerdown", event => gesture.down(event), { signal });
  over.addEventListener("pointermove", event => gesture.move(event), { signal });
  over.addEventListener("pointerup", event => gesture.up(event), { signal });
  over.addEventListener("pointercancel", () => gesture.cancel(), { signal });
}

class Gesture {
  /** Positions of the fingers, at first and now. @type {Map<number, {first: number, now: number}>} */
  #fingers = new Map();
  /** The values under the fingers when a pinch began. @type {number[]} */
  #held = [];
  /** @type {Window | null} */
  #pinched = null;

  /**
   * @param {UPlot} plot
   * @param {{zoom: (window: Window) => void, preview: (window: Window) => void}} actions
   */
  constructor(plot, actions) {
    this.plot = plot;
    this.actions = actions;
  }

  /** @param {PointerEvent} event */
  down(event) {
    if (event.pointerType === "mouse" || this.#fingers.size === 2) return;
    const x = this.#xOf(event);
    this.#fingers.set(event.pointerId, { first: x, now: x });
    this.plot.over.setPointerCapture(event.pointerId);
    if (this.#fingers.size === 2) this.#beginPinch();
  }

  /** @param {PointerEvent} event */
  move(event) {
    const finger = this.#fingers.get(event.pointerId);
    if (!finger) return;
    finger.now = this.#xOf(event);
    if (this.#fingers.size === 2) this.#pinch();
    else if (this.#held.length === 0) this.#select(finger);
  }

  /** @param {PointerEvent} event */
  up(event) {
    const finger = this.#fingers.get(event.pointerId);
    this.#fingers.delete(event.pointerId);
    if (!finger || this.#fingers.size > 0) return;
    const chosen = this.#pinched ?? (this.#held.length === 0 ? this.#selected(finger) : null);
    this.cancel();
    if (chosen) this.actions.zoom(chosen);
  }

  /** The browser scrolls, or the gesture is over. */
  cancel() {
    this.#fingers.clear();
    this.#held = [];
    this.#pinched = null;
    this.plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  }

  /** @param {PointerEvent} event */
  #xOf(event) {
    const { left, width } = this.plot.over.getBoundingClientRect();
    return Math.min(Math.max(event.clientX - left, 0), width);
  }

  /** @param {{first: number, now: number}} finger */
  #select({ first, now }) {
    this.plot.setCursor({ left: now, top: this.plot.over.clientHeight / 2 });
    if (Math.abs(now - first) < MOVED_PX) return;
    const [left, width] = [Math.min(first, now), Math.abs(now - first)];
    this.plot.setSelect({ left, top: 0, width, height: this.plot.over.clientHeight }, false);
  }

  /** @param {{first: number, now: number}} finger */
  #selected({ first, now }) {
    if (Math.abs(now - first) < MOVED_PX) return null;
    const [left, right] = [Math.min(first, now), Math.max(first, now)];
    return { min: this.plot.posToVal(left, "x"), max: this.plot.posToVal(right, "x") };
  }

  #beginPinch() {
    this.plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.#held = this.#positions().map(x => this.plot.posToVal(x, "x"));
  }

  #positions() {
    return [...this.#fingers.values()].map(({ now }) => now).sort((a, b) => a - b);
  }

  /** Keep the values under the fingers. */
  #pinch() {
    const [left, right] = /** @type {[number, number]} */ (this.#positions());
    const [low, high] = /** @type {[number, number]} */ (this.#held.toSorted((a, b) => a - b));
    if (right - left < MOVED_PX || high <= low) return;
    const perPixel = (high - low) / (right - left);
    const min = low - left * perPixel;
    this.#pinched = { min, max: min + this.plot.over.clientWidth * perPixel };
    this.actions.preview(this.#pinched);
  }
}
