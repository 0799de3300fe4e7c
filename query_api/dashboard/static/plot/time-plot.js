/**
 * `<time-plot>`: lines over time, in one pane or in one each, with a common cursor.
 *
 * Set its property `content`. Its events: `zoom` with a period in `detail`, and `zoomout`.
 */

import { readable } from "../state/ranges.js";
import { SECOND } from "../state/zones.js";
import { coloursIn } from "./colours.js";
import { TIMES_PX } from "./options.js";
import { Pane } from "./pane.js";

/** @typedef {import("../state/series.js").Line} Line */
/** @typedef {import("../state/series.js").Gap} Gap */
/** @typedef {import("../state/times.js").Period} Period */
/** @typedef {import("./layers.js").Span} Span */
/** @typedef {import("./layers.js").Mark} Mark */
/** @typedef {import("./gestures.js").Window} Window */
/**
 * @typedef {object} Content
 * @property {Line[]} lines
 * @property {Period} period
 * @property {string} zone an IANA name
 * @property {Gap[]} gaps
 * @property {Record<string, Span[]>} bands by the name of the line
 * @property {Mark[]} marks
 * @property {"apart" | "together"} layout
 * @property {string} label what the plot shows, for those who cannot see it
 */

/** The height of a pane without its times, by the number of panes. */
const HEIGHTS = [0, 340, 190];
const LEAST_PX = 132;
const KEY_ZOOM = 2;

export class TimePlot extends HTMLElement {
  /** @type {Content | null} */
  #content = null;
  /** @type {Pane[]} */
  #panes = [];
  #shape = "";
  #isFollowing = false;
  #colours = /** @type {import("./colours.js").Colours | null} */ (null);
  #status = document.createElement("div");
  #sizes = new ResizeObserver(() => this.#resize());
  #recolour = () => this.#changeColours();

  connectedCallback() {
    this.tabIndex = 0;
    this.setAttribute("role", "group");
    this.setAttribute("aria-roledescription", "plot");
    this.#status.className = "visually-hidden";
    this.#status.setAttribute("role", "status");
    this.append(this.#status);
    this.#sizes.observe(this);
    window.addEventListener("themechange", this.#recolour);
    this.addEventListener("keydown", this.#key);
    this.addEventListener("dblclick", this.#double);
    this.#show();
  }

  disconnectedCallback() {
    this.#sizes.disconnect();
    window.removeEventListener("themechange", this.#recolour);
    this.removeEventListener("keydown", this.#key);
    this.removeEventListener("dblclick", this.#double);
    this.#clear();
    this.replaceChildren();
  }

  /** @param {Content} content */
  set content(content) {
    if (content === this.#content) return;
    this.#content = content;
    if (this.isConnected) this.#show();
  }

  /** @returns {Content} */
  get content() {
    return /** @type {Content} */ (this.#content);
  }

  get colours() {
    this.#colours ??= coloursIn(this);
    return this.#colours;
  }

  #show() {
    if (this.#content === null) return;
    const { lines, layout, label } = this.#content;
    if (this.getAttribute("aria-label") !== label) this.setAttribute("aria-label", label);
    const groups = layout === "apart" ? [...Map.groupBy(lines, ({ name, pane = name }) => pane).values()] : [lines];
    const shape = JSON.stringify(
      groups.map(group => group.map(({ name, style, pane, isGhost }) => [name, style, pane, isGhost])),
    );
    if (shape === this.#shape) for (const [at, group] of groups.entries()) this.#panes[at]?.show(group);
    else this.#build(groups, shape);
  }

  /**
   * @param {Line[][]} groups
   * @param {string} shape
   */
  #build(groups, shape) {
    this.#clear();
    this.#shape = shape;
    const height = HEIGHTS[groups.length] ?? LEAST_PX;
    for (const [at, group] of groups.entries()) {
      const hasTimes = at === groups.length - 1;
      const size = { width: this.#width(), height: height + (hasTimes ? TIMES_PX : 0), hasTimes };
      const pane = new Pane(this, group, size);
      this.#panes.push(pane);
      this.append(pane.element);
    }
  }

  #clear() {
    for (const pane of this.#panes) pane.close();
    this.#panes = [];
    this.#shape = "";
  }

  #width() {
    return Math.max(this.clientWidth, 200);
  }

  #resize() {
    const width = this.#width();
    for (const { plot } of this.#panes) if (plot.width !== width) plot.setSize({ width, height: plot.height });
  }

  #changeColours() {
    this.#colours = null;
    for (const pane of this.#panes) pane.recolour();
  }

  /**
   * Move the cursors of the other panes.
   *
   * @param {Pane} pane
   */
  moved(pane) {
    pane.read();
    if (this.#isFollowing) return;
    this.#isFollowing = true;
    const { left = -10 } = pane.plot.cursor;
    for (const other of this.#panes) if (other !== pane) other.plot.setCursor({ left, top: -10 }, true);
    this.#isFollowing = false;
  }

  /** @param {Window} window */
  preview(window) {
    for (const pane of this.#panes) pane.showWindow(window);
  }

  /**
   * Ask for the readings of the window, and show what there is of it meanwhile.
   *
   * @param {Window} window
   */
  zoom(window) {
    const [start, end] = [Math.round(window.min * SECOND), Math.round(window.max * SECOND)];
    const detail = readable({ start, end }, this.#pixel());
    if (end > start) this.dispatchEvent(new CustomEvent("zoom", { detail }));
    this.preview(window);
  }

  /** The time of a pixel, in microseconds. */
  #pixel() {
    const { scales, over } = /** @type {Pane} */ (this.#panes[0]).plot;
    return (((scales.x?.max ?? 0) - (scales.x?.min ?? 0)) * SECOND) / Math.max(over.clientWidth, 1);
  }

  #double = () => this.dispatchEvent(new Event("zoomout"));

  /** @param {KeyboardEvent} event */
  #key = event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const run = this.#actionOf(event);
    if (!run) return;
    event.preventDefault();
    run();
  };

  /** @param {KeyboardEvent} event */
  #actionOf({ key, shiftKey }) {
    const steps = shiftKey ? 10 : 1;
    switch (key) {
      case "ArrowLeft":
        return () => this.#step(-steps);
      case "ArrowRight":
        return () => this.#step(steps);
      case "+":
      case "=":
        return () => this.#zoomIn();
      case "-":
        return this.#double;
      case "Escape":
        return () => this.#panes[0]?.plot.setCursor({ left: -10, top: -10 }, true);
      default:
        return null;
    }
  }

  /**
   * Move the cursor by points of the first pane.
   *
   * @param {number} count
   */
  #step(count) {
    const [pane] = this.#panes;
    if (!pane) return;
    const times = pane.plot.data[0];
    const at = pane.plot.cursor.idx ?? (count > 0 ? -1 : times.length);
    const time = times[Math.min(Math.max(at + count, 0), times.length - 1)];
    if (time === undefined) return;
    pane.plot.setCursor({ left: pane.plot.valToPos(time, "x"), top: pane.plot.over.clientHeight / 2 }, true);
    this.#status.textContent = this.#panes.map(each => each.spoken()).join("; ");
  }

  #zoomIn() {
    const [pane] = this.#panes;
    const { min, max } = pane?.plot.scales.x ?? {};
    if (!pane || min === undefined || max === undefined || min === null || max === null) return;
    const { left = -10 } = pane.plot.cursor;
    const middle = left >= 0 ? pane.plot.posToVal(left, "x") : (min + max) / 2;
    const half = (max - min) / KEY_ZOOM / 2;
    this.zoom({ min: middle - half, max: middle + half });
  }
}

customElements.define("time-plot", TimePlot);
