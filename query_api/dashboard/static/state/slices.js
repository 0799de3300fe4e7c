/** Which rows of a long table are drawn in a frame: a thousand at once would keep the page from responding. */

/** The most rows of a frame. In a table of a thousand, they take about 35 ms. */
export const ROWS = 50;
/** The rows of a table that is drawn at once. */
export const SHORT = 100;

/**
 * @typedef {object} Slice
 * @property {number} shown the rows that the table has: the first ones
 * @property {Set<number>} drawn the places of those that are drawn
 * @property {boolean} isLast whether all rows are drawn then
 */

/**
 * Choose the rows of the next frame: changed ones, those on the screen first, and then new ones at the end.
 *
 * @param {{count: number, shown: number, isChanged: (place: number) => boolean, visible: [number, number]}} rows
 *   `shown`: the number of rows in the table. `visible`: the first place on the screen, and the one behind the last
 * @returns {Slice}
 */
export function nextSlice({ count, shown, isChanged, visible: [first, end] }) {
  const before = Math.min(shown, count);
  const most = count <= SHORT ? count : ROWS;
  const changed = [];
  for (let place = 0; place < before; place += 1) if (isChanged(place)) changed.push(place);
  /** @param {number} place */
  const isHidden = place => Number(place < first || place >= end);
  changed.sort((one, other) => isHidden(one) - isHidden(other) || one - other);
  const drawn = new Set(changed.slice(0, most));
  const grown = Math.min(count, before + most - drawn.size);
  for (let place = before; place < grown; place += 1) drawn.add(place);
  return { shown: grown, drawn, isLast: grown === count && changed.length <= most };
}
