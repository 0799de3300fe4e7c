/** The options of uPlot for a pane: one or several lines over a common axis of time. */

import { scale } from "../state/numbers.js";
import { SECOND } from "../state/zones.js";
import { dashOf, lineColour } from "./colours.js";
import { drawLine } from "./lines.js";
import { timeTicks } from "./ticks.js";

/** @typedef {import("./uplot.js").Options} Options */
/** @typedef {import("./uplot.js").UPlot} UPlot */
/** @typedef {import("./colours.js").Colours} Colours */
/** @typedef {import("../state/series.js").Line} Line */

/** Of a line for comparison. */
const GHOST_DASH = [3, 4];
const FONT = "12px system-ui, sans-serif";
const TICK_PX = 88;
const MARGIN = 0.08;
const LINE_PX = 1.5;
export const VALUES_PX = 60;
export const TIMES_PX = 38;

/**
 * @typedef {object} PaneSetup
 * @property {Line[]} lines
 * @property {number} width
 * @property {number} height
 * @property {boolean} hasTimes whether the pane has the labels of times
 * @property {() => string} zone
 * @property {() => Colours} colours
 * @property {import("uplot").Hooks.Arrays} hooks
 */

/**
 * @param {PaneSetup} setup
 * @returns {Options}
 */
export function optionsOf({ lines, width, height, hasTimes, zone, colours, hooks }) {
  return {
    width,
    height,
    legend: { show: false },
    padding: [8, 28, hasTimes ? 0 : 4, 0],
    scales: { x: { time: false, auto: false }, y: { range: (_, min, max) => valueRange(min, max) } },
    axes: [timeAxis(hasTimes, zone, colours), valueAxis(colours)],
    series: [{}, ...lines.map(line => seriesOf(line, colours))],
    cursor: {
      drag: { x: true, y: false, setScale: false, dist: 4 },
      points: { size: 7 },
      bind: { dblclick: () => () => null },
    },
    hooks: { ...hooks, drawSeries: [(plot, number) => drawOwn(plot, number, lines, colours())] },
  };
}

/**
 * @param {UPlot} plot
 * @param {number} number
 * @param {Line[]} lines
 * @param {Colours} colours
 */
function drawOwn(plot, number, lines, colours) {
  const line = lines[number - 1];
  if (!line) return;
  const { alpha = 1 } = plot.series[number] ?? {};
  const dash = dashIn(line, lines);
  drawLine(plot, number, { colour: lineColour(colours, line.style), width: LINE_PX, dash, alpha });
}

/**
 * Return the range of the values with a margin. Without values it is −1 to 1.
 *
 * @param {number | null} min
 * @param {number | null} max
 * @returns {[number, number]}
 */
export function valueRange(min, max) {
  if (min === null || max === null) return [-1, 1];
  if (min === max) return [min - (Math.abs(min) / 10 || 1), max + (Math.abs(max) / 10 || 1)];
  const margin = (max - min) * MARGIN;
  return [min - margin, max + margin];
}

/**
 * @param {boolean} hasTimes
 * @param {() => string} zone
 * @param {() => Colours} colours
 * @returns {import("uplot").Axis}
 */
function timeAxis(hasTimes, zone, colours) {
  /** @type {import("./ticks.js").Tick[]} */
  let ticks = [];
  return {
    size: hasTimes ? TIMES_PX : 0,
    font: FONT,
    stroke: () => colours().muted,
    grid: { stroke: () => colours().grid, width: 1 },
    ticks: { show: hasTimes, stroke: () => colours().grid, width: 1, size: 5 },
    splits: (plot, _axis, min, max) => {
      const most = (plot.width - VALUES_PX) / TICK_PX; // the plot has no other width yet when it is drawn first
      ticks = timeTicks(Math.round(min * SECOND), Math.round(max * SECOND), zone(), most);
      return ticks.map(({ moment }) => moment / SECOND);
    },
    values: () => (hasTimes ? ticks.map(({ label }) => label) : ticks.map(() => "")),
  };
}

/**
 * @param {() => Colours} colours
 * @returns {import("uplot").Axis}
 */
function valueAxis(colours) {
  return {
    size: VALUES_PX,
    space: 28,
    font: FONT,
    stroke: () => colours().muted,
    grid: { stroke: () => colours().grid, width: 1 },
    ticks: { show: false },
    values: (_, splits) => splits.map(scale),
  };
}

/**
 * Return the dashes of a line, which must differ from others of its pane by more than its colour.
 *
 * @param {Line} line
 * @param {Line[]} lines of the pane
 */
export function dashIn({ style, isGhost }, lines) {
  if (isGhost) return GHOST_DASH;
  return lines.filter(line => !line.isGhost).length > 1 ? dashOf(style) : [];
}

/**
 * @param {Line} line
 * @param {() => Colours} colours
 * @returns {import("uplot").Series}
 */
function seriesOf({ name, style }, colours) {
  return {
    label: name,
    stroke: () => lineColour(colours(), style),
    width: LINE_PX,
    paths: () => null, // lines.js draws the line
    points: { size: 4, filter: (plot, series, isShown) => (isShown ? null : lonelyPoints(plot.data[series] ?? [])) },
  };
}

/**
 * Return the positions of points between two gaps, to which no line leads.
 *
 * @param {ArrayLike<number | null | undefined>} values null: a gap; undefined: a time of another line
 */
export function lonelyPoints(values) {
  const lonely = [];
  let before = -1;
  let isAfterGap = true;
  for (let at = 0; at < values.length; at += 1) {
    const value = values[at];
    if (value === undefined) continue;
    if (value === null) {
      if (before >= 0) lonely.push(before);
      before = -1;
      isAfterGap = true;
    } else {
      before = isAfterGap ? at : -1;
      isAfterGap = false;
    }
  }
  if (before >= 0) lonely.push(before);
  return lonely;
}
