/** The table of devices. */

import { html, noChange, nothing, repeat } from "../../html.js";
import { directionOf, nextOrder, rateText } from "../../state/lists.js";
import { age, readingsOf, stored } from "../../state/numbers.js";
import { clock, momentOf } from "../../state/times.js";
import { zoneOf } from "../../state/zones.js";

/** @typedef {import("../../../records.js").Device} Device */
/** @typedef {import("../../state/address.js").Values} Values */
/** @typedef {import("../../state/lists.js").State} State */
/** @typedef {import("./sparklines.js").Sparklines} Sparklines */

/**
 * @typedef {object} Table
 * @property {Device[]} devices
 * @property {Values} query
 * @property {number} now
 * @property {Sparklines} sparklines
 * @property {import("../../html.js").Content} plots the choice of the small plots
 * @property {(changes: Values) => string} changed the address with other values
 * @property {(device: Device) => string} addressOf
 */

/** Rows from which the columns have fixed widths, so that a change of a row does not lay out all of them. */
const LONG = 250;

/** Draws the table again where something has changed: a page may have a thousand rows. */
export class DevicesTable {
  /** What was drawn. @type {unknown[]} */
  #drawn = [];
  /** @type {Map<number, unknown[]>} */
  #rows = new Map();

  /** Draw everything again: the table is not on the screen any more. */
  reset() {
    this.#drawn = [];
    this.#rows.clear();
  }

  /** @param {Table} table */
  view(table) {
    const key = [table.devices, table.query, table.sparklines.version];
    if (key.every((part, at) => part === this.#drawn[at])) return noChange;
    if (table.query !== this.#drawn[1]) this.#rows.clear();
    this.#drawn = key;
    const rows = this.#rows;
    this.#rows = new Map(table.devices.map(device => [device.id, rowKey(table, device)]));
    return tableOf(table, device => {
      const [before, now] = [rows.get(device.id), this.#rows.get(device.id)];
      return before?.every((part, at) => part === now?.[at]) ? noChange : row(table, device);
    });
  }
}

/**
 * Return what a row shows.
 *
 * @param {Table} table
 * @param {Device} device
 */
function rowKey({ now, sparklines }, device) {
  const { name, state, rate, last_reading_at: last } = device;
  const passed = last === null ? "" : age(momentOf(last), now);
  return [name, state, rate, device.latest_reading?.id, passed, readingsOf(device), sparklines.drawn(device)];
}

/**
 * @param {Table} table
 * @param {(device: Device) => unknown} rowOf
 */
function tableOf(table, rowOf) {
  return html`
    <div class="scroll" tabindex="0" role="region" aria-label="Devices">
      <table class=${`dense devices${table.devices.length > LONG ? " long" : ""}`}>
        <thead>
          <tr>
            ${head(table, "name", "Name")}
            <th scope="col" class="wide">Key</th>
            ${head(table, "state", "State")}
            ${head(table, "last_seen", "Last reading")}
            <th scope="col" class="wide">${table.plots}</th>
            <th scope="col" class="number">x</th><th scope="col" class="number">y</th><th scope="col" class="number">z</th>
            ${head(table, "rate", "Rate", "number")}
            <th scope="col" class="number wide">Readings</th>
          </tr>
        </thead>
        <tbody>${repeat(table.devices, device => device.id, rowOf)}</tbody>
      </table>
    </div>
  `;
}

/**
 * @param {Table} table
 * @param {"name" | "state" | "last_seen" | "rate"} column
 * @param {string} label
 */
function head({ query, changed }, column, label, kind = "") {
  const direction = directionOf(query.order, column);
  const mark = direction === null ? "" : direction === "ascending" ? "↑" : "↓";
  return html`
    <th scope="col" class=${kind} aria-sort=${direction ?? nothing}>
      <a class="sort" href=${changed({ order: nextOrder(query.order, column) })}>${label}<span aria-hidden="true">${mark}</span></a>
    </th>
  `;
}

/**
 * @param {Table} table
 * @param {Device} device
 */
function row({ query, now, sparklines, addressOf }, device) {
  const reading = device.latest_reading;
  return html`
    <tr>
      <th scope="row"><a href=${addressOf(device)}>${device.name}</a></th>
      <td class="wide"><code>${device.key}</code></td>
      <td>${stateBadge(/** @type {State} */ (device.state))}</td>
      <td>${lastReading(device, query, now)}</td>
      <td class="wide plot-cell">${sparklines.view(device)}</td>
      <td class="number">${stored(reading?.x)}</td>
      <td class="number">${stored(reading?.y)}</td>
      <td class="number">${stored(reading?.z)}</td>
      <td class="number">${rateText(device.rate)}</td>
      <td class="number wide">${readingsOf(device)}</td>
    </tr>
  `;
}

/** @param {State} state */
export function stateBadge(state) {
  return html`<span class="state ${state}">${state[0]?.toUpperCase()}${state.slice(1)}</span>`;
}

/**
 * @param {Device} device
 * @param {Values} query
 * @param {number} now
 */
function lastReading({ last_reading_at: last }, query, now) {
  if (last === null) return html`<span class="muted">–</span>`;
  const moment = momentOf(last);
  return html`<time datetime=${last} title=${clock(moment, zoneOf(query.tz ?? "browser"))}>${age(moment, now)}</time>`;
}
