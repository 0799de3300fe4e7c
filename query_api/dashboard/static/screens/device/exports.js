/** The readings of a period as a file, and programs that read them. */

import { html } from "../../html.js";
import { copyBlock } from "../../parts/copy.js";
import { isClosed } from "../../session.js";
import { addressOf } from "../../state/address.js";
import { programs, zoned } from "../../state/commands.js";
import { clock, iso } from "../../state/times.js";

/** @typedef {import("../../state/times.js").Period} Period */

/** @type {Array<[string, string]>} */
export const FORMATS = [
  ["csv", "CSV"],
  ["ndjson", "NDJSON"],
  ["arrow", "Arrow"],
  ["parquet", "Parquet"],
];

export class ExportPart {
  #program = "curl";

  /**
   * @param {string} device
   * @param {() => void} refresh
   */
  constructor(device, refresh) {
    this.device = device;
    this.refresh = refresh;
  }

  /**
   * @param {Period} period
   * @param {string} zone
   */
  view({ start, end }, zone) {
    const period = { start: iso(start), end: iso(end) };
    const all = programs(location.origin, this.device, { ...period, zone }, isClosed());
    const [, text] = all.find(([name]) => name === this.#program) ?? ["", ""];
    return html`
      <section class="card">
        <header><h2>Export</h2><p class="facts">all readings from ${clock(start, zone)} to ${clock(end, zone)}, with times in ${zone}</p></header>
        <p class="row">
          ${FORMATS.map(([suffix, name]) => html`<a class="button" download href=${addressOf(`/stats/${this.device}.${suffix}`, zoned(period, zone))}>${name}</a>`)}
          <a class="button" href=${addressOf(`/stats/${this.device}`, period)}>JSON in UTC, in pages</a>
        </p>
        <fieldset class="choice"><legend class="visually-hidden">Program</legend>
          ${all.map(([name]) => html`<label><input type="radio" name="program" .checked=${this.#program === name} @change=${() => this.#choose(name)}>${name}</label>`)}
        </fieldset>
        ${copyBlock(text, `the ${this.#program} program`)}
      </section>
    `;
  }

  /** @param {string} name */
  #choose(name) {
    this.#program = name;
    this.refresh();
  }
}
