/** The lines of a plot, from the records of the API. */

import { momentOf } from "./times.js";

/** @typedef {import("../../records.js").SharedSeries} SharedSeries */
/** @typedef {"x" | "y" | "z"} Axis */
/**
 * A line: times in seconds since 1970, which a float holds to the microsecond, and values. A value of null is a gap.
 *
 * @typedef {object} Line
 * @property {string} name
 * @property {number} style the number of its colour and dashes
 * @property {number[]} times
 * @property {Array<number | null>} values
 * @property {string} [pane] of those that are drawn apart, the lines with the same one are drawn together
 * @property {boolean} [isGhost] whether it is there for comparison only
 */
/** @typedef {{start: number, end: number}} Gap moments between which there are no readings */

/** @type {Axis[]} */
export const AXES = ["x", "y", "z"];
const MICROSECONDS = 1_000_000;

/**
 * Return the lines of the three axes.
 *
 * @param {SharedSeries} series
 * @returns {Line[]}
 */
export function linesOf(series) {
  const columns = columnsOf(series);
  return AXES.map((axis, style) => ({ name: axis, style, ...columns[axis] }));
}

/**
 * Return the columns of each axis, with a null in each gap.
 *
 * @param {SharedSeries} series
 */
export function columnsOf(series) {
  const moments = series.timestamp.map(momentOf);
  const gaps = series.gaps.map(({ start, end }) => ({ start: momentOf(start), end: momentOf(end) }));
  return byAxis(axis => {
    const at = [...moments.keys()].filter(index => series[axis][index] !== null);
    const values = at.map(index => /** @type {number} */ (series[axis][index]));
    return broken(
      at.map(index => /** @type {number} */ (moments[index])),
      values,
      gaps,
    );
  });
}

/**
 * Return the gaps of a series within its period, also before its first reading and after its last one.
 *
 * @param {SharedSeries} series
 * @param {{start: number, end: number}} period
 * @returns {Gap[]}
 */
export function gapsWithin({ timestamp, gaps, gaps_above: above }, { start, end }) {
  const [first, last] = [timestamp[0], timestamp.at(-1)];
  if (first === undefined || last === undefined || above === null) return [];
  const ends = [
    { start, end: momentOf(first) },
    { start: momentOf(last), end },
  ];
  const [before, after] = ends.map(gap => (gap.end - gap.start > above * MICROSECONDS ? [gap] : []));
  const between = gaps.map(gap => ({ start: momentOf(gap.start), end: momentOf(gap.end) }));
  return [...(before ?? []), ...between, ...(after ?? [])];
}

/**
 * @template T
 * @param {(axis: Axis) => T} make
 * @returns {Record<Axis, T>}
 */
export function byAxis(make) {
  return { x: make("x"), y: make("y"), z: make("z") };
}

/**
 * Return the columns of a line with a null in each gap, so that no line is drawn across it.
 *
 * @param {number[]} moments
 * @param {number[]} values
 * @param {Gap[]} gaps in order
 */
export function broken(moments, values, gaps) {
  /** @type {number[]} */
  const times = [];
  /** @type {Array<number | null>} */
  const points = [];
  let at = 0;
  for (const [index, moment] of moments.entries()) {
    while (at < gaps.length && /** @type {Gap} */ (gaps[at]).end <= moment) {
      const { start, end } = /** @type {Gap} */ (gaps[at]);
      if (index > 0) {
        times.push((start + end) / 2 / MICROSECONDS);
        points.push(null);
      }
      at += 1;
    }
    times.push(moment / MICROSECONDS);
    points.push(values[index] ?? null);
  }
  return { times, values: points };
}
