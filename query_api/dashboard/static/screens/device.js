/** A device over a period: its plot, figures, buckets and exports. */

import { get } from "../api.js";
import { html, nothing } from "../html.js";
import { failureNotice, loadingNotice } from "../parts/notices.js";
import { periodPicker } from "../parts/period.js";
import { lastSeen } from "../seen.js";
import { Repeat, Source } from "../source.js";
import { addressOf } from "../state/address.js";
import { age, grouped, readingsOf, stored } from "../state/numbers.js";
import { nameOf, openingRange, rangeOf, scaled, shifted } from "../state/ranges.js";
import { clock, currentMoment, isRelative, momentOf, periodOf, UnknownTime } from "../state/times.js";
import { isZone, zoneOf } from "../state/zones.js";
import { BucketsPart } from "./device/buckets.js";
import { ExportPart } from "./device/exports.js";
import { FiguresPart } from "./device/figures.js";
import { PlotPart } from "./device/plot.js";

/** @typedef {import("../../records.js").Device} DeviceRecord */
/** @typedef {import("../router.js").Context} Context */
/** @typedef {import("../router.js").Screen} Screen */
/** @typedef {import("../state/address.js").Values} Values */
/** @typedef {import("../state/times.js").Range} Range */
/** @typedef {import("../state/times.js").Period} Period */

const SHORTEST_MS = 5_000;
const LONGEST_MS = 60_000;
const PATIENCE_MS = 400;
/** A picture of the period is read again when it would have moved by this part of its width. */
const MOVED = 200;

/**
 * @param {Context} context
 * @returns {Screen}
 */
export function open(context) {
  return new Device(context);
}

/** Wait until the page is drawn with what has changed. */
async function drawn() {
  await new Promise(requestAnimationFrame);
  await new Promise(resolve => setTimeout(resolve));
}

/** @implements {Screen} */
class Device {
  /** @type {Period | null} */
  #period = null;
  #fault = "";
  #isClosed = false;

  /** @param {Context} context */
  constructor(context) {
    this.context = context;
    this.query = context.query;
    this.id = /** @type {string} */ (context.parameters.device_id);
    /** @type {Source<DeviceRecord>} */
    this.device = new Source(context.refresh);
    this.device.value = lastSeen(this.id);
    this.plot = new PlotPart(this.id, context);
    this.figures = new FiguresPart(this.id, context.refresh);
    this.buckets = new BucketsPart(this.id, context);
    this.exports = new ExportPart(this.id, context.refresh);
    this.repeat = new Repeat(
      () => this.#read(),
      () => this.#interval(),
    );
    this.#start();
  }

  #start() {
    if (this.range) this.#read();
    else if (this.device.value)
      queueMicrotask(() => this.#open()); // the router still opens this screen
    else void this.#loadDevice();
  }

  title() {
    return this.device.value?.name ?? `Device ${this.id}`;
  }

  get shortcuts() {
    return [
      { key: "[", label: "Earlier", run: () => this.#shift(-1) },
      { key: "]", label: "Later", run: () => this.#shift(1) },
      { key: "-", label: "Zoom out", run: () => this.#zoomOut() },
      { key: "r", label: "Read again", run: () => this.#read() },
      { key: "a", label: "Axes apart or together", run: () => this.plot.toggleLayout() },
    ];
  }

  /** @returns {Range | null} */
  get range() {
    const { from, to } = this.query;
    return from || to ? { from: from ?? "now-6h", to: to ?? "now" } : null;
  }

  /** The zone of the address: browser, UTC or a name that the browser knows. */
  get zone() {
    const zone = this.query.tz ?? "browser";
    return isZone(zone) ? zone : "browser";
  }

  /** @param {Values} query */
  update(query) {
    const before = this.query;
    this.query = query;
    const names = ["from", "to", "tz", "interval"];
    if (names.some(name => query[name] !== before[name])) this.#start();
    this.plot.update(query);
  }

  close() {
    this.#isClosed = true;
    this.repeat.close();
    for (const part of [this.device, this.plot, this.figures, this.buckets]) part.close();
  }

  async #loadDevice() {
    await this.device.load(async signal => (await get(`/devices/${this.id}`, {}, signal)).data);
    this.#open();
  }

  /** Choose the period with which the device opens, if it has none. */
  #open() {
    const found = this.device.value;
    if (this.range || !found || this.#isClosed) return;
    const [first, last] = [found.first_reading_at, found.last_reading_at].map(time =>
      time === null ? null : momentOf(time),
    );
    this.context.change(openingRange(first ?? null, last ?? null, currentMoment()), { replace: true });
  }

  #read() {
    const { range } = this;
    if (!range || !this.device.value) void this.#loadDevice();
    if (!range) return;
    const zone = zoneOf(this.zone);
    try {
      this.#period = periodOf(range, { now: currentMoment(), zone });
      this.#fault = "";
    } catch (error) {
      if (!(error instanceof UnknownTime)) throw error;
      this.#fault = error.message;
      this.context.refresh();
      return;
    }
    void this.#load(this.#period, zone);
    this.repeat.plan();
  }

  /**
   * Read and draw the plot, and then read the rest, which would delay it. The rest does not wait for a slow one.
   *
   * @param {Period} period
   * @param {string} zone
   */
  async #load(period, zone) {
    const picture = this.plot.load(period, zone).then(drawn);
    await Promise.race([picture, new Promise(resolve => setTimeout(resolve, PATIENCE_MS))]);
    if (period !== this.#period || this.#isClosed) return;
    if (!this.device.isLoading) void this.#loadDevice();
    this.figures.load(period);
    this.buckets.load(period, zone, this.query.interval);
  }

  /** The time until the period is read again: never if its end is fixed. */
  #interval() {
    if (!this.#period || !this.range || !isRelative(this.range.to)) return 0;
    const { start, end } = this.#period;
    return Math.min(Math.max((end - start) / 1000 / MOVED, SHORTEST_MS), LONGEST_MS);
  }

  /** @param {-1 | 1} direction */
  #shift(direction) {
    if (this.#period) this.#choose(rangeOf(shifted(this.#period, direction)));
  }

  #zoomOut() {
    if (this.#period) this.#choose(rangeOf(scaled(this.#period, 2)));
  }

  /** @param {Range} range */
  #choose(range) {
    this.context.change({ ...range });
  }

  view() {
    const { range } = this;
    const isUnknown = this.device.value === null && this.device.failure !== null;
    return html`
      ${this.#heading()}
      ${failureNotice(this.device.toTell, () => this.#start())}
      ${isUnknown ? nothing : range ? this.#body(range) : loadingNotice("the device")}
    `;
  }

  #heading() {
    const found = this.device.value;
    return html`
      <div class="title"><h1 tabindex="-1">${this.title()}</h1>
        ${found ? html`<p class="facts">key <code>${found.key}</code> · ${readingsOf(found)} readings ${this.#latest(found)}</p>` : nothing}
        <span class="row end">
          <a class="button" href=${addressOf("/ui/live", { device: this.id, tz: this.query.tz })}>Live</a>
          <a class="button" href=${addressOf("/ui/compare", { device: this.id, from: this.query.from, to: this.query.to, tz: this.query.tz })}>Compare</a>
        </span>
      </div>
    `;
  }

  /** @param {DeviceRecord} device */
  #latest({ latest_reading: reading }) {
    if (!reading) return html`· no reading yet`;
    const moment = momentOf(reading.timestamp);
    const { x, y, z } = reading;
    return html`· last <time datetime=${reading.timestamp} title=${clock(moment, zoneOf(this.zone))}>${age(moment, currentMoment())}</time>:
      x ${stored(x)}, y ${stored(y)}, z ${stored(z)}`;
  }

  /** @param {Range} range */
  #body(range) {
    return html`
      ${periodPicker({
        range,
        zone: this.zone,
        choose: chosen => this.#choose(chosen),
        chooseZone: tz => this.context.change({ tz }),
        shift: direction => this.#shift(direction),
        zoomOut: () => this.#zoomOut(),
        refresh: () => this.#read(),
      })}
      ${this.#fault ? html`<div class="notice bad" role="alert"><p>${this.#fault}</p></div>` : nothing}
      ${this.query.tz !== undefined && this.query.tz !== this.zone ? html`<div class="notice bad" role="alert"><p>The time zone of the address is unknown: ${this.query.tz}. Times are in the zone of the browser.</p></div>` : nothing}
      ${this.#period ? this.#parts(this.#period, range) : nothing}
    `;
  }

  /**
   * @param {Period} period
   * @param {Range} range
   */
  #parts(period, range) {
    if (this.plot.count === 0) return this.#empty(range);
    const zone = zoneOf(this.zone);
    const buckets = this.buckets.value;
    return html`
      ${this.plot.view({ zoom: chosen => this.#choose(rangeOf(chosen)), zoomOut: () => this.#zoomOut() }, zone, buckets)}
      ${this.figures.view()}
      ${this.buckets.view(zone, chosen => this.#choose(rangeOf(chosen)))}
      ${this.exports.view(period, zone)}
    `;
  }

  /** @param {Range} range */
  #empty(range) {
    const found = this.device.value;
    if (!found) return loadingNotice("the device");
    const { first_reading_at: first, last_reading_at: last } = found;
    const name = nameOf(range);
    if (!first || !last)
      return html`<div class="notice"><p>This device has no readings yet. It publishes to <code>devices/${found.key}/stats</code>.</p></div>`;
    const zone = zoneOf(this.zone);
    return html`
      <div class="notice">
        <p>There are no readings in this period${name ? ` (${name.toLowerCase()})` : ""}. The device has ${grouped(found.readings)},
          from ${clock(momentOf(first), zone)} to ${clock(momentOf(last), zone)}.</p>
        <button @click=${() => this.#choose(openingRange(momentOf(first), momentOf(last), currentMoment()))}>Show the last ones</button>
      </div>
    `;
  }
}
