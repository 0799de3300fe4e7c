/** The ticks of a time axis: on full units of the calendar in a time zone. */

import { iso } from "../state/times.js";
import { addToWall, DAY, floorWall, fromWall, HOUR, MINUTE, SECOND, toWall } from "../state/zones.js";

/** @typedef {{moment: number, label: string}} Tick */

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** Steps of elapsed length. @type {number[]} */
const STEPS = [
  ...[1, 10, 100, 1_000, 10_000, 100_000].flatMap(unit => [unit, 2 * unit, 5 * unit]),
  ...[1, 2, 5, 10, 15, 30].map(count => count * SECOND),
  ...[1, 2, 5, 10, 15, 30].map(count => count * MINUTE),
  ...[1, 2, 3, 6, 12].map(count => count * HOUR),
];
/** Steps of the calendar: count, unit, approximate length. @type {Array<[number, string, number]>} */
const CALENDAR = [
  [1, "d", DAY],
  [2, "d", 2 * DAY],
  [1, "w", 7 * DAY],
  [2, "w", 14 * DAY],
  [1, "M", 30 * DAY],
  [3, "M", 91 * DAY],
  [6, "M", 182 * DAY],
  ...[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].map(
    count => /** @type {[number, string, number]} */ ([count, "y", count * 365 * DAY]),
  ),
];

/**
 * Return at most about `most` ticks between two moments.
 *
 * @param {number} start
 * @param {number} end
 * @param {string} zone
 * @param {number} most
 * @returns {Tick[]}
 */
export function timeTicks(start, end, zone, most) {
  const least = (end - start) / Math.max(most, 1);
  const step = STEPS.find(length => length >= least);
  if (step !== undefined) return labelled(elapsedWalls(start, end, zone, step), zone, wall => timeLabel(wall, step));
  const calendar = CALENDAR.find(([, , length]) => length >= least) ?? CALENDAR.at(-1);
  const [count, unit] = /** @type {[number, string, number]} */ (calendar);
  return labelled(calendarWalls(start, end, zone, count, unit), zone, wall => dateLabel(wall, unit));
}

/**
 * @param {number} start
 * @param {number} end
 * @param {string} zone
 * @param {number} step
 */
function elapsedWalls(start, end, zone, step) {
  const last = toWall(end, zone);
  const walls = [];
  for (let wall = Math.ceil(toWall(start, zone) / step) * step; wall <= last; wall += step) walls.push(wall);
  return walls;
}

/**
 * @param {number} start
 * @param {number} end
 * @param {string} zone
 * @param {number} count
 * @param {string} unit
 */
function calendarWalls(start, end, zone, count, unit) {
  const [first, last] = [toWall(start, zone), toWall(end, zone)];
  const walls = [];
  for (let wall = firstMultiple(first, count, unit); wall <= last; wall = addToWall(wall, count, unit)) {
    if (wall >= first) walls.push(wall);
  }
  return walls;
}

/**
 * Return a wall time at or before the given one, from which multiples of the unit are counted.
 *
 * @param {number} wall
 * @param {number} count
 * @param {string} unit
 */
function firstMultiple(wall, count, unit) {
  const begin = floorWall(wall, unit === "M" ? "y" : unit);
  if (unit !== "y") return begin;
  const year = new Date(begin / 1000).getUTCFullYear();
  return Date.UTC(year - (year % count), 0) * 1000;
}

/**
 * Return the ticks of wall times. The second line of a label is shown where it changes.
 *
 * @param {number[]} walls
 * @param {string} zone
 * @param {(wall: number) => [string, string]} label
 * @returns {Tick[]}
 */
function labelled(walls, zone, label) {
  let before = "";
  return walls.map(wall => {
    const [first, second] = label(wall);
    const isNew = second !== before;
    before = second;
    return { moment: fromWall(wall, zone), label: isNew && second ? `${first}\n${second}` : first };
  });
}

/**
 * @param {number} wall
 * @param {number} step
 * @returns {[string, string]}
 */
function timeLabel(wall, step) {
  const text = iso(wall);
  const within = wall - Math.floor(wall / SECOND) * SECOND;
  const fraction = step < SECOND ? `.${String(within).padStart(6, "0").slice(0, fractionDigits(step))}` : "";
  const time = step < MINUTE ? text.slice(11, 19) + fraction : text.slice(11, 16);
  return [time, dayOf(wall)];
}

/**
 * Return the number of digits that a step below a second needs.
 *
 * @param {number} step
 */
function fractionDigits(step) {
  return 6 - Math.floor(Math.log10(step) + 1e-9);
}

/**
 * @param {number} wall
 * @param {string} unit
 * @returns {[string, string]}
 */
function dateLabel(wall, unit) {
  const date = new Date(wall / 1000);
  const year = String(date.getUTCFullYear());
  if (unit === "y") return [year, ""];
  const month = MONTHS[date.getUTCMonth()] ?? "";
  return unit === "M" ? [month, year] : [`${date.getUTCDate()} ${month}`, year];
}

/** @param {number} wall */
function dayOf(wall) {
  const date = new Date(Math.floor(wall / 1000));
  return `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]} ${date.getUTCFullYear()}`;
}
