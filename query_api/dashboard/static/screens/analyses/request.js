/** One analysis: its figures, or what became of it. */

import { get } from "../../api.js";
import { html, nothing } from "../../html.js";
import { dialog } from "../../parts/dialog.js";
import { failureNotice, loadingNotice } from "../../parts/notices.js";
import { Repeat, Source } from "../../source.js";
import { addressOf } from "../../state/address.js";
import { ALWAYS, figureOf, nameOf, periodText } from "../../state/analyses.js";
import { grouped, stored } from "../../state/numbers.js";
import { AXES } from "../../state/series.js";
import { clock, momentOf } from "../../state/times.js";
import { zoneOf } from "../../state/zones.js";
import { statusChip } from "./shared.js";

/** @typedef {import("../../../records.js").AnalysisRequest} AnalysisRequest */
/** @typedef {import("../../../records.js").AnalysisResult} AnalysisResult */
/** @typedef {import("../../router.js").Context} Context */

const EVERY_MS = 1_500;

export class RequestDialog {
  /**
   * @param {string} id
   * @param {Context} context
   */
  constructor(id, context) {
    this.id = id;
    this.context = context;
    /** @type {Source<AnalysisRequest>} */
    this.source = new Source(context.refresh);
    this.repeat = new Repeat(
      () => this.#load(),
      () => (this.#isActive ? EVERY_MS : 0),
    );
    this.#load();
  }

  get #isActive() {
    return ["queued", "running"].includes(this.source.value?.status ?? "");
  }

  #load() {
    const path = `/stats/analysis/requests/${encodeURIComponent(this.id)}`;
    const read = this.source.load(async signal => (await get(path, {}, signal)).data);
    void read.then(() => this.repeat.plan());
  }

  close() {
    this.repeat.close();
    this.source.close();
  }

  view() {
    const found = this.source.value;
    const content = html`
      ${failureNotice(this.source.toTell)}
      ${found ? this.#content(found) : this.source.failure ? nothing : loadingNotice("the analysis")}
    `;
    const title = found ? `Analysis of ${found.device_name}` : `Analysis ${this.id}`;
    return dialog(title, content, () => {
      if (this.context.query.request === this.id) this.context.change({ request: undefined });
    });
  }

  /** @param {AnalysisRequest} found */
  #content(found) {
    const { tz } = this.context.query;
    const zone = zoneOf(tz ?? "browser");
    const end = found.finished_at ? ` ${clock(momentOf(found.finished_at), zone).slice(0, 19)}` : "";
    return html`
      <p>${statusChip(found.status)}${end} · ${periodText(found, zone)} (${zone})</p>
      ${found.last_error && found.status !== "done" ? html`<p class="reason">${found.last_error}</p>` : nothing}
      ${found.result ? figuresTable(found.result, found.figures) : nothing}
      ${found.status === "done" && !found.result ? html`<p>The result was deleted.</p>` : nothing}
      <p><a class="button" href=${deviceAddress(found, tz)}>Open ${found.device_name} at this period</a></p>
    `;
  }
}

/**
 * Return the address of the device of an analysis, at its period.
 *
 * @param {{device_id: number, start: string | null, end: string | null}} analysis
 * @param {string | undefined} tz
 */
export function deviceAddress({ device_id: id, start, end }, tz) {
  const isOpen = start === null && end === null;
  const range = isOpen ? {} : { from: start ?? "1970-01-01", to: end ?? "now" };
  return addressOf(`/ui/devices/${id}`, { ...range, tz });
}

/**
 * @param {AnalysisResult} result
 * @param {string[]} figures on request
 */
function figuresTable(result, figures) {
  return html`
    <div class="scroll" tabindex="0" role="region" aria-label="Figures">
      <table class="dense">
        <thead><tr><th scope="col">Figure</th>${AXES.map(axis => html`<th scope="col" class="number">${axis}</th>`)}</tr></thead>
        <tbody>${[...ALWAYS, ...figures].map(name => html`<tr><th scope="row">${nameOf(name)}</th>${AXES.map(axis => html`<td class="number">${valueText(figureOf(result[axis], name), name)}</td>`)}</tr>`)}</tbody>
      </table>
    </div>
  `;
}

/**
 * @param {number | null} value
 * @param {string} figure
 */
export function valueText(value, figure) {
  return figure === "count" && value !== null ? grouped(value) : stored(value);
}
