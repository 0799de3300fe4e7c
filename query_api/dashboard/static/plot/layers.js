/** What a plot draws beside its lines: gaps, the band of minimum and maximum, and marks. */

import { duration, stored } from "../state/numbers.js";
import { SECOND } from "../state/zones.js";
import { lineColour } from "./colours.js";

/** @typedef {import("./uplot.js").UPlot} UPlot */
/** @typedef {import("./colours.js").Colours} Colours */
/** @typedef {import("../state/series.js").Gap} Gap */
/** @typedef {import("../state/series.js").Line} Line */
/**
 * A span of time, in moments, with the least, the middle and the greatest value in it.
 *
 * @typedef {{start: number, end: number, min: number, median: number, max: number}} Span
 */
/** @typedef {{moment: number, label: string}} Mark */

const LABEL_PX = 110;
const BAND_ALPHA = 0.16;

/**
 * Fill the gaps, with their length if there is room.
 *
 * @param {UPlot} plot
 * @param {Gap[]} gaps
 * @param {Colours} colours
 */
export function drawGaps(plot, gaps, colours) {
  const { ctx } = plot;
  const { top, height } = plot.bbox;
  ctx.save();
  clip(plot);
  for (const { start, end } of gaps) {
    const [left, right] = [xOf(plot, start), xOf(plot, end)];
    ctx.fillStyle = colours.gap;
    ctx.fillRect(left, top, right - left, height);
    if (right - left > LABEL_PX * devicePixelRatio) {
      write(
        plot,
        `no readings: ${duration(end - start)}`,
        (left + right) / 2,
        top + height / 2,
        colours.muted,
        "center",
      );
    }
  }
  ctx.restore();
}

/**
 * Fill the band from the least to the greatest value of each span.
 *
 * @param {UPlot} plot
 * @param {Span[]} spans
 * @param {string} colour
 */
export function drawBand(plot, spans, colour) {
  const { ctx } = plot;
  ctx.save();
  clip(plot);
  ctx.fillStyle = colour;
  ctx.globalAlpha = BAND_ALPHA;
  for (const { start, end, min, max } of spans) {
    const [left, right] = [Math.round(xOf(plot, start)), Math.round(xOf(plot, end))];
    const [upper, lower] = [plot.valToPos(max, "y", true), plot.valToPos(min, "y", true)];
    ctx.fillRect(left, upper, Math.max(right - left, 1), Math.max(lower - upper, 1));
  }
  ctx.restore();
}

/**
 * Draw the median of each span.
 *
 * @param {UPlot} plot
 * @param {Span[]} spans
 * @param {Colours} colours
 */
export function drawMedians(plot, spans, colours) {
  const { ctx } = plot;
  ctx.save();
  clip(plot);
  ctx.strokeStyle = colours.text;
  ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.beginPath();
  let before = 0;
  for (const { start, end, median } of spans) {
    const y = plot.valToPos(median, "y", true);
    if (start === before) ctx.lineTo(xOf(plot, start), y);
    else ctx.moveTo(xOf(plot, start), y);
    ctx.lineTo(xOf(plot, end), y);
    before = end;
  }
  ctx.stroke();
  ctx.restore();
}

/**
 * Mark the least and the greatest point of a line with its value.
 *
 * @param {UPlot} plot
 * @param {Line} line
 * @param {Colours} colours
 */
export function drawExtremes(plot, line, colours) {
  const found = extremesOf(line);
  if (found === null || found.least === found.greatest) return;
  const colour = lineColour(colours, line.style);
  triangle(plot, line, found.greatest, -1, colour, colours);
  triangle(plot, line, found.least, 1, colour, colours);
}

/**
 * Return the positions of the least and the greatest value; null without values.
 *
 * @param {Line} line
 */
export function extremesOf({ values }) {
  let [least, greatest] = [-1, -1];
  for (const [at, value] of values.entries()) {
    if (value === null) continue;
    if (least < 0 || value < /** @type {number} */ (values[least])) least = at;
    if (greatest < 0 || value > /** @type {number} */ (values[greatest])) greatest = at;
  }
  return least < 0 ? null : { least, greatest };
}

/**
 * @param {UPlot} plot
 * @param {Line} line
 * @param {number} at
 * @param {-1 | 1} direction -1: above the point
 * @param {string} colour
 * @param {Colours} colours
 */
function triangle(plot, line, at, direction, colour, colours) {
  const value = /** @type {number} */ (line.values[at]);
  const x = plot.valToPos(/** @type {number} */ (line.times[at]), "x", true);
  const { left, width } = plot.bbox;
  if (x < left || x > left + width) return;
  const size = 4 * devicePixelRatio;
  const y = plot.valToPos(value, "y", true) + direction * 2 * devicePixelRatio;
  const { ctx } = plot;
  ctx.save();
  ctx.fillStyle = colour;
  ctx.beginPath();
  ctx.moveTo(x, y);
  ctx.lineTo(x - size, y + direction * size * 1.6);
  ctx.lineTo(x + size, y + direction * size * 1.6);
  ctx.fill();
  ctx.restore();
  const isRight = x > left + width - 90 * devicePixelRatio;
  const aside = (isRight ? -1 : 1) * 2 * size;
  write(
    plot,
    stored(value),
    x + aside,
    y + direction * size,
    colours.text,
    isRight ? "right" : "left",
    colours.surface,
  );
}

/**
 * Draw a line at each mark, with its label at the top.
 *
 * @param {UPlot} plot
 * @param {Mark[]} marks
 * @param {Colours} colours
 */
export function drawMarks(plot, marks, colours) {
  const { ctx } = plot;
  const { top, height } = plot.bbox;
  ctx.save();
  clip(plot);
  ctx.strokeStyle = colours.muted;
  ctx.setLineDash([4, 4]);
  for (const { moment, label } of marks) {
    const x = xOf(plot, moment);
    ctx.beginPath();
    ctx.moveTo(x, top);
    ctx.lineTo(x, top + height);
    ctx.stroke();
    write(plot, label, x + 4 * devicePixelRatio, top + 8 * devicePixelRatio, colours.muted, "left", colours.surface);
  }
  ctx.restore();
}

/**
 * @param {UPlot} plot
 * @param {number} moment
 */
function xOf(plot, moment) {
  return plot.valToPos(moment / SECOND, "x", true);
}

/** @param {UPlot} plot */
function clip({ ctx, bbox: { left, top, width, height } }) {
  ctx.beginPath();
  ctx.rect(left, top, width, height);
  ctx.clip();
}

/**
 * @param {UPlot} plot
 * @param {string} text
 * @param {number} x
 * @param {number} y
 * @param {string} colour
 * @param {CanvasTextAlign} align
 * @param {string} [halo] a colour around the letters
 */
function write({ ctx }, text, x, y, colour, align, halo) {
  ctx.save();
  ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
  ctx.textAlign = align;
  ctx.textBaseline = "middle";
  if (halo) {
    ctx.setLineDash([]);
    ctx.strokeStyle = halo;
    ctx.lineWidth = 4 * devicePixelRatio;
    ctx.lineJoin = "round";
    ctx.strokeText(text, x, y);
  }
  ctx.fillStyle = colour;
  ctx.fillText(text, x, y);
  ctx.restore();
}
