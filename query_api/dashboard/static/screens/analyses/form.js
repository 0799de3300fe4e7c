/** Fields of forms, with what is wrong with each. */

import { Problem } from "../../api.js";
import { html, nothing } from "../../html.js";
import { nameOf, ON_REQUEST, percentilesIn } from "../../state/analyses.js";
import { allZones } from "../../state/zones.js";

/** @typedef {import("../../html.js").Content} Content */
/** What is wrong, by the name of the field. @typedef {Record<string, string>} Faults */

/**
 * @typedef {object} Text
 * @property {string} name
 * @property {string} label
 * @property {string} value that it begins with
 * @property {string | undefined} [fault]
 * @property {Content} [hint]
 * @property {string} [list] the id of a list of choices
 * @property {string} [placeholder]
 * @property {boolean} [isCode]
 */

/**
 * Return what is wrong with the fields, as the API tells it.
 *
 * @param {Error | null} failure
 * @returns {Faults}
 */
export function faultsOf(failure) {
  const errors = failure instanceof Problem ? (failure.details.errors ?? []) : [];
  return Object.fromEntries(errors.map(({ field, detail }) => [field, detail]).reverse());
}

/** @param {Text} text */
export function textField({ name, label, value, fault, hint = nothing, list, placeholder, isCode }) {
  return html`
    <div class="form-field">
      <label for=${`field-${name}`}>${label}</label>
      <input id=${`field-${name}`} name=${name} value=${value} list=${list ?? nothing} placeholder=${placeholder ?? nothing}
        class=${isCode ? "code" : nothing} autocomplete="off" spellcheck="false" aria-invalid=${fault ? "true" : nothing}
        aria-describedby=${`about-${name}`}>
      <p id=${`about-${name}`} class=${fault ? "fault" : "hint"} role=${fault ? "alert" : nothing}>${fault ?? hint}</p>
    </div>
  `;
}

/**
 * A field for a time zone.
 *
 * @param {string} value
 * @param {string | undefined} fault
 */
export function zoneField(value, fault) {
  return html`
    ${textField({ name: "timezone", label: "Time zone", value, fault, list: "all-zones" })}
    <datalist id="all-zones"><option value="UTC"></option>${allZones().map(name => html`<option value=${name}></option>`)}</datalist>
  `;
}

/**
 * The choice of figures.
 *
 * @param {string[]} chosen
 * @param {string | undefined} fault
 */
export function figuresField(chosen, fault) {
  const percentiles = chosen.filter(name => !ON_REQUEST.some(([known]) => known === name));
  return html`
    <fieldset class="form-field">
      <legend>Figures besides min, median, max, sum and count</legend>
      <div class="checks">${ON_REQUEST.map(([name]) => html`<label class="check"><input type="checkbox" name="figure" value=${name} ?checked=${chosen.includes(name)}>${nameOf(name)}</label>`)}</div>
    </fieldset>
    ${textField({ name: "percentiles", label: "Percentiles", value: percentiles.join(", "), fault, placeholder: "p5, p95, p99.9", isCode: true })}
  `;
}

/**
 * Return the figures that a form has.
 *
 * @param {FormData} form
 */
export function figuresIn(form) {
  return [...form.getAll("figure").map(String), ...percentilesIn(String(form.get("percentiles") ?? ""))];
}
