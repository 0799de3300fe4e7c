/** A line that grows at its end and loses its beginning, in bounded memory. */

/** Points in the order of time. A value of null stands for a gap between the points beside it. */
export class Rolling {
  /** Seconds since 1970. @type {number[]} */
  times = [];
  /** @type {Array<number | null>} */
  values = [];
  /** A gap is a step of more seconds than this. */
  above = Number.POSITIVE_INFINITY;
  /** The number of points above which they are thinned out. */
  #limit;

  /** @param {number} most points */
  constructor(most) {
    this.most = most;
    this.#limit = most;
  }

  /**
   * Replace all points.
   *
   * @param {{times: number[], values: Array<number | null>}} points
   * @param {number} above
   */
  replace({ times, values }, above) {
    this.times = times;
    this.values = values;
    this.above = above;
    this.#limit = this.most;
  }

  /**
   * Add a point, unless it is there. Return whether a gap is before it.
   *
   * @param {number} time
   * @param {number} value
   */
  add(time, value) {
    const { times, values } = this;
    const at = after(times, time);
    for (let same = at - 1; times[same] === time; same -= 1) if (values[same] === value) return false;
    const isAfterGap = values[at - 1] === null;
    const from = isAfterGap ? at - 1 : at;
    const removed = isAfterGap || values[at] === null ? 1 : 0;
    const added = [...this.#gap(times[from - 1], time), { time, value }, ...this.#gap(time, times[from + removed])];
    times.splice(from, removed, ...added.map(point => point.time));
    values.splice(from, removed, ...added.map(point => point.value));
    return added[0]?.value === null;
  }

  /**
   * @param {number | undefined} before
   * @param {number | undefined} next
   */
  #gap(before, next) {
    const isGap = before !== undefined && next !== undefined && next - before > this.above;
    return isGap ? [{ time: (before + next) / 2, value: null }] : [];
  }

  /**
   * Remove the points before the period but the last of them, from which a line leads into it, and those long after it.
   * If there are too many points, keep the first, the least, the greatest and the last of each part of the period.
   *
   * @param {number} start
   * @param {number} end
   */
  trim(start, end) {
    const { times, values } = this;
    const later = after(times, 2 * end - start);
    times.splice(later);
    values.splice(later);
    let earlier = Math.max(after(times, start) - 1, 0);
    if (values[earlier] === null && earlier > 0) earlier -= 1; // a gap keeps the points beside it
    times.splice(0, earlier);
    values.splice(0, earlier);
    if (times.length > this.#limit) this.#thin((8 * (end - start)) / this.most);
  }

  /** @param {number} width seconds */
  #thin(width) {
    const { times, values } = this;
    const kept = [];
    for (let at = 0; at < times.length; ) {
      const next = endOfPart(this, at, width);
      kept.push(...peaksOf(values, at, next));
      at = next;
    }
    this.times = kept.map(at => /** @type {number} */ (times[at]));
    this.values = kept.map(at => /** @type {number | null} */ (values[at]));
    this.#limit = Math.max(this.most, 1.5 * kept.length);
  }
}

/**
 * Return the number of times that are not later than the given one.
 *
 * @param {number[]} times
 * @param {number} time
 */
function after(times, time) {
  let [low, high] = [0, times.length];
  if ((times[high - 1] ?? time) <= time) return high; // the usual case
  while (low < high) {
    const middle = (low + high) >> 1;
    if (/** @type {number} */ (times[middle]) > time) high = middle;
    else low = middle + 1;
  }
  return low;
}

/**
 * Return the end of the points from `at` on that have no gap between them and are in one part of the width.
 *
 * @param {Rolling} line
 * @param {number} at
 * @param {number} width
 */
function endOfPart({ times, values }, at, width) {
  const part = (/** @type {number} */ index) => Math.floor(/** @type {number} */ (times[index]) / width);
  let next = at + 1;
  if (values[at] === null) return next;
  while (next < times.length && values[next] !== null && part(next) === part(at)) next += 1;
  return next;
}

/**
 * Return the positions of the first, the least, the greatest and the last value, in order.
 *
 * @param {Array<number | null>} values
 * @param {number} first
 * @param {number} end
 */
function peaksOf(values, first, end) {
  const value = (/** @type {number} */ at) => /** @type {number} */ (values[at]);
  let [least, greatest] = [first, first];
  for (let at = first; at < end; at += 1) {
    if (value(at) < value(least)) least = at;
    if (value(at) > value(greatest)) greatest = at;
  }
  return [...new Set([first, Math.min(least, greatest), Math.max(least, greatest), end - 1])];
}

/**
 * Return the gaps of a line, with one that is still open.
 *
 * @param {Rolling} line
 * @param {number} now seconds since 1970
 * @returns {Array<{start: number, end: number}>} in moments
 */
export function gapsOf({ times, values, above }, now) {
  const gaps = [];
  for (const [at, value] of values.entries()) {
    if (value === null) gaps.push({ start: momentAt(times[at - 1]), end: momentAt(times[at + 1]) });
  }
  const last = times.at(-1) ?? now;
  if (now - last > above) gaps.push({ start: momentAt(last), end: momentAt(now) });
  return gaps;
}

/** @param {number | undefined} time */
function momentAt(time) {
  return Math.round((time ?? 0) * 1_000_000);
}
