/** Payloads as text and as hexadecimal digits. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { around, bytesOf, hexRows, textParts } from "../../query_api/dashboard/static/screens/refused/payload.js";
import { topicFilter } from "../../query_api/dashboard/static/screens/refused/reasons.js";
import { visible } from "../../query_api/dashboard/static/state/visible.js";

const ENCODER = new TextEncoder();

/** @param {ReturnType<typeof textParts>} parts */
const brief = parts => parts.map(({ text, mark, isEnd }) => (isEnd ? `end${mark}` : mark ? `${mark}:${text}` : text));

test("hexadecimal digits are bytes", () => {
  assert.deepEqual([...bytesOf("00ff7b")], [0, 255, 123]);
  assert.equal(bytesOf("").length, 0);
});

test("what could hide or reorder a text can be seen", () => {
  assert.equal(visible("a\u0000\u001b[2J\u007f\u202e\u200b\u2028é"), "a␀␛[2J␡⟨U+202E⟩⟨U+200B⟩⟨U+2028⟩é");
  assert.equal(visible("a\nb\tc", "\n"), "a\nb␉c");
  assert.equal(visible("<b>שלום</b>"), "<b>שלום</b>");
});

test("places are marked in the text", () => {
  const bytes = ENCODER.encode('{"x":5000,"y":"é"}');
  const [x, y] = [
    { start: 5, end: 9 },
    { start: 14, end: 18 },
  ];
  const all = { start: 0, end: bytes.length };
  assert.deepEqual(brief(textParts(bytes, all, [x, y], y)), ['{"x":', "1:5000", ',"y":', '2:"é"', "}"]);
  const end = { start: bytes.length, end: bytes.length };
  assert.deepEqual(brief(textParts(bytes, all, [end], end)).at(-1), "end2");
  assert.deepEqual(brief(textParts(new Uint8Array(), { start: 0, end: 0 }, [], null)), []);
});

test("a part of a text begins and ends between characters", () => {
  const bytes = ENCODER.encode("aé€😀b");
  for (let start = 0; start <= bytes.length; start += 1)
    for (let end = start; end <= bytes.length; end += 1) {
      const text = brief(textParts(bytes, { start, end }, [], null)).join("");
      assert.ok("aé€😀b".includes(text), `${start} ${end} ${text}`);
    }
});

test("bytes that are not text are replaced", () => {
  assert.deepEqual(brief(textParts(bytesOf("83a17801"), { start: 0, end: 4 }, [], null)), ["��x␁"]);
});

test("places are marked in the rows of hexadecimal digits", () => {
  const bytes = ENCODER.encode("0123456789abcdefXYZ");
  const place = { start: 14, end: 17 };
  const [first, second] = hexRows(bytes, { start: 0, end: 19 }, [place], place, 16);
  assert.equal(first?.offset, "000000");
  assert.deepEqual(brief(first?.hex ?? []), ["30 31 32 33 34 35 36 37 38 39 61 62 63 64", "2:65 66"]);
  assert.deepEqual(brief(second?.characters ?? []), ["2:X", "YZ"]);
  assert.equal(second?.offset, "000010");
});

test("the end of a payload that is cut off is marked once", () => {
  const bytes = new Uint8Array(32);
  const end = { start: 32, end: 32 };
  const rows = hexRows(bytes, { start: 0, end: 32 }, [end], end, 16);
  assert.deepEqual(
    rows.map(({ hex }) => hex.filter(({ isEnd }) => isEnd).length),
    [0, 1],
  );
  const middle = { start: 16, end: 16 };
  assert.deepEqual(
    hexRows(bytes, { start: 0, end: 32 }, [middle], middle, 16).map(
      ({ hex }) => hex.filter(({ isEnd }) => isEnd).length,
    ),
    [0, 1],
  );
  assert.equal(hexRows(new Uint8Array(), { start: 0, end: 0 }, [], null, 16).length, 1);
});

test("a long payload is shown around the place", () => {
  assert.deepEqual(around(100, 99, 2048), { start: 0, end: 100 });
  const { start, end } = around(262_144, 200_000, 2048);
  assert.ok(start % 16 === 0 && start < 200_000 && 200_000 < end && end - start === 2048);
  assert.deepEqual(around(262_144, 262_144, 2048), { start: 262_144 - 2048, end: 262_144 });
  assert.equal(around(5001, 5001, 2048).end, 5001);
});

test("a device's key is a topic filter", () => {
  assert.equal(topicFilter(" boiler-7 "), "+/boiler-7/#");
  assert.equal(topicFilter("devices/+/stats"), "devices/+/stats");
  assert.equal(topicFilter("#"), "#");
  assert.equal(topicFilter(" "), undefined);
});
