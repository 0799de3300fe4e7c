/** The figures of several devices, axis by axis. */

import { get } from "../../api.js";
import { html, nothing } from "../../html.js";
import { failureNotice, loadingNotice } from "../../parts/notices.js";
import { Source } from "../../source.js";
import { grouped, stored } from "../../state/numbers.js";
import { earlier, offsetName } from "../../state/offsets.js";
import { iso } from "../../state/times.js";
import { axesOf } from "../several/axes.js";
import { lineSample } from "../several/lines.js";

/** @typedef {import("../../../records.js").DeviceAnalysis} DeviceAnalysis */
/** @typedef {import("../../router.js").Context} Context */
/** @typedef {import("../../state/series.js").Axis} Axis */
/** @typedef {import("../../state/times.js").Period} Period */
/** @typedef {import("../several/devices.js").ChosenDevices} ChosenDevices */
/** @typedef {{now: Map<string, DeviceAnalysis>, before: Map<string, DeviceAnalysis> | null, offset: string}} Read */

const COLUMNS = /** @type {const} */ (["min", "mean", "median", "max", "stddev"]);

export class ComparedFigures {
  /**
   * @param {Context} context
   * @param {ChosenDevices} devices
   */
  constructor(context, devices) {
    this.context = context;
    this.devices = devices;
    /** @type {Source<Read>} */
    this.source = new Source(context.refresh);
  }

  /**
   * @param {Period} period
   * @param {string} zone
   * @param {number | null} days the offset of the comparison
   */
  load(period, zone, days) {
    const ids = this.devices.existing;
    void this.source.load(async signal => {
      const [now, before] = await Promise.all([
        figuresOf(ids, period, signal),
        days === null ? null : figuresOf(ids, earlier(period, days, zone), signal),
      ]);
      return { now, before, offset: days === null ? "" : offsetName(days) };
    });
  }

  close() {
    this.source.close();
  }

  view() {
    const read = this.source.value;
    return html`
      <section class="card" aria-busy=${this.source.isLoading}>
        <header><h2>Figures</h2></header>
        ${failureNotice(this.source.toTell)}
        ${read ? this.#table(read) : this.source.failure ? nothing : loadingNotice("the figures")}
      </section>
    `;
  }

  /** @param {Read} read */
  #table(read) {
    return html`
      <div class="scroll" tabindex="0" role="region" aria-label="Figures">
        <table class="dense compared">
          <thead>
            <tr><th scope="col">Device</th><th scope="col" class="number">count</th>
              ${COLUMNS.map(name => html`<th scope="col" class="number">${name === "stddev" ? "standard deviation" : name}</th>`)}</tr>
          </thead>
          ${axesOf(this.context.query).map(axis => this.#axis(axis, read))}
        </table>
      </div>
    `;
  }

  /**
   * @param {Axis} axis
   * @param {Read} read
   */
  #axis(axis, { now, before, offset }) {
    const ids = this.devices.existing;
    return html`
      <tbody>
        <tr class="axis"><th scope="rowgroup" colspan=${COLUMNS.length + 2}>${axis}</th></tr>
        ${ids.map((id, at) => [
          row(html`${lineSample(this.context.query, ids.length, at)}${this.devices.nameOf(id)}`, now.get(id)?.[axis]),
          before ? row(html`<span class="muted">${offset}</span>`, before.get(id)?.[axis]) : nothing,
        ])}
      </tbody>
    `;
  }
}

/**
 * @param {string[]} ids
 * @param {Period} period
 * @param {AbortSignal} signal
 * @returns {Promise<Map<string, DeviceAnalysis>>}
 */
async function figuresOf(ids, { start, end }, signal) {
  const query = { device_id: ids, start: iso(start), end: iso(end), group_by: "device", figures: "mean,stddev" };
  /** @type {DeviceAnalysis[]} */
  const found = (await get("/stats/analysis", query, signal)).data;
  return new Map(found.map(analysis => [String(analysis.device_id), analysis]));
}

/**
 * @param {import("../../html.js").Content} name
 * @param {DeviceAnalysis["x"] | undefined} figures
 */
function row(name, figures) {
  return html`
    <tr><th scope="row">${name}</th><td class="number">${figures ? grouped(figures.count) : nothing}</td>
      ${COLUMNS.map(column => html`<td class="number">${stored(figures?.[column])}</td>`)}</tr>
  `;
}
