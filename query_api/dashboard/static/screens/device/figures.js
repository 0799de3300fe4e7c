/** The figures of a device over a period: one card for each axis, with percentiles and a histogram. */

import { get } from "../../api.js";
import { html, nothing, svg } from "../../html.js";
import { failureNotice, loadingNotice } from "../../parts/notices.js";
import { Source } from "../../source.js";
import { grouped, stored } from "../../state/numbers.js";
import { AXES } from "../../state/series.js";
import { iso } from "../../state/times.js";

/** @typedef {import("../../../records.js").Analysis} Analysis */
/** @typedef {import("../../../records.js").Figures} Figures */
/** @typedef {import("../../../records.js").AxisHistograms} AxisHistograms */
/** @typedef {import("../../../records.js").Bins} Bins */
/** @typedef {import("../../state/series.js").Axis} Axis */
/** @typedef {import("../../state/times.js").Period} Period */

const PERCENTILES = ["p1", "p5", "p25", "p75", "p95", "p99"];
const ON_REQUEST = ["mean", "stddev", "first", "last"];
const BINS = 30;
const CHART_HEIGHT = 40;

export class FiguresPart {
  /**
   * @param {string} device
   * @param {() => void} refresh
   */
  constructor(device, refresh) {
    this.device = device;
    /** @type {Source<Analysis>} */
    this.figures = new Source(refresh);
    /** @type {Source<AxisHistograms>} */
    this.histograms = new Source(refresh);
  }

  /** @param {Period} period */
  load({ start, end }) {
    const period = { start: iso(start), end: iso(end) };
    const figures = [...ON_REQUEST, ...PERCENTILES].join(",");
    void this.figures.load(
      async signal => (await get(`/stats/analysis/${this.device}`, { ...period, figures }, signal)).data,
    );
    const query = { ...period, bins: String(BINS) };
    void this.histograms.load(async signal => (await get(`/stats/${this.device}/histogram`, query, signal)).data);
  }

  close() {
    this.figures.close();
    this.histograms.close();
  }

  view() {
    const found = this.figures.value;
    return html`
      <section class="figures" aria-busy=${this.figures.isLoading}>
        <h2>Figures</h2>
        ${failureNotice(this.figures.toTell)} ${failureNotice(this.histograms.toTell)}
        ${found ? html`<div class="cards">${AXES.map((axis, style) => this.#card(axis, style, found[axis]))}</div>` : this.figures.failure ? nothing : loadingNotice("the figures")}
      </section>
    `;
  }

  /**
   * @param {Axis} axis
   * @param {number} style
   * @param {Figures} figures
   */
  #card(axis, style, figures) {
    const bins = this.histograms.value?.[axis];
    const { percentiles = {} } = figures;
    return html`
      <article class="card" aria-label=${`Figures of ${axis}`}>
        <header><h3><span class=${`dot line-${style}`} aria-hidden="true"></span>${axis}</h3></header>
        <dl class="pairs">
          ${pair("min", figures.min)} ${PERCENTILES.slice(0, 3).map(name => pair(name, percentiles[name]))}
          <div class="main"><dt>median</dt><dd>${stored(figures.median)}</dd></div> ${PERCENTILES.slice(3).map(name => pair(name, percentiles[name]))}
          ${pair("max", figures.max)}
        </dl>
        <dl class="pairs">
          ${pair("mean", figures.mean)} ${pair("standard deviation", figures.stddev)} ${pair("sum", figures.sum)}
          <div><dt>count</dt><dd>${grouped(figures.count)}</dd></div>
          ${pair("first", figures.first?.value)} ${pair("last", figures.last?.value)}
        </dl>
        ${bins ? histogram(axis, style, bins) : nothing}
      </article>
    `;
  }
}

/**
 * @param {string} name
 * @param {number | null | undefined} value
 */
function pair(name, value) {
  return html`<div><dt>${name}</dt><dd>${stored(value)}</dd></div>`;
}

/**
 * @param {Axis} axis
 * @param {number} style
 * @param {Bins} bins
 */
function histogram(axis, style, { edges, counts }) {
  if (counts.length === 0) return nothing;
  const most = Math.max(...counts, 1);
  const label = `Histogram of ${axis}: ${counts.length} bins from ${stored(edges[0])} to ${stored(edges.at(-1))}`;
  return html`
    <figure class="histogram">
      <svg viewBox=${`0 0 ${counts.length} ${CHART_HEIGHT}`} preserveAspectRatio="none" role="img" aria-label=${label} class=${`line-${style}`}>
        ${counts.map((count, at) => bar(at, count, most, edges))}
      </svg>
      <figcaption><span>${stored(edges[0])}</span><span>${stored(edges.at(-1))}</span></figcaption>
      <details>
        <summary>Counts as a table</summary>
        <div class="scroll" tabindex="0" role="region" aria-label=${`Counts of ${axis}`}>
          <table class="dense">
            <thead><tr><th scope="col" class="number">from</th><th scope="col" class="number">to</th><th scope="col" class="number">count</th></tr></thead>
            <tbody>
              ${counts.map((count, at) => html`<tr><td class="number">${stored(edges[at])}</td><td class="number">${stored(edges[at + 1])}</td><td class="number">${grouped(count)}</td></tr>`)}
            </tbody>
          </table>
        </div>
      </details>
    </figure>
  `;
}

/**
 * @param {number} at
 * @param {number} count
 * @param {number} most
 * @param {number[]} edges
 */
function bar(at, count, most, edges) {
  const height = count ? Math.max((count / most) * CHART_HEIGHT, 0.6) : 0;
  return svg`<rect x=${at + 0.06} y=${CHART_HEIGHT - height} width="0.88" height=${height}><title>${stored(edges[at])} to ${stored(edges[at + 1])}: ${grouped(count)}</title></rect>`;
}
