/** The lines of a plot in pixels. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { drawLine, polylines } from "../../query_api/dashboard/static/plot/lines.js";

/** @param {number} value */
const same = value => value;

test("a line ends at each gap, and passes the times of other lines", () => {
  const found = polylines([1, 2, 3, 4, 5, 6], [10, undefined, 30, null, 50, 60], same, same);
  assert.deepEqual(found, [
    [1, 10, 3, 30],
    [5, 50, 6, 60],
  ]);
  assert.deepEqual(polylines([], [], same, same), []);
  assert.deepEqual(polylines([1, 2], [null, undefined], same, same), []);
});

test("a column of pixels keeps its first, least, greatest and last point", () => {
  const times = [1, 1.1, 1.2, 1.3, 1.4, 2];
  const found = polylines(times, [5, 9, 1, 7, 6, 4], Math.floor, same);
  assert.deepEqual(found, [[1, 5, 1, 1, 1, 9, 1, 6, 2, 4]]);
});

test("a gap within a column of pixels stays a gap", () => {
  assert.deepEqual(polylines([1, 1.1, 1.2], [5, null, 6], Math.floor, same), [
    [1, 5],
    [1, 6],
  ]);
});

test("the paths of a line follow each other without a hole, and so do its dashes", () => {
  const count = 100;
  const paths = /** @type {Array<{points: number[][], offset: number}>} */ ([]);
  /** @type {number[][]} */
  let points = [];
  const ctx = {
    lineDashOffset: 0,
    ...Object.fromEntries(
      ["save", "restore", "rect", "clip", "translate", "setLineDash"].map(name => [name, () => {}]),
    ),
    beginPath: () => {
      points = [];
    },
    moveTo: (/** @type {number} */ x, /** @type {number} */ y) => points.push([x, y]),
    lineTo: (/** @type {number} */ x, /** @type {number} */ y) => points.push([x, y]),
    stroke: () => paths.push({ points, offset: ctx.lineDashOffset }),
  };
  const times = Array.from({ length: count }, (_, at) => 3 * at);
  const values = times.map((_, at) => (at % 2) * 4); // each piece is 5 long
  const plot = { ctx, bbox: { left: 0, top: 0, width: 300, height: 10 }, data: [times, values], valToPos: same };
  Object.assign(globalThis, { devicePixelRatio: 1 });
  drawLine(/** @type {any} */ (plot), 1, { colour: "#000", width: 1, dash: [8, 3], alpha: 1 });
  assert.ok(paths.length > 1);
  for (const [at, { points: own, offset }] of paths.entries()) {
    assert.equal(offset, ((own[0]?.[0] ?? 0) / 3) * 5);
    const next = paths[at + 1];
    assert.deepEqual(own.at(-1), next ? next.points[0] : [3 * (count - 1), values.at(-1)]);
  }
});
