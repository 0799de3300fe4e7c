/** The results of a schedule: a figure of each axis over the ticks, as lines and as a table. */

import { get } from "../../api.js";
import { html, nothing } from "../../html.js";
import { failureNotice, loadingNotice } from "../../parts/notices.js";
import { statusChip } from "../analyses/shared.js";
import "../../plot/time-plot.js";
import { Source } from "../../source.js";
import { addressOf } from "../../state/address.js";
import { ALWAYS, figureOf, lengthText, lineOf, nameOf, periodText, shortClock } from "../../state/analyses.js";
import { age, grouped } from "../../state/numbers.js";
import { rangeOf } from "../../state/ranges.js";
import { AXES } from "../../state/series.js";
import { currentMoment, momentOf, parse, UnknownTime } from "../../state/times.js";
import { zoneOf } from "../../state/zones.js";
import { deviceAddress, valueText } from "../analyses/request.js";

/** @typedef {import("../../../records.js").Schedule} Schedule */
/** @typedef {import("../../../records.js").ScheduleTick} ScheduleTick */
/** @typedef {import("../../router.js").Context} Context */
/** @typedef {import("../../state/address.js").Values} Values */
/** @typedef {import("../../plot/time-plot.js").Content} Content */
/** The ticks, newest first, and where older ones begin. @typedef {{ticks: ScheduleTick[], next: string | null}} Read */

const PAGE = 500;

export class Results {
  /** @type {{key: unknown[], content: Content} | null} */
  #drawn = null;
  #isReadingMore = false;

  /**
   * @param {string} id
   * @param {Context} context
   */
  constructor(id, context) {
    this.path = `/stats/analysis/schedules/${encodeURIComponent(id)}`;
    this.context = context;
    this.query = context.query;
    /** @type {Source<Schedule>} */
    this.schedule = new Source(context.refresh);
    /** @type {Source<Read>} */
    this.source = new Source(context.refresh);
  }

  close() {
    this.schedule.close();
    this.source.close();
  }

  get isLoading() {
    return this.schedule.isLoading || this.source.isLoading;
  }

  get zone() {
    return zoneOf(this.query.tz ?? "browser");
  }

  get figure() {
    const { figure } = this.query;
    return figure && this.#figures.includes(figure) ? figure : "median";
  }

  get #figures() {
    return [...ALWAYS, ...(this.schedule.value?.figures ?? [])];
  }

  title() {
    const found = this.schedule.value;
    return found ? (found.name ?? `Schedule of ${found.device_name}`) : "Schedule";
  }

  /** @param {Values} query */
  update(query) {
    const isOther = query.from !== this.query.from || query.to !== this.query.to;
    this.query = query;
    if (isOther) this.#read();
  }

  /** Read the schedule, and the ticks again if there is a new one, or if some have not ended. */
  async load() {
    const read = this.source.value;
    const before = this.schedule.value?.last_tick;
    if (read === null) this.#read();
    await this.schedule.load(async signal => (await get(this.path, {}, signal)).data);
    const isActive = read?.ticks.some(({ status }) => status === "queued" || status === "running");
    const isNew = before !== this.schedule.value?.last_tick;
    if (read !== null && (isActive || isNew) && !this.#isReadingMore) this.#read();
  }

  #read() {
    const read = this.source.value;
    const limit = String(Math.min(Math.max(PAGE, read?.ticks.length ?? 0), 10_000));
    void this.source.load(async signal => {
      const { data, headers } = await get(`${this.path}/ticks`, { ...this.#bounds(), limit }, signal);
      return { ticks: data, next: headers.get("X-Next-Cursor") };
    });
  }

  #bounds() {
    const { from, to } = this.query;
    const at = { now: currentMoment(), zone: this.zone };
    try {
      return {
        start: from && rangeOf({ start: parse(from, at), end: 0 }).from,
        end: to && rangeOf({ start: 0, end: parse(to, { ...at, end: true }) }).to,
      };
    } catch (error) {
      if (error instanceof UnknownTime) return {};
      throw error;
    }
  }

  async #older() {
    const read = this.source.value;
    if (!read?.next) return;
    this.#isReadingMore = true;
    await this.source.load(async signal => {
      const query = { ...this.#bounds(), limit: String(PAGE), cursor: read.next ?? undefined };
      const { data, headers } = await get(`${this.path}/ticks`, query, signal);
      return { ticks: [...read.ticks, ...data], next: headers.get("X-Next-Cursor") };
    });
    this.#isReadingMore = false;
  }

  view() {
    const [schedule, read] = [this.schedule.value, this.source.value];
    return html`
      ${failureNotice(this.schedule.toTell)} ${schedule ? failureNotice(this.source.toTell) : nothing}
      ${schedule ? this.#facts(schedule) : this.schedule.failure ? nothing : loadingNotice("the schedule")}
      ${schedule && read ? this.#content(schedule, read) : nothing}
    `;
  }

  /** @param {Schedule} schedule */
  #facts({
    device_id: device,
    device_name: name,
    description,
    cron,
    timezone,
    period,
    next_tick: next,
    last_error: error,
  }) {
    return html`
      <p class="facts">
        <a href=${addressOf(`/ui/devices/${device}`, { tz: this.query.tz })}>${name}</a> · ${description ?? "not valid"} · <code>${cron}</code> ${timezone} ·
        period ${lengthText(period)} · ${next ? `next tick ${age(momentOf(next), currentMoment())}` : "paused"}
      </p>
      ${error ? html`<p class="reason">${error}</p>` : nothing}
    `;
  }

  /**
   * @param {Schedule} schedule
   * @param {Read} read
   */
  #content(schedule, read) {
    const isPart = this.query.from || this.query.to;
    if (read.ticks.length === 0)
      return html`<div class="notice"><p>${isPart ? "The schedule has no ticks in this period." : "The schedule has not ticked yet. Its results are drawn here."}</p>${isPart ? this.#whole() : nothing}</div>`;
    return html`
      <section class="card plot" aria-label="Results">
        <header><h2>${nameOf(this.figure)}</h2>${this.#choice()}${isPart ? this.#whole() : nothing}</header>
        <time-plot .content=${this.#plotted(schedule, read)} @zoom=${(/** @type {CustomEvent} */ event) => this.context.change(rangeOf(event.detail))}
          @zoomout=${() => this.#zoomOut()}></time-plot>
      </section>
      ${this.#table(read)}
    `;
  }

  #choice() {
    /** @param {Event} event */
    const changed = event => this.context.change({ figure: /** @type {HTMLSelectElement} */ (event.target).value });
    return html`
      <label class="field end"><span>Figure</span>
        <select @change=${changed}>${this.#figures.map(name => html`<option value=${name} ?selected=${name === this.figure}>${nameOf(name)}</option>`)}</select>
      </label>
    `;
  }

  #whole() {
    return html`<button class="small" @click=${() => this.#zoomOut()}>All ticks</button>`;
  }

  #zoomOut() {
    this.context.change({ from: undefined, to: undefined });
  }

  /**
   * Return what is drawn: the same object until something of it changes.
   *
   * @param {Schedule} schedule
   * @param {Read} read
   */
  #plotted(schedule, read) {
    const key = [read, this.zone, this.figure];
    if (this.#drawn === null || key.some((part, at) => part !== this.#drawn?.key[at])) {
      this.#drawn = { key, content: contentOf(schedule, read.ticks, this.zone, this.figure) };
    }
    return this.#drawn.content;
  }

  /** @param {Read} read */
  #table({ ticks, next }) {
    return html`
      <div class="scroll" tabindex="0" role="region" aria-label="Ticks">
        <table class="dense">
          <thead><tr>
            <th scope="col">Tick (${this.zone})</th><th scope="col" class="wide">Period</th><th scope="col">Status</th>
            ${AXES.map(axis => html`<th scope="col" class="number">${axis}</th>`)}
          </tr></thead>
          <tbody>${ticks.map(tick => this.#row(tick))}</tbody>
        </table>
      </div>
      <p class="muted">${grouped(ticks.length)} ticks, the newest first.
        ${next ? html`<button class="small" ?disabled=${this.#isReadingMore} @click=${() => this.#older()}>Read older ones</button>` : nothing}</p>
    `;
  }

  /** @param {ScheduleTick} tick */
  #row(tick) {
    const { tz } = this.query;
    const { request_id: request, status, last_error: error } = tick;
    const text = shortClock(momentOf(tick.tick), this.zone);
    const device = { ...tick, device_id: this.schedule.value?.device_id ?? 0 };
    return html`
      <tr>
        <th scope="row">${request ? html`<a href=${addressOf("/ui/analyses", { request: String(request), tz })}>${text}</a>` : text}</th>
        <td class="wide">${request ? html`<a href=${deviceAddress(device, tz)}>${periodText(tick, this.zone)}</a>` : nothing}</td>
        <td class="what">${status ? statusChip(status) : html`<span class="muted">deleted</span>`}${error && status !== "done" ? html`<span class="reason">${error}</span>` : nothing}</td>
        ${AXES.map(axis => html`<td class="number">${valueText(figureOf(tick[axis], this.figure), this.figure)}</td>`)}
      </tr>
    `;
  }
}

/**
 * @param {Schedule} schedule
 * @param {ScheduleTick[]} ticks newest first, at least one
 * @param {string} zone
 * @param {string} figure
 * @returns {Content}
 */
function contentOf({ device_name: name }, ticks, zone, figure) {
  const moments = ticks.map(({ tick }) => momentOf(tick));
  const [end = 0, start = 0] = [moments[0], moments.at(-1)];
  const margin = Math.max((end - start) / 50, 1_000_000);
  return {
    lines: AXES.map((axis, style) => ({ name: axis, style, ...lineOf(ticks, axis, figure) })),
    period: { start: start - margin, end: end + margin },
    zone,
    gaps: [],
    bands: {},
    marks: ticks
      .filter(({ status }) => status === "failed")
      .map(({ tick }) => ({ moment: momentOf(tick), label: "failed" })),
    layout: "apart",
    label: `Plot of the ${nameOf(figure)} of x, y and z of ${name} over ${ticks.length} ticks. A table of them follows.`,
  };
}
