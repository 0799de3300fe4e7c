/** The state of the installation: what is wrong, the figures of the last minutes, processes, database and queue. */

import { get } from "../api.js";
import { html, nothing, svg } from "../html.js";
import { failureNotice, loadingNotice } from "../parts/notices.js";
import { Repeat, Source } from "../source.js";
import { History, path, rate } from "../state/history.js";
import { counted, duration, grouped, NONE, sum } from "../state/numbers.js";
import { clock, momentOf } from "../state/times.js";
import { SECOND, zoneOf } from "../state/zones.js";
import { brokerCards, hintOf, waitingAt } from "./health/broker.js";
import { blocksCard, databaseCard, queueCard, refusedCard } from "./health/cards.js";
import { processes } from "./health/processes.js";

/** @typedef {import("../../records.js").Status} Status */
/** @typedef {import("../../records.js").StatusFinding} Finding */
/** @typedef {import("../router.js").Context} Context */
/** @typedef {import("../router.js").Screen} Screen */
/** @typedef {import("../state/address.js").Values} Values */

const EVERY_MS = 5_000;
/** The symbol and the word of a severity: states differ by more than their colour. @type {Record<string, [string, string]>} */
const SEVERITIES = { wrong: ["✕", "Wrong"], warning: ["!", "Warning"], ok: ["✓", "Well"] };

/**
 * @param {Context} context
 * @returns {Screen}
 */
export function open(context) {
  return new Health(context);
}

/** @implements {Screen} */
class Health {
  #history = new History();

  /** @param {Context} context */
  constructor(context) {
    this.context = context;
    this.query = context.query;
    /** @type {Source<Status>} */
    this.status = new Source(context.refresh);
    this.repeat = new Repeat(
      () => this.#load(),
      () => this.status.interval(EVERY_MS),
    );
    this.#load();
  }

  title() {
    return "Health";
  }

  get shortcuts() {
    return [{ key: "r", label: "Read again", run: () => this.#load() }];
  }

  /** @param {Values} query */
  update(query) {
    this.query = query;
  }

  close() {
    this.repeat.close();
    this.status.close();
  }

  #load() {
    void this.status.load(async signal => {
      /** @type {Status} */
      const found = (await get("/status", {}, signal)).data;
      this.#history.add(momentOf(found.read_at), figuresOf(found));
      return found;
    });
  }

  view() {
    const found = this.status.value;
    return html`
      <div class="title"><h1 tabindex="-1">Health</h1>${found ? this.#readAt(found) : nothing}</div>
      ${failureNotice(this.status.toTell, () => this.#load())}
      ${found ? this.#sections(found) : this.status.failure ? nothing : loadingNotice("the state of the installation")}
    `;
  }

  /** @param {Status} found */
  #readAt({ read_at: at }) {
    const shown = clock(Math.floor(momentOf(at) / SECOND) * SECOND, zoneOf(this.query.tz ?? "browser"));
    return html`<span class="muted">as of <time datetime=${at}>${shown}</time></span>`;
  }

  /** @param {Status} found */
  #sections(found) {
    return html`
      ${findings(found)}
      <section class="lines" aria-label="Figures of the last minutes">${lines(found).map(one => this.#line(one))}</section>
      ${processes(found, zoneOf(this.query.tz ?? "browser"))}
      <div class="cards health-cards">${brokerCards(found)}${queueCard(found)}${refusedCard(found, this.query)}${databaseCard(found)}${blocksCard(found)}</div>
    `;
  }

  /** @param {Line} line */
  #line({ name, figure, shown, hint }) {
    const points = this.#history.points(figure);
    const most = Math.max(...points.map(({ value }) => value ?? 0));
    const label = `${name} while this page has been open, ten minutes at most: up to ${rate(most)}`;
    return html`
      <article class="card">
        <h2>${name}</h2>
        <p class="value">${shown}</p>
        <svg viewBox="0 -1 100 32" preserveAspectRatio="none" role="img" aria-label=${label}>${svg`<path d=${path(points)} />`}</svg>
        <p class="hint">${hint}</p>
      </article>
    `;
  }
}

/**
 * The figures of which lines are drawn.
 *
 * @param {Status} found
 */
function figuresOf({ ingestion, brokers, processes: all }) {
  return {
    readings: ingestion.readings_per_s,
    delay: ingestion.delay_p99_s,
    inFlight: ingestion.in_flight,
    duplicates: ingestion.duplicates,
    refused: sum(Object.values(ingestion.refused)),
    waiting: waitingAt(brokers),
    requests: sum(all.map(({ api, state }) => (state === "running" ? (api?.requests_per_s ?? 0) : 0))),
  };
}

/** A figure with its line. @typedef {{name: string, figure: keyof ReturnType<typeof figuresOf>, shown: string, hint: string}} Line */

/**
 * @param {Status} found
 * @returns {Line[]}
 */
function lines(found) {
  const { ingestion } = found;
  const figures = figuresOf(found);
  const lag = ingestion.lag_s >= 1 ? `, lag ${duration(ingestion.lag_s * SECOND)}` : "";
  return [
    {
      name: "Readings a second",
      figure: "readings",
      shown: rate(figures.readings),
      hint: `${rate(ingestion.messages_per_s)} messages, ${rate(ingestion.stored_per_s)} stored`,
    },
    {
      name: "Delay until stored",
      figure: "delay",
      shown: seconds(figures.delay),
      hint: `99 % of the batches; median ${seconds(ingestion.delay_p50_s)}`,
    },
    {
      name: "At the broker",
      figure: "waiting",
      shown: figures.waiting === null ? NONE : grouped(figures.waiting),
      hint: hintOf(found.brokers),
    },
    { name: "In flight", figure: "inFlight", shown: grouped(figures.inFlight), hint: `readings not yet stored${lag}` },
    {
      name: "Duplicates",
      figure: "duplicates",
      shown: grouped(figures.duplicates),
      hint: "in the last minute, not stored again",
    },
    { name: "Refused", figure: "refused", shown: grouped(figures.refused), hint: reasons(ingestion.refused) },
    {
      name: "Requests a second",
      figure: "requests",
      shown: rate(figures.requests),
      hint: `${counted(sum(found.processes.map(({ api }) => api?.errors ?? 0)), "error")} in the last minute`,
    },
  ];
}

/** @param {Record<string, number>} refused */
function reasons(refused) {
  const shown = Object.entries(refused).map(([reason, count]) => `${reason} ${grouped(count)}`);
  return shown.join(", ") || "in the last minute";
}

/** @param {number | null} value */
function seconds(value) {
  return value === null ? NONE : value < 10 ? `${rate(value * 1000)} ms` : duration(value * SECOND);
}

/** @param {Status} found */
function findings({ findings: all }) {
  const faults = all.filter(({ severity }) => severity !== "ok");
  const well = all.filter(({ severity }) => severity === "ok");
  return html`
    <section class="card findings" aria-labelledby="findings">
      <header><h2 id="findings">${faults.length ? `Needs attention: ${faults.length}` : html`${severity("ok")} Nothing is wrong`}</h2></header>
      ${faults.length ? html`<ul>${faults.map(finding)}</ul>` : nothing}
      ${well.length ? html`<details><summary>Checks that found nothing: ${well.length}</summary><ul>${well.map(finding)}</ul></details>` : nothing}
    </section>
  `;
}

/** @param {Finding} found */
function finding({ severity: grade, subject, text }) {
  return html`<li>${severity(grade)}<strong>${subject}</strong><span>${withCode(text)}</span></li>`;
}

/** @param {string} grade */
function severity(grade) {
  const [symbol, word] = SEVERITIES[grade] ?? ["", grade];
  return html`<span class=${`grade ${grade}`}><span aria-hidden="true">${symbol}</span> ${word}</span>`;
}

/**
 * Show what stands between backticks as code.
 *
 * @param {string} text
 */
function withCode(text) {
  return text.split("`").map((part, at) => (at % 2 ? html`<code>${part}</code>` : part));
}
