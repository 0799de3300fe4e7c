/** Texts and lines of analyses. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  figureOf,
  lengthText,
  lineOf,
  percentilesIn,
  periodText,
  tickTexts,
} from "../../query_api/dashboard/static/state/analyses.js";

const BERLIN = "Europe/Berlin";

test("a period without ends", () => {
  assert.equal(periodText({ start: null, end: null }, "UTC"), "all time");
  assert.equal(periodText({ start: "2026-01-31T12:00:00.000000Z", end: null }, BERLIN), "from 2026-01-31 13:00");
  assert.equal(periodText({ start: null, end: "2026-01-31T12:00:30.500000Z" }, "UTC"), "to 2026-01-31 12:00:30.5");
});

test("a period of times", () => {
  const start = "2026-01-31T12:00:00.000000Z";
  assert.equal(periodText({ start, end: "2026-01-31T12:15:00.000000Z" }, "UTC"), "2026-01-31 12:00 – 12:15");
  assert.equal(periodText({ start, end: "2026-01-31T12:14:59.999999Z" }, BERLIN), "2026-01-31 13:00 – 13:15");
  assert.equal(periodText({ start, end: "2026-02-01T12:00:00.000000Z" }, "UTC"), "2026-01-31 12:00 – 2026-02-01 12:00");
});

test("a period of whole days", () => {
  const summer = { start: "2026-03-28T23:00:00.000000Z", end: "2026-03-29T21:59:59.999999Z" };
  assert.equal(periodText(summer, BERLIN), "2026-03-29");
  assert.equal(periodText(summer, "UTC"), "2026-03-28 23:00 – 2026-03-29 22:00");
  const month = { start: "2026-01-01T00:00:00.000000Z", end: "2026-01-31T23:59:59.999999Z" };
  assert.equal(periodText(month, "UTC"), "2026-01-01 – 2026-01-31");
  const included = { start: "2026-01-01T00:00:00.000000Z", end: "2026-02-01T00:00:00.000000Z" };
  assert.equal(periodText(included, "UTC"), "2026-01-01 00:00 – 2026-02-01 00:00");
});

test("ticks have their offsets where the clocks change", () => {
  assert.deepEqual(tickTexts(["2026-10-24T00:30:00.000000Z", "2026-10-24T01:30:00.000000Z"], BERLIN), [
    "Sat 2026-10-24 02:30",
    "Sat 2026-10-24 03:30",
  ]);
  assert.deepEqual(tickTexts(["2026-10-25T00:30:00.000000Z", "2026-10-25T01:30:00.000000Z"], BERLIN), [
    "Sun 2026-10-25 02:30 +02:00",
    "Sun 2026-10-25 02:30 +01:00",
  ]);
  assert.match(tickTexts(["2026-01-01T00:00:00Z", "2026-07-01T00:00:00Z"], "America/St_Johns")[0] ?? "", / -03:30$/);
});

test("lengths of periods", () => {
  assert.equal(lengthText(null), "all time");
  assert.equal(lengthText("P1D"), "1 day");
  assert.equal(lengthText("PT15M"), "15 minutes");
  assert.equal(lengthText("P2M"), "2 months");
  assert.equal(lengthText("P1Y2M3W4DT5H6M7S"), "1 year 2 months 3 weeks 4 days 5 hours 6 minutes 7 seconds");
});

/** @type {import("../../query_api/dashboard/records.js").Figures} */
const FIGURES = {
  ...{ min: 0, max: 4, sum: 7, count: 3, median: 2 },
  percentiles: { "p99.9": 3.8 },
  last: { timestamp: "2026-01-31T12:00:00.000000Z", value: 4 },
};

test("the value of a figure", () => {
  const names = ["min", "count", "p99.9", "p5", "last", "mean"];
  assert.deepEqual(
    names.map(name => figureOf(FIGURES, name)),
    [0, 3, 3.8, null, 4, null],
  );
  assert.equal(figureOf(null, "min"), null);
});

test("a line over ticks has gaps where there is no result", () => {
  const tick = { request_id: 1, status: /** @type {const} */ ("done"), last_error: null, start: null, end: null };
  const results = { x: FIGURES, y: FIGURES, z: FIGURES };
  const ticks = [
    { ...tick, tick: "2026-01-31T12:01:00.250000Z", ...results },
    { ...tick, tick: "2026-01-31T12:00:00.000000Z", x: null, y: null, z: null },
  ];
  assert.deepEqual(lineOf(ticks, "y", "median"), { times: [1769860800, 1769860860.25], values: [null, 2] });
});

test("percentiles in a text", () => {
  assert.deepEqual(percentilesIn(" p5, 95;p99.9  q "), ["p5", "p95", "p99.9", "q"]);
  assert.deepEqual(percentilesIn(""), []);
});
