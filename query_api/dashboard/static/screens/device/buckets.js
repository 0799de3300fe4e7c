/** The figures of a device for each interval of a period. */

import { get } from "../../api.js";
import { html, nothing } from "../../html.js";
import { failureNotice, loadingNotice } from "../../parts/notices.js";
import { Source } from "../../source.js";
import { grouped, stored } from "../../state/numbers.js";
import { INTERVALS, intervalFor } from "../../state/ranges.js";
import { AXES } from "../../state/series.js";
import { iso } from "../../state/times.js";
import { HOUR } from "../../state/zones.js";

/** @typedef {import("../../../records.js").Bucket} Bucket */
/** @typedef {import("../../router.js").Context} Context */
/** @typedef {import("../../state/series.js").Axis} Axis */
/** @typedef {import("../../state/times.js").Period} Period */
/** @typedef {{buckets: Bucket[], next: string | null, query: import("../../state/address.js").Values, interval: string}} Read */

const PAGE = 500;

export class BucketsPart {
  #isReadingMore = false;

  /**
   * @param {string} device
   * @param {Context} context
   */
  constructor(device, context) {
    this.device = device;
    this.context = context;
    /** @type {Source<Read>} */
    this.source = new Source(context.refresh);
  }

  /** The axis of the table. @returns {Axis} */
  get #axis() {
    return AXES.find(axis => axis === this.context.query.axis) ?? "x";
  }

  /** The buckets; null while they are not known. */
  get value() {
    return this.source.value?.buckets ?? null;
  }

  /**
   * @param {Period} period
   * @param {string} zone
   * @param {string | undefined} chosen the interval of the address; undefined: one for the period
   */
  load(period, zone, chosen) {
    const interval = chosen ?? intervalFor(period);
    const query = { start: iso(period.start), end: iso(period.end), timezone: zone, interval, limit: String(PAGE) };
    void this.source.load(async signal => {
      const { data, headers } = await get(`/stats/${this.device}/buckets`, query, signal);
      return { buckets: data, next: headers.get("X-Next-Cursor"), query, interval };
    });
  }

  close() {
    this.source.close();
  }

  /**
   * @param {string} zone
   * @param {(period: Period) => void} zoom
   */
  view(zone, zoom) {
    const read = this.source.value;
    return html`
      <section class="card" aria-busy=${this.source.isLoading}>
        <header><h2>Intervals</h2>${this.#choices(read)}</header>
        ${failureNotice(this.source.toTell)}
        ${read ? this.#table(read, zone, zoom) : this.source.failure ? nothing : loadingNotice("the intervals")}
      </section>
    `;
  }

  /** @param {Read | null} read */
  #choices(read) {
    /** @param {Event} event */
    const changed = event =>
      this.context.change({ interval: /** @type {HTMLSelectElement} */ (event.target).value || undefined });
    const chosen = this.context.query.interval;
    return html`
      <label class="field"><span>Length</span>
        <select @change=${changed}>
          <option value="" ?selected=${!chosen}>By the period${read && !chosen ? ` (${lengthName(read.interval)})` : ""}</option>
          ${INTERVALS.map(([name, , label]) => html`<option value=${name} ?selected=${chosen === name}>${label}</option>`)}
        </select>
      </label>
      <fieldset class="choice end"><legend class="visually-hidden">Axis</legend>
        ${AXES.map(axis => html`<label><input type="radio" name="axis" .checked=${this.#axis === axis} @change=${() => this.#choose(axis)}>${axis}</label>`)}
      </fieldset>
    `;
  }

  /** @param {Axis} axis */
  #choose(axis) {
    this.context.change({ axis: axis === "x" ? undefined : axis }, { replace: true });
  }

  /**
   * @param {Read} read
   * @param {string} zone
   * @param {(period: Period) => void} zoom
   */
  #table({ buckets, next }, zone, zoom) {
    return html`
      <div class="scroll" tabindex="0" role="region" aria-label="Intervals">
        <table class="dense">
          <thead>
            <tr>
              <th scope="col">Start (${zone})</th><th scope="col" class="number">count</th><th scope="col" class="number">min</th>
              <th scope="col" class="number">median</th><th scope="col" class="number">max</th><th scope="col" class="number">sum</th>
            </tr>
          </thead>
          <tbody>${buckets.map(bucket => this.#row(bucket, zoom))}</tbody>
        </table>
      </div>
      <p class="muted">${next ? `The first ${grouped(buckets.length)} intervals with readings.` : `${grouped(buckets.length)} intervals have readings.`}
        ${next ? html`<button class="small" ?disabled=${this.#isReadingMore} @click=${() => this.#more()}>Read more</button>` : nothing}</p>
    `;
  }

  /**
   * @param {Bucket} bucket
   * @param {(period: Period) => void} zoom
   */
  #row(bucket, zoom) {
    const { count, min, median, max, sum } = bucket[this.#axis];
    const period = { start: Date.parse(bucket.start) * 1000, end: Date.parse(bucket.end) * 1000 - 1 };
    return html`
      <tr>
        <th scope="row"><button class="link" title="Zoom to this interval" @click=${() => zoom(period)}>${shownStart(bucket)}</button></th>
        <td class="number">${grouped(count)}</td><td class="number">${stored(min)}</td><td class="number"><b>${stored(median)}</b></td>
        <td class="number">${stored(max)}</td><td class="number">${stored(sum)}</td>
      </tr>
    `;
  }

  async #more() {
    const read = this.source.value;
    if (!read?.next) return;
    this.#isReadingMore = true;
    await this.source.load(async signal => {
      const query = { ...read.query, cursor: read.next ?? undefined };
      const { data, headers } = await get(`/stats/${this.device}/buckets`, query, signal);
      return { ...read, buckets: [...read.buckets, ...data], next: headers.get("X-Next-Cursor") };
    });
    this.#isReadingMore = false;
  }
}

/** @param {string} interval */
function lengthName(interval) {
  return INTERVALS.find(([name]) => name === interval)?.[2] ?? interval;
}

/**
 * Return the start as its clock shows it: the API writes it with the offset of the time zone.
 *
 * @param {Bucket} bucket
 */
function shownStart({ start, end }) {
  const isShort = (Date.parse(end) - Date.parse(start)) * 1000 < 20 * HOUR;
  const [date, time = ""] = start.split("T");
  return isShort ? `${date} ${time.slice(0, 8)}` : date;
}
