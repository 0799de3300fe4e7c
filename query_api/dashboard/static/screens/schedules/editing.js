/** Creates or changes a schedule. While the user types, the expression is shown in words, with its next five ticks. */

import { get, Problem, send, Unreachable } from "../../api.js";
import { html, nothing } from "../../html.js";
import { dialog } from "../../parts/dialog.js";
import { failureNotice } from "../../parts/notices.js";
import { lastSeen } from "../../seen.js";
import { Source } from "../../source.js";
import { periodText, tickTexts } from "../../state/analyses.js";
import { zoneOf } from "../../state/zones.js";
import { faultsOf, figuresField, figuresIn, textField, zoneField } from "../analyses/form.js";
import { DeviceSearch } from "../several/search.js";

/** @typedef {import("../../../records.js").Schedule} Schedule */
/** @typedef {import("../../../records.js").SchedulePreview} SchedulePreview */
/** @typedef {import("../analyses/form.js").Faults} Faults */
/** @typedef {import("../../router.js").Context} Context */

const PATH = "/stats/analysis/schedules";
const TYPING_MS = 200;
/** @type {Array<[string, string]>} */
const PERIODS = [
  ["PT1H", "the hour before"],
  ["P1D", "the day before"],
  ["P1W", "the week before"],
  ["P1M", "the month before"],
];

export class Editing {
  /** @type {{id: string, name: string} | null} */
  #device = null;
  /** @type {Faults} */
  #faults = {};
  /** @type {Problem | Unreachable | null} */
  #failure = null;
  #isSending = false;
  #typing = 0;

  /**
   * @param {Context} context
   * @param {Schedule | null} schedule null: a new one
   * @param {(isSaved: boolean) => void} onClose
   */
  constructor(context, schedule, onClose) {
    this.context = context;
    this.schedule = schedule;
    this.onClose = onClose;
    const { device, tz } = context.query;
    if (device && !schedule) this.#device = { id: device, name: lastSeen(device)?.name ?? `device ${device}` };
    this.zone = schedule?.timezone ?? zoneOf(tz ?? "browser");
    /** @type {Source<SchedulePreview & {timezone: string}>} */
    this.preview = new Source(context.refresh);
    this.search = new DeviceSearch(context.refresh, {
      choose: ({ id, name }) => this.#choose({ id: String(id), name }),
      isChosen: () => false,
    });
    const { cron = "0 2 * * *", period = "P1D", align = true } = schedule ?? {};
    this.#show({ cron, timezone: this.zone, period: period ?? undefined, align: String(align) });
  }

  close() {
    clearTimeout(this.#typing);
    this.search.close();
    this.preview.close();
  }

  /** @param {{id: string, name: string} | null} device */
  #choose(device) {
    this.#device = device;
    this.context.refresh();
  }

  view() {
    const { schedule } = this;
    const faults = { ...faultsOf(this.preview.failure), ...this.#faults };
    const content = html`
      <form class="form" @input=${(/** @type {Event} */ event) => this.#typed(event)} @submit=${(/** @type {SubmitEvent} */ event) => this.#submit(event)}>
        <div class="pair">
          ${schedule ? nothing : this.#deviceField(faults.device_id)}
          ${textField({ name: "name", label: "Name", value: schedule?.name ?? "", fault: faults.name, placeholder: "optional" })}
        </div>
        <div class="pair">
          ${textField({ name: "cron", label: "Cron expression", value: schedule?.cron ?? "0 2 * * *", fault: faults.cron, isCode: true, hint: "minute, hour, day of month, month, day of week" })}
          ${zoneField(this.zone, faults.timezone)}
        </div>
        ${this.#previewed()} ${this.#period(faults)} ${figuresField(schedule?.figures ?? [], faults.figures)}
        ${failureNotice(this.#failure)}
        <div class="row"><button class="primary" ?disabled=${this.#isSending}>${schedule ? "Save" : "Create"}</button></div>
      </form>
    `;
    return dialog(
      schedule ? `Edit ${schedule.name ?? `the schedule of ${schedule.device_name}`}` : "Create a schedule",
      content,
      () => this.onClose(false),
    );
  }

  /** @param {string | undefined} fault */
  #deviceField(fault) {
    const chosen = this.#device;
    return html`
      <div class="form-field">
        <p>Device</p>
        ${chosen ? html`<button type="button" class="small" aria-label=${`Choose another device than ${chosen.name}`} @click=${() => this.#choose(null)}>${chosen.name} ✕</button>` : this.search.view()}
        ${fault ? html`<p class="fault" role="alert">${fault}</p>` : nothing}
      </div>
    `;
  }

  /** @param {Faults} faults */
  #period({ period, align }) {
    const { schedule } = this;
    return html`
      <div class="pair">
        ${textField({ name: "period", label: "Period", value: schedule ? (schedule.period ?? "") : "P1D", fault: period ?? align, list: "periods", isCode: true, hint: "PT1H, P1D, P1W, P1M … Empty: all time" })}
        <label class="check"><input type="checkbox" name="align" ?checked=${schedule?.align ?? true}>Whole hours, days, weeks or months</label>
      </div>
      <datalist id="periods">${PERIODS.map(([period, name]) => html`<option value=${period}>${name}</option>`)}</datalist>
    `;
  }

  #previewed() {
    const { value, failure, toTell } = this.preview;
    const isWrong = failure instanceof Problem && Object.keys(faultsOf(failure)).length > 0;
    if (isWrong)
      return html`<div class="preview" role="status"><p class="muted">The next ticks are shown once the marked fields are right.</p></div>`;
    return html`
      <div class="preview" role="status">
        ${failureNotice(toTell)} ${value ? this.#ticks(value) : nothing}
      </div>
    `;
  }

  /** @param {SchedulePreview & {timezone: string}} preview */
  #ticks({ description, ticks, timezone }) {
    const texts = tickTexts(
      ticks.map(({ tick }) => tick),
      timezone,
    );
    return html`
      <p><strong>${description}</strong> <span class="muted">${timezone}</span></p>
      <table>
        <thead><tr><th scope="col">The next ticks</th><th scope="col">analyse</th></tr></thead>
        <tbody>${ticks.map((tick, at) => html`<tr><td>${texts[at]}</td><td class="muted">${periodText(tick, timezone)}</td></tr>`)}</tbody>
      </table>
    `;
  }

  /** @param {Event} event */
  #typed(event) {
    const form = /** @type {Element} */ (event.target).closest("form");
    clearTimeout(this.#typing);
    if (form) this.#typing = window.setTimeout(() => this.#show(timesIn(new FormData(form))), TYPING_MS);
  }

  /** @param {ReturnType<typeof timesIn>} times */
  #show(times) {
    this.#faults = {};
    void this.preview.load(async signal => {
      const { data } = await get(`${PATH}/preview`, times, signal);
      return { ...data, timezone: times.timezone };
    });
  }

  /** @param {SubmitEvent} event */
  async #submit(event) {
    event.preventDefault();
    const { schedule } = this;
    if (this.#isSending) return;
    this.#faults = schedule || this.#device ? {} : { device_id: "Choose a device." };
    this.#failure = null;
    this.context.refresh();
    if (this.#faults.device_id) return;
    this.#isSending = true;
    try {
      const body = this.#bodyOf(new FormData(/** @type {HTMLFormElement} */ (event.target)));
      if (schedule) await send("PATCH", `${PATH}/${schedule.id}`, { body });
      else await send("POST", PATH, { body });
      this.onClose(true);
    } catch (error) {
      if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
      this.#faults = faultsOf(error);
      if (!Object.keys(this.#faults).length) this.#failure = error;
    }
    this.#isSending = false;
    this.context.refresh();
  }

  /** @param {FormData} form */
  #bodyOf(form) {
    const { cron, timezone, period = null, align } = timesIn(form);
    return {
      ...(this.#device ? { device_id: Number(this.#device.id) } : {}),
      ...{ cron, timezone, period, align: align === "true", figures: figuresIn(form) },
      name: textIn(form, "name") || null,
    };
  }
}

/** @param {FormData} form */
function timesIn(form) {
  return {
    cron: textIn(form, "cron"),
    timezone: textIn(form, "timezone"),
    period: textIn(form, "period") || undefined,
    align: String(form.has("align")),
  };
}

/**
 * @param {FormData} form
 * @param {string} name
 */
function textIn(form, name) {
  return String(form.get(name) ?? "").trim();
}
