/** The choice of the time zone. */

import { html, live } from "../html.js";
import { allZones, browserZone, isZone } from "../state/zones.js";

/**
 * @param {string} zone browser, UTC or a name
 * @param {(zone: string | undefined) => void} choose
 */
export function zonePicker(zone, choose) {
  /** @param {Event} event */
  const changed = event => {
    const input = /** @type {HTMLInputElement} */ (event.target);
    const name = zoneNamed(input.value);
    input.setCustomValidity(name === null ? `Unknown time zone: ${input.value}` : "");
    if (name === null) input.reportValidity();
    else choose(name === "browser" ? undefined : name);
  };
  return html`
    <label class="field zone"><span>Time zone</span>
      <input list="zones" autocomplete="off" spellcheck="false" .value=${live(shownZone(zone))} @change=${changed}
        @focus=${(/** @type {Event} */ event) => /** @type {HTMLInputElement} */ (event.target).select()}>
    </label>
    <datalist id="zones">
      <option value=${shownZone("browser")}></option>
      <option value="UTC"></option>
      ${allZones().map(name => html`<option value=${name}></option>`)}
    </datalist>
  `;
}

/** @param {string} zone */
function shownZone(zone) {
  return zone === "browser" ? `Browser (${browserZone()})` : zone;
}

/** @param {string} text */
function zoneNamed(text) {
  const given = text.trim();
  if (given === "" || given.toLowerCase().startsWith("browser")) return "browser";
  if (given.toLowerCase() === "utc") return "UTC";
  return isZone(given) ? given : null;
}
