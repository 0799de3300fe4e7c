/** Queues an analysis of each of some devices. */

import { Problem, send, Unreachable } from "../../api.js";
import { html, nothing } from "../../html.js";
import { dialog } from "../../parts/dialog.js";
import { failureNotice } from "../../parts/notices.js";
import { lastSeen } from "../../seen.js";
import { QUICK } from "../../state/ranges.js";
import { currentMoment, iso, parse, UnknownTime } from "../../state/times.js";
import { zoneOf } from "../../state/zones.js";
import { DeviceSearch } from "../several/search.js";
import { faultsOf, figuresField, figuresIn, textField } from "./form.js";

/** @typedef {import("./form.js").Faults} Faults */
/** @typedef {import("../../router.js").Context} Context */

export class Queueing {
  /** The names of the chosen devices, by their ids. @type {Map<string, string>} */
  #chosen = new Map();
  /** @type {Faults} */
  #faults = {};
  /** By the name of the device. @type {Array<[string, Problem | Unreachable]>} */
  #failures = [];
  #isSending = false;

  /**
   * @param {Context} context
   * @param {string | undefined} device the one that is chosen at first
   * @param {(isQueued: boolean) => void} onClose
   */
  constructor(context, device, onClose) {
    this.context = context;
    this.onClose = onClose;
    if (device) this.#chosen.set(device, lastSeen(device)?.name ?? `device ${device}`);
    this.search = new DeviceSearch(context.refresh, {
      choose: ({ id, name }) => this.#chosen.set(String(id), name),
      isChosen: id => this.#chosen.has(id),
    });
  }

  close() {
    this.search.close();
  }

  view() {
    const content = html`
      <form class="form" @submit=${(/** @type {SubmitEvent} */ event) => this.#submit(event)}>
        ${this.#devices()} ${this.#period()} ${figuresField([], this.#faults.figures)}
        ${this.#failures.map(([name, failure]) => html`<p class="muted">Not queued for ${name}:</p>${failureNotice(failure)}`)}
        <div class="row"><button class="primary" ?disabled=${this.#isSending}>Queue</button></div>
      </form>
    `;
    return dialog("Queue an analysis", content, () => this.onClose(false));
  }

  #devices() {
    const fault = this.#faults.device_id;
    return html`
      <div class="form-field">
        <p>Devices. Each has an analysis of its own.</p>
        <div class="row">
          ${[...this.#chosen].map(([id, name]) => html`<button type="button" class="small" aria-label=${`Remove ${name}`} @click=${() => this.#remove(id)}>${name} ✕</button>`)}
          ${this.search.view()}
        </div>
        ${fault ? html`<p class="fault" role="alert">${fault}</p>` : nothing}
      </div>
    `;
  }

  #period() {
    const hint = "Empty: from the first reading";
    return html`
      <div class="pair">
        ${textField({ name: "from", label: "From", value: "now-1d/d", fault: this.#faults.from, hint, list: "starts", isCode: true })}
        ${textField({ name: "to", label: "To", value: "now-1d/d", fault: this.#faults.to, hint: "Empty: to the last reading", list: "ends", isCode: true })}
      </div>
      <datalist id="starts">${QUICK.map(([name, from]) => html`<option value=${from}>${name}</option>`)}</datalist>
      <datalist id="ends">${QUICK.map(([name, , to]) => html`<option value=${to}>${name}</option>`)}</datalist>
    `;
  }

  /** @param {string} id */
  #remove(id) {
    this.#chosen.delete(id);
    this.context.refresh();
  }

  /** @param {SubmitEvent} event */
  async #submit(event) {
    event.preventDefault();
    const form = new FormData(/** @type {HTMLFormElement} */ (event.target));
    this.#failures = [];
    const period = this.#read(form);
    this.context.refresh();
    if (Object.keys(this.#faults).length || this.#isSending) return;
    this.#isSending = true;
    const query = { ...period, figures: figuresIn(form).join(",") };
    for (const [id, name] of [...this.#chosen]) await this.#send(id, name, query);
    this.#isSending = false;
    if (this.#failures.length || Object.keys(this.#faults).length) this.context.refresh();
    else this.onClose(true);
  }

  /**
   * Return the period of the form, and note what is wrong.
   *
   * @param {FormData} form
   */
  #read(form) {
    this.#faults = this.#chosen.size ? {} : { device_id: "Choose a device." };
    const at = { now: currentMoment(), zone: zoneOf(this.context.query.tz ?? "browser") };
    /** @type {Record<string, string>} */
    const period = {};
    for (const [name, bound] of [
      ["from", "start"],
      ["to", "end"],
    ]) {
      const text = String(form.get(/** @type {string} */ (name)) ?? "").trim();
      if (!text || !name || !bound) continue;
      try {
        period[bound] = iso(parse(text, { ...at, end: bound === "end" }));
      } catch (error) {
        if (!(error instanceof UnknownTime)) throw error;
        this.#faults[name] = error.message;
      }
    }
    return period;
  }

  /**
   * @param {string} id
   * @param {string} name
   * @param {import("../../state/address.js").Values} query
   */
  async #send(id, name, query) {
    try {
      await send("POST", `/stats/analysis/${id}/async`, { query });
      this.#chosen.delete(id);
    } catch (error) {
      if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
      const { start, end, ...others } = faultsOf(error);
      Object.assign(this.#faults, others, start ? { from: start } : {}, end ? { to: end } : {});
      if (!Object.keys(this.#faults).length) this.#failures.push([name, error]);
    }
  }
}
