/** The choice of a state, with the number of devices in each. */

import { html, nothing } from "../../html.js";
import { STATES } from "../../state/lists.js";
import { age, grouped } from "../../state/numbers.js";
import { currentMoment, momentOf } from "../../state/times.js";
import { MINUTE } from "../../state/zones.js";
import { stateBadge } from "./table.js";

/** @typedef {import("../../../records.js").DeviceCounts} DeviceCounts */
/** @typedef {import("../../state/lists.js").State} State */

const STALE = 2 * MINUTE;

/**
 * @param {DeviceCounts | null} counts
 * @param {string | undefined} chosen
 * @param {(state: State | undefined) => string} addressOf
 */
export function statesChoice(counts, chosen, addressOf) {
  const all = counts && STATES.reduce((sum, state) => sum + counts[state], 0);
  /**
   * @param {State | undefined} state
   * @param {import("../../html.js").Content} label
   * @param {number | null} count
   */
  const link = (state, label, count) =>
    html`<a href=${addressOf(state)} aria-current=${state === chosen ? "true" : nothing}>${label} <span class="count">${count === null ? "" : grouped(count)}</span></a>`;
  return html`
    <nav class="states" aria-label="States">
      ${link(undefined, "All", all)} ${STATES.map(state => link(state, stateBadge(state), counts?.[state] ?? null))}
    </nav>
    ${counts && all ? staleness(counts) : nothing}
  `;
}

/**
 * Tell that the states are old: no worker keeps them.
 *
 * @param {DeviceCounts} counts
 */
function staleness({ updated_at: updated }) {
  const at = updated === null ? null : momentOf(updated);
  if (at !== null && currentMoment() - at < STALE) return nothing;
  const since =
    at === null ? "No worker has counted the states yet." : `The states were last counted ${age(at, currentMoment())}.`;
  return html`<p class="hint">${since} These numbers, and the order by state, time and rate, need a running worker.</p>`;
}
