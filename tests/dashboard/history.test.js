import assert from "node:assert/strict";
import { test } from "node:test";
import { bytes, History, path, rate } from "../../query_api/dashboard/static/state/history.js";
import { counted } from "../../query_api/dashboard/static/state/numbers.js";

const SECOND = 1_000_000;

/** @param {Array<[number, number | null]>} points */
function points(...points) {
  return points.map(([second, value]) => ({ moment: second * SECOND, value }));
}

test("a history keeps ten minutes", () => {
  const history = new History();
  for (let second = 0; second <= 3600; second += 5) history.add(second * SECOND, { a: second });
  assert.equal(history.points("a").length, 120);
  assert.equal(history.points("a").at(-1)?.value, 3600);
  assert.equal(history.points("b").at(-1)?.value, null);
});

test("a clock that was set back drops what is later", () => {
  const history = new History();
  for (const second of [100, 105, 50]) history.add(second * SECOND, { a: second });
  assert.deepEqual(
    history.points("a").map(({ value }) => value),
    [50],
  );
});

test("the same answer twice is one point", () => {
  const history = new History();
  history.add(SECOND, { a: 1 });
  history.add(SECOND, { a: 1 });
  assert.equal(history.points("a").length, 1);
});

test("a line begins with the first point and ends with the newest", () => {
  assert.equal(path(points([0, 0], [15, 5], [30, 10], [45, 10], [60, 0])), "M0 30h0L25 15L50 0L75 0L100 30");
});

test("a short line shows a minute", () => {
  assert.equal(path(points([100, 4], [115, 2])), "M75 0h0L100 15");
});

test("a gap breaks a line, and so does a missing value", () => {
  assert.equal(path(points([0, 1], [21, 1], [41, null], [60, 1])), "M0 0h0M35 0h0M100 0h0");
});

test("a line of zeros is at the bottom", () => {
  assert.equal(path(points([0, 0], [15, 0])), "M75 30h0L100 30");
  assert.equal(path([]), "");
});

test("rates have three digits, or all before the point", () => {
  assert.deepEqual([0, 0.0123456, 12.3456, 99.95, 1234.5].map(rate), ["0", "0.0123", "12.3", "100", "1,235"]);
});

test("bytes have three digits and a unit", () => {
  assert.deepEqual([0, 999, 1000, 1_234_567, 7.5e10, 1e18].map(bytes), [
    "0 bytes",
    "999 bytes",
    "1 KB",
    "1.23 MB",
    "75 GB",
    "1000000 TB",
  ]);
});

test("nouns are in the plural but for one", () => {
  assert.deepEqual(
    [counted(0, "error"), counted(1, "error"), counted(2000, "error")],
    ["0 errors", "1 error", "2,000 errors"],
  );
});
