/** The table of devices. */

import { html, live, noChange, nothing } from "../../html.js";
import { directionOf, nextOrder, rateText, selectedOf } from "../../state/lists.js";
import { age, readingsOf, stored } from "../../state/numbers.js";
import { nextSlice } from "../../state/slices.js";
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
 * @property {(device: Device, isSelected: boolean) => void} select
 */

/** Rows from which the columns have fixed widths, so that a change of a row does not lay out all of them. */
const LONG = 250;

/** Draws the table again where something has changed: a page may have a thousand rows, some in each frame. */
export class DevicesTable {
  /** What is drawn, or will be in the next frames. @type {Table | null} */
  #table = null;
  #version = 0;
  /** What each row is to show. @type {unknown[][]} */
  #wanted = [];
  /** What each row shows. @type {Array<unknown[] | null>} */
  #shown = [];
  #isDrawn = false;

  /** @param {() => void} refresh */
  constructor(refresh) {
    this.refresh = refresh;
  }

  /** Draw everything again: the table is not on the screen any more. */
  reset() {
    this.#table = null;
    this.#shown = [];
  }

  /** @param {Table} table */
  view(table) {
    const before = this.#table;
    const isSame = before?.devices === table.devices && before.query === table.query;
    if (!isSame || this.#version !== table.sparklines.version) this.#begin(table);
    else if (this.#isDrawn) return noChange;
    return this.#drawSome(this.#table ?? table);
  }

  /** @param {Table} table */
  #begin(table) {
    if (table.query.tz !== this.#table?.query.tz) this.#shown.fill(null); // the links and times have it
    this.#table = table;
    this.#version = table.sparklines.version;
    const selected = new Set(selectedOf(table.query));
    this.#wanted = table.devices.map(device => [...rowKey(table, device), selected.has(String(device.id))]);
  }

  /** @param {Table} table */
  #drawSome(table) {
    const count = table.devices.length;
    const isChanged = (/** @type {number} */ place) => this.#isChanged(place);
    const slice = nextSlice({ count, shown: this.#shown.length, isChanged, visible: visiblePlaces() });
    this.#shown.length = Math.min(this.#shown.length, count);
    for (const place of slice.drawn) this.#shown[place] = this.#wanted[place] ?? null;
    this.#isDrawn = slice.isLast;
    if (!slice.isLast) this.refresh();
    const drawn = (/** @type {Device} */ device, /** @type {number} */ place) =>
      slice.drawn.has(place) ? row(table, device, this.#wanted[place]?.at(-1) === true) : noChange;
    return tableOf(table, table.devices.slice(0, slice.shown).map(drawn));
  }

  /** @param {number} place */
  #isChanged(place) {
    return !this.#shown[place]?.every((part, at) => part === this.#wanted[place]?.[at]);
  }
}

/** Return the first place of a row on the screen, and the one behind the last. @returns {[number, number]} */
function visiblePlaces() {
  const first = document.querySelector(".devices tbody tr")?.getBoundingClientRect();
  if (!first || first.height === 0) return [0, 0];
  return [Math.floor(-first.top / first.height), Math.ceil((innerHeight - first.top) / first.height)];
}

/**
 * Return what a row shows.
 *
 * @param {Table} table
 * @param {Device} device
 */
function rowKey({ now, sparklines }, device) {
  const { id, name, key, state, rate, last_reading_at: last } = device;
  const passed = last === null ? "" : age(momentOf(last), now);
  return [id, name, key, state, rate, device.latest_reading?.id, passed, readingsOf(device), sparklines.drawn(device)];
}

/**
 * @param {Table} table
 * @param {unknown[]} rows
 */
function tableOf(table, rows) {
  return html`
    <div class="scroll" tabindex="0" role="region" aria-label="Devices">
      <table class=${`dense devices${table.devices.length > LONG ? " long" : ""}`}>
        <thead>
          <tr>
            <th scope="col" class="pick"><span class="visually-hidden">Select</span></th>
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
        <tbody>${rows}</tbody>
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
 * @param {boolean} isSelected
 */
function row({ query, now, sparklines, addressOf, select }, device, isSelected) {
  const reading = device.latest_reading;
  return html`
    <tr>
      <td class="pick"><input type="checkbox" aria-label=${`Select ${device.name}`} .checked=${live(isSelected)}
        @change=${(/** @type {Event} */ event) => select(device, /** @type {HTMLInputElement} */ (event.target).checked)}></td>
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
