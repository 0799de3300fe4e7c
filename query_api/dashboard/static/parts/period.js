/** The period of a screen: quick ranges, a start and an end, steps, and the time zone. */

import { html, live, nothing } from "../html.js";
import { nameOf, QUICK } from "../state/ranges.js";
import { periodOf, UnknownTime } from "../state/times.js";
import { zonePicker } from "./zone.js";

/** @typedef {import("../state/times.js").Range} Range */

/**
 * @typedef {object} PeriodChoice
 * @property {Range} range
 * @property {string} zone as in the address
 * @property {(range: Range) => void} choose
 * @property {(zone: string | undefined) => void} chooseZone
 * @property {(direction: -1 | 1) => void} shift
 * @property {() => void} zoomOut
 * @property {() => void} refresh
 */

/** @param {PeriodChoice} choice */
export function periodPicker(choice) {
  return html`
    <div class="period" role="group" aria-label="Period">
      ${quickSelect(choice)}
      <form @submit=${(/** @type {Event} */ event) => submit(event, choice)}>
        ${timeInput("from", "From", choice.range.from, choice)}
        ${timeInput("to", "To", choice.range.to, choice)}
        <button class="visually-hidden">Show this period</button>
      </form>
      <div class="buttons">
        <button aria-label="Earlier" title="Earlier ( [ )" @click=${() => choice.shift(-1)}>‹</button>
        <button aria-label="Later" title="Later ( ] )" @click=${() => choice.shift(1)}>›</button>
        <button aria-label="Zoom out" title="Zoom out ( - )" @click=${choice.zoomOut}>−</button>
        <button aria-label="Read again" title="Read again ( r )" @click=${choice.refresh}>↻</button>
      </div>
      ${zonePicker(choice.zone, choice.chooseZone)}
    </div>
  `;
}

/** @param {PeriodChoice} choice */
function quickSelect({ range, choose }) {
  const name = nameOf(range);
  /** @param {Event} event */
  const changed = event => {
    const quick = QUICK.find(([label]) => label === /** @type {HTMLSelectElement} */ (event.target).value);
    if (quick) choose({ from: quick[1], to: quick[2] });
  };
  return html`
    <label class="field"><span>Period</span>
      <select @change=${changed} .value=${live(name ?? "")}>
        ${name ? nothing : html`<option value="" selected>Other</option>`}
        ${QUICK.map(([label]) => html`<option value=${label} ?selected=${label === name}>${label}</option>`)}
      </select>
    </label>
  `;
}

/**
 * @param {"from" | "to"} name
 * @param {string} label
 * @param {string} value
 * @param {PeriodChoice} choice
 */
function timeInput(name, label, value, choice) {
  return html`
    <label class="field time"><span>${label}</span>
      <input name=${name} spellcheck="false" autocomplete="off" .value=${live(value)}
        title="now-6h, now/d, 2026-01-31, 2026-01-31 12:00"
        @change=${(/** @type {Event} */ event) => submit(event, choice)}>
    </label>
  `;
}

/**
 * Choose the range of the form, if both times are right; otherwise show what is wrong at the field.
 *
 * @param {Event} event
 * @param {PeriodChoice} choice
 */
function submit(event, { range, zone, choose }) {
  event.preventDefault();
  const form = /** @type {HTMLFormElement} */ (/** @type {Element} */ (event.target).closest("form"));
  const [from, to] = ["from", "to"].map(name => /** @type {HTMLInputElement} */ (form.elements.namedItem(name)));
  if (!from || !to) return;
  const given = { from: from.value.trim(), to: to.value.trim() };
  for (const input of [from, to]) input.setCustomValidity("");
  const fault = faultOf(given, zone);
  if (fault) {
    const wrong = faultOf({ from: given.from, to: given.from }, zone) ? from : to;
    wrong.setCustomValidity(fault);
    wrong.reportValidity();
  } else if (given.from !== range.from || given.to !== range.to) choose(given);
}

/**
 * @param {Range} range
 * @param {string} zone
 */
function faultOf(range, zone) {
  try {
    periodOf(range, { now: Date.now() * 1000, zone: zone === "browser" ? "UTC" : zone });
    return null;
  } catch (error) {
    if (error instanceof UnknownTime) return error.message;
    throw error;
  }
}
