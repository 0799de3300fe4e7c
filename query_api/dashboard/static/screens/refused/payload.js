/** Bytes of a payload as text and as hexadecimal digits, in parts that are marked or not. */

import { visible } from "../../state/visible.js";

/** A place in a payload: bytes from `start` on, before `end`. @typedef {{start: number, end: number}} Place */
/** `mark`: 0: none, 1: a fault, 2: the chosen one. `isEnd`: the payload is cut off here. */
/** @typedef {{text: string, mark: 0 | 1 | 2, isEnd: boolean}} Part */
/** @typedef {{offset: string, hex: Part[], characters: Part[]}} Row */

/** @param {string} hex two digits for each byte */
export function bytesOf(hex) {
  const bytes = new Uint8Array(hex.length / 2);
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = Number.parseInt(hex.slice(2 * at, 2 * at + 2), 16);
  return bytes;
}

/**
 * Return the bytes as text. Bytes that are not UTF-8 become �.
 *
 * @param {Uint8Array} bytes
 * @param {Place} shown
 * @param {Place[]} places
 * @param {Place | null} chosen
 */
export function textParts(bytes, shown, places, chosen) {
  const whole = { start: atCharacter(bytes, shown.start), end: atCharacter(bytes, shown.end) };
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  return partsOf(whole, places, chosen, (start, end) => visible(decoder.decode(bytes.subarray(start, end)), "\n\t"));
}

/**
 * Return the first byte of a character at or behind the place.
 *
 * @param {Uint8Array} bytes
 * @param {number} at
 */
function atCharacter(bytes, at) {
  const latest = Math.min(at + 3, bytes.length);
  let found = at;
  while (at > 0 && found < latest && ((bytes[found] ?? 0) & 0xc0) === 0x80) found += 1;
  return found;
}

/**
 * Return the bytes in rows, as hexadecimal digits and as ASCII.
 *
 * @param {Uint8Array} bytes
 * @param {Place} shown
 * @param {Place[]} places
 * @param {Place | null} chosen
 * @param {number} width bytes of a row
 * @returns {Row[]}
 */
export function hexRows(bytes, shown, places, chosen, width) {
  const rows = [];
  for (let start = shown.start; start < shown.end || start === 0; start += width) {
    const row = { start, end: Math.min(start + width, shown.end) };
    const isLast = row.end === shown.end;
    /** @param {(byte: number) => string} one @param {string} between */
    const parts = (one, between) =>
      partsOf(row, isLast ? places : places.filter(place => place.start < row.end), chosen, (from, to) =>
        Array.from(bytes.subarray(from, to), one).join(between),
      );
    rows.push({
      offset: start.toString(16).padStart(6, "0"),
      hex: parts(byte => byte.toString(16).padStart(2, "0"), " "),
      characters: parts(byte => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "·"), ""),
    });
  }
  return rows;
}

/**
 * Divide a range of bytes where marks begin and end.
 *
 * @param {Place} whole
 * @param {Place[]} places
 * @param {Place | null} chosen
 * @param {(start: number, end: number) => string} textOf
 * @returns {Part[]}
 */
function partsOf(whole, places, chosen, textOf) {
  const touching = places.filter(({ start, end }) => start <= whole.end && end >= whole.start);
  const cuts = touching.flatMap(({ start, end }) => [start, end]).filter(at => at > whole.start && at < whole.end);
  const bounds = [...new Set([whole.start, ...cuts, whole.end])].sort((one, other) => one - other);
  /** @type {Part[]} */
  const parts = [];
  for (const [number, start] of bounds.entries()) {
    const ending = touching.find(place => place.start === start && place.end === start);
    if (ending) parts.push({ text: "", mark: ending === chosen ? 2 : 1, isEnd: true });
    const end = bounds[number + 1];
    if (end !== undefined && end > start)
      parts.push({ text: textOf(start, end), mark: markOf(start, touching, chosen), isEnd: false });
  }
  return parts;
}

/**
 * @param {number} at
 * @param {Place[]} places
 * @param {Place | null} chosen
 */
function markOf(at, places, chosen) {
  /** @param {Place | null} place */
  const contains = place => place !== null && place.start <= at && at < place.end;
  if (contains(chosen)) return 2;
  return places.some(contains) ? 1 : 0;
}

/**
 * Return the part of a payload to show: around a place, or from the start.
 *
 * @param {number} length of the payload
 * @param {number} at a byte that is shown
 * @param {number} size
 * @returns {Place}
 */
export function around(length, at, size) {
  const last = Math.max(0, Math.ceil((length - size) / 16) * 16);
  const start = Math.min(Math.max(0, Math.floor((at - size / 4) / 16) * 16), last);
  return { start, end: Math.min(start + size, length) };
}
