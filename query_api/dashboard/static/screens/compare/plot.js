/** The plot of several devices, each with its readings of an earlier day if they are wanted. */

import { get } from "../../api.js";
import { html, live, nothing } from "../../html.js";
import { failureNotice, loadingNotice } from "../../parts/notices.js";
import { pointsTable } from "../../plot/points-table.js";
import "../../plot/time-plot.js";
import { Source } from "../../source.js";
import { grouped } from "../../state/numbers.js";
import { daysOf, earlier, moved, OFFSETS, offsetName } from "../../state/offsets.js";
import { byAxis, columnsOf, gapsWithin } from "../../state/series.js";
import { clock, iso } from "../../state/times.js";
import { pointsWanted } from "../device/plot.js";
import { axesChoice, axesOf, layoutButton, layoutOf } from "../several/axes.js";
import { linesOf } from "../several/lines.js";

/** @typedef {import("../../../records.js").SharedSeries} SharedSeries */
/** @typedef {import("../../plot/time-plot.js").Content} Content */
/** @typedef {import("../../router.js").Context} Context */
/** @typedef {import("../../state/times.js").Period} Period */
/** @typedef {import("../several/devices.js").ChosenDevices} ChosenDevices */
/** @typedef {import("../several/lines.js").Drawn} Drawn */
/** @typedef {{count: number, shown: number, gaps: import("../../state/series.js").Gap[]} & Omit<Drawn, "name">} Read */

export class ComparedPlot {
  /** @type {Map<string, Source<Read>>} */
  #sources = new Map();
  #isTableOpen = false;
  /** @type {{key: unknown[], content: Content} | null} */
  #drawn = null;

  /**
   * @param {Context} context
   * @param {ChosenDevices} devices
   */
  constructor(context, devices) {
    this.context = context;
    this.devices = devices;
  }

  /** The number of readings in the period; null while it is not known. */
  get count() {
    const found = this.#reads.map(({ read }) => read?.count ?? null);
    return found.includes(null) ? null : found.reduce((sum, count) => (sum ?? 0) + (count ?? 0), 0);
  }

  get #reads() {
    return this.devices.existing.map(id => ({ id, read: this.#sources.get(id)?.value ?? null }));
  }

  /**
   * @param {Period} period
   * @param {string} zone
   * @param {number | null} days the offset of the comparison
   */
  load(period, zone, days) {
    for (const id of this.#sources.keys()) if (!this.devices.existing.includes(id)) this.#close(id);
    for (const id of this.devices.existing) {
      const source = this.#sources.get(id) ?? new Source(this.context.refresh);
      this.#sources.set(id, source);
      void source.load(signal => read(id, period, zone, days, signal));
    }
  }

  /** @param {string} id */
  #close(id) {
    this.#sources.get(id)?.close();
    this.#sources.delete(id);
  }

  close() {
    for (const id of this.#sources.keys()) this.#close(id);
  }

  /**
   * @param {Period} period
   * @param {string} zone
   * @param {{zoom: (period: Period) => void, zoomOut: () => void}} actions
   */
  view(period, zone, actions) {
    const sources = [...this.#sources.values()];
    const content = this.#content(period, zone);
    return html`
      <section class="card plot" aria-busy=${sources.some(({ isLoading }) => isLoading)}>
        <header><h2>Readings</h2>${axesChoice(this.context)} ${this.#offsetChoice()}<p class="facts">${this.#facts()}</p>
          <span class="end">${layoutButton(this.context)}</span></header>
        ${sources.map(({ toTell }) => failureNotice(toTell))}
        ${content ? this.#plot(content, zone, actions) : sources.some(({ failure }) => failure) ? nothing : loadingNotice("the readings")}
      </section>
    `;
  }

  #offsetChoice() {
    const chosen = daysOf(this.context.query.offset) === null ? "" : (this.context.query.offset ?? "");
    const offered = OFFSETS.includes(chosen) || chosen === "" ? OFFSETS : [...OFFSETS, chosen];
    /** @param {Event} event */
    const changed = event =>
      this.context.change({ offset: /** @type {HTMLSelectElement} */ (event.target).value || undefined });
    return html`
      <label class="inline">Compare with
        <select @change=${changed} .value=${live(chosen)}>
          <option value="" ?selected=${chosen === ""}>no other time</option>
          ${offered.map(offset => html`<option value=${offset} ?selected=${offset === chosen}>${offsetName(daysOf(offset) ?? 0)}</option>`)}
        </select>
      </label>
    `;
  }

  #facts() {
    const { count } = this;
    if (count === null) return nothing;
    const most = this.#reads.find(({ read }) => read && read.count > read.shown)?.read?.shown;
    return `${grouped(count)} readings, ${most ? `at most ${grouped(most)} of a line drawn: every peak is kept` : "all drawn"}`;
  }

  /**
   * @param {Content} content
   * @param {string} zone
   * @param {{zoom: (period: Period) => void, zoomOut: () => void}} actions
   */
  #plot(content, zone, actions) {
    return html`
      <time-plot .content=${content} @zoomout=${actions.zoomOut}
        @zoom=${(/** @type {CustomEvent<Period>} */ event) => actions.zoom(event.detail)}></time-plot>
      ${pointsTable(content.lines, zone, this.#isTableOpen, isOpen => {
        if (this.#isTableOpen === isOpen) return;
        this.#isTableOpen = isOpen;
        this.context.refresh();
      })}
    `;
  }

  /**
   * Return what is drawn: the same object until something of it changes. Null before anything is read.
   *
   * @param {Period} period
   * @param {string} zone
   */
  #content(period, zone) {
    const { query } = this.context;
    const names = this.devices.existing.map(id => this.devices.nameOf(id));
    const reads = this.#reads.map(({ read }) => read);
    if (!reads.some(read => read)) return null;
    const key = [period, zone, query.show, query.axes, ...names, ...reads];
    const isSame = this.#drawn?.key.length === key.length && key.every((part, at) => part === this.#drawn?.key[at]);
    if (!this.#drawn || !isSame) this.#drawn = { key, content: this.#made(period, zone, names, reads) };
    return this.#drawn.content;
  }

  /**
   * @param {Period} period
   * @param {string} zone
   * @param {string[]} names
   * @param {Array<Read | null>} reads
   * @returns {Content}
   */
  #made(period, zone, names, reads) {
    const [axes, layout] = [axesOf(this.context.query), layoutOf(this.context.query)];
    const drawn = reads.map((read, at) => ({ name: names[at] ?? "", ...(read ?? { points: NO_POINTS }) }));
    const [only] = reads;
    return {
      lines: linesOf(drawn, axes, layout),
      period,
      zone,
      gaps: reads.length === 1 && only && !only.ghost ? only.gaps : [],
      bands: {},
      marks: [],
      layout,
      label:
        `Plot of ${axes.join(", ")} of ${names.join(", ")} from ${clock(period.start, zone)} to ${clock(period.end, zone)}. ` +
        "The arrow keys move the cursor, plus and minus zoom. A table of the points follows.",
    };
  }
}

const NO_POINTS = byAxis(() => ({ times: [], values: [] }));

/**
 * Read the points of a device, and those some days earlier.
 *
 * @param {string} id
 * @param {Period} period
 * @param {string} zone
 * @param {number | null} days
 * @param {AbortSignal} signal
 * @returns {Promise<Read>}
 */
async function read(id, period, zone, days, signal) {
  const points = pointsWanted();
  /** @param {Period} wanted @returns {Promise<SharedSeries>} */
  const series = async ({ start, end }) => {
    const query = { columns: "shared", start: iso(start), end: iso(end), points: String(points) };
    return (await get(`/stats/${id}/series`, query, signal)).data;
  };
  const [now, before] = await Promise.all([series(period), days === null ? null : series(earlier(period, days, zone))]);
  const columns = before && columnsOf(before);
  return {
    count: now.count,
    shown: points,
    gaps: gapsWithin(now, period),
    points: columnsOf(now),
    ghost:
      days !== null && columns
        ? { name: offsetName(days), points: byAxis(axis => moved(columns[axis], days, zone)) }
        : null,
  };
}
