/** The table behind a plot: its points. It is drawn when it is opened. */

import { html, nothing } from "../html.js";
import { grouped, stored } from "../state/numbers.js";
import { clock } from "../state/times.js";
import { SECOND } from "../state/zones.js";

/** @typedef {import("../state/series.js").Line} Line */

/**
 * @param {Line[]} lines
 * @param {string} zone
 * @param {boolean} isOpen
 * @param {(isOpen: boolean) => void} toggle
 */
export function pointsTable(lines, zone, isOpen, toggle) {
  const count = lines.reduce((sum, { values }) => sum + values.filter(value => value !== null).length, 0);
  /** @param {Event} event */
  const toggled = event => toggle(/** @type {HTMLDetailsElement} */ (event.target).open);
  return html`
    <details ?open=${isOpen} @toggle=${toggled}>
      <summary>The ${grouped(count)} points of the plot as a table</summary>
      ${isOpen ? lines.map(line => lineTable(titleOf(line, lines), line, zone)) : nothing}
    </details>
  `;
}

/**
 * Return the name of the line, with its axis where lines of several axes have the name.
 *
 * @param {Line} line
 * @param {Line[]} lines
 */
function titleOf({ name, pane }, lines) {
  return lines.filter(line => line.name === name).length > 1 ? `${name}, ${pane}` : name;
}

/**
 * @param {string} name
 * @param {Line} line
 * @param {string} zone
 */
function lineTable(name, { times, values }, zone) {
  return html`
    <div class="scroll points" tabindex="0" role="region" aria-label=${`Points of ${name}`}>
      <table class="dense">
        <caption class="visually-hidden">Points of ${name}</caption>
        <thead><tr><th scope="col">Time</th><th scope="col" class="number">${name}</th></tr></thead>
        <tbody>
          ${times.map((time, at) => {
            const value = values[at];
            return value === null
              ? html`<tr class="gap"><td colspan="2">no readings</td></tr>`
              : html`<tr><td>${clock(Math.round(time * SECOND), zone)}</td><td class="number">${stored(value)}</td></tr>`;
          })}
        </tbody>
      </table>
    </div>
  `;
}
