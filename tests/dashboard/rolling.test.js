/** Lines that grow, the columns of several, and the events of a stream. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { columnsOf } from "../../query_api/dashboard/static/state/columns.js";
import { EventParser } from "../../query_api/dashboard/static/state/events.js";
import { gapsOf, Rolling } from "../../query_api/dashboard/static/state/rolling.js";

/**
 * @param {Array<[number, number | null]>} points
 * @param {number} above
 */
function lineOf(points, above = 3) {
  const line = new Rolling(1000);
  line.replace({ times: points.map(([time]) => time), values: points.map(([, value]) => value) }, above);
  return line;
}

/** @param {{times: number[], values: Array<number | null | undefined>}} line */
function pointsOf({ times, values }) {
  return times.map((time, at) => [time, values[at]]);
}

test("a point is added once, wherever its time is", () => {
  const line = lineOf([
    [1, 10],
    [3, 30],
  ]);
  for (const [time, value] of [
    [4, 40],
    [2, 20],
    [3, 30],
    [0, 0],
    [3, 31],
    [3, 31],
    [4, 40],
  ])
    line.add(time ?? 0, value ?? 0);
  assert.deepEqual(pointsOf(line), [
    [0, 0],
    [1, 10],
    [2, 20],
    [3, 30],
    [3, 31],
    [4, 40],
  ]);
});

test("a gap is where a step is longer than usual, until a late point is in it", () => {
  const line = lineOf([[1, 1]]);
  assert.equal(line.add(2, 2), false);
  assert.equal(line.add(10, 10), true);
  assert.deepEqual(pointsOf(line), [
    [1, 1],
    [2, 2],
    [6, null],
    [10, 10],
  ]);
  line.add(4, 4);
  assert.deepEqual(pointsOf(line).slice(2), [
    [4, 4],
    [7, null],
    [10, 10],
  ]);
  line.add(8, 8);
  assert.deepEqual(pointsOf(line).slice(2), [
    [4, 4],
    [6, null],
    [8, 8],
    [10, 10],
  ]);
  line.add(6, 6);
  assert.deepEqual(
    line.values.filter(value => value === null),
    [],
  );
  assert.deepEqual(gapsOf(line, 12), []);
  assert.deepEqual(gapsOf(line, 14), [{ start: 10_000_000, end: 14_000_000 }]);
});

test("points outside of the period are dropped, but the last one before it", () => {
  const line = lineOf([1, 2, 3, 4, 5, 99].map(time => [time, time]));
  line.trim(3.5, 6);
  assert.deepEqual(line.times, [3, 4, 5]);
  line.trim(50, 60);
  assert.deepEqual(line.times, [5]);
  line.add(15, 15);
  line.trim(14, 16);
  assert.deepEqual(line.times, [5, 10, 15]);
});

test("many points are thinned out to a bounded number, with every peak and every gap", () => {
  const line = new Rolling(1000);
  line.above = 1;
  const peaks = [];
  for (let at = 0; at < 200_000; at += 1) {
    const time = at / 1000 + (at >= 150_000 ? 5 : 0);
    const isPeak = at % 10_007 === 0;
    if (isPeak && time > 110) peaks.push(at);
    line.add(time, isPeak ? at : Math.sin(at));
    if (at % 17 === 0) line.trim(time - 100, time);
    assert.ok(line.times.length <= 1100, `${line.times.length} points at ${at}`);
  }
  line.trim(105, 205);
  for (const peak of peaks) assert.ok(line.values.includes(peak), `peak ${peak}`);
  assert.deepEqual(gapsOf(line, 205), [{ start: 149_999_000, end: 155_000_000 }]);
  assert.deepEqual(
    line.times,
    line.times.toSorted((a, b) => a - b),
  );
});

test("a line of another device has no value at a time, and null within its gap", () => {
  const one = { name: "a", style: 0, times: [1, 3, 3, 4, 5], values: [1, 3, 33, null, 5] };
  const other = { name: "b", style: 1, times: [2, 3, 4.5, 6], values: [-2, -3, -4, -6] };
  const [times, first, second] = columnsOf([one, other]);
  assert.deepEqual(times, [1, 2, 3, 3, 4, 4.5, 5, 6]);
  assert.deepEqual(first, [1, undefined, 3, 33, null, null, 5, undefined]);
  assert.deepEqual(second, [undefined, -2, -3, undefined, undefined, -4, undefined, -6]);
  assert.deepEqual(columnsOf([one]), [one.times, one.values]);
});

test("events are read wherever the parts of the stream end", () => {
  const text = `retry: 2000\n\nid: 17\nevent: reading\ndata: {"x":1.5,"detail":"a: b"}\n\n: a comment\n\nevent: gap\ndata: {}\n\n`;
  for (let size = 1; size <= text.length; size += 1) {
    /** @type {unknown[]} */
    const events = [];
    const parser = new EventParser(event => events.push(event));
    for (let at = 0; at < text.length; at += size) parser.push(text.slice(at, at + size));
    assert.deepEqual(events, [
      { name: "reading", data: { x: 1.5, detail: "a: b" } },
      { name: "gap", data: {} },
    ]);
  }
});
