/** Grafana's grammar of times, and rounding in time zones. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  clock,
  iso,
  isRelative,
  momentOf,
  parse,
  periodOf,
  UnknownTime,
} from "../../query_api/dashboard/static/state/times.js";

const BERLIN = "Europe/Berlin";
const NOW = moment("2026-03-29T10:17:23.25Z"); // the day on which the clocks of Berlin skip an hour

/** @param {string} text */
function moment(text) {
  return Date.parse(text) * 1000;
}

/**
 * @param {string} text
 * @param {{zone?: string, end?: boolean, now?: number}} at
 */
function parsed(text, { zone = "UTC", end = false, now = NOW } = {}) {
  return iso(parse(text, { now, zone, end }));
}

test("times relative to now", () => {
  assert.equal(parsed("now"), "2026-03-29T10:17:23.25Z");
  assert.equal(parsed("now-6h"), "2026-03-29T04:17:23.25Z");
  assert.equal(parsed("now+90s"), "2026-03-29T10:18:53.25Z");
  assert.equal(parsed("now-1M"), "2026-02-28T10:17:23.25Z"); // February has no 29th
  assert.equal(parsed("now-1Q"), "2025-12-29T10:17:23.25Z");
  assert.equal(parsed("now-1y-1d+2h"), "2025-03-28T12:17:23.25Z");
  assert.equal(parsed("now-d"), "2026-03-28T10:17:23.25Z");
});

test("a start is rounded down, and an end to the last microsecond", () => {
  assert.equal(parsed("now/d"), "2026-03-29T00:00:00Z");
  assert.equal(parsed("now/d", { end: true }), "2026-03-29T23:59:59.999999Z");
  assert.equal(parsed("now-1d/d"), "2026-03-28T00:00:00Z");
  assert.equal(parsed("now/w"), "2026-03-23T00:00:00Z"); // a Monday
  assert.equal(parsed("now/w", { end: true }), "2026-03-29T23:59:59.999999Z");
  assert.equal(parsed("now/M"), "2026-03-01T00:00:00Z");
  assert.equal(parsed("now/Q", { end: true }), "2026-03-31T23:59:59.999999Z");
  assert.equal(parsed("now/y"), "2026-01-01T00:00:00Z");
  assert.equal(parsed("now/h", { end: true }), "2026-03-29T10:59:59.999999Z");
  assert.equal(parsed("now/m"), "2026-03-29T10:17:00Z");
  assert.equal(parsed("now/d-1h"), "2026-03-28T23:00:00Z");
});

test("days are those of the time zone, and hours are elapsed time", () => {
  const at = { zone: BERLIN };
  assert.equal(parsed("now/d", at), "2026-03-28T23:00:00Z");
  assert.equal(parsed("now/d", { ...at, end: true }), "2026-03-29T21:59:59.999999Z"); // 23 hours later
  assert.equal(parsed("now-1d", at), "2026-03-28T11:17:23.25Z"); // 12:17 in Berlin on both days
  assert.equal(parsed("now-24h", at), "2026-03-28T10:17:23.25Z");
  const autumn = { zone: BERLIN, now: moment("2026-10-25T00:30:00Z") }; // 02:30 for the first time
  assert.equal(parsed("now/h", autumn), "2026-10-25T00:00:00Z");
  assert.equal(parsed("now/h", { ...autumn, now: moment("2026-10-25T01:30:00Z") }), "2026-10-25T01:00:00Z");
  assert.equal(parsed("now/d", { ...autumn, end: true }), "2026-10-25T22:59:59.999999Z"); // 25 hours
});

test("a day that begins after a skipped midnight", () => {
  // The clocks of Beirut skip from 00:00 to 01:00.
  assert.equal(parsed("2026-03-29", { zone: "Asia/Beirut" }), "2026-03-28T22:00:00Z");
  assert.equal(parsed("2026-03-28", { zone: "Asia/Beirut", end: true }), "2026-03-28T21:59:59.999999Z");
});

test("dates and times of the calendar", () => {
  assert.equal(parsed("2026-01-31"), "2026-01-31T00:00:00Z");
  assert.equal(parsed("2026-01-31", { end: true }), "2026-01-31T23:59:59.999999Z");
  assert.equal(parsed("2026-01-31T12:00:00.123456Z"), "2026-01-31T12:00:00.123456Z");
  assert.equal(parsed("2026-01-31T12:00:00.1234567Z"), "2026-01-31T12:00:00.123456Z");
  assert.equal(parsed("2026-01-31T12:00:00+01:30"), "2026-01-31T10:30:00Z");
  assert.equal(parsed("2026-01-31 12:00-0500"), "2026-01-31T17:00:00Z");
  assert.equal(parsed("2026-01-31 12:00", { zone: BERLIN }), "2026-01-31T11:00:00Z");
  assert.equal(parsed("1769860800000"), "2026-01-31T12:00:00Z");
  assert.equal(parsed(" 2026-01-31 "), "2026-01-31T00:00:00Z");
});

test("other texts are refused with what is expected", () => {
  for (const text of [
    "",
    "yesterday",
    "now-6",
    "now-6hours",
    "now/",
    "now/x",
    "now-",
    "2026-02-30",
    "2026-13-01",
    "2026-01-31T25:00",
    "12",
  ]) {
    assert.throws(() => parsed(text), UnknownTime, text);
  }
  assert.throws(() => parsed("now-6x"), /got "now-6x", of which "-6x" is wrong/);
  assert.throws(() => parsed("2026-02-30"), /not a time of the calendar/);
});

test("a period includes both ends", () => {
  const yesterday = periodOf({ from: "now-1d/d", to: "now-1d/d" }, { now: NOW, zone: "UTC" });
  assert.deepEqual(yesterday, { start: moment("2026-03-28T00:00:00Z"), end: moment("2026-03-29T00:00:00Z") - 1 });
  assert.throws(() => periodOf({ from: "now", to: "now-1h" }, { now: NOW, zone: "UTC" }), /ends before it starts/);
});

test("texts of moments", () => {
  assert.equal(momentOf("2026-01-31T12:00:00.250000Z"), moment("2026-01-31T12:00:00.250Z"));
  assert.equal(momentOf("2026-01-31T12:00:00.000001Z"), moment("2026-01-31T12:00:00Z") + 1);
  assert.equal(momentOf("2026-01-31T12:00:00Z"), moment("2026-01-31T12:00:00Z"));
  assert.equal(iso(moment("2026-01-31T12:00:00Z") + 120), "2026-01-31T12:00:00.00012Z");
  assert.equal(iso(-1), "1969-12-31T23:59:59.999999Z");
  assert.equal(clock(moment("2026-07-31T12:00:00.5Z"), BERLIN), "2026-07-31 14:00:00.5");
  assert.ok(isRelative(" now/d") && !isRelative("2026-01-31"));
});
