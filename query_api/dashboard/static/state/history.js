/** Figures that a screen has collected while it is open, and their lines. */

import { grouped } from "./numbers.js";

/** A figure at a moment, in microseconds. @typedef {{moment: number, value: number | null}} Point */

const SECOND = 1_000_000;
/** The time of which figures are kept. */
const SPAN_S = 600;
/** The shortest time that a line shows. */
const LEAST_S = 60;
/** A longer time without a figure is a gap: the page was hidden, or the service was away. */
const GAP_S = 20;
const WIDTH = 100;
const HEIGHT = 30;

/** The figures of the last ten minutes, by name. */
export class History {
  /** @type {Array<{moment: number, figures: Record<string, number | null>}>} */
  #kept = [];

  /**
   * Add the figures of a moment. The oldest are dropped, and those of a clock that was ahead.
   *
   * @param {number} moment
   * @param {Record<string, number | null>} figures
   */
  add(moment, figures) {
    const kept = this.#kept.filter(one => one.moment > moment - SPAN_S * SECOND && one.moment < moment);
    this.#kept = [...kept, { moment, figures }];
  }

  /**
   * @param {string} name
   * @returns {Point[]}
   */
  points(name) {
    return this.#kept.map(({ moment, figures }) => ({ moment, value: figures[name] ?? null }));
  }
}

/**
 * Return the path of a line in a box of 100 × 30, from the first point, or from a minute ago, to the newest. A gap, or
 * a point without a value, breaks it. A point alone is a dot.
 *
 * @param {Point[]} points
 */
export function path(points) {
  const end = points.at(-1)?.moment ?? 0;
  const span = Math.max(LEAST_S * SECOND, end - (points[0]?.moment ?? 0));
  const most = Math.max(...points.map(({ value }) => value ?? 0), 0) || 1;
  /** @type {Point | null} */
  let before = null;
  let text = "";
  for (const point of points) {
    if (point.value === null) before = null;
    else {
      const isNext = before !== null && point.moment - before.moment <= GAP_S * SECOND;
      const at = `${rounded(WIDTH - ((end - point.moment) / span) * WIDTH)} ${rounded(HEIGHT - (point.value / most) * HEIGHT)}`;
      text += isNext ? `L${at}` : `M${at}h0`;
      before = point;
    }
  }
  return text;
}

/** @param {number} value */
function rounded(value) {
  return Math.round(value * 100) / 100;
}

/**
 * Return a rate or a share with three digits.
 *
 * @param {number} value
 */
export function rate(value) {
  return value >= 100 ? grouped(Math.round(value)) : String(Number(value.toPrecision(3)));
}

const UNITS = ["bytes", "KB", "MB", "GB", "TB"];

/**
 * Return a number of bytes with three digits: 1.23 GB. A KB is 1,000 bytes.
 *
 * @param {number} count
 */
export function bytes(count) {
  const power = Math.min(UNITS.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(count, 1)) / 3)));
  return `${power ? Number((count / 1000 ** power).toPrecision(3)) : count} ${UNITS[power]}`;
}
