/** The cards of the queue of analyses, of refused readings, of the database and of sealed readings. */

import { html, nothing } from "../../html.js";
import { may } from "../../session.js";
import { addressOf } from "../../state/address.js";
import { bytes } from "../../state/history.js";
import { duration, grouped, NONE, sum } from "../../state/numbers.js";
import { SECOND } from "../../state/zones.js";
import { reasonName } from "../refused/reasons.js";

/** @typedef {import("../../../records.js").Status} Status */
/** @typedef {import("../../html.js").Content} Content */
/** @typedef {import("../../state/address.js").Values} Values */

/**
 * @param {string} title
 * @param {Content} content
 */
export function card(title, content) {
  return html`<section class="card" aria-label=${title}><header><h2>${title}</h2></header>${content}</section>`;
}

/** @param {Array<[string, Content]>} rows */
export function pairs(rows) {
  return html`<dl class="pairs">${rows.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

/** @param {Status} found */
export function queueCard({ queue, processes: all }) {
  const places = sum(all.map(({ worker, state }) => (state === "running" ? (worker?.concurrency ?? 0) : 0)));
  return card(
    "Queue of analyses",
    pairs([
      ["waiting", grouped(queue.queued)],
      ["running", `${grouped(queue.running)} of ${grouped(places)} at once`],
      ["oldest waits for", queue.oldest_s === null ? NONE : duration(queue.oldest_s * SECOND)],
    ]),
  );
}

/**
 * @param {Status} found
 * @param {Values} query
 */
export function refusedCard({ dead_letters: letters }, { tz }) {
  return card(
    "Refused readings",
    letters === null
      ? html`<p class="muted">Not known yet.</p>`
      : letters.length === 0
        ? html`<p class="muted">None in the last 24 hours.</p>`
        : html`
            <table>
              <thead><tr><th scope="col">Reason</th><th scope="col" class="number">last hour</th><th scope="col" class="number">24 hours</th></tr></thead>
              <tbody>${letters.map(({ reason, last_hour, last_day }) => html`<tr><th scope="row">${reasonName(reason)}</th><td class="number">${grouped(last_hour)}</td><td class="number">${grouped(last_day)}</td></tr>`)}</tbody>
            </table>
            ${may("administer") ? html`<p><a href=${addressOf("/ui/refused", { tz })}>Show the messages</a></p>` : nothing}
          `,
  );
}

/** @param {Status} found */
export function databaseCard({ database }) {
  const { connections, max_connections: most, oldest_transaction_s: oldest } = database;
  return card(
    "Database",
    pairs([
      ["PostgreSQL", database.version],
      ["connections", `${grouped(connections)} of ${grouped(most)}`],
      ["oldest transaction", oldest === null ? NONE : duration(oldest * SECOND)],
      ["size", database.size_bytes === null ? NONE : bytes(database.size_bytes)],
      ["readings", database.readings === null ? NONE : `about ${grouped(database.readings)}`],
      ["months", database.months === null ? NONE : grouped(database.months)],
    ]),
  );
}

/** @param {Status} found */
export function blocksCard({ blocks }) {
  if (blocks === null) return card("Sealed readings", html`<p class="muted">Not known yet.</p>`);
  const { share, devices, devices_with_blocks: sealed, late_readings: late } = blocks;
  return card(
    "Sealed readings",
    html`
      ${share === null ? nothing : html`<meter min="0" max="1" value=${share} aria-label="Share of the readings in blocks"></meter>`}
      ${pairs([
        ["in blocks", share === null ? NONE : `about ${Math.floor(share * 100)} %`],
        ["devices with blocks", `${grouped(sealed)} of ${grouped(devices)}`],
        ["late readings", late === null ? NONE : grouped(late)],
        ["sealing is behind by", blocks.lag_s < 1 ? NONE : duration(blocks.lag_s * SECOND)],
      ])}
    `,
  );
}
