/**
 * The lines of a plot, drawn in short paths.
 *
 * Without a graphics processor, a browser takes several times as long for one long path that rises and falls as for
 * many short ones: each row of pixels crosses all of its edges.
 */

/** @typedef {import("./uplot.js").UPlot} UPlot */
/** @typedef {{colour: string, width: number, dash: number[], alpha: number}} Stroke `width`, `dash`: in CSS pixels */
/** @typedef {number[]} Polyline x and y of each point in turn, in pixels */

/** The points of a path. */
const CHUNK = 24;

/**
 * Draw the line of a series.
 *
 * @param {UPlot} plot
 * @param {number} number
 * @param {Stroke} stroke
 */
export function drawLine(plot, number, { colour, width, dash, alpha }) {
  const { ctx, bbox, data } = plot;
  const half = (width * devicePixelRatio) / 2;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left - half, bbox.top - half, bbox.width + 2 * half, bbox.height + 2 * half);
  ctx.clip();
  ctx.translate(half % 1, half % 1); // a level line fills whole rows of pixels, as uPlot's own lines do
  ctx.strokeStyle = colour;
  ctx.lineWidth = 2 * half;
  ctx.lineJoin = "round";
  ctx.globalAlpha = alpha;
  ctx.setLineDash(dash);
  const xOf = (/** @type {number} */ time) => Math.round(plot.valToPos(time, "x", true));
  const yOf = (/** @type {number} */ value) => Math.round(plot.valToPos(value, "y", true));
  for (const line of polylines(data[0], data[number] ?? [], xOf, yOf)) strokeChunks(ctx, line, dash.length > 0);
  ctx.restore();
}

/**
 * Return the line in parts, one between each two gaps. Points of one column of pixels become four at most: the first,
 * the least, the greatest and the last.
 *
 * @param {ArrayLike<number>} times
 * @param {ArrayLike<number | null | undefined>} values null: a gap; undefined: a time of another line
 * @param {(time: number) => number} xOf
 * @param {(value: number) => number} yOf
 * @returns {Polyline[]}
 */
export function polylines(times, values, xOf, yOf) {
  /** @type {Polyline[]} */
  const found = [];
  /** @type {Column | null} */
  let column = null;
  let isOpen = false;
  for (let at = 0; at < values.length; at += 1) {
    const value = values[at];
    if (value === undefined) continue;
    if (value === null) {
      column = null;
      isOpen = false;
      continue;
    }
    const [x, y] = [xOf(/** @type {number} */ (times[at])), yOf(value)];
    if (!isOpen) found.push([]);
    const line = /** @type {Polyline} */ (found.at(-1));
    if (column?.x === x) column.add(y);
    else column = new Column(line, x, y);
    isOpen = true;
  }
  return found;
}

/** The points of one column of pixels, which are written into a line as they come. */
class Column {
  /**
   * @param {Polyline} line
   * @param {number} x
   * @param {number} y
   */
  constructor(line, x, y) {
    this.line = line;
    this.x = x;
    this.least = y;
    this.greatest = y;
    this.at = line.push(x, y);
  }

  /** @param {number} y */
  add(y) {
    this.least = Math.min(this.least, y);
    this.greatest = Math.max(this.greatest, y);
    this.line.length = this.at;
    this.line.push(this.x, this.least, this.x, this.greatest, this.x, y);
  }
}

/**
 * @param {CanvasRenderingContext2D} ctx
 * @param {Polyline} line
 * @param {boolean} isDashed
 */
function strokeChunks(ctx, line, isDashed) {
  const last = line.length - 2;
  ctx.lineDashOffset = 0;
  for (let begin = 0; begin < last; begin += 2 * CHUNK) {
    const end = Math.min(begin + 2 * CHUNK, last);
    ctx.beginPath();
    ctx.moveTo(at(line, begin), at(line, begin + 1));
    for (let next = begin + 2; next <= end; next += 2) ctx.lineTo(at(line, next), at(line, next + 1));
    ctx.stroke();
    if (isDashed) ctx.lineDashOffset += lengthOf(line, begin, end);
  }
}

/**
 * Return the length of a part of a line, so that the dashes of the next part continue it.
 *
 * @param {Polyline} line
 * @param {number} begin
 * @param {number} end
 */
function lengthOf(line, begin, end) {
  let length = 0;
  for (let next = begin + 2; next <= end; next += 2)
    length += Math.hypot(at(line, next) - at(line, next - 2), at(line, next + 1) - at(line, next - 1));
  return length;
}

/**
 * @param {Polyline} line
 * @param {number} place
 */
function at(line, place) {
  return /** @type {number} */ (line[place]);
}
