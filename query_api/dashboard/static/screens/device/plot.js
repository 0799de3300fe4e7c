/** The plot of a device. */

import { get } from "../../api.js";
import { html, nothing } from "../../html.js";
import { failureNotice, loadingNotice } from "../../parts/notices.js";
import { pointsTable } from "../../plot/points-table.js";
import "../../plot/time-plot.js";
import { Source } from "../../source.js";
import { grouped } from "../../state/numbers.js";
import { AXES, gapsWithin, linesOf } from "../../state/series.js";
import { clock, iso, momentOf } from "../../state/times.js";

/** @typedef {import("../../../records.js").SharedSeries} Series */
/** @typedef {import("../../../records.js").Bucket} Bucket */
/** @typedef {import("../../router.js").Context} Context */
/** @typedef {import("../../state/address.js").Values} Values */
/** @typedef {import("../../state/times.js").Period} Period */
/** @typedef {import("../../plot/time-plot.js").Content} Content */
/** @typedef {{series: Series, period: Period, zone: string}} Read */

const FEWEST = 300;
const MOST = 4000;
const STEP = 100;
/** The band of minimum and maximum, and the medians, are drawn if a point stands for more readings than this. */
const DENSE = 8;

export class PlotPart {
  isTableOpen = false;
  /** @type {{key: unknown[], content: Content} | null} */
  #drawn = null;

  /**
   * @param {string} device
   * @param {Context} context
   */
  constructor(device, context) {
    this.device = device;
    this.context = context;
    this.query = context.query;
    /** @type {Source<Read>} */
    this.source = new Source(context.refresh);
  }

  /** The number of readings in the period; null while it is not known. */
  get count() {
    return this.source.value?.series.count ?? null;
  }

  /** @returns {"apart" | "together"} */
  get layout() {
    return this.query.axes === "together" ? "together" : "apart";
  }

  /** @param {Values} query */
  update(query) {
    this.query = query;
  }

  toggleLayout() {
    this.context.change({ axes: this.layout === "apart" ? "together" : undefined }, { replace: true });
  }

  /**
   * @param {Period} period
   * @param {string} zone
   */
  load(period, zone) {
    const query = { start: iso(period.start), end: iso(period.end), points: String(pointsWanted()), columns: "shared" };
    return this.source.load(async signal => {
      const { data } = await get(`/stats/${this.device}/series`, query, signal);
      return { series: data, period, zone };
    });
  }

  close() {
    this.source.close();
  }

  /**
   * @param {{zoom: (period: Period) => void, zoomOut: () => void}} actions
   * @param {string} zone
   * @param {Bucket[] | null} buckets
   */
  view(actions, zone, buckets) {
    const read = this.source.value;
    return html`
      <section class="card plot" aria-busy=${this.source.isLoading}>
        <header><h2>Readings</h2>${read ? html`<p class="facts">${countText(read)}</p>` : nothing}
          <button class="small end" aria-pressed=${this.layout === "together"} @click=${() => this.toggleLayout()}>One scale for all axes</button>
        </header>
        ${failureNotice(this.source.toTell)}
        ${read ? this.#plot(read, actions, zone, buckets) : this.source.failure ? nothing : loadingNotice("the readings")}
      </section>
    `;
  }

  /**
   * @param {Read} read
   * @param {{zoom: (period: Period) => void, zoomOut: () => void}} actions
   * @param {string} zone
   * @param {Bucket[] | null} buckets
   */
  #plot(read, actions, zone, buckets) {
    const content = this.#content(read, zone, buckets);
    return html`
      <time-plot .content=${content} @zoomout=${actions.zoomOut}
        @zoom=${(/** @type {CustomEvent<Period>} */ event) => actions.zoom(event.detail)}></time-plot>
      ${pointsTable(content.lines, zone, this.isTableOpen, isOpen => {
        if (this.isTableOpen === isOpen) return;
        this.isTableOpen = isOpen;
        this.context.refresh();
      })}
    `;
  }

  /**
   * Return what is drawn: the same object until something of it changes.
   *
   * @param {Read} read
   * @param {string} zone
   * @param {Bucket[] | null} buckets
   */
  #content(read, zone, buckets) {
    const key = [read, zone, this.layout, buckets];
    if (this.#drawn === null || key.some((part, at) => part !== this.#drawn?.key[at])) {
      this.#drawn = { key, content: contentOf(read, zone, this.layout, buckets) };
    }
    return this.#drawn.content;
  }
}

/**
 * @param {Read} read
 * @param {string} zone
 * @param {"apart" | "together"} layout
 * @param {Bucket[] | null} buckets
 * @returns {Content}
 */
function contentOf({ series, period }, zone, layout, buckets) {
  const gaps = gapsWithin(series, period);
  return {
    lines: linesOf(series),
    period,
    zone,
    gaps,
    bands: isDense(series) && buckets ? bandsOf(buckets) : {},
    marks: [],
    layout,
    label:
      `Plot of x, y and z from ${clock(period.start, zone)} to ${clock(period.end, zone)}: ${grouped(series.count)} readings, ` +
      `${gaps.length} gaps. The arrow keys move the cursor, plus and minus zoom. A table of the points follows.`,
  };
}

/** @param {Series} series */
function isDense(series) {
  return series.count > DENSE * pointsOf(series);
}

/** @param {Bucket[]} buckets */
function bandsOf(buckets) {
  return Object.fromEntries(
    AXES.map(axis => [
      axis,
      buckets.map(bucket => {
        const [start, end] = [momentWithOffset(bucket.start), momentWithOffset(bucket.end)];
        const { min, median, max } = bucket[axis];
        return { start, end, min: min ?? 0, median: median ?? 0, max: max ?? 0 };
      }),
    ]),
  );
}

/**
 * Return the moment of a time with an offset, such as that of a bucket.
 *
 * @param {string} text
 */
function momentWithOffset(text) {
  return text.endsWith("Z") ? momentOf(text) : Date.parse(text) * 1000;
}

/**
 * Return the number of points of the axis that has most.
 *
 * @param {Series} series
 */
function pointsOf(series) {
  return Math.max(...AXES.map(axis => series[axis].filter(value => value !== null).length));
}

/** @param {Read} read */
function countText({ series }) {
  const shown = pointsOf(series);
  if (series.count <= shown) return `${grouped(series.count)} readings, all drawn`;
  return `${grouped(series.count)} readings, drawn by ${grouped(shown)} of each axis: every peak is kept${isDense(series) ? "; band and line: minimum to maximum, and median" : ""}`;
}

/** The number of points of each axis: one for each pixel of the plot. */
export function pointsWanted() {
  const width = document.querySelector("time-plot")?.clientWidth ?? Math.min(innerWidth, 1400);
  const pixels = Math.ceil((width * devicePixelRatio) / STEP) * STEP;
  return Math.min(Math.max(pixels, FEWEST), MOST);
}
