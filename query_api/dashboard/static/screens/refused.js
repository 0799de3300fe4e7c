/** Refused messages (dead letters): by reason over time, each with its fault, to be replayed or deleted. */

import { get } from "../api.js";
import { html, live, nothing } from "../html.js";
import { failureNotice } from "../parts/notices.js";
import { ScreenPeriod } from "../parts/screen-period.js";
import { Repeat, Source } from "../source.js";
import { grouped } from "../state/numbers.js";
import { rangeOf } from "../state/ranges.js";
import { iso, momentOf } from "../state/times.js";
import { ChartPart } from "./refused/chart.js";
import { Job } from "./refused/job.js";
import { LetterPart } from "./refused/letter.js";
import { ListPart } from "./refused/list.js";
import { topicFilter } from "./refused/reasons.js";

/** @typedef {import("../../records.js").DeadLetterTotal} Total */
/** @typedef {import("../router.js").Context} Context */
/** @typedef {import("../router.js").Screen} Screen */
/** @typedef {import("../state/address.js").Values} Values */
/** `all`: without any condition; only read if none meets them. @typedef {{total: Total, all: Total | null, conditions: Values}} Read */

const EVERY_MS = 10_000;
const SHOWN = ["from", "to", "tz", "reason", "topic", "cursor"];

/**
 * @param {Context} context
 * @returns {Screen}
 */
export function open(context) {
  return new Refused(context);
}

/** @implements {Screen} */
class Refused {
  /** @type {Job | null} */
  #job = null;

  /** @param {Context} context */
  constructor(context) {
    this.context = context;
    this.query = context.query;
    this.period = new ScreenPeriod(context, { from: "now-7d", to: "now" }, () => this.#load());
    /** @type {Source<Read>} */
    this.total = new Source(context.refresh);
    this.chart = new ChartPart(context.refresh);
    this.list = new ListPart(context);
    this.letter = new LetterPart(context.refresh);
    this.repeat = new Repeat(
      () => this.#load(),
      () => (this.period.isMoving && !this.query.cursor ? this.total.interval(EVERY_MS) : 0),
    );
    this.#load();
    this.letter.open(this.query.letter);
  }

  title() {
    return "Refused";
  }

  get shortcuts() {
    return [
      ...this.period.shortcuts,
      {
        key: "/",
        label: "Filter by device or topic",
        run: () => /** @type {HTMLElement | null} */ (document.querySelector("input[type=search]"))?.focus(),
      },
    ];
  }

  /** @param {Values} query */
  update(query) {
    const before = this.query;
    this.query = query;
    if (SHOWN.some(name => query[name] !== before[name])) this.#load();
    this.letter.open(query.letter);
  }

  close() {
    this.repeat.close();
    this.#job?.close();
    for (const part of [this.total, this.chart, this.list, this.letter]) part.close();
  }

  #load() {
    const period = this.period.resolve();
    this.context.refresh();
    if (!period) return;
    const topic = topicFilter(this.query.topic);
    const conditions = { start: iso(period.start), end: iso(period.end), reason: this.query.reason, topic };
    void this.total.load(async signal => {
      const total = (await get("/dead-letters/total", conditions, signal)).data;
      const all = total.letters ? null : (await get("/dead-letters/total", {}, signal)).data;
      return { total, all, conditions };
    });
    this.chart.load(period, this.period.zoneName, topic);
    this.list.load(conditions);
    this.repeat.plan();
  }

  view() {
    const failure = this.list.source.toTell ?? this.total.toTell;
    const zone = this.period.zoneName;
    if (this.list.source.value === null && failure)
      return html`<div class="title"><h1 tabindex="-1">Refused</h1></div>${failureNotice(failure, () => this.#load())}`;
    return html`
      <div class="title"><h1 tabindex="-1">Refused</h1>${this.#search()}</div>
      ${this.period.view()} ${this.period.value ? this.#parts(zone) : nothing}
    `;
  }

  /** @param {string} zone */
  #parts(zone) {
    return html`
      ${this.chart.view(zone, {
        reason: this.query.reason,
        choose: reason => this.context.change({ reason, cursor: undefined }),
        zoom: period => this.period.choose(rangeOf(period)),
      })}
      ${this.#acts()} ${this.list.view(zone, () => this.#empty())}
      ${this.letter.view(zone, {
        close: () => this.context.change({ letter: undefined }),
        replay: id => this.#start("replay", [id]),
        purge: id => this.#start("purge", [id]),
      })}
      ${this.#job?.view() ?? nothing}
    `;
  }

  #search() {
    /** @param {Event} event */
    const changed = event =>
      this.context.change({
        topic: /** @type {HTMLInputElement} */ (event.target).value.trim() || undefined,
        cursor: undefined,
      });
    return html`
      <label class="search"><span class="visually-hidden">Device's key or topic filter</span>
        <input type="search" placeholder="Key, or topic such as devices/+/stats" maxlength="1000" spellcheck="false" autocomplete="off"
          .value=${live(this.query.topic ?? "")} @change=${changed}>
      </label>
    `;
  }

  /** The number of those that meet the conditions, and what can be done with them. */
  #acts() {
    const count = this.total.value?.total.letters;
    const { selected } = this.list;
    const isExpected = count === undefined && this.total.isLoading; // its place is kept, so that the list does not move
    if (!count && selected.size === 0 && !isExpected) return nothing;
    return html`
      <div class="acts" role="group" aria-label="Dead letters" aria-busy=${this.total.isLoading}>
        <strong>${count === 1 ? "1 dead letter" : `${count === undefined ? "…" : grouped(count)} dead letters`}</strong>
        <button class="small" ?disabled=${!count} @click=${() => this.#startAll("replay")}>Replay all …</button>
        <button class="small" ?disabled=${!count} @click=${() => this.#startAll("purge")}>Delete all …</button>
        ${selected.size ? this.#actsOfSelected() : nothing}
      </div>
    `;
  }

  #actsOfSelected() {
    const ids = [...this.list.selected].sort((one, other) => one - other);
    return html`
      <span class="end">${grouped(ids.length)} selected</span>
      <button class="small" @click=${() => this.#start("replay", ids)}>Replay …</button>
      <button class="small" @click=${() => this.#start("purge", ids)}>Delete …</button>
      <button class="small" @click=${() => this.#deselect()}>Select none</button>
    `;
  }

  #deselect() {
    this.list.selected.clear();
    this.context.refresh();
  }

  /**
   * Ask about all that meet the conditions now; later ones are left alone.
   *
   * @param {"replay" | "purge"} kind
   */
  #startAll(kind) {
    const read = this.total.value;
    if (!read) return;
    const conditions = { ...read.conditions, up_to: String(read.total.newest_id) };
    this.#open(kind, { conditions, count: read.total.letters });
  }

  /**
   * @param {"replay" | "purge"} kind
   * @param {number[]} ids in ascending order
   */
  #start(kind, ids) {
    this.#open(kind, { ids, count: ids.length });
  }

  /**
   * @param {"replay" | "purge"} kind
   * @param {import("./refused/job.js").Chosen} chosen
   */
  #open(kind, chosen) {
    this.#job = new Job(kind, chosen, {
      refresh: this.context.refresh,
      finished: () => this.#finished(),
      close: () => this.#closeJob(),
    });
    this.context.refresh();
  }

  /** Read the rest of what was replayed or deleted. */
  #finished() {
    for (const id of this.#job?.chosen.ids ?? []) this.list.selected.delete(id);
    this.#load();
  }

  #closeJob() {
    const job = this.#job;
    job?.close();
    this.#job = null;
    if (job?.done && this.query.letter) this.context.change({ letter: undefined });
    this.context.refresh();
  }

  #empty() {
    const all = this.total.value?.all;
    const { first_received_at: first, last_received_at: last } = all ?? {};
    if (!all) return nothing;
    if (!first || !last)
      return html`<div class="notice"><p>No message was refused. Messages that cannot be stored are shown here, with the reason.</p></div>`;
    const everything = {
      ...rangeOf({ start: momentOf(first), end: momentOf(last) }),
      reason: undefined,
      topic: undefined,
      cursor: undefined,
    };
    return html`
      <div class="notice">
        <p>No dead letter meets these conditions. There ${all.letters === 1 ? "is 1" : `are ${grouped(all.letters)}`} in all.</p>
        <button @click=${() => this.context.change(everything)}>Show all</button>
      </div>
    `;
  }
}
