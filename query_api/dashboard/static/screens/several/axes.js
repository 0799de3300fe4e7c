/** The axes of a plot of several devices, and whether all lines have one scale: values of the address. */

import { html } from "../../html.js";
import { AXES } from "../../state/series.js";

/** @typedef {import("../../router.js").Context} Context */
/** @typedef {import("../../state/address.js").Values} Values */
/** @typedef {import("../../state/series.js").Axis} Axis */

/**
 * Return the axes that `show` names, such as x,z; without it, all.
 *
 * @param {Values} query
 * @returns {Axis[]}
 */
export function axesOf({ show }) {
  const named = show?.split(",") ?? [];
  const shown = AXES.filter(axis => named.includes(axis));
  return shown.length ? shown : AXES;
}

/**
 * @param {Values} query
 * @returns {"apart" | "together"}
 */
export function layoutOf(query) {
  return query.axes === "together" ? "together" : "apart";
}

/** @param {Context} context */
export function toggleLayout(context) {
  context.change({ axes: layoutOf(context.query) === "apart" ? "together" : undefined }, { replace: true });
}

/** @param {Context} context */
export function axesChoice(context) {
  const shown = axesOf(context.query);
  /** @param {Axis} axis */
  const toggle = axis => {
    const chosen = AXES.filter(other => shown.includes(other) !== (other === axis));
    context.change({ show: chosen.length === AXES.length ? undefined : chosen.join(",") }, { replace: true });
  };
  return html`
    <fieldset class="choice"><legend class="visually-hidden">Axes</legend>
      ${AXES.map(axis => {
        const isShown = shown.includes(axis);
        return html`<label><input type="checkbox" .checked=${isShown} ?disabled=${isShown && shown.length === 1} @change=${() => toggle(axis)}>${axis}</label>`;
      })}
    </fieldset>
  `;
}

/** @param {Context} context */
export function layoutButton(context) {
  return html`<button class="small" aria-pressed=${layoutOf(context.query) === "together"} @click=${() => toggleLayout(context)}>One scale for all axes</button>`;
}
