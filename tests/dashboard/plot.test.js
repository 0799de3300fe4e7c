/** The pure parts of the plot: ticks, ranges of values, lonely points. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { lonelyPoints, valueRange } from "../../query_api/dashboard/static/plot/options.js";
import { timeTicks } from "../../query_api/dashboard/static/plot/ticks.js";

/** @param {string} text */
function moment(text) {
  return Date.parse(text) * 1000;
}

/**
 * @param {string} start
 * @param {string} end
 * @param {string} zone
 * @param {number} most
 */
function labels(start, end, zone, most) {
  return timeTicks(moment(start), moment(end), zone, most).map(({ label }) => label);
}

test("ticks are on full units, and say the day once", () => {
  assert.deepEqual(labels("2026-01-31T21:50:00Z", "2026-02-01T01:10:00Z", "UTC", 4), [
    "22:00\n31 Jan 2026",
    "23:00",
    "00:00\n1 Feb 2026",
    "01:00",
  ]);
  assert.deepEqual(labels("2026-01-31T12:00:00.1Z", "2026-01-31T12:00:00.9Z", "UTC", 4), [
    "12:00:00.2\n31 Jan 2026",
    "12:00:00.4",
    "12:00:00.6",
    "12:00:00.8",
  ]);
  assert.deepEqual(labels("2026-01-15T12:00:00Z", "2026-04-15T12:00:00Z", "UTC", 5), ["Feb\n2026", "Mar", "Apr"]);
  assert.deepEqual(labels("2019-06-01T00:00:00Z", "2026-04-15T12:00:00Z", "UTC", 5), ["2020", "2022", "2024", "2026"]);
});

test("ticks follow the time zone, also where the clocks change", () => {
  const ticks = timeTicks(moment("2026-03-28T20:00:00Z"), moment("2026-03-29T10:00:00Z"), "Europe/Berlin", 6);
  assert.deepEqual(
    ticks.map(({ label }) => label),
    ["21:00\n28 Mar 2026", "00:00\n29 Mar 2026", "03:00", "06:00", "09:00", "12:00"],
  );
  assert.equal(ticks[2]?.moment, moment("2026-03-29T01:00:00Z"));
});

test("the number of ticks is bounded for every length", () => {
  const start = moment("2026-01-31T12:00:00Z");
  for (let length = 3; length < 1e16; length *= 1.7) {
    const count = timeTicks(start, start + Math.round(length), "Europe/Berlin", 10).length;
    assert.ok(count <= 12, `${length}: ${count}`);
    assert.ok(count >= 1 || length < 10, `${length}: ${count}`);
  }
});

test("the range of values has a margin, and is never empty", () => {
  assert.deepEqual(valueRange(0, 100), [-8, 108]);
  assert.deepEqual(valueRange(null, null), [-1, 1]);
  assert.deepEqual(valueRange(0, 0), [-1, 1]);
  assert.deepEqual(valueRange(50, 50), [45, 55]);
});

test("points between two gaps are found", () => {
  assert.deepEqual(lonelyPoints([1, null, 2, null, 3, 4, null, 5]), [0, 2, 7]);
  assert.deepEqual(lonelyPoints([1, undefined, null, 2, 3]), [0]);
  assert.deepEqual(lonelyPoints([undefined, 1, undefined, 2]), []);
  assert.deepEqual(lonelyPoints([]), []);
});
