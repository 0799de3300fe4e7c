/** The table of processes. */

import { html, nothing } from "../../html.js";
import { rate } from "../../state/history.js";
import { age, counted, duration, grouped, NONE } from "../../state/numbers.js";
import { clock, momentOf } from "../../state/times.js";
import { SECOND } from "../../state/zones.js";

/** @typedef {import("../../../records.js").Status} Status */
/** @typedef {import("../../../records.js").ProcessStatus} Process */
/** @typedef {import("../../../records.js").WorkerFigures} WorkerFigures */

/** @type {Record<string, string>} */
const NAMES = { ingestor: "Ingestor", api: "API", worker: "Worker" };
/** The symbol of a state: states differ by more than their colour. @type {Record<string, string>} */
const SYMBOLS = { running: "●", late: "◐", gone: "✕", replaced: "↻" };

/**
 * @param {Status} status
 * @param {string} zone
 */
export function processes({ processes: all, read_at }, zone) {
  const now = momentOf(read_at);
  const workers = all.flatMap(({ worker, state: name }) => (worker && name === "running" ? [worker] : []));
  const hasHosts = all.some(({ host }) => host !== null);
  return html`
    <section class="card processes" aria-labelledby="processes">
      <header><h2 id="processes">Processes</h2></header>
      <div class="scroll" tabindex="0" role="region" aria-label="Table of processes">
        <table>
          <thead>
            <tr>
              <th scope="col">Process</th><th scope="col">State</th><th scope="col">Figures</th>
              ${hasHosts ? html`<th scope="col" class="wide">Host</th>` : nothing}
              <th scope="col" class="wide">Version</th><th scope="col" class="wide">Started</th>
            </tr>
          </thead>
          <tbody>${all.map(process => row(process, now, zone, hasHosts))}</tbody>
        </table>
      </div>
      ${workers.map((worker, at) => rounds(worker, workers.length > 1 ? `worker ${at + 1}` : "the worker"))}
    </section>
  `;
}

/**
 * @param {Process} process
 * @param {number} now
 * @param {string} zone
 * @param {boolean} hasHosts
 */
function row(process, now, zone, hasHosts) {
  const started = momentOf(process.started_at);
  return html`
    <tr>
      <th scope="row"><strong>${NAMES[process.kind]}</strong> <span class="muted">${process.name}</span></th>
      <td class="condition">${state(process, now)}</td>
      <td class="list">${process.state === "running" ? figures(process, now).join(" · ") : NONE}</td>
      ${hasHosts ? html`<td class="wide">${process.host} <span class="muted">pid ${process.pid}</span></td>` : nothing}
      <td class="wide">${process.version}</td>
      <td class="wide"><time datetime=${process.started_at} title=${clock(started, zone)}>${age(started, now)}</time></td>
    </tr>
  `;
}

/**
 * @param {Process} process
 * @param {number} now
 */
function state({ state: name, parts, updated_at }, now) {
  const fault = name === "running" && parts.find(part => part.fault !== null);
  if (fault)
    return html`<span class="grade wrong"><span aria-hidden="true">✕</span> not ready</span> <span class="muted">${fault.name} since ${duration(now - momentOf(fault.since))}</span>`;
  const grade = { running: "ok", gone: "wrong", late: "warning", replaced: "" }[name];
  const since =
    name === "running" ? nothing : html` <span class="muted">reported ${age(momentOf(updated_at), now)}</span>`;
  return html`<span class=${`grade ${grade}`}><span aria-hidden="true">${SYMBOLS[name]}</span> ${name}</span>${since}`;
}

/**
 * @param {Process} process
 * @param {number} now
 * @returns {string[]}
 */
function figures({ ingestor, api, worker, parts }, now) {
  const broker = parts.find(part => part.name === "broker" && part.fault === null);
  if (ingestor)
    return [
      `${rate(ingestor.readings_per_s)} readings/s`,
      `${grouped(ingestor.in_flight)} in flight`,
      ...(broker ? [`broker connected for ${duration(now - momentOf(broker.since))}`] : []),
      ...(ingestor.is_paused ? ["paused: too many readings wait"] : []),
      `${counted(ingestor.journal_packets, "packet")} in the journal`,
    ];
  if (api)
    return [
      `${rate(api.requests_per_s)} requests/s`,
      `${counted(api.errors, "error")} in a minute`,
      counted(api.live_streams, "live stream"),
      ...(api.slow_waiting ? [`${counted(api.slow_waiting, "slow read")} in the queue`] : []),
    ];
  if (worker)
    return [
      `${grouped(worker.running)} of ${grouped(worker.concurrency)} analyses`,
      `${rate(worker.sealed_per_s)} readings/s sealed`,
      ...(worker.failures ? [`${counted(worker.failures, "failure")} to seal`] : []),
    ];
  return [];
}

/**
 * @param {WorkerFigures} worker
 * @param {string} name
 */
function rounds({ rounds: all }, name) {
  return html`
    <details>
      <summary>Jobs of ${name}: ${all.length}${all.some(({ fault }) => fault) ? ", not all in time" : ""}</summary>
      <div class="scroll" tabindex="0" role="region" aria-label=${`Jobs of ${name}`}>
        <table>
          <thead><tr><th scope="col">Job</th><th scope="col" class="number">Every</th><th scope="col" class="number">Last run began</th><th scope="col">State</th></tr></thead>
          <tbody>
            ${all.map(
              ({ name, every_s, began_s, is_running, fault }) => html`
                <tr>
                  <th scope="row">${name}</th>
                  <td class="number">${duration(every_s * SECOND)}</td>
                  <td class="number">${began_s === null ? "never" : `${duration(began_s * SECOND)} ago`}</td>
                  <td class="list">${fault ?? (is_running ? "runs" : "waits")}</td>
                </tr>
              `,
            )}
          </tbody>
        </table>
      </div>
    </details>
  `;
}
