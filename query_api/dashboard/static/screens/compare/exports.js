/** The readings of each device as files. */

import { html } from "../../html.js";
import { addressOf } from "../../state/address.js";
import { zoned } from "../../state/commands.js";
import { clock, iso } from "../../state/times.js";
import { FORMATS } from "../device/exports.js";

/**
 * @param {import("../several/devices.js").ChosenDevices} devices
 * @param {import("../../state/times.js").Period} period
 * @param {string} zone
 */
export function exportCard(devices, { start, end }, zone) {
  const query = zoned({ start: iso(start), end: iso(end) }, zone);
  return html`
    <section class="card">
      <header><h2>Export</h2><p class="facts">all readings from ${clock(start, zone)} to ${clock(end, zone)}, with times in ${zone}</p></header>
      <dl class="files">
        ${devices.existing.map(
          id =>
            html`<div><dt>${devices.nameOf(id)}</dt><dd class="row">${FORMATS.map(([suffix, name]) => html`<a class="button small" download aria-label=${`${name} of ${devices.nameOf(id)}`} href=${addressOf(`/stats/${id}.${suffix}`, query)}>${name}</a>`)}</dd></div>`,
        )}
      </dl>
    </section>
  `;
}
