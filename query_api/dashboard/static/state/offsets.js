/** Periods whole days earlier, for comparison, by the calendar of a time zone. */

import { DAY, fromWall, MINUTE, SECOND, toWall } from "./zones.js";

/** @typedef {import("./times.js").Period} Period */
/** @typedef {{times: number[], values: Array<number | null>}} Points seconds since 1970 */

/** Those that are offered. */
export const OFFSETS = ["P1D", "P1W", "P4W", "P52W"];
/** Zones change their offsets at multiples of it. */
const STEP = 15 * MINUTE;

/**
 * Return the number of days of an ISO 8601 duration of days or weeks; null for another text.
 *
 * @param {string | undefined} text
 */
export function daysOf(text) {
  const [, count, unit] = /^P([1-9]\d{0,2})([DW])$/.exec(text ?? "") ?? [];
  return count ? Number(count) * (unit === "W" ? 7 : 1) : null;
}

/**
 * Return the offset in words: 2 weeks before.
 *
 * @param {number} days
 */
export function offsetName(days) {
  const [count, unit] = days % 7 ? [days, "day"] : [days / 7, "week"];
  return `${count} ${unit}${count === 1 ? "" : "s"} before`;
}

/**
 * Return the period with the same wall times some days earlier.
 *
 * @param {Period} period
 * @param {number} days
 * @param {string} zone
 * @returns {Period}
 */
export function earlier({ start, end }, days, zone) {
  const [first, last] = [start, end].map(moment => Math.max(0, fromWall(toWall(moment, zone) - days * DAY, zone)));
  return { start: first ?? 0, end: last ?? 0 };
}

/**
 * Return the points at the same wall times some days later. Points at a wall time that the clocks skip on the later day
 * are left out. An hour that the later day has twice has no points the second time.
 *
 * @param {Points} points
 * @param {number} days
 * @param {string} zone
 * @returns {Points}
 */
export function moved({ times, values }, days, zone) {
  /** The shift from each quarter of an hour on; null: the clocks skip it. @type {Map<number, number | null>} */
  const shifts = new Map();
  const found = [];
  let before = null;
  for (const [at, time] of times.entries()) {
    const quarter = Math.floor((time * SECOND) / STEP) * STEP;
    let shift = shifts.get(quarter);
    if (shift === undefined) {
      shift = shiftOf(quarter, days, zone);
      shifts.set(quarter, shift);
    }
    if (shift === null) continue;
    const later = time + shift / SECOND;
    if (before && shift > before.shift) found.push({ time: (before.time + later) / 2, value: null });
    found.push({ time: later, value: values[at] ?? null });
    before = { time: later, shift };
  }
  found.sort((a, b) => a.time - b.time); // of an hour that the earlier day has twice
  return { times: found.map(({ time }) => time), values: found.map(({ value }) => value) };
}

/**
 * @param {number} moment
 * @param {number} days
 * @param {string} zone
 */
function shiftOf(moment, days, zone) {
  const wall = toWall(moment, zone) + days * DAY;
  const later = fromWall(wall, zone);
  return toWall(later, zone) === wall ? later - moment : null;
}
