/** The list of devices: its order, its states and its small plots. Without a browser. */

import { momentOf } from "./times.js";
import { SECOND } from "./zones.js";

/** @typedef {"live" | "late" | "silent" | "never"} State */
/** @typedef {{timestamp: string[], value: number[]}} Line */

/** @type {State[]} */
export const STATES = ["live", "late", "silent", "never"];
/** Columns by which the API sorts: a name, and whether the largest comes first at the first click. */
export const SORTED = { name: false, state: false, last_seen: true, rate: true };
export const LIMITS = [25, 50, 100, 250, 1000];
export const LIMIT = 100;
/** The most devices that a screen shows together: as many lines can be told apart. */
export const MOST_TOGETHER = 12;
/** The shortest interval by which a device is late (query_api/devices/activity.py). */
const SHORTEST = 5;
/** @type {Array<[number, string]>} */
const UNITS = [
  [1, "s"],
  [60, "min"],
  [3600, "h"],
];
const MISSED = 10;

/**
 * Return the ids of the devices that are selected, as in selected=7,8. Others than numbers are left out.
 *
 * @param {import("./address.js").Values} query
 */
export function selectedOf({ selected = "" }) {
  return [...new Set(selected.split(",").filter(id => /^[1-9]\d{0,14}$/.test(id)))];
}

/**
 * Return the value of the address after a device was selected, or no longer is.
 *
 * @param {import("./address.js").Values} query
 * @param {number} id
 * @param {boolean} isSelected
 */
export function withSelected(query, id, isSelected) {
  const others = selectedOf(query).filter(other => other !== String(id));
  return { selected: (isSelected ? [...others, id] : others).join() || undefined };
}

/**
 * Return the order after a click on a column: its first direction, or the other one.
 *
 * @param {string | undefined} order
 * @param {keyof typeof SORTED} column
 */
export function nextOrder(order, column) {
  const first = SORTED[column] ? `-${column}` : column;
  if (order !== first) return first;
  return SORTED[column] ? column : `-${column}`;
}

/**
 * Return the direction of a column for aria-sort; null: the list is not sorted by it.
 *
 * @param {string | undefined} order
 * @param {string} column
 * @returns {"ascending" | "descending" | null}
 */
export function directionOf(order, column) {
  if (order === column) return "ascending";
  return order === `-${column}` ? "descending" : null;
}

/**
 * Return a rate with its unit: 2/s, 12/min or 3/h.
 *
 * @param {number} rate readings per second
 */
export function rateText(rate) {
  if (rate === 0) return "–";
  const [seconds, unit] = UNITS.find(([length]) => rate * length >= 0.95) ?? [86_400, "d"];
  return `${short(rate * seconds)}/${unit}`;
}

/** @param {number} value */
function short(value) {
  return String(Number(value >= 100 ? value.toFixed(0) : value.toPrecision(2)));
}

/**
 * Return the path of a small plot in a box, over a period. It is broken where readings are missing.
 *
 * @param {Line} line
 * @param {{start: number, end: number}} period
 * @param {{width: number, height: number}} box
 * @param {number | null} interval the expected one, in seconds
 */
export function pathOf({ timestamp, value }, period, box, interval) {
  const [least, greatest] = [Math.min(...value), Math.max(...value)];
  const scale = greatest > least ? (box.height - 2) / (greatest - least) : 0;
  const pixel = (period.end - period.start) / box.width;
  const missing = Math.max(MISSED * Math.max(interval ?? 0, SHORTEST) * SECOND, 4 * pixel);
  let path = "";
  let before = Number.NEGATIVE_INFINITY;
  for (const [at, text] of timestamp.entries()) {
    const moment = momentOf(text);
    const x = ((moment - period.start) / pixel).toFixed(1);
    const level = (value[at] ?? least) - least;
    const y = (scale ? box.height - 1 - level * scale : box.height / 2).toFixed(1);
    path += moment - before > missing ? `M${x} ${y}h.01` : `L${x} ${y}`;
    before = moment;
  }
  return path;
}
