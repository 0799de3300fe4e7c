/** One uPlot with its heading: the names of its lines, and their values at the cursor. */

import { stored } from "../state/numbers.js";
import { clock } from "../state/times.js";
import { SECOND } from "../state/zones.js";
import { dashOf, lineColour } from "./colours.js";
import { listenToTouch } from "./gestures.js";
import { drawBand, drawExtremes, drawGaps, drawMarks, drawMedians } from "./layers.js";
import { optionsOf } from "./options.js";
import { UPlot } from "./uplot.js";

/** @typedef {import("./uplot.js").UPlot} Plot */
/** @typedef {import("./gestures.js").Window} Window */
/** @typedef {import("./time-plot.js").Content} Content */
/** @typedef {import("./colours.js").Colours} Colours */
/** @typedef {import("../state/series.js").Line} Line */

/**
 * What a pane tells the plot that it belongs to.
 *
 * @typedef {object} Owner
 * @property {Content} content
 * @property {Colours} colours
 * @property {(window: Window) => void} zoom
 * @property {(window: Window) => void} preview
 * @property {(pane: Pane) => void} moved the cursor has moved
 */

/** The opacity of a line on which the medians are drawn. */
const FAINT = 0.5;

export class Pane {
  /** @type {HTMLElement[]} */
  #outputs = [];
  #gestures = new AbortController();

  /**
   * @param {Owner} owner
   * @param {Line[]} lines
   * @param {{width: number, height: number, hasTimes: boolean}} size
   */
  constructor(owner, lines, size) {
    this.owner = owner;
    this.lines = lines;
    this.element = document.createElement("div");
    this.element.className = "pane";
    this.element.append(this.#heading());
    this.plot = this.#plotted(size);
    const actions = {
      zoom: (/** @type {Window} */ window) => owner.zoom(window),
      preview: (/** @type {Window} */ window) => owner.preview(window),
    };
    listenToTouch(this.plot, actions, this.#gestures.signal);
    this.show(lines);
  }

  #heading() {
    const heading = document.createElement("div");
    heading.className = "pane-heading";
    this.#outputs = this.lines.map(line => {
      const item = document.createElement("span");
      const output = document.createElement("output");
      const name = document.createElement("b");
      name.textContent = line.name;
      item.append(lineKey(line, this.lines.length > 1, this.owner.colours), name, output);
      heading.append(item);
      return output;
    });
    return heading;
  }

  /** @param {{width: number, height: number, hasTimes: boolean}} size */
  #plotted(size) {
    const { owner } = this;
    const hooks = {
      drawAxes: [(/** @type {Plot} */ plot) => this.#drawBelow(plot)],
      draw: [(/** @type {Plot} */ plot) => this.#drawAbove(plot)],
      setCursor: [() => owner.moved(this)],
      setSelect: [(/** @type {Plot} */ plot) => this.#selected(plot)],
    };
    const setup = { lines: this.lines, ...size, zone: () => owner.content.zone, colours: () => owner.colours, hooks };
    return new UPlot(optionsOf(setup), [[], ...this.lines.map(() => [])], this.element);
  }

  /** @param {Plot} plot */
  #drawBelow(plot) {
    const { gaps, bands } = this.owner.content;
    drawGaps(plot, gaps, this.owner.colours);
    for (const line of this.lines) {
      const band = bands[line.name];
      if (band) drawBand(plot, band, lineColour(this.owner.colours, line.style));
    }
  }

  /** @param {Plot} plot */
  #drawAbove(plot) {
    const { marks, bands } = this.owner.content;
    drawMarks(plot, marks, this.owner.colours);
    const [only] = this.lines;
    if (!only || this.lines.length > 1) return;
    const band = bands[only.name];
    if (band) drawMedians(plot, band, this.owner.colours);
    drawExtremes(plot, only, this.owner.colours);
  }

  /** @param {Plot} plot */
  #selected(plot) {
    const { left, width } = plot.select;
    if (width <= 0) return;
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.owner.zoom({ min: plot.posToVal(left, "x"), max: plot.posToVal(left + width, "x") });
  }

  /**
   * Show the lines, which have the names and styles of before.
   *
   * @param {Line[]} lines
   */
  show(lines) {
    this.lines = lines;
    const { bands, period } = this.owner.content;
    const { start, end } = period;
    for (const [at, line] of lines.entries()) {
      const series = this.plot.series[at + 1];
      if (series) series.alpha = bands[line.name] && lines.length === 1 ? FAINT : 1;
    }
    this.plot.batch(() => {
      this.plot.setData(columnsOf(lines), false);
      this.plot.setScale("x", { min: start / SECOND, max: Math.max(end, start + 1) / SECOND });
    });
    this.read();
  }

  /** @param {Window} window */
  showWindow({ min, max }) {
    this.plot.setScale("x", { min, max });
  }

  /** Draw again in other colours. */
  recolour() {
    this.element.querySelector(".pane-heading")?.replaceWith(this.#heading());
    this.plot.redraw(false, true);
    this.read();
  }

  /** Write the values at the cursor. */
  read() {
    for (const [at, output] of this.#outputs.entries()) output.textContent = this.#readAt(at);
  }

  /** @param {number} number */
  #readAt(number) {
    const at = this.plot.cursor.idxs?.[number + 1];
    const value = at === null || at === undefined ? null : this.plot.data[number + 1]?.[at];
    if (value === null || value === undefined || at === null || at === undefined) return "";
    return `${stored(value)}  at ${clock(Math.round((this.plot.data[0]?.[at] ?? 0) * SECOND), this.owner.content.zone)}`;
  }

  /** The values at the cursor as a text. */
  spoken() {
    return this.lines.map(({ name }, at) => `${name} ${this.#readAt(at)}`).join(", ");
  }

  close() {
    this.#gestures.abort();
    this.plot.destroy();
    this.element.remove();
  }
}

/**
 * Return the columns of uPlot: a common column of times, and one of values for each line. A line has undefined at the
 * times of others.
 *
 * @param {Line[]} lines
 * @returns {import("uplot").AlignedData}
 */
function columnsOf(lines) {
  const [only] = lines;
  if (only && lines.length === 1) return [only.times, only.values];
  return UPlot.join(lines.map(({ times, values }) => /** @type {import("uplot").AlignedData} */ ([times, values])));
}

/**
 * Return a picture of a line: its colour and dashes.
 *
 * @param {Line} line
 * @param {boolean} isDashed
 * @param {Colours} colours
 */
function lineKey({ style }, isDashed, colours) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [48, 16];
  canvas.className = "line-key";
  const context = canvas.getContext("2d");
  if (context) {
    context.strokeStyle = lineColour(colours, style);
    context.lineWidth = 4;
    if (isDashed) context.setLineDash(dashOf(style).map(length => length * 1.6));
    context.moveTo(0, 8);
    context.lineTo(48, 8);
    context.stroke();
  }
  return canvas;
}
