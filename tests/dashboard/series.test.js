/** Lines and gaps of a series. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { extremesOf } from "../../query_api/dashboard/static/plot/layers.js";
import { broken, gapsWithin, linesOf } from "../../query_api/dashboard/static/state/series.js";

const SECOND = 1_000_000;

/** @param {number[]} seconds */
function moments(seconds) {
  return seconds.map(second => second * SECOND);
}

test("no line is drawn across a gap", () => {
  const gap = { start: 2 * SECOND, end: 8 * SECOND };
  assert.deepEqual(broken(moments([1, 2, 8, 9]), [5, 6, 7, 8], [gap]), {
    times: [1, 2, 5, 8, 9],
    values: [5, 6, null, 7, 8],
  });
  assert.deepEqual(broken(moments([8, 9]), [7, 8], [gap]), { times: [8, 9], values: [7, 8] });
});

/** @type {import("../../query_api/dashboard/records.js").SharedSeries} */
const SERIES = {
  device_id: 1,
  start: null,
  end: null,
  count: 4,
  timestamp: ["1970-01-01T00:01:40.000001Z", "1970-01-01T00:01:41Z", "1970-01-01T00:01:51Z", "1970-01-01T00:01:52Z"],
  x: [1, 2, 3, 4],
  y: [1, null, null, 4],
  z: [null, null, null, null],
  gaps: [{ start: "1970-01-01T00:01:41Z", end: "1970-01-01T00:01:51Z" }],
  gaps_above: 5,
};

test("the lines of a series are broken at its gaps", () => {
  const [x, y, z] = linesOf(SERIES);
  assert.deepEqual(x, { name: "x", style: 0, times: [100.000001, 101, 106, 111, 112], values: [1, 2, null, 3, 4] });
  assert.deepEqual(y, { name: "y", style: 1, times: [100.000001, 106, 112], values: [1, null, 4] });
  assert.deepEqual(z, { name: "z", style: 2, times: [], values: [] });
});

test("the gaps of a period are those of the series, and at its ends", () => {
  const between = { start: 101 * SECOND, end: 111 * SECOND };
  assert.deepEqual(gapsWithin(SERIES, { start: 96 * SECOND, end: 117 * SECOND }), [between]);
  assert.deepEqual(gapsWithin(SERIES, { start: 0, end: 118 * SECOND }), [
    { start: 0, end: 100 * SECOND + 1 },
    between,
    { start: 112 * SECOND, end: 118 * SECOND },
  ]);
  assert.deepEqual(gapsWithin({ ...SERIES, timestamp: [], gaps: [], gaps_above: null }, { start: 0, end: 1 }), []);
});

test("the extremes of a line", () => {
  const line = { name: "x", style: 0, times: [1, 2, 3, 4], values: [5, null, -3, 5] };
  assert.deepEqual(extremesOf(line), { least: 2, greatest: 0 });
  assert.equal(extremesOf({ ...line, values: [] }), null);
});
