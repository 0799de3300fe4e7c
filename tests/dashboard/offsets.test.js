/** Earlier days, for comparison. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { daysOf, earlier, moved, offsetName } from "../../query_api/dashboard/static/state/offsets.js";
import { iso } from "../../query_api/dashboard/static/state/times.js";

const BERLIN = "Europe/Berlin";

/** @param {string} text */
function moment(text) {
  return Date.parse(text) * 1000;
}

/**
 * Return the times of points, one for each value, after they were moved.
 *
 * @param {string[]} times
 * @param {number} days
 */
function later(times, days) {
  const points = moved({ times: times.map(time => Date.parse(time) / 1000), values: [...times.keys()] }, days, BERLIN);
  return points.times.map((time, at) => [iso(Math.round(time * 1e6)), points.values[at]]);
}

test("offsets", () => {
  assert.deepEqual(["P1D", "P10D", "P1W", "P52W"].map(daysOf), [1, 10, 7, 364]);
  assert.deepEqual(["P0D", "P1M", "PT1H", "1D", "P1000D", "", undefined].map(daysOf), Array(7).fill(null));
  assert.deepEqual([1, 2, 7, 28].map(offsetName), ["1 day before", "2 days before", "1 week before", "4 weeks before"]);
});

test("a period has the same wall times on the day before, also where the clocks change", () => {
  const period = { start: moment("2026-03-29T00:00:00+01:00"), end: moment("2026-03-29T23:59:59+02:00") };
  assert.deepEqual(earlier(period, 1, BERLIN), {
    start: moment("2026-03-28T00:00:00+01:00"),
    end: moment("2026-03-28T23:59:59+01:00"),
  });
  assert.equal(earlier(period, 1, "UTC").start, moment("2026-03-27T23:00:00Z"));
});

test("points are at the same wall times", () => {
  assert.deepEqual(later(["2026-01-30T12:00:00.25Z"], 1), [["2026-01-31T12:00:00.25Z", 0]]);
  assert.deepEqual(later(["2026-03-28T11:00:00Z"], 1), [["2026-03-29T10:00:00Z", 0]]);
});

test("a point at a time that the clocks skip has no place", () => {
  const times = ["2026-03-28T00:59:00Z", "2026-03-28T01:30:00Z", "2026-03-28T02:00:00Z"]; // 01:59, 02:30, 03:00
  assert.deepEqual(later(times, 1), [
    ["2026-03-29T00:59:00Z", 0],
    ["2026-03-29T01:00:00Z", 2],
  ]);
});

test("an hour that the later day has twice has points once, and no line crosses the second one", () => {
  const times = ["2026-10-24T00:30:00Z", "2026-10-24T01:00:00Z"]; // 02:30, 03:00
  assert.deepEqual(later(times, 1), [
    ["2026-10-25T00:30:00Z", 0],
    ["2026-10-25T01:15:00Z", null],
    ["2026-10-25T02:00:00Z", 1],
  ]);
});

test("an hour that the earlier day has twice is in the order of time", () => {
  const times = ["2026-10-25T00:20:00Z", "2026-10-25T00:50:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z"];
  assert.deepEqual(later(times, 1), [
    ["2026-10-26T01:20:00Z", 0],
    ["2026-10-26T01:30:00Z", 2],
    ["2026-10-26T01:50:00Z", 1],
    ["2026-10-26T02:00:00Z", 3],
  ]);
});
