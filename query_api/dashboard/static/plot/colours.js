/**
 * The colours of a plot, from the custom properties of style.css.
 *
 * A canvas cannot parse light-dark() or var(): the browser computes the colours of an element first.
 */

/** @typedef {{lines: string[], text: string, muted: string, grid: string, gap: string, surface: string}} Colours */

const LINES = 6;
/** Dashes of lines, so that they differ by more than their colour. @type {number[][]} */
export const DASHES = [[], [8, 3], [2, 3], [10, 3, 2, 3], [5, 5], [1, 5]];

/**
 * @param {Element} parent an element of the theme
 * @returns {Colours}
 */
export function coloursIn(parent) {
  const probe = document.createElement("span");
  probe.hidden = true;
  parent.append(probe);
  /** @param {string} name */
  const computed = name => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const colours = {
    lines: Array.from({ length: LINES }, (_, number) => computed(`line-${number}`)),
    text: computed("text"),
    muted: computed("muted"),
    grid: computed("grid"),
    gap: computed("gap"),
    surface: computed("surface"),
  };
  probe.remove();
  return colours;
}

/**
 * @param {Colours} colours
 * @param {number} style
 */
export function lineColour(colours, style) {
  return /** @type {string} */ (colours.lines[style % LINES]);
}

/**
 * Return the dashes of a style. Styles of one colour have different dashes.
 *
 * @param {number} style
 */
export function dashOf(style) {
  return /** @type {number[]} */ (DASHES[(style + Math.floor(style / LINES)) % DASHES.length]);
}
