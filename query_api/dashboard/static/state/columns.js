/** The columns of uPlot. */

/** @typedef {import("./series.js").Line} Line */
/** @typedef {Array<number | null | undefined>} Column */

/**
 * Return a common column of times, and one of values for each line. At the times of others, a line has null within a
 * gap, and undefined elsewhere. A time is repeated as often as in the line that has it most often.
 *
 * @param {Line[]} lines
 * @returns {[number[], ...Column[]]}
 */
export function columnsOf(lines) {
  const [only] = lines;
  if (only && lines.length === 1) return [only.times, only.values];
  const places = lines.map(() => 0);
  /** @type {number[]} */
  const times = [];
  const columns = lines.map(() => /** @type {Column} */ ([]));
  for (let time = earliest(lines, places); time < Number.POSITIVE_INFINITY; time = earliest(lines, places)) {
    times.push(time);
    for (let at = 0; at < lines.length; at += 1) {
      const place = /** @type {number} */ (places[at]);
      const { times: own, values } = /** @type {Line} */ (lines[at]);
      const has = own[place] === time;
      const isGap = values[place - 1] === null || values[place] === null;
      columns[at]?.push(has ? values[place] : isGap ? null : undefined);
      if (has) places[at] = place + 1;
    }
  }
  return [times, ...columns];
}

/**
 * @param {Line[]} lines
 * @param {number[]} places
 */
function earliest(lines, places) {
  let least = Number.POSITIVE_INFINITY;
  for (let at = 0; at < lines.length; at += 1) {
    const time = lines[at]?.times[places[at] ?? 0];
    if (time !== undefined && time < least) least = time;
  }
  return least;
}
