/** The figures that brokers publish about themselves: what waits for their clients, and what they have dropped. */

import { html } from "../../html.js";
import { bytes, rate } from "../../state/history.js";
import { grouped, NONE, sum } from "../../state/numbers.js";
import { card, pairs } from "./cards.js";

/** @typedef {import("../../../records.js").Status} Status */
/** @typedef {import("../../../records.js").BrokerStatus} Broker */
/** @typedef {import("../../../records.js").BrokerFigures} Figures */

/** @type {Record<string, string>} */
const REASONS = {
  not_published: "The broker does not publish its queue, or not to the user of the ingestor.",
  not_connected: "Not known: there is no connection that reads it. The log of the ingestor says why.",
};

/**
 * Return how many messages wait at all brokers together; null if no broker says it.
 *
 * @param {Broker[]} brokers
 */
export function waitingAt(brokers) {
  const known = brokers.flatMap(({ figures }) => figures?.waiting ?? []);
  return known.length ? sum(known) : null;
}

/** @param {Broker[]} brokers */
export function hintOf(brokers) {
  const known = brokers.flatMap(({ figures }) => figures ?? []);
  if (known.length === 0) return brokers.length ? "the broker does not say" : "no ingestor runs that could ask";
  const dropped = sum(known.map(figures => figures.dropped ?? 0));
  return dropped ? `messages that wait, ${grouped(dropped)} dropped` : "messages that wait for all of its clients";
}

/** @param {Status} found */
export function brokerCards({ brokers }) {
  if (brokers.length === 0)
    return card("Queue at the broker", html`<p class="muted">Not known: no ingestor runs that could read it.</p>`);
  return brokers.map(broker => brokerCard(broker, brokers.length > 1));
}

/**
 * @param {Broker} broker
 * @param {boolean} isOneOfSeveral
 */
function brokerCard({ address, ingestors, source, figures }, isOneOfSeveral) {
  const name = address ?? ingestors.join(", ");
  const title = isOneOfSeveral ? `Queue at the broker of ${name}` : "Queue at the broker";
  return card(title, figures ? pairs(rowsOf(figures, address)) : html`<p class="muted">${REASONS[source]}</p>`);
}

/**
 * @param {Figures} figures
 * @param {string | null} address
 * @returns {Array<[string, string]>}
 */
function rowsOf({ version, waiting, waiting_bytes: size, dropped, dropped_per_minute: speed }, address) {
  return [
    ["broker", version ?? NONE],
    ...(address ? [/** @type {[string, string]} */ (["address", address])] : []),
    ["messages waiting", known(waiting, grouped)],
    ["bytes", known(size, bytes)],
    ["dropped since its start", known(dropped, grouped)],
    ["dropped a minute", known(speed, rate)],
  ];
}

/**
 * @param {number | null | undefined} value
 * @param {(value: number) => string} text
 */
function known(value, text) {
  return value === null || value === undefined ? NONE : text(value);
}
