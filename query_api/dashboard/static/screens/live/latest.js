/** The last reading of each device. */

import { html } from "../../html.js";
import { addressOf } from "../../state/address.js";
import { age, NONE, stored } from "../../state/numbers.js";
import { AXES } from "../../state/series.js";
import { clock, momentOf } from "../../state/times.js";
import { SECOND, zoneOf } from "../../state/zones.js";
import { lineSample } from "../several/lines.js";

/** @typedef {import("./feed.js").Feed} Feed */
/** @typedef {import("../several/devices.js").ChosenDevices} ChosenDevices */

/**
 * @param {Feed[]} feeds
 * @param {ChosenDevices} devices
 * @param {string} zone as in the address
 * @param {number} now
 */
export function latestTable(feeds, devices, zone, now) {
  return html`
    <div class="scroll" tabindex="0" role="region" aria-label="Last readings">
      <table class="dense latest">
        <thead>
          <tr><th scope="col">Device</th>${AXES.map(axis => html`<th scope="col" class="number">${axis}</th>`)}
            <th scope="col" class="wide">Last reading</th><th scope="col"><span class="visually-hidden">Remove</span></th></tr>
        </thead>
        <tbody>${feeds.map((feed, at) => row(feed, devices, zone, now, lineSample(devices.context.query, feeds.length, at)))}</tbody>
      </table>
    </div>
  `;
}

/**
 * @param {Feed} feed
 * @param {ChosenDevices} devices
 * @param {string} zone
 * @param {number} now
 * @param {import("../../html.js").Content} sample
 */
function row({ device, latest }, devices, zone, now, sample) {
  const reading = latest ?? readingOf(devices.recordOf(device)?.latest_reading);
  const tz = zone === "browser" ? undefined : zone;
  return html`
    <tr>
      <th scope="row">${sample}<a href=${addressOf(`/ui/devices/${device}`, { tz })}>${devices.nameOf(device)}</a></th>
      ${AXES.map(axis => html`<td class="number value">${stored(reading?.[axis])}</td>`)}
      <td class="wide">${reading ? html`<time title=${clock(reading.moment, zoneOf(zone))}>${timeOf(reading.moment, zone)}, ${age(reading.moment, now)}</time>` : NONE}</td>
      <td class="number">${devices.removeButton(device)}</td>
    </tr>
  `;
}

/** @param {{timestamp: string, x: number, y: number, z: number} | null | undefined} stored */
function readingOf(stored) {
  return stored ? { ...stored, moment: momentOf(stored.timestamp) } : null;
}

/**
 * Return the time of day of a moment, in seconds.
 *
 * @param {number} moment
 * @param {string} zone as in the address
 */
export function timeOf(moment, zone) {
  return clock(Math.floor(moment / SECOND) * SECOND, zoneOf(zone)).slice(11);
}
