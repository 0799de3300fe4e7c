/** The order of the list of devices, rates, and small plots. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  directionOf,
  nextOrder,
  pathOf,
  rateText,
  selectedOf,
  withSelected,
} from "../../query_api/dashboard/static/state/lists.js";

test("a click sorts in the useful direction first, and then in the other one", () => {
  assert.equal(nextOrder(undefined, "name"), "name");
  assert.equal(nextOrder("name", "name"), "-name");
  assert.equal(nextOrder("-name", "name"), "name");
  assert.equal(nextOrder("name", "last_seen"), "-last_seen");
  assert.equal(nextOrder("-last_seen", "last_seen"), "last_seen");
  assert.equal(nextOrder("last_seen", "last_seen"), "-last_seen");
});

test("the direction of a column", () => {
  assert.equal(directionOf("rate", "rate"), "ascending");
  assert.equal(directionOf("-rate", "rate"), "descending");
  assert.equal(directionOf("-rate", "name"), null);
  assert.equal(directionOf(undefined, "name"), null);
});

test("a rate has the unit in which it is at least one", () => {
  assert.deepEqual([0, 1000, 123.4, 12.34, 1, 0.999, 1 / 60, 0.5, 1 / 3600, 1 / 86_400].map(rateText), [
    "–",
    "1000/s",
    "123/s",
    "12/s",
    "1/s",
    "1/s",
    "1/min",
    "30/min",
    "1/h",
    "1/d",
  ]);
});

const MINUTE = 60_000_000;
const BOX = { width: 10, height: 12 };

/** @param {number[]} minutes */
function times(minutes) {
  return minutes.map(minute => `1970-01-01T00:${String(minute).padStart(2, "0")}:00.000000Z`);
}

test("a small plot fills its box, and is broken where readings are missing", () => {
  const period = { start: 0, end: 10 * MINUTE };
  const line = { timestamp: times([0, 1, 2, 8, 9]), value: [0, 1, 2, 1, 0] };
  assert.equal(pathOf(line, period, BOX, 5), "M0.0 11.0h.01L1.0 6.0L2.0 1.0M8.0 6.0h.01L9.0 11.0");
  assert.equal(pathOf(line, period, BOX, 60), "M0.0 11.0h.01L1.0 6.0L2.0 1.0L8.0 6.0L9.0 11.0");
  assert.equal(pathOf({ timestamp: times([5]), value: [7] }, period, BOX, null), "M5.0 6.0h.01");
});

test("the selection is in the address", () => {
  assert.deepEqual(selectedOf({}), []);
  assert.deepEqual(selectedOf({ selected: "7,8,7,x,-1,,0" }), ["7", "8"]);
  assert.deepEqual(withSelected({ selected: "7,8" }, 9, true), { selected: "7,8,9" });
  assert.deepEqual(withSelected({ selected: "7,8" }, 7, true), { selected: "8,7" });
  assert.deepEqual(withSelected({ selected: "7" }, 7, false), { selected: undefined });
});
