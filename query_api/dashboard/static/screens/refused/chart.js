/** The number of refused readings by reason over time, as stacked bars. Their legend selects a reason. */

import { get } from "../../api.js";
import { html, nothing, svg } from "../../html.js";
import { failureNotice, loadingNotice } from "../../parts/notices.js";
import { Source } from "../../source.js";
import { grouped } from "../../state/numbers.js";
import { INTERVALS } from "../../state/ranges.js";
import { clock, iso } from "../../state/times.js";
import { REASONS, reasonName } from "./reasons.js";

/** @typedef {import("../../../records.js").DeadLetterCount} Count */
/** @typedef {import("../../state/times.js").Period} Period */
/** @typedef {{counts: Count[], next: string | null, period: Period, length: string}} Read */
/** @typedef {{reason: string | undefined, choose: (reason: string | undefined) => void, zoom: (period: Period) => void}} Choice */

const MOST_BARS = 120;
const HEIGHT = 100;
const NAMES = Object.keys(REASONS);

export class ChartPart {
  /** @param {() => void} refresh */
  constructor(refresh) {
    /** @type {Source<Read>} */
    this.source = new Source(refresh);
  }

  /**
   * @param {Period} period
   * @param {string} zone
   * @param {string | undefined} topic a topic filter
   */
  load(period, zone, topic) {
    const [interval, , length] = INTERVALS.find(([, of]) => (period.end - period.start) / of <= MOST_BARS) ?? [
      "P1Y",
      0,
      "1 year",
    ];
    const query = { start: iso(period.start), end: iso(period.end), interval, timezone: zone, topic };
    void this.source.load(async signal => {
      const { data, headers } = await get("/dead-letters/counts", query, signal);
      return { counts: data, next: headers.get("X-Next-Cursor"), period, length };
    });
  }

  close() {
    this.source.close();
  }

  /**
   * @param {string} zone
   * @param {Choice} choice
   */
  view(zone, choice) {
    const read = this.source.value;
    return html`
      <section class="card refusals" aria-busy=${this.source.isLoading}>
        <header><h2>Refused readings</h2>${read ? html`<p class="facts">for each interval of ${read.length}</p>` : nothing}</header>
        ${failureNotice(this.source.toTell)}
        ${read ? html`${legend(read, choice)} ${bars(read, zone, choice)}` : this.source.failure ? nothing : loadingNotice("the numbers")}
      </section>
    `;
  }
}

/**
 * @param {Read} read
 * @param {Choice} choice
 */
function legend({ counts }, { reason, choose }) {
  const found = NAMES.map(name => ({ name, count: sum(counts.map(({ reasons }) => reasons[name] ?? 0)) }));
  const shown = found.filter(({ name, count }) => count || name === reason);
  /** @param {string | undefined} name @param {string} label @param {number} count */
  const chip = (name, label, count) => html`
    <button class="small chip" aria-pressed=${reason === name} title=${name ? (REASONS[name]?.[1] ?? "") : nothing} @click=${() => choose(name)}>
      ${name ? html`<span class=${`dot reason-${NAMES.indexOf(name)}`} aria-hidden="true"></span>` : nothing}${label} <b>${grouped(count)}</b>
    </button>
  `;
  return html`
    <div class="chips" role="group" aria-label="Reason">
      ${chip(undefined, "All reasons", sum(found.map(({ count }) => count)))} ${shown.map(({ name, count }) => chip(name, reasonName(name), count))}
    </div>
  `;
}

/**
 * @param {Read} read
 * @param {string} zone
 * @param {Choice} choice
 */
function bars({ counts, period, next }, zone, { reason, zoom }) {
  const names = reason ? [reason] : NAMES;
  const columns = counts.map(count => columnOf(count, names)).filter(({ total }) => total > 0);
  const most = Math.max(1, ...columns.map(({ total }) => total));
  const width = (period.end - period.start) / 1000;
  const label = `Refused readings over time, at most ${grouped(most)} in an interval. The table has the numbers.`;
  return html`
    <figure>
      <p class="hint most">${columns.length ? grouped(most) : "none"}</p>
      <svg viewBox=${`0 0 1000 ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label=${label}>
        ${columns.map(column => drawn(column, { most, left: period.start / 1000, scale: 1000 / width }, zoom))}
      </svg>
      <figcaption><span>${clock(floor(period.start), zone)}</span><span>${clock(floor(period.end), zone)}</span></figcaption>
      <details>
        <summary>Numbers as a table</summary>
        ${next ? html`<p class="muted">Only the first ${grouped(counts.length)} intervals are shown.</p>` : nothing}
        <div class="scroll" tabindex="0" role="region" aria-label="Refused readings by interval">
          <table class="dense">
            <thead><tr><th scope="col">Start (${zone})</th>${names.map(name => html`<th scope="col" class="number">${reasonName(name)}</th>`)}</tr></thead>
            <tbody>
              ${columns.map(
                column => html`
                  <tr><th scope="row"><button class="link" title="Zoom to this interval" @click=${() => zoom(column.period)}>${column.name}</button></th>
                    ${names.map(name => html`<td class="number">${grouped(column.reasons[name] ?? 0)}</td>`)}</tr>
                `,
              )}
            </tbody>
          </table>
        </div>
      </details>
    </figure>
  `;
}

/** @typedef {ReturnType<typeof columnOf>} Column */

/**
 * @param {Count} count
 * @param {string[]} names
 */
function columnOf({ start, end, reasons }, names) {
  const parts = names.filter(name => reasons[name]).map(name => ({ name, count: reasons[name] ?? 0 }));
  const [from, to] = [Date.parse(start), Date.parse(end)];
  return {
    from,
    to,
    parts,
    reasons,
    total: sum(parts.map(({ count }) => count)),
    name: start.slice(0, 19).replace("T", " "),
    period: { start: from * 1000, end: to * 1000 - 1 },
  };
}

/**
 * @param {Column} column
 * @param {{most: number, left: number, scale: number}} axis
 * @param {(period: Period) => void} zoom
 */
function drawn({ from, to, parts, total, name, period }, { most, left, scale }, zoom) {
  const x = (from - left) * scale;
  const width = Math.max((to - from) * scale * 0.92, 1);
  let top = HEIGHT;
  const text = `${name}\n${parts.map(part => `${reasonName(part.name)}: ${grouped(part.count)}`).join("\n")}`;
  return svg`
    <g @click=${() => zoom(period)}>
      <title>${text}</title>
      <rect class="target" x=${x} y="0" width=${width} height=${HEIGHT}></rect>
      ${parts.map(part => {
        const height = (part.count / most) * HEIGHT;
        top -= height;
        return svg`<rect class=${`reason-${NAMES.indexOf(part.name)}`} x=${x} y=${top} width=${width} height=${Math.max(height, total ? 1 : 0)}></rect>`;
      })}
    </g>
  `;
}

/** @param {number[]} numbers */
function sum(numbers) {
  return numbers.reduce((one, other) => one + other, 0);
}

/** @param {number} moment */
function floor(moment) {
  return Math.floor(moment / 1_000_000) * 1_000_000;
}
