/** The schedules, and the results of one of them. */

import { get } from "../api.js";
import { html, nothing, repeat } from "../html.js";
import { dialog } from "../parts/dialog.js";
import { failureNotice, loadingNotice } from "../parts/notices.js";
import { may } from "../session.js";
import { Repeat, Source } from "../source.js";
import { addressOf } from "../state/address.js";
import { lengthText } from "../state/analyses.js";
import { grouped } from "../state/numbers.js";
import { currentMoment } from "../state/times.js";
import { zoneOf } from "../state/zones.js";
import { ageOf, Change, pageLinks, statusChip } from "./analyses/shared.js";
import { Editing } from "./schedules/editing.js";
import { Results } from "./schedules/results.js";

/** @typedef {import("../../records.js").Schedule} Schedule */
/** @typedef {import("../router.js").Context} Context */
/** @typedef {import("../router.js").Screen} Screen */
/** @typedef {import("../state/address.js").Values} Values */
/** A page of the list. @typedef {{schedules: Schedule[], next: string | undefined}} Page */

const PATH = "/stats/analysis/schedules";
const EVERY_MS = 5_000;

/**
 * @param {Context} context
 * @returns {Screen}
 */
export function open(context) {
  return new Schedules(context);
}

/** @implements {Screen} */
class Schedules {
  /** @type {Editing | null} */
  #editing = null;
  /** The schedule that is to be deleted. @type {Schedule | null} */
  #deleting = null;
  /** @type {Results | null} */
  #results = null;

  /** @param {Context} context */
  constructor(context) {
    this.context = context;
    this.query = context.query;
    this.change = new Change(context.refresh);
    /** @type {Source<Page>} */
    this.page = new Source(context.refresh);
    this.repeat = new Repeat(
      () => this.page.isLoading || this.#results?.isLoading || this.#load(),
      () => this.page.interval(EVERY_MS),
    );
    this.#start();
  }

  title() {
    return this.#results?.title() ?? "Schedules";
  }

  get zone() {
    return zoneOf(this.query.tz ?? "browser");
  }

  get shortcuts() {
    return [
      ...(may("queue") ? [{ key: "n", label: "Create a schedule", run: () => this.#edit(null) }] : []),
      { key: "r", label: "Read again", run: () => this.#load() },
    ];
  }

  /** @param {Values} query */
  update(query) {
    const before = this.query;
    this.query = query;
    if (["schedule", "device", "cursor"].some(name => query[name] !== before[name])) this.#start();
    else this.#results?.update(query);
  }

  close() {
    this.repeat.close();
    for (const part of [this.page, this.#editing, this.#results]) part?.close();
  }

  #start() {
    this.#results?.close();
    const { schedule } = this.query;
    this.#results = schedule ? new Results(schedule, this.context) : null;
    this.#load();
  }

  #load() {
    this.repeat.plan();
    if (this.#results) {
      void this.#results.load();
      return;
    }
    const { device, cursor } = this.query;
    void this.page.load(async signal => {
      const { data, headers } = await get(PATH, { device_id: device, cursor }, signal);
      return { schedules: data, next: headers.get("X-Next-Cursor") ?? undefined };
    });
  }

  view() {
    return html`
      ${this.#results ? this.#single(this.#results) : this.#all()}
      ${this.#editing?.view() ?? nothing} ${this.#deleting ? this.#question(this.#deleting) : nothing}
    `;
  }

  /** @param {Results} results */
  #single(results) {
    const found = results.schedule.value;
    return html`
      <p><a href=${addressOf("/ui/schedules", { tz: this.query.tz })}>‹ Schedules</a></p>
      <div class="title"><h1 tabindex="-1">${this.title()}</h1>${found ? html`<div class="row end">${this.#actions(found)}</div>` : nothing}</div>
      ${failureNotice(this.change.failure)} ${results.view()}
    `;
  }

  #all() {
    const page = this.page.value;
    return html`
      <div class="title"><h1 tabindex="-1">Schedules</h1>
        ${may("queue") ? html`<button class="primary" @click=${() => this.#edit(null)}>Create a schedule</button>` : nothing}
      </div>
      ${failureNotice(this.page.toTell, () => this.#load())} ${failureNotice(this.change.failure)}
      ${page ? this.#list(page) : this.page.failure ? nothing : loadingNotice("the schedules")}
    `;
  }

  /** @param {Page} page */
  #list({ schedules, next }) {
    const { cursor, device } = this.query;
    if (schedules.length === 0 && !cursor)
      return html`<div class="notice"><p>${device ? `Device ${device} has no schedule.` : "There is no schedule yet. A schedule analyses a device again and again, such as each night the day before."}</p></div>`;
    return html`
      <div class="scroll" tabindex="0" role="region" aria-label="Schedules">
        <table class="dense schedules">
          <thead><tr>
            <th scope="col">Schedule</th><th scope="col">Ticks</th><th scope="col" class="wide">Period</th>
            <th scope="col">Next</th><th scope="col">Last</th><th scope="col" class="wide"><span class="visually-hidden">Actions</span></th>
          </tr></thead>
          <tbody>${repeat(
            schedules,
            ({ id }) => id,
            schedule => this.#row(schedule, currentMoment()),
          )}</tbody>
        </table>
      </div>
      ${pageLinks(cursor, next, at => addressOf("/ui/schedules", { device, tz: this.query.tz, cursor: at }), `${grouped(schedules.length)} ${schedules.length === 1 ? "schedule" : "schedules"}`)}
    `;
  }

  /**
   * @param {Schedule} schedule
   * @param {number} now
   */
  #row(schedule, now) {
    const { id, name, device_id: device, device_name: deviceName, description, cron, timezone, period } = schedule;
    const { tz } = this.query;
    return html`
      <tr>
        <th scope="row"><a href=${addressOf("/ui/schedules", { schedule: String(id), tz })}>${name ?? deviceName}</a>
          ${name ? html`<span class="under"><a href=${addressOf(`/ui/devices/${device}`, { tz })}>${deviceName}</a></span>` : nothing}</th>
        <td class="words">${description ?? "not valid"}<span class="under"><code>${cron}</code> ${timezone}</span></td>
        <td class="wide">${lengthText(period)}</td>
        <td>${this.#next(schedule, now)}</td>
        <td>${this.#last(schedule, now)}</td>
        <td class="wide actions">${this.#actions(schedule)}</td>
      </tr>
    `;
  }

  /**
   * @param {Schedule} schedule
   * @param {number} now
   */
  #next({ next_tick: next, last_error: error }, now) {
    if (next !== null) return ageOf(next, now, this.zone);
    return html`paused${error ? html`<span class="reason">${error}</span>` : nothing}`;
  }

  /**
   * @param {Schedule} schedule
   * @param {number} now
   */
  #last({ last_tick: last, latest_status: status, latest_request: request }, now) {
    if (last === null) return html`<span class="muted">none</span>`;
    const address = addressOf("/ui/analyses", { request: String(request), tz: this.query.tz });
    return html`${status ? html`<a href=${address}>${statusChip(status)}</a>` : nothing} <span class="under">${ageOf(last, now, this.zone)}</span>`;
  }

  /** @param {Schedule} schedule */
  #actions(schedule) {
    if (!may("queue")) return nothing;
    const { id, name, device_name: deviceName, paused } = schedule;
    const of = name ?? deviceName;
    const toggle = () =>
      void this.change.send(id, "PATCH", `${PATH}/${id}`, { paused: !paused }).then(() => this.#load());
    const label = paused ? "Resume" : "Pause";
    return html`
      <button class="small" aria-label=${`${label} ${of}`} ?disabled=${this.change.of === id} @click=${toggle}>${label}</button>
      <button class="small" aria-label=${`Edit ${of}`} @click=${() => this.#edit(schedule)}>Edit</button>
      <button class="small" aria-label=${`Delete ${of}`} @click=${() => this.#ask(schedule)}>Delete</button>
    `;
  }

  /** @param {Schedule | null} schedule */
  #edit(schedule) {
    this.#editing ??= new Editing(this.context, schedule, isSaved => {
      this.#editing?.close();
      this.#editing = null;
      if (isSaved) this.#load();
      this.context.refresh();
    });
    this.context.refresh();
  }

  /** @param {Schedule | null} schedule */
  #ask(schedule) {
    this.#deleting = schedule;
    this.context.refresh();
  }

  /** @param {Schedule} schedule */
  #question({ id, name, device_name: deviceName }) {
    const content = html`
      <p>The schedule stops. The analyses that it has queued are kept, with their results.</p>
      <div class="row">
        <button class="primary" @click=${() => this.#remove(id)}>Delete</button>
        <button @click=${() => this.#ask(null)}>Keep it</button>
      </div>
    `;
    return dialog(`Delete ${name ?? `the schedule of ${deviceName}`}?`, content, () => this.#ask(null));
  }

  /** @param {number} id */
  async #remove(id) {
    this.#deleting = null;
    const isGone = await this.change.send(id, "DELETE", `${PATH}/${id}`);
    if (isGone && this.#results) this.context.change({ schedule: undefined, from: undefined, to: undefined });
    else this.#load();
  }
}
