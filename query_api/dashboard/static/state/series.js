/** The lines of a plot, from the records of the API. */

import { momentOf } from "./times.js";

/** @typedef {import("../../records.js").Series} Series */
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
/** A gap is more than this many times as long as the usual time between two points. */
const UNUSUAL = 6;
/** The steps on either side that say what is usual. */
const NEIGHBOURS = 9;

/**
 * Return the lines of the three axes.
 *
 * @param {Series} series
 * @param {Gap[]} gaps
 * @returns {Line[]}
 */
export function linesOf(series, gaps) {
  return AXES.map((axis, style) => {
    const { timestamp, value } = series[axis];
    return { name: axis, style, ...broken(timestamp.map(momentOf), value, gaps) };
  });
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

/**
 * Find the gaps between points. A step is a gap if it is several times as long as the steps before it and after it
 * usually are, since a device may change its interval.
 *
 * @param {number[]} moments in order, without repetitions
 * @param {number} least the least length of a gap
 * @returns {Gap[]}
 */
export function findGaps(moments, least) {
  const steps = moments.slice(1).map((moment, at) => moment - /** @type {number} */ (moments[at]));
  const gaps = [];
  for (const [at, step] of steps.entries()) {
    if (step <= least) continue;
    const before = median(steps.slice(Math.max(0, at - NEIGHBOURS), at));
    const after = median(steps.slice(at + 1, at + 1 + NEIGHBOURS));
    const usual = Math.max(before, after);
    if (usual > 0 && step > UNUSUAL * usual) {
      gaps.push({ start: /** @type {number} */ (moments[at]), end: /** @type {number} */ (moments[at + 1]) });
    }
  }
  return gaps;
}

/** @param {number[]} values */
function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

/**
 * Return the times of all points of a series, in order.
 *
 * @param {Series} series
 */
export function momentsOf(series) {
  const all = new Set(AXES.flatMap(axis => series[axis].timestamp));
  return [...all].map(momentOf).sort((a, b) => a - b);
}

/**
 * Return the gaps of a series within its period, also before its first point and after its last one.
 *
 * @param {Series} series
 * @param {{start: number, end: number}} period
 * @param {number} points the number of points that were requested
 * @returns {Gap[]}
 */
export function gapsOf(series, period, points) {
  const span = series.count > series.x.value.length ? (4 * (period.end - period.start)) / points : 0;
  const moments = momentsOf(series);
  return moments.length === 0 ? [] : findGaps([period.start, ...moments, period.end], span);
}
