/** Ranges of the period picker, and the range with which a device opens. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  intervalFor,
  nameOf,
  openingRange,
  QUICK,
  rangeOf,
  readable,
  scaled,
  shifted,
} from "../../query_api/dashboard/static/state/ranges.js";
import { periodOf } from "../../query_api/dashboard/static/state/times.js";

const MINUTE = 60_000_000;
const HOUR = 60 * MINUTE;
const NOW = Date.UTC(2026, 0, 31, 12) * 1000;

test("every quick range is a period", () => {
  for (const [name, from, to] of QUICK) {
    const { start, end } = periodOf({ from, to }, { now: NOW, zone: "Europe/Berlin" });
    assert.ok(start < end, name);
    assert.equal(nameOf({ from, to }), name);
  }
});

test("a device opens where its data are", () => {
  assert.deepEqual(openingRange(NOW - 9 * HOUR, NOW, NOW), { from: "now-6h", to: "now" });
  assert.deepEqual(openingRange(NOW - 3 * MINUTE, NOW, NOW), { from: "now-5m", to: "now" });
  assert.deepEqual(openingRange(NOW - 50 * MINUTE, NOW, NOW), { from: "now-1h", to: "now" });
  assert.deepEqual(openingRange(NOW - 99 * HOUR, NOW - 48 * HOUR, NOW), {
    from: "2026-01-29T06:00:00Z",
    to: "2026-01-29T12:00:00Z",
  });
  assert.deepEqual(openingRange(NOW - 49 * HOUR, NOW - 48 * HOUR, NOW), {
    from: "2026-01-29T11:00:00Z",
    to: "2026-01-29T12:00:00Z",
  });
  assert.deepEqual(openingRange(null, null, NOW), { from: "now-15m", to: "now" });
});

test("steps to other periods", () => {
  const period = { start: NOW - 2 * HOUR, end: NOW };
  assert.deepEqual(shifted(period, -1), { start: NOW - 3 * HOUR, end: NOW - HOUR });
  assert.deepEqual(scaled(period, 2), { start: NOW - 3 * HOUR, end: NOW + HOUR });
  assert.deepEqual(scaled({ start: 5, end: 5 }, 2), { start: 4, end: 6 });
  assert.equal(scaled({ start: 0, end: NOW }, 2).start, 0);
  assert.deepEqual(rangeOf(period), { from: "2026-01-31T10:00:00Z", to: "2026-01-31T12:00:00Z" });
});

test("at most two hundred buckets", () => {
  assert.equal(intervalFor({ start: NOW - 6 * HOUR, end: NOW }), "PT2M");
  assert.equal(intervalFor({ start: NOW - 60_000_000, end: NOW }), "PT1S");
  assert.equal(intervalFor({ start: NOW - 30 * 24 * HOUR, end: NOW }), "PT6H");
  assert.equal(intervalFor({ start: 0, end: NOW * 20 }), "P1Y");
});

test("a period that was chosen on a plot has no more digits than its pixels", () => {
  const chosen = { start: NOW + 1_234_567, end: NOW + 65_432_100 };
  assert.deepEqual(readable(chosen, 1_053_000), { start: NOW + 1_000_000, end: NOW + 65_000_000 });
  assert.deepEqual(readable(chosen, 90_000), { start: NOW + 1_230_000, end: NOW + 65_430_000 });
  assert.deepEqual(readable(chosen, 0.01), chosen);
  assert.deepEqual(readable(chosen, 1e9), chosen);
});
