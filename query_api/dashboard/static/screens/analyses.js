/** The analyses that were queued: those that wait, run, and have ended. */

import { get } from "../api.js";
import { html, nothing, repeat } from "../html.js";
import { failureNotice, loadingNotice } from "../parts/notices.js";
import { may } from "../session.js";
import { Repeat, Source } from "../source.js";
import { addressOf } from "../state/address.js";
import { nameOf, periodText } from "../state/analyses.js";
import { age, duration, grouped } from "../state/numbers.js";
import { currentMoment, iso, momentOf } from "../state/times.js";
import { DAY, zoneOf } from "../state/zones.js";
import { Queueing } from "./analyses/queueing.js";
import { deviceAddress, RequestDialog } from "./analyses/request.js";
import { ageOf, Change, pageLinks, STATUSES, statusChip } from "./analyses/shared.js";

/** @typedef {import("../../records.js").AnalysisRequest} AnalysisRequest */
/** @typedef {import("../../records.js").RequestCounts} RequestCounts */
/** @typedef {import("./analyses/shared.js").Status} Status */
/** @typedef {import("../router.js").Context} Context */
/** @typedef {import("../router.js").Screen} Screen */
/** @typedef {import("../state/address.js").Values} Values */
/** A page of the list. @typedef {{requests: AnalysisRequest[], next: string | undefined}} Page */

const PAGE = 50;
const ACTIVE_MS = 1_500;
const EVERY_MS = 10_000;

/**
 * @param {Context} context
 * @returns {Screen}
 */
export function open(context) {
  return new Analyses(context);
}

/** @implements {Screen} */
class Analyses {
  /** @type {Queueing | null} */
  #queueing = null;
  /** @type {RequestDialog | null} */
  #dialog = null;

  /** @param {Context} context */
  constructor(context) {
    this.context = context;
    this.query = context.query;
    this.change = new Change(context.refresh);
    /** @type {Source<Page>} */
    this.page = new Source(context.refresh);
    /** @type {Source<RequestCounts>} */
    this.counts = new Source(context.refresh);
    this.repeat = new Repeat(
      () => this.#isLoading || this.#load(), // a read that waits for the database must have its end
      () => this.page.interval(this.#isActive ? ACTIVE_MS : EVERY_MS),
    );
    this.#load();
    this.#openDialog();
  }

  get #isLoading() {
    return this.page.isLoading || this.counts.isLoading;
  }

  get #isActive() {
    const { queued = 0, running = 0 } = this.counts.value ?? {};
    return queued + running > 0;
  }

  get zone() {
    return zoneOf(this.query.tz ?? "browser");
  }

  title() {
    return "Analyses";
  }

  get shortcuts() {
    return [
      ...(may("queue") ? [{ key: "n", label: "Queue an analysis", run: () => this.#queue() }] : []),
      { key: "r", label: "Read again", run: () => this.#load() },
    ];
  }

  /** @param {Values} query */
  update(query) {
    const before = this.query;
    this.query = query;
    if (["status", "device", "cursor"].some(name => query[name] !== before[name])) this.#load();
    if (query.request !== before.request) this.#openDialog();
  }

  close() {
    this.repeat.close();
    for (const part of [this.page, this.counts, this.#dialog, this.#queueing]) part?.close();
  }

  #load() {
    const { status, device, cursor } = this.query;
    void this.page.load(async signal => {
      const query = { status, device_id: device, cursor, limit: String(PAGE) };
      const { data, headers } = await get("/stats/analysis/requests", query, signal);
      return { requests: data, next: headers.get("X-Next-Cursor") ?? undefined };
    });
    const start = iso(currentMoment() - DAY);
    void this.counts.load(async signal => (await get("/stats/analysis/requests/counts", { start }, signal)).data);
    this.repeat.plan();
  }

  #openDialog() {
    this.#dialog?.close();
    const { request } = this.query;
    this.#dialog = request ? new RequestDialog(request, this.context) : null;
  }

  view() {
    const page = this.page.value;
    return html`
      <div class="title"><h1 tabindex="-1">Analyses</h1>
        ${may("queue") ? html`<button class="primary" @click=${() => this.#queue()}>Queue an analysis</button>` : nothing}
      </div>
      ${page || !this.page.failure ? this.#filters() : nothing}
      ${failureNotice(this.page.toTell, () => this.#load())} ${failureNotice(this.change.failure)}
      ${page ? this.#list(page) : this.page.failure ? nothing : loadingNotice("the analyses")}
      ${this.#queueing?.view() ?? nothing} ${this.#dialog?.view() ?? nothing}
    `;
  }

  #filters() {
    const counts = this.counts.value;
    const names = /** @type {Status[]} */ (Object.keys(STATUSES));
    return html`
      <nav class="filters" aria-label="Status">
        ${this.#filter(undefined, "All", "")}
        ${names.map(status => this.#filter(status, STATUSES[status], counts ? grouped(counts[status]) : ""))}
      </nav>
      <p class="muted">${this.#facts(counts)}</p>
    `;
  }

  /**
   * @param {Status | undefined} status
   * @param {string} name
   * @param {string} count
   */
  #filter(status, name, count) {
    const address = this.#here({ status, cursor: undefined });
    const isChosen = this.query.status === status;
    return html`<a href=${address} aria-current=${isChosen ? "true" : nothing}>${name} ${count ? html`<b>${count}</b>` : nothing}</a>`;
  }

  /** @param {RequestCounts | null} counts */
  #facts(counts) {
    const { device } = this.query;
    const only = device
      ? html` Only those of device ${device} are listed. <a href=${this.#here({ device: undefined, cursor: undefined })}>All devices</a>`
      : nothing;
    const oldest = counts?.oldest_queued_at;
    const waits = oldest ? `The oldest has waited for ${duration(currentMoment() - momentOf(oldest))}. ` : "";
    return html`${waits}The numbers of those that have ended are of the last 24 hours.${only}`;
  }

  /** @param {Values} changes */
  #here(changes) {
    return addressOf("/ui/analyses", { ...this.query, request: undefined, ...changes });
  }

  /** @param {Page} page */
  #list({ requests, next }) {
    if (requests.length === 0)
      return html`<div class="notice"><p>${this.query.status || this.query.device || this.query.cursor ? "No analysis is in this list." : "No analysis was queued yet. A worker computes queued analyses, of any number of readings."}</p></div>`;
    return html`
      <div class="scroll" tabindex="0" role="region" aria-label="Analyses">
        <table class="dense analyses">
          <thead><tr>
            <th scope="col">Device</th><th scope="col" class="wide">Period (${this.zone})</th><th scope="col" class="wide">Figures</th>
            <th scope="col">Status</th><th scope="col" class="wide">Queued</th><th scope="col"><span class="visually-hidden">Actions</span></th>
          </tr></thead>
          <tbody>${repeat(
            requests,
            ({ id }) => id,
            request => this.#row(request, currentMoment()),
          )}</tbody>
        </table>
      </div>
      ${pageLinks(this.query.cursor, next, cursor => this.#here({ cursor }), `${grouped(requests.length)} in this list, the newest first`)}
    `;
  }

  /**
   * @param {AnalysisRequest} request
   * @param {number} now
   */
  #row(request, now) {
    return html`
      <tr>
        <th scope="row"><a href=${deviceAddress(request, this.query.tz)}>${request.device_name}</a></th>
        <td class="wide">${periodText(request, this.zone)}</td>
        <td class="wide names">${request.figures.map(nameOf).join(", ")}</td>
        <td class="what">${statusChip(request.status)} <span class="muted">${progress(request, now)}</span>${this.#error(request)}</td>
        <td class="wide">${ageOf(request.created_at, now, this.zone)}</td>
        <td class="actions">${this.#actions(request)}</td>
      </tr>
    `;
  }

  /** @param {AnalysisRequest} request */
  #error({ status, last_error: error }) {
    return error && status !== "done" ? html`<span class="reason">${error}</span>` : nothing;
  }

  /** @param {AnalysisRequest} request */
  #actions({ id, status, device_name: name }) {
    if (status === "done")
      return html`<a class="button small" href=${this.#here({ request: String(id) })} aria-label=${`Result of ${name}`}>Result</a>`;
    if (!may("queue")) return nothing;
    const isActive = status === "queued" || status === "running";
    const path = `/stats/analysis/requests/${id}${isActive ? "" : "/retry"}`;
    const run = () => void this.change.send(id, isActive ? "DELETE" : "POST", path).then(() => this.#load());
    const label = isActive ? "Cancel" : "Retry";
    return html`<button class="small" ?disabled=${this.change.of === id} aria-label=${`${label} the analysis of ${name}`} @click=${run}>${label}</button>`;
  }

  #queue() {
    this.#queueing ??= new Queueing(this.context, this.query.device, isQueued => {
      this.#queueing?.close();
      this.#queueing = null;
      if (isQueued) this.#load();
      this.context.refresh();
    });
    this.context.refresh();
  }
}

/**
 * Return how long a request waits, runs or took.
 *
 * @param {AnalysisRequest} request
 * @param {number} now
 */
function progress(
  { status, created_at: queued, started_at: started, finished_at: finished, retry_at: retry, attempts },
  now,
) {
  const since = (/** @type {string | null} */ time) => duration(now - momentOf(time ?? queued));
  if (status === "queued")
    return retry ? `attempt ${attempts + 1} ${age(momentOf(retry), now)}` : `for ${since(queued)}`;
  if (status === "running") return `for ${since(started)}${attempts > 1 ? `, attempt ${attempts}` : ""}`;
  if (status === "done" && started && finished) return `in ${duration(momentOf(finished) - momentOf(started))}`;
  return finished ? age(momentOf(finished), now) : "";
}
