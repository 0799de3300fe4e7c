/** One uPlot with its heading: the names of its lines, and their values at the cursor. */

import { columnsOf } from "../state/columns.js";
import { stored } from "../state/numbers.js";
import { clock } from "../state/times.js";
import { SECOND } from "../state/zones.js";
import { lineColour } from "./colours.js";
import { listenToTouch } from "./gestures.js";
import { drawBand, drawExtremes, drawGaps, drawMarks, drawMedians } from "./layers.js";
import { dashIn, optionsOf } from "./options.js";
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

/** The opacity of a line on which the medians are drawn, and of one for comparison. */
const FAINT = 0.5;
const GHOST = 0.7;

export class Pane {
  /** @type {HTMLElement[]} */
  #outputs = [];
  /** The time at the cursor, if there are several lines. */
  #time = document.createElement("output");
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
    const isSeveral = this.lines.length > 1;
    const pane = this.owner.content.layout === "apart" ? this.lines[0]?.pane : undefined;
    if (pane && !this.lines.some(({ name }) => name === pane)) heading.append(bold(pane));
    this.#outputs = this.lines.map(line => {
      const item = document.createElement("span");
      if (line.isGhost) item.className = "ghost";
      const output = document.createElement("output");
      const name = !isSeveral || line.name === pane ? bold(line.name) : line.name;
      item.append(lineKey(line, dashIn(line, this.lines), this.owner.colours), name, output);
      heading.append(item);
      return output;
    });
    if (isSeveral) heading.append(this.#time);
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
      if (series) series.alpha = line.isGhost ? GHOST : bands[line.name] && lines.length === 1 ? FAINT : 1;
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
    const isOne = this.lines.length === 1;
    for (const [at, output] of this.#outputs.entries()) write(output, isOne ? this.#readAt(at) : this.#valueAt(at));
    const { idx } = this.plot.cursor;
    write(this.#time, idx === null || idx === undefined ? "" : this.#clockAt(idx));
  }

  /** @param {number} number */
  #valueAt(number) {
    const at = this.plot.cursor.idxs?.[number + 1];
    const value = at === null || at === undefined ? null : this.plot.data[number + 1]?.[at];
    return value === null || value === undefined ? "" : stored(value);
  }

  /** @param {number} number */
  #readAt(number) {
    const value = this.#valueAt(number);
    return value && `${value}  ${this.#clockAt(this.plot.cursor.idxs?.[number + 1] ?? 0)}`;
  }

  /** @param {number} at */
  #clockAt(at) {
    return `at ${clock(Math.round((this.plot.data[0]?.[at] ?? 0) * SECOND), this.owner.content.zone)}`;
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

/** @param {string} text */
function bold(text) {
  const element = document.createElement("b");
  element.textContent = text;
  return element;
}

/**
 * @param {HTMLElement} output
 * @param {string} text
 */
function write(output, text) {
  if (output.textContent !== text) output.textContent = text;
}

/**
 * Return a picture of a line: its colour and dashes.
 *
 * @param {Line} line
 * @param {number[]} dash
 * @param {Colours} colours
 */
function lineKey({ style, isGhost }, dash, colours) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [48, 16];
  canvas.className = "line-key";
  const context = canvas.getContext("2d");
  if (context) {
    context.strokeStyle = lineColour(colours, style);
    context.lineWidth = 4;
    context.globalAlpha = isGhost ? GHOST : 1;
    context.setLineDash(dash.map(length => length * 1.6));
    context.moveTo(0, 8);
    context.lineTo(48, 8);
    context.stroke();
  }
  return canvas;
}
