/** Ranges that the period picker offers, and steps from one period to another. */

import { iso } from "./times.js";
import { DAY, HOUR, MINUTE } from "./zones.js";

/** @typedef {import("./times.js").Range} Range */
/** @typedef {import("./times.js").Period} Period */

/** @type {Array<[string, string, string]>} name, from, to */
export const QUICK = [
  ["Last 5 minutes", "now-5m", "now"],
  ["Last 15 minutes", "now-15m", "now"],
  ["Last hour", "now-1h", "now"],
  ["Last 6 hours", "now-6h", "now"],
  ["Last 24 hours", "now-24h", "now"],
  ["Last 7 days", "now-7d", "now"],
  ["Last 30 days", "now-30d", "now"],
  ["Last year", "now-1y", "now"],
  ["Today", "now/d", "now"],
  ["Yesterday", "now-1d/d", "now-1d/d"],
  ["This week", "now/w", "now"],
  ["Last week", "now-1w/w", "now-1w/w"],
  ["This month", "now/M", "now"],
  ["Last month", "now-1M/M", "now-1M/M"],
];

/**
 * Return the name of a range that the picker offers; undefined for others.
 *
 * @param {Range} range
 */
export function nameOf(range) {
  return QUICK.find(([, from, to]) => from === range.from && to === range.to)?.[0];
}

/** @type {Array<[number, string]>} */
const RECENT = [
  [5 * MINUTE, "now-5m"],
  [15 * MINUTE, "now-15m"],
  [HOUR, "now-1h"],
  [6 * HOUR, "now-6h"],
];

/**
 * Return the range with which a device opens: where its data are.
 *
 * A device with readings in the last six hours opens with them, or with less if it is newer. Another device opens with
 * the last six hours that have readings.
 *
 * @param {number | null} first the time of the first reading
 * @param {number | null} last the time of the last one
 * @param {number} now
 * @returns {Range}
 */
export function openingRange(first, last, now) {
  if (first === null || last === null) return { from: "now-15m", to: "now" };
  if (last < now - 6 * HOUR || last > now + HOUR) {
    return { from: iso(Math.max(first, last - 6 * HOUR)), to: iso(last) };
  }
  const from = RECENT.find(([length]) => first >= now - length)?.[1] ?? "now-6h";
  return { from, to: "now" };
}

/**
 * Return the range of a period.
 *
 * @param {Period} period
 * @returns {Range}
 */
export function rangeOf({ start, end }) {
  return { from: iso(start), to: iso(end) };
}

/**
 * Return the period before (-1) or after (1), of equal length. Half of it overlaps.
 *
 * @param {Period} period
 * @param {-1 | 1} direction
 * @returns {Period}
 */
export function shifted({ start, end }, direction) {
  const by = Math.round((end - start) / 2) * direction;
  return { start: start + by, end: end + by };
}

/** The range of moments that the API accepts and a browser can represent: the years 1970 to 9999. */
const EARLIEST = 0;
const LATEST = Date.UTC(9999, 11, 31) * 1000;

/**
 * Return the period around the same middle, longer by the factor.
 *
 * @param {Period} period
 * @param {number} factor
 * @returns {Period}
 */
export function scaled({ start, end }, factor) {
  const middle = start + (end - start) / 2;
  const half = Math.max(((end - start) / 2) * factor, 1);
  return {
    start: Math.max(EARLIEST, Math.round(middle - half)),
    end: Math.min(LATEST, Math.round(middle + half)),
  };
}

/**
 * Return a period that was chosen on a plot, with as few digits as its pixels have.
 *
 * @param {Period} period
 * @param {number} pixel the time of a pixel, in microseconds
 * @returns {Period}
 */
export function readable(period, pixel) {
  const step = 10 ** Math.floor(Math.log10(Math.max(pixel, 1)));
  const [start, end] = [period.start, period.end].map(moment => Math.round(moment / step) * step);
  return start !== undefined && end !== undefined && end > start ? { start, end } : period;
}

/** ISO 8601 durations of buckets, with their approximate lengths. @type {Array<[string, number, string]>} */
export const INTERVALS = [
  ["PT1S", 1_000_000, "1 second"],
  ["PT2S", 2_000_000, "2 seconds"],
  ["PT5S", 5_000_000, "5 seconds"],
  ["PT10S", 10_000_000, "10 seconds"],
  ["PT30S", 30_000_000, "30 seconds"],
  ["PT1M", MINUTE, "1 minute"],
  ["PT2M", 2 * MINUTE, "2 minutes"],
  ["PT5M", 5 * MINUTE, "5 minutes"],
  ["PT10M", 10 * MINUTE, "10 minutes"],
  ["PT15M", 15 * MINUTE, "15 minutes"],
  ["PT30M", 30 * MINUTE, "30 minutes"],
  ["PT1H", HOUR, "1 hour"],
  ["PT2H", 2 * HOUR, "2 hours"],
  ["PT3H", 3 * HOUR, "3 hours"],
  ["PT6H", 6 * HOUR, "6 hours"],
  ["PT12H", 12 * HOUR, "12 hours"],
  ["P1D", DAY, "1 day"],
  ["P1W", 7 * DAY, "1 week"],
  ["P1M", 30 * DAY, "1 month"],
  ["P3M", 91 * DAY, "3 months"],
  ["P1Y", 365 * DAY, "1 year"],
];
const MOST_BUCKETS = 200;

/**
 * Return the shortest interval that divides the period into at most two hundred buckets.
 *
 * @param {Period} period
 */
export function intervalFor({ start, end }) {
  const found = INTERVALS.find(([, length]) => (end - start) / length <= MOST_BUCKETS);
  return found ? found[0] : "P1Y";
}
