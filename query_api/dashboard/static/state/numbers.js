/** Numbers and durations as texts. */

import { DAY, HOUR, MINUTE, SECOND } from "./zones.js";

export const NONE = "–";

/**
 * Return a value as it is stored: the shortest text that reads back as the same number, with a minus that programs read.
 *
 * @param {number | null | undefined} value
 */
export function stored(value) {
  if (value === null || value === undefined) return NONE;
  return String(value === 0 ? 0 : value);
}

/**
 * Return a whole number with groups of three digits.
 *
 * @param {number} value
 */
export function grouped(value) {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ",");
}

/**
 * Return a number with its noun: 1 error, 2,000 errors.
 *
 * @param {number} count
 * @param {string} noun
 */
export function counted(count, noun) {
  return `${grouped(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/**
 * Return a value for a scale, where the digits of floating-point arithmetic do not matter.
 *
 * @param {number} value
 */
export function scale(value) {
  return stored(Number(value.toPrecision(12)));
}

/** @param {number[]} values */
export function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}

/** @type {Array<[number, string]>} */
const UNITS = [
  [DAY, "d"],
  [HOUR, "h"],
  [MINUTE, "min"],
  [SECOND, "s"],
];

/**
 * Return a duration with its two largest units: 3 h 12 min.
 *
 * @param {number} microseconds
 */
export function duration(microseconds) {
  if (microseconds < SECOND) return `${Math.max(0, Math.round(microseconds / 1000))} ms`;
  const rounded = Math.round(microseconds / SECOND) * SECOND;
  const at = UNITS.findIndex(([length]) => rounded >= length);
  const [[large, name], small] = [/** @type {[number, string]} */ (UNITS[at]), UNITS[at + 1]];
  const count = Math.floor(rounded / large);
  const rest = small ? Math.floor((rounded - count * large) / small[0]) : 0;
  return small && rest ? `${count} ${name} ${rest} ${small[1]}` : `${count} ${name}`;
}

/**
 * Return the age of a moment: "12 s ago", or "in 3 min" for a clock that is ahead.
 *
 * @param {number} moment
 * @param {number} now
 */
export function age(moment, now) {
  const elapsed = now - moment;
  if (Math.abs(elapsed) < SECOND) return "just now";
  return elapsed < 0 ? `in ${largest(-elapsed)}` : `${largest(elapsed)} ago`;
}

/** @param {number} elapsed */
function largest(elapsed) {
  const [length, name] = UNITS.find(([unit]) => elapsed >= unit) ?? [SECOND, "s"];
  return `${Math.floor(elapsed / length)} ${name}`;
}

/**
 * Return the number of a device's readings, which may be an estimate or a lower bound.
 *
 * @param {{readings: number, readings_is_estimate: boolean, readings_at_least: boolean}} device
 */
export function readingsOf(device) {
  const count = grouped(device.readings);
  if (device.readings_at_least) return `at least ${count}`;
  return device.readings_is_estimate ? `about ${count}` : count;
}
