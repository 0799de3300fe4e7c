/** Analyses as texts: their periods, their figures, and lines of the results of a schedule. */

import { clock, momentOf } from "./times.js";
import { offsetAt, SECOND } from "./zones.js";

/** @typedef {import("../../records.js").Figures} Figures */
/** @typedef {import("../../records.js").ScheduleTick} ScheduleTick */
/** @typedef {import("./series.js").Axis} Axis */
/** The period of an analysis, as the API has it. @typedef {{start: string | null, end: string | null}} Bounds */

/** Figures that each analysis has. */
export const ALWAYS = ["min", "median", "max", "sum", "count"];
/** Figures on request, and their names. @type {Array<[string, string]>} */
export const ON_REQUEST = [
  ["mean", "mean"],
  ["stddev", "standard deviation"],
  ["variance", "variance"],
  ["range", "range"],
  ["iqr", "interquartile range"],
  ["mad", "median absolute deviation"],
  ["first", "first value"],
  ["last", "last value"],
];
const MIDNIGHT = / 00:00$/;
const WEEKDAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/**
 * Return the name of a figure.
 *
 * @param {string} figure
 */
export function nameOf(figure) {
  return ON_REQUEST.find(([name]) => name === figure)?.[1] ?? figure;
}

/**
 * Return a period: the days if it has whole days, and otherwise its times. A period of a schedule ends a microsecond
 * before the next one.
 *
 * @param {Bounds} bounds
 * @param {string} zone
 */
export function periodText({ start, end }, zone) {
  if (start === null) return end === null ? "all time" : `to ${endText(end, zone)}`;
  const from = shortClock(momentOf(start), zone);
  if (end === null) return `from ${from}`;
  const to = endText(end, zone);
  if (!MIDNIGHT.test(from) || !MIDNIGHT.test(to) || !endsBefore(end))
    return `${from} – ${to.slice(0, 10) === from.slice(0, 10) ? to.slice(11) : to}`;
  const days = [from, clock(momentOf(end), zone)].map(text => text.slice(0, 10));
  return days[0] === days[1] ? `${days[0]}` : days.join(" – ");
}

/** @type {Record<string, string>} */
const UNITS = { Y: "year", M: "month", W: "week", D: "day", TH: "hour", TM: "minute", TS: "second" };

/**
 * Return the length of the period of a schedule: 15 minutes.
 *
 * @param {string | null} period an ISO 8601 duration; null: all time
 */
export function lengthText(period) {
  if (period === null) return "all time";
  const [days = "", times = ""] = period.toUpperCase().split("T");
  const parts = [...days.matchAll(/(\d+)([A-Z])/g), ...times.replace(/[A-Z]/g, "T$&").matchAll(/(\d+)(T[A-Z])/g)];
  return parts.map(([, count, unit]) => `${count} ${UNITS[unit ?? ""]}${Number(count) === 1 ? "" : "s"}`).join(" ");
}

/** @param {string} end */
function endsBefore(end) {
  return momentOf(end) % SECOND === SECOND - 1;
}

/**
 * @param {string} end
 * @param {string} zone
 */
function endText(end, zone) {
  return shortClock(momentOf(end) + (endsBefore(end) ? 1 : 0), zone);
}

/**
 * Return a time without seconds that are 0.
 *
 * @param {number} moment
 * @param {string} zone
 */
export function shortClock(moment, zone) {
  return clock(moment, zone).replace(/:00$/, "");
}

/**
 * Return the times of ticks with their weekdays, and with their offsets from UTC if these differ.
 *
 * @param {string[]} ticks
 * @param {string} zone
 */
export function tickTexts(ticks, zone) {
  const moments = ticks.map(momentOf);
  const offsets = moments.map(moment => offsetAt(moment, zone) / SECOND / 60);
  const differ = new Set(offsets).size > 1;
  return moments.map((moment, at) => {
    const text = shortClock(moment, zone);
    const weekday = WEEKDAYS[new Date(`${text.slice(0, 10)}T00:00Z`).getUTCDay()];
    return `${weekday} ${text}${differ ? ` ${offsetText(offsets[at] ?? 0)}` : ""}`;
  });
}

/** @param {number} minutes */
function offsetText(minutes) {
  const [hours, rest] = [Math.floor(Math.abs(minutes) / 60), Math.abs(minutes) % 60];
  return `${minutes < 0 ? "-" : "+"}${[hours, rest].map(part => String(part).padStart(2, "0")).join(":")}`;
}

/**
 * Return the value of a figure; null if there is none.
 *
 * @param {Figures | null} figures
 * @param {string} name
 * @returns {number | null}
 */
export function figureOf(figures, name) {
  if (figures === null) return null;
  if (/^p\d/.test(name)) return figures.percentiles?.[name] ?? null;
  const value = /** @type {Record<string, any>} */ (figures)[name] ?? null;
  return value !== null && typeof value === "object" ? value.value : value;
}

/**
 * Return the line of a figure over the ticks of a schedule. A tick without a value is a gap.
 *
 * @param {ScheduleTick[]} ticks newest first
 * @param {Axis} axis
 * @param {string} figure
 */
export function lineOf(ticks, axis, figure) {
  const ordered = ticks.toReversed();
  return {
    times: ordered.map(({ tick }) => momentOf(tick) / SECOND),
    values: ordered.map(tick => figureOf(tick[axis], figure)),
  };
}

/**
 * Return the names of figures in a text of percentiles, such as "5, p95": p5 and p95.
 *
 * @param {string} text
 */
export function percentilesIn(text) {
  return text
    .split(/[\s,;]+/)
    .filter(Boolean)
    .map(part => (/^\d/.test(part) ? `p${part}` : part));
}
