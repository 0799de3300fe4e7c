/**
 * Times in addresses, by the grammar of Grafana: `now`, `now-6h`, `now/d`, `now-1d/d`, ISO 8601, or milliseconds.
 *
 * A start is rounded down to the unit after `/`, an end to the last microsecond of the unit, as a period includes both.
 * Seconds, minutes and hours are elapsed time; days, weeks, months, quarters and years are those of the calendar of the
 * time zone.
 */

import { addToWall, DAY, floorWall, fromWall, HOUR, MILLISECOND, MINUTE, SECOND, toWall } from "./zones.js";

/** @typedef {{from: string, to: string}} Range the texts of an address */
/** @typedef {{start: number, end: number}} Period moments, both included */

/** @type {Record<string, number>} */
const ELAPSED = { s: SECOND, m: MINUTE, h: HOUR };
const STEP = /([+-])(\d{0,6})([smhdwMQy])|\/([smhdwMQy])/gy;
const DATE = /^(\d{4})-(\d{2})-(\d{2})$/;
const TIME = /^(\d{4})-(\d{2})-(\d{2})[T ](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?\s*(Z|[+-]\d{2}:?\d{2})?$/i;
const RULE =
  "expected now, now-6h, now/d, a date such as 2026-01-31, a time such as 2026-01-31T12:00:00Z, or milliseconds";

/** A text that is not a time. Its message says what is expected. */
export class UnknownTime extends Error {}

/**
 * Parse a text.
 *
 * @param {string} text
 * @param {{now: number, zone: string, end?: boolean}} at `end`: the text is the end of a period
 * @returns {number} a moment
 */
export function parse(text, { now, zone, end = false }) {
  const given = text.trim();
  if (given.startsWith("now")) return relative(given, now, zone, end);
  if (/^-?\d{5,15}$/.test(given)) return Number(given) * MILLISECOND;
  const day = DATE.exec(given);
  if (day) return wholeDay(day, zone, end, given);
  const time = TIME.exec(given);
  if (time) return timeOf(time, zone, given);
  throw new UnknownTime(`${RULE}; got ${shown(text)}`);
}

/**
 * @param {string} text
 * @param {number} now
 * @param {string} zone
 * @param {boolean} end
 */
function relative(text, now, zone, end) {
  let moment = now;
  STEP.lastIndex = 3;
  while (STEP.lastIndex < text.length) {
    const at = STEP.lastIndex;
    const step = STEP.exec(text);
    if (step === null) throw new UnknownTime(`${RULE}; got ${shown(text)}, of which ${shown(text.slice(at))} is wrong`);
    const [, sign, count, unit, rounding] = step;
    if (rounding) moment = end ? endOf(moment, rounding, zone) : startOf(moment, rounding, zone);
    else if (unit) moment = add(moment, Number(`${sign}${count || 1}`), unit, zone);
  }
  return moment;
}

/**
 * @param {number} moment
 * @param {number} count
 * @param {string} unit
 * @param {string} zone
 */
export function add(moment, count, unit, zone) {
  const elapsed = ELAPSED[unit];
  if (elapsed !== undefined) return moment + count * elapsed;
  return fromWall(addToWall(toWall(moment, zone), count, unit), zone);
}

/**
 * @param {number} moment
 * @param {string} unit
 * @param {string} zone
 */
export function startOf(moment, unit, zone) {
  const wall = toWall(moment, zone);
  const elapsed = ELAPSED[unit];
  // Of a repeated hour, the one that the moment is in.
  if (elapsed !== undefined) return moment - (wall - floorWall(wall, unit));
  return fromWall(floorWall(wall, unit), zone);
}

/**
 * @param {number} moment
 * @param {string} unit
 * @param {string} zone
 */
function endOf(moment, unit, zone) {
  const elapsed = ELAPSED[unit];
  if (elapsed !== undefined) return startOf(moment, unit, zone) + elapsed - 1;
  return fromWall(addToWall(floorWall(toWall(moment, zone), unit), 1, unit), zone) - 1;
}

/**
 * @param {RegExpExecArray} found
 * @param {string} zone
 * @param {boolean} end
 * @param {string} text
 */
function wholeDay(found, zone, end, text) {
  const wall = wallOf(found, text);
  return end ? fromWall(wall + DAY, zone) - 1 : fromWall(wall, zone);
}

/**
 * @param {RegExpExecArray} found
 * @param {string} zone
 * @param {string} text
 */
function timeOf(found, zone, text) {
  const fraction = Number((found[7] ?? "").padEnd(6, "0").slice(0, 6));
  const wall = wallOf(found, text) + fraction;
  const offset = found[8];
  if (offset === undefined) return fromWall(wall, zone);
  if (offset.toUpperCase() === "Z") return wall;
  const [hours, minutes] = [Number(offset.slice(1, 3)), Number(offset.slice(-2))];
  return wall - (offset[0] === "-" ? -1 : 1) * (hours * HOUR + minutes * MINUTE);
}

/**
 * Return the wall time of year, month, day, hour, minute and second.
 *
 * @param {RegExpExecArray} found
 * @param {string} text
 */
function wallOf(found, text) {
  const [year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0] = found
    .slice(1, 7)
    .map(part => Number(part ?? 0));
  const date = new Date(Date.UTC(year, month - 1, day, hour, minute, second));
  const same = date.getUTCMonth() === month - 1 && date.getUTCDate() === day && date.getUTCHours() === hour;
  if (!same || minute > 59 || second > 59) throw new UnknownTime(`${shown(text)} is not a time of the calendar`);
  return date.getTime() * MILLISECOND;
}

/**
 * Return the period of a range.
 *
 * @param {Range} range
 * @param {{now: number, zone: string}} at
 * @returns {Period}
 */
export function periodOf(range, { now, zone }) {
  const start = parse(range.from, { now, zone });
  const end = parse(range.to, { now, zone, end: true });
  if (start > end) throw new UnknownTime(`the period ends before it starts: from ${range.from} to ${range.to}`);
  return { start, end };
}

/** @param {string} text */
export function isRelative(text) {
  return text.trim().startsWith("now");
}

/**
 * Return a moment as ISO 8601 in UTC, without zeros at the end of the fraction: for addresses and requests.
 *
 * @param {number} moment
 */
export function iso(moment) {
  const seconds = Math.floor(moment / SECOND);
  const fraction = moment - seconds * SECOND;
  const whole = new Date(seconds * 1000).toISOString().slice(0, -5);
  return `${whole}${fraction ? `.${String(fraction).padStart(6, "0").replace(/0+$/, "")}` : ""}Z`;
}

/**
 * Return a moment as a clock in the zone shows it: 2026-01-31 12:00:00.25.
 *
 * @param {number} moment
 * @param {string} zone
 */
export function clock(moment, zone) {
  return iso(toWall(moment, zone)).replace("T", " ").slice(0, -1);
}

/**
 * Return the moment of a time of the API, with its microseconds. It is faster than `parse`.
 *
 * @param {string} text RFC 3339 in UTC, such as 2026-01-31T12:00:00.250000Z
 */
export function momentOf(text) {
  const fraction = text[19] === "." ? text.slice(20, -1).padEnd(6, "0") : "0";
  return Date.parse(`${text.slice(0, 19)}Z`) * MILLISECOND + Number(fraction);
}

/** The current moment. */
export function currentMoment() {
  return Date.now() * MILLISECOND;
}

/** @param {string} text */
function shown(text) {
  return JSON.stringify(text.slice(0, 60));
}
