/** Several devices over a period, and over the same hours of an earlier day. */

import { html, nothing } from "../html.js";
import { loadingNotice } from "../parts/notices.js";
import { ScreenPeriod } from "../parts/screen-period.js";
import { Repeat } from "../source.js";
import { addressOf } from "../state/address.js";
import { MOST_TOGETHER } from "../state/lists.js";
import { daysOf } from "../state/offsets.js";
import { openingRange, rangeOf, scaled } from "../state/ranges.js";
import { clock, currentMoment, momentOf } from "../state/times.js";
import { exportCard } from "./compare/exports.js";
import { ComparedFigures } from "./compare/figures.js";
import { ComparedPlot } from "./compare/plot.js";
import { toggleLayout } from "./several/axes.js";
import { ChosenDevices } from "./several/devices.js";
import { lineSample } from "./several/lines.js";

/** @typedef {import("../router.js").Context} Context */
/** @typedef {import("../router.js").Screen} Screen */
/** @typedef {import("../state/address.js").Values} Values */

const SHORTEST_MS = 5_000;
const LONGEST_MS = 60_000;
/** A picture of the period is read again when it would have moved by this part of its width. */
const MOVED = 200;

/**
 * @param {Context} context
 * @returns {Screen}
 */
export function open(context) {
  return new Compare(context);
}

/** @implements {Screen} */
class Compare {
  /** What was read last: the devices and the values of the address. */
  #read = "";
  #isClosed = false;

  /** @param {Context} context */
  constructor(context) {
    this.context = context;
    this.query = context.query;
    this.period = new ScreenPeriod(context, { from: "now-6h", to: "now" }, () => this.#load());
    this.devices = new ChosenDevices(context, () => this.#known());
    this.plot = new ComparedPlot(context, this.devices);
    this.figures = new ComparedFigures(context, this.devices);
    this.repeat = new Repeat(
      () => this.#load(),
      () => this.#interval(),
    );
    this.devices.update();
    queueMicrotask(() => this.#known()); // the router still opens this screen
  }

  title() {
    return "Compare";
  }

  get shortcuts() {
    return [
      ...this.period.shortcuts,
      { key: "a", label: "Axes apart or together", run: () => toggleLayout(this.context) },
    ];
  }

  /** @param {Values} query */
  update(query) {
    this.query = query;
    this.devices.update();
    this.#known();
  }

  close() {
    this.#isClosed = true;
    this.repeat.close();
    for (const part of [this.devices, this.plot, this.figures]) part.close();
  }

  /** Read what the address names, once it is known which devices exist and where their readings are. */
  #known() {
    this.context.refresh();
    if (this.#isClosed || !this.devices.areKnown || this.devices.existing.length === 0) return;
    const { from, to, tz, offset } = this.query;
    if (!from && !to) {
      this.context.change({ ...this.#opening() }, { replace: true });
      return;
    }
    const wanted = JSON.stringify([this.devices.existing, from, to, tz, offset]);
    if (wanted !== this.#read) this.#load();
    this.#read = wanted;
  }

  /** The range where the devices have readings. */
  #opening() {
    const [first, last] = this.#span();
    return openingRange(first, last, currentMoment());
  }

  /** The times of the first and the last reading of all devices. @returns {[number | null, number | null]} */
  #span() {
    const records = this.devices.existing.map(id => this.devices.recordOf(id));
    const firsts = records.map(record => record?.first_reading_at).filter(time => typeof time === "string");
    const lasts = records.map(record => record?.last_reading_at).filter(time => typeof time === "string");
    if (firsts.length === 0 || lasts.length === 0) return [null, null];
    return [Math.min(...firsts.map(momentOf)), Math.max(...lasts.map(momentOf))];
  }

  #load() {
    const period = this.period.resolve();
    this.context.refresh();
    if (!period) return;
    const days = daysOf(this.query.offset);
    this.plot.load(period, this.period.zoneName, days);
    this.figures.load(period, this.period.zoneName, days);
    this.repeat.plan();
  }

  /** The time until the period is read again: never if its end is fixed. */
  #interval() {
    const { value, isMoving } = this.period;
    if (!value || !isMoving || this.devices.existing.length === 0) return 0;
    return Math.min(Math.max((value.end - value.start) / 1000 / MOVED, SHORTEST_MS), LONGEST_MS);
  }

  view() {
    const { ids } = this.devices;
    return html`
      <div class="title"><h1 tabindex="-1">Compare</h1>
        ${ids.length ? html`<a class="button end" href=${addressOf("/ui/live", { device: ids, tz: this.query.tz, show: this.query.show })}>Live</a>` : nothing}
      </div>
      <div class="chips">${this.devices.existing.map((id, at) => this.#chip(id, at))}${this.devices.adder()}</div>
      ${this.devices.notices()} ${ids.length ? this.#body() : this.#empty()}
    `;
  }

  /**
   * @param {string} id
   * @param {number} at
   */
  #chip(id, at) {
    const { from, to, tz } = this.query;
    return html`<span class="chip">${lineSample(this.query, this.devices.existing.length, at)}<a href=${addressOf(`/ui/devices/${id}`, { from, to, tz })}>${this.devices.nameOf(id)}</a>${this.devices.removeButton(id)}</span>`;
  }

  #empty() {
    return html`<div class="notice"><p>Choose devices to see their readings over a period. Up to ${MOST_TOGETHER} are shown together; one alone can be compared with itself on an earlier day.</p></div>`;
  }

  #body() {
    if (this.devices.existing.length === 0) return this.devices.areKnown ? nothing : loadingNotice("the devices");
    const { value } = this.period;
    const isRead = value && (this.query.from || this.query.to);
    return html`${this.period.view()} ${isRead ? this.#parts(value) : nothing}`;
  }

  /** @param {import("../state/times.js").Period} period */
  #parts(period) {
    const actions = {
      zoom: (/** @type {import("../state/times.js").Period} */ chosen) => this.period.choose(rangeOf(chosen)),
      zoomOut: () => this.period.choose(rangeOf(scaled(period, 2))),
    };
    return html`
      ${this.plot.count === 0 ? this.#nothingThere() : nothing}
      ${this.plot.view(period, this.period.zoneName, actions)} ${this.figures.view()}
      ${exportCard(this.devices, period, this.period.zoneName)}
    `;
  }

  #nothingThere() {
    const [first, last] = this.#span();
    if (first === null || last === null)
      return html`<div class="notice"><p>These devices have no readings yet.</p></div>`;
    const zone = this.period.zoneName;
    return html`
      <div class="notice">
        <p>There are no readings of these devices in this period. They have readings from ${clock(first, zone)} to ${clock(last, zone)}.</p>
        <button @click=${() => this.period.choose(this.#opening())}>Show the last ones</button>
      </div>
    `;
  }
}
