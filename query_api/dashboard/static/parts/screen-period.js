/** The period and the time zone of a screen, from its address. */

import { html, nothing } from "../html.js";
import { rangeOf, scaled, shifted } from "../state/ranges.js";
import { currentMoment, isRelative, periodOf, UnknownTime } from "../state/times.js";
import { isZone, zoneOf } from "../state/zones.js";
import { periodPicker } from "./period.js";

/** @typedef {import("../router.js").Context} Context */
/** @typedef {import("../state/times.js").Range} Range */
/** @typedef {import("../state/times.js").Period} Period */

export class ScreenPeriod {
  /** The moments of the last `resolve`. @type {Period | null} */
  value = null;
  #fault = "";

  /**
   * @param {Context} context
   * @param {Range} otherwise the range without one in the address
   * @param {() => void} read read the period again
   */
  constructor(context, otherwise, read) {
    this.context = context;
    this.otherwise = otherwise;
    this.read = read;
  }

  /** @returns {Range} */
  get range() {
    const { from, to } = this.context.query;
    return from || to ? { from: from ?? "now-6h", to: to ?? "now" } : this.otherwise;
  }

  /** The zone of the address: browser, UTC or a name that the browser knows. */
  get zone() {
    const zone = this.context.query.tz ?? "browser";
    return isZone(zone) ? zone : "browser";
  }

  /** The IANA name of the zone. */
  get zoneName() {
    return zoneOf(this.zone);
  }

  /** Whether the end moves with the time. */
  get isMoving() {
    return isRelative(this.range.to);
  }

  /** Return the moments of the range now; null if the address has a wrong time, which the view says. */
  resolve() {
    try {
      this.value = periodOf(this.range, { now: currentMoment(), zone: this.zoneName });
      this.#fault = "";
      return this.value;
    } catch (error) {
      if (!(error instanceof UnknownTime)) throw error;
      this.#fault = error.message;
      return null;
    }
  }

  /**
   * Change the period of the address. A page of a list is left.
   *
   * @param {Range} range
   */
  choose(range) {
    this.context.change({ ...range, cursor: undefined });
  }

  /** @param {-1 | 1} direction */
  #shift(direction) {
    if (this.value) this.choose(rangeOf(shifted(this.value, direction)));
  }

  #zoomOut() {
    if (this.value) this.choose(rangeOf(scaled(this.value, 2)));
  }

  get shortcuts() {
    return [
      { key: "[", label: "Earlier", run: () => this.#shift(-1) },
      { key: "]", label: "Later", run: () => this.#shift(1) },
      { key: "-", label: "Zoom out", run: () => this.#zoomOut() },
      { key: "r", label: "Read again", run: this.read },
    ];
  }

  view() {
    const { tz } = this.context.query;
    return html`
      ${periodPicker({
        range: this.range,
        zone: this.zone,
        choose: range => this.choose(range),
        chooseZone: zone => this.context.change({ tz: zone }),
        shift: direction => this.#shift(direction),
        zoomOut: () => this.#zoomOut(),
        refresh: this.read,
      })}
      ${this.#fault ? html`<div class="notice bad" role="alert"><p>${this.#fault}</p></div>` : nothing}
      ${tz !== undefined && tz !== this.zone ? html`<div class="notice bad" role="alert"><p>The time zone of the address is unknown: ${tz}. Times are in the zone of the browser.</p></div>` : nothing}
    `;
  }
}
