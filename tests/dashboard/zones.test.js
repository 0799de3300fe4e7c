/** Wall times of time zones. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  addToWall,
  allZones,
  fromWall,
  isZone,
  offsetAt,
  toWall,
  zoneOf,
} from "../../query_api/dashboard/static/state/zones.js";

const HOUR = 3_600_000_000;

test("offsets, also of half hours and before 1970", () => {
  const summer = Date.UTC(2026, 6) * 1000;
  assert.equal(offsetAt(summer, "Europe/Berlin"), 2 * HOUR);
  assert.equal(offsetAt(summer, "Asia/Kolkata"), 5.5 * HOUR);
  assert.equal(offsetAt(summer + 123, "Asia/Kolkata"), 5.5 * HOUR);
  assert.equal(offsetAt(summer, "UTC"), 0);
  assert.equal(offsetAt(-1, "America/New_York"), -5 * HOUR);
});

test("a wall time leads back to its moment, in every zone and at every hour of a year", () => {
  for (const zone of ["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Beirut", "Pacific/Apia"]) {
    for (let hour = 0; hour < 8760; hour += 1) {
      const moment = Date.UTC(2026, 0, 1, hour) * 1000;
      const back = fromWall(toWall(moment, zone), zone);
      assert.ok(back === moment || toWall(back, zone) === toWall(moment, zone), `${zone} ${moment}`);
      assert.ok(back <= moment, "of a repeated time, the first one");
    }
  }
});

test("a skipped time is the end of the skip", () => {
  const skipped = Date.UTC(2026, 2, 29, 2, 30) * 1000;
  assert.equal(fromWall(skipped, "Europe/Berlin"), Date.UTC(2026, 2, 29, 1) * 1000);
});

test("months have their own lengths", () => {
  const day = Date.UTC(2026, 0, 31, 5) * 1000;
  assert.equal(addToWall(day, 1, "M"), Date.UTC(2026, 1, 28, 5) * 1000);
  assert.equal(addToWall(day, -2, "M"), Date.UTC(2025, 10, 30, 5) * 1000);
  assert.equal(addToWall(day, 1, "y"), Date.UTC(2027, 0, 31, 5) * 1000);
});

test("names of zones", () => {
  assert.ok(isZone("Europe/Berlin") && isZone("utc") && isZone("browser") && !isZone("Berlin/Europe"));
  assert.equal(zoneOf("utc"), "UTC");
  assert.ok(allZones().includes("Europe/Berlin"));
});
