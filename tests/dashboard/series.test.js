/** Lines and gaps of a series. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { extremesOf } from "../../query_api/dashboard/static/plot/layers.js";
import { broken, findGaps, gapsOf, linesOf } from "../../query_api/dashboard/static/state/series.js";

const SECOND = 1_000_000;

/** @param {number[]} seconds */
function moments(seconds) {
  return seconds.map(second => second * SECOND);
}

/**
 * @param {number} first
 * @param {number} count
 * @param {number} step
 */
function regular(first, count, step) {
  return Array.from({ length: count }, (_, at) => first + at * step);
}

test("a gap is longer than the steps beside it", () => {
  const times = moments([...regular(0, 20, 1), ...regular(60, 20, 1)]);
  assert.deepEqual(findGaps(times, 0), [{ start: 19 * SECOND, end: 60 * SECOND }]);
  assert.deepEqual(findGaps(times, 100 * SECOND), []);
  assert.deepEqual(findGaps([], 0), []);
});

test("a device that changes its interval has no gap", () => {
  assert.deepEqual(findGaps(moments([...regular(0, 20, 10), ...regular(191, 100, 0.5)]), 0), []);
});

test("irregular readings have no gaps", () => {
  assert.deepEqual(findGaps(moments([0, 3, 4, 9, 10, 12, 18, 19, 25]), 0), []);
});

test("no line is drawn across a gap", () => {
  const gap = { start: 2 * SECOND, end: 8 * SECOND };
  assert.deepEqual(broken(moments([1, 2, 8, 9]), [5, 6, 7, 8], [gap]), {
    times: [1, 2, 5, 8, 9],
    values: [5, 6, null, 7, 8],
  });
  assert.deepEqual(broken(moments([8, 9]), [7, 8], [gap]), { times: [8, 9], values: [7, 8] });
});

test("the lines of a series", () => {
  const timestamp = ["2026-01-31T12:00:00.000001Z", "2026-01-31T12:00:01Z"];
  const line = { timestamp, value: [1, 2] };
  const series = { device_id: 1, start: null, end: null, count: 2, x: line, y: line, z: { timestamp: [], value: [] } };
  const lines = linesOf(series, []);
  assert.deepEqual(
    lines.map(({ name, style }) => [name, style]),
    [
      ["x", 0],
      ["y", 1],
      ["z", 2],
    ],
  );
  assert.deepEqual(lines[0]?.times, [1769860800.000001, 1769860801]);
  assert.deepEqual(lines[2]?.values, []);
});

test("gaps at the ends of the period", () => {
  const timestamp = regular(100, 20, 1).map(second => new Date(second * 1000).toISOString());
  const line = { timestamp, value: timestamp.map(() => 1) };
  const series = { device_id: 1, start: null, end: null, count: 20, x: line, y: line, z: line };
  assert.deepEqual(gapsOf(series, { start: 0, end: 122 * SECOND }, 100), [{ start: 0, end: 100 * SECOND }]);
  assert.deepEqual(gapsOf(series, { start: 99 * SECOND, end: 300 * SECOND }, 100), [
    { start: 119 * SECOND, end: 300 * SECOND },
  ]);
});

test("the extremes of a line", () => {
  const line = { name: "x", style: 0, times: [1, 2, 3, 4], values: [5, null, -3, 5] };
  assert.deepEqual(extremesOf(line), { least: 2, greatest: 0 });
  assert.equal(extremesOf({ ...line, values: [] }), null);
});
