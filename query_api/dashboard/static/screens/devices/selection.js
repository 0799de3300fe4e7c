/** The devices that are selected in the list, and the screens that show them together. They are in the address. */

import { html, nothing } from "../../html.js";
import { addressOf } from "../../state/address.js";
import { MOST_TOGETHER, selectedOf } from "../../state/lists.js";

/** @typedef {import("../../state/address.js").Values} Values */

/**
 * @param {Values} query
 * @param {() => void} clear
 */
export function selectionBar(query, clear) {
  const device = selectedOf(query);
  const count = device.length;
  if (count === 0) return nothing;
  const values = { device, tz: query.tz };
  return html`
    <div class="selection" role="group" aria-label="Selected devices">
      ${
        count > MOST_TOGETHER
          ? html`<span>${count} devices are selected. At most ${MOST_TOGETHER} can be shown together.</span>`
          : html`<a class="button primary" href=${addressOf("/ui/compare", values)}>Compare (${count})</a>
              <a class="button" href=${addressOf("/ui/live", values)}>Live (${count})</a>`
      }
      <button @click=${clear}>Clear</button>
    </div>
  `;
}
