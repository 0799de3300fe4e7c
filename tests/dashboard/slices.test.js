/** The rows of a long table that are drawn in one frame. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { nextSlice, ROWS, SHORT } from "../../query_api/dashboard/static/state/slices.js";

/** @type {[number, number]} */
const NOTHING = [0, 0];

test("new rows are added at the end, some in each frame", () => {
  let shown = 0;
  const sizes = [];
  for (let isLast = false; !isLast; ) {
    const slice = nextSlice({ count: 2 * ROWS + 5, shown, isChanged: () => false, visible: NOTHING });
    assert.deepEqual(
      [...slice.drawn],
      Array.from({ length: slice.shown - shown }, (_, at) => shown + at),
    );
    sizes.push(slice.drawn.size);
    ({ shown, isLast } = slice);
  }
  assert.deepEqual(sizes, [ROWS, ROWS, 5]);
});

test("changed rows come first, of which those on the screen are the first", () => {
  const changed = new Set([0, 1, 3 * ROWS, 3 * ROWS + 1]);
  const rows = { count: 5 * ROWS, isChanged: (/** @type {number} */ place) => changed.has(place) };
  const slice = nextSlice({ ...rows, shown: 4 * ROWS, visible: [3 * ROWS, 3 * ROWS + 20] });
  assert.deepEqual([...slice.drawn].slice(0, 4), [3 * ROWS, 3 * ROWS + 1, 0, 1]);
  assert.deepEqual([slice.shown, slice.isLast], [4 * ROWS + ROWS - 4, false]);
});

test("all changed rows are drawn, in as few frames as possible", () => {
  const waiting = new Set(Array.from({ length: 3 * ROWS }, (_, at) => at));
  const frames = [];
  for (let isLast = false; !isLast; ) {
    const rows = { count: 4 * ROWS, shown: 4 * ROWS, isChanged: (/** @type {number} */ place) => waiting.has(place) };
    const slice = nextSlice({ ...rows, visible: [ROWS, 2 * ROWS] });
    for (const place of slice.drawn) assert.ok(waiting.delete(place));
    frames.push(Math.min(...slice.drawn));
    isLast = slice.isLast;
  }
  assert.deepEqual([frames, waiting.size], [[ROWS, 0, 2 * ROWS], 0]);
});

test("a short table is drawn at once", () => {
  const slice = nextSlice({ count: SHORT, shown: 1, isChanged: () => true, visible: NOTHING });
  assert.deepEqual([slice.shown, slice.drawn.size, slice.isLast], [SHORT, SHORT, true]);
});

test("a list that has become shorter loses its last rows", () => {
  const slice = nextSlice({ count: 3, shown: 10, isChanged: place => place === 2, visible: [0, 10] });
  assert.deepEqual(slice, { shown: 3, drawn: new Set([2]), isLast: true });
  assert.deepEqual(nextSlice({ count: 0, shown: 10, isChanged: () => true, visible: NOTHING }).isLast, true);
});
