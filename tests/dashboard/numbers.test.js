/** Numbers as they are stored, durations and ages. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { age, duration, grouped, readingsOf, scale, stored } from "../../query_api/dashboard/static/state/numbers.js";

const SECOND = 1_000_000;

test("a value is shown with all its digits", () => {
  assert.equal(stored(0.1 + 0.2), "0.30000000000000004");
  assert.equal(stored(-2), "-2");
  assert.equal(stored(-0), "0");
  assert.equal(stored(1e-9), "1e-9");
  assert.equal(stored(null), "–");
  assert.equal(stored(undefined), "–");
  assert.equal(scale(0.1 + 0.2), "0.3");
});

test("counts have groups of three digits", () => {
  assert.deepEqual([0, 999, 1000, 1234567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
  const device = { readings: 12000, readings_is_estimate: true, readings_at_least: false };
  assert.equal(readingsOf(device), "about 12,000");
  assert.equal(readingsOf({ ...device, readings_at_least: true }), "at least 12,000");
  assert.equal(readingsOf({ ...device, readings_is_estimate: false }), "12,000");
});

test("durations have two units", () => {
  const hour = 3600 * SECOND;
  assert.equal(duration(250_000), "250 ms");
  assert.equal(duration(12.4 * SECOND), "12 s");
  assert.equal(duration(3 * hour + 12 * 60 * SECOND + 59 * SECOND), "3 h 12 min");
  assert.equal(duration(48 * hour), "2 d");
});

test("ages", () => {
  assert.equal(age(0, 900_000), "just now");
  assert.equal(age(0, 12 * SECOND), "12 s ago");
  assert.equal(age(0, 7300 * SECOND), "2 h ago");
  assert.equal(age(200 * SECOND, 0), "in 3 min");
});
