/** The list of devices: search, order, states, pages, registration. */

import { get } from "../api.js";
import { html, live, nothing } from "../html.js";
import { dialog } from "../parts/dialog.js";
import { emptyNotice, failureNotice, loadingNotice } from "../parts/notices.js";
import { Registration } from "../parts/registration.js";
import { remember } from "../seen.js";
import { may } from "../session.js";
import { Repeat, Source } from "../source.js";
import { addressOf } from "../state/address.js";
import { LIMIT, LIMITS, withSelected } from "../state/lists.js";
import { grouped } from "../state/numbers.js";
import { currentMoment } from "../state/times.js";
import { selectionBar } from "./devices/selection.js";
import { SPAN, SPANS, Sparklines } from "./devices/sparklines.js";
import { statesChoice } from "./devices/states.js";
import { DevicesTable } from "./devices/table.js";

/** @typedef {import("../../records.js").Device} Device */
/** @typedef {import("../../records.js").DeviceCounts} DeviceCounts */
/** @typedef {import("../router.js").Context} Context */
/** @typedef {import("../router.js").Screen} Screen */
/** @typedef {import("../state/address.js").Values} Values */
/** A page of the list: what was asked for, where the next one begins, and the devices on all. @typedef {{query: Values, devices: Device[], next: string | undefined, total: number}} Page */

const EVERY_MS = 5_000;
/** A long page is read less often. */
const ROW_MS = 15;
/** Values of the address on which the list depends, and those on which only the small plots do. */
const LISTED = ["search", "cursor", "order", "state", "limit"];
const PLOTTED = ["axis", "span"];
/** Values by which a list may be empty although there are devices. */
const SELECTING = ["search", "cursor", "state"];
const TYPING_MS = 250;
/** The screen of a device is loaded before a click on one, and after the list. */
const AHEAD_MS = 500;

/**
 * @param {Context} context
 * @returns {Screen}
 */
export function open(context) {
  return new Devices(context);
}

/** @implements {Screen} */
class Devices {
  /** @type {Registration | null} */
  #registration = null;
  #isTeaching = false;
  #typing = 0;

  /** @param {Context} context */
  constructor(context) {
    this.context = context;
    this.query = context.query;
    /** @type {Source<Page>} */
    this.page = new Source(context.refresh);
    /** @type {Source<DeviceCounts>} */
    this.counts = new Source(context.refresh);
    this.sparklines = new Sparklines(context.refresh);
    this.table = new DevicesTable(context.refresh);
    this.repeat = new Repeat(
      () => this.#load(),
      () => this.page.interval(Math.max(EVERY_MS, ROW_MS * this.#limit)),
    );
    this.#load();
    setTimeout(() => import("./device.js").catch(() => null), AHEAD_MS); // the router tells of a failure
  }

  title() {
    return "Devices";
  }

  get shortcuts() {
    return [
      {
        key: "/",
        label: "Search",
        run: () => /** @type {HTMLElement | null} */ (document.querySelector("input[type=search]"))?.focus(),
      },
      ...(may("administer") ? [{ key: "n", label: "Register a device", run: () => this.#register() }] : []),
      { key: "r", label: "Read again", run: () => this.#load() },
    ];
  }

  /** @param {Values} query */
  update(query) {
    const before = this.query;
    this.query = query;
    if (LISTED.some(name => query[name] !== before[name])) this.#load();
    else if (PLOTTED.some(name => query[name] !== before[name])) this.#plot();
  }

  close() {
    clearTimeout(this.#typing);
    for (const part of [this.repeat, this.page, this.counts, this.sparklines]) part.close();
    this.#registration?.close();
  }

  #load() {
    const { search, cursor, order, state } = this.query;
    void this.page.load(async signal => {
      const query = { search, order, state, limit: String(this.#limit), cursor };
      const { data, headers } = await get("/devices", query, signal);
      remember(data);
      const page = {
        query: this.query,
        devices: data,
        next: headers.get("X-Next-Cursor") ?? undefined,
        total: Number(headers.get("X-Total-Count")),
      };
      this.page.value = page;
      this.#plot();
      return page;
    });
    void this.counts.load(async signal => (await get("/devices/states", { search }, signal)).data);
  }

  #plot() {
    this.sparklines.show(this.page.value?.devices ?? [], this.#choice);
  }

  view() {
    const page = this.page.value;
    const isEmpty = page?.devices.length === 0 && SELECTING.every(name => !page.query[name]);
    this.#isTeaching ||= isEmpty; // until the user leaves, also with the first device
    const isNew = this.#isTeaching;
    return html`
      <div class="title"><h1 tabindex="-1">Devices</h1>${isNew ? nothing : this.#tools(page)}</div>
      ${failureNotice(this.page.toTell, () => this.#load())}
      ${page === null ? (this.page.failure ? nothing : loadingNotice("the devices")) : isNew ? this.#firstSteps() : this.#list(page)}
      ${this.#registration && !isNew ? this.#dialog(this.#registration) : nothing}
    `;
  }

  /** @param {Page | null} page */
  #tools(page) {
    return html`
      <p class="facts">${page ? (page.total === 1 ? "1 device" : `${grouped(page.total)} devices`) : nothing}</p>
      <label class="search"><span class="visually-hidden">Search by name or key</span>
        <input type="search" placeholder="Search by name or key" maxlength="200" .value=${live(this.query.search ?? "")}
          @input=${(/** @type {Event} */ event) => this.#search(event)}>
      </label>
      ${may("administer") ? html`<button class="primary" @click=${() => this.#register()}>Register a device</button>` : nothing}
    `;
  }

  /** @param {Event} event */
  #search(event) {
    const { value } = /** @type {HTMLInputElement} */ (event.target);
    clearTimeout(this.#typing);
    this.#typing = window.setTimeout(
      () => this.context.change({ search: value || undefined, cursor: undefined, page: undefined }, { replace: true }),
      TYPING_MS,
    );
  }

  #register() {
    this.#registration ??= new Registration(this.context.refresh, device => this.#addressOf(device));
    this.context.refresh();
  }

  /** @param {Registration} registration */
  #dialog(registration) {
    return dialog("Register a device", registration.view(), () => {
      registration.close();
      this.#registration = null;
      this.#load();
    });
  }

  #firstSteps() {
    if (!may("administer"))
      return html`<div class="notice"><p>No device is registered yet. An administrator registers devices.</p></div>`;
    this.#registration ??= new Registration(this.context.refresh, device => this.#addressOf(device));
    return html`
      <section class="card first-steps">
        <h2>Two steps to the first reading</h2>
        <p>No device is registered yet. A device publishes readings of three axes, x, y and z, by MQTT or HTTP.</p>
        ${this.#registration.view()}
      </section>
    `;
  }

  #states() {
    return statesChoice(this.counts.value, this.query.state, state => this.#changed({ state }));
  }

  /** @param {Page} page */
  #list(page) {
    const selection = selectionBar(this.query, () => this.#keep({ selected: undefined }));
    if (page.devices.length === 0) {
      this.table.reset();
      return html`${this.#states()}${emptyNotice(this.#nothingFound(page))}${selection}`;
    }
    return html`
      ${this.#states()}
      ${this.table.view({
        devices: page.devices,
        query: this.query,
        now: currentMoment(),
        sparklines: this.sparklines,
        plots: this.#plots(),
        changed: changes => this.#changed(changes),
        addressOf: device => this.#addressOf(device),
        select: ({ id }, isSelected) => this.#keep(withSelected(this.query, id, isSelected)),
      })}
      ${selection}
      ${this.#pages(page)}
    `;
  }

  /** Change the selection of the address. @param {Values} selection */
  #keep(selection) {
    this.context.change(selection, { replace: true });
  }

  /** @param {Page} page */
  #nothingFound({ query: { search, state } }) {
    const named = search ? ` with “${search}” in its name or key` : "";
    return state
      ? `No device${named} is ${state === "never" ? "without readings" : state}.`
      : `No device has “${search}” in its name or key.`;
  }

  /** @returns {import("./devices/sparklines.js").Choice} */
  get #choice() {
    const { axis = "x", span = SPAN } = this.query;
    return {
      axis: ["x", "y", "z"].includes(axis) ? axis : "x",
      span: span in SPANS ? /** @type {keyof typeof SPANS} */ (span) : SPAN,
    };
  }

  #plots() {
    const { axis, span } = this.#choice;
    return html`
      ${this.#select("Axis of the small plots", axis, ["x", "y", "z"], value => ({ axis: value === "x" ? undefined : value }))}
      ${this.#select("Period of the small plots", span, Object.keys(SPANS), value => ({ span: value === SPAN ? undefined : value }))}
    `;
  }

  /**
   * @param {string} label
   * @param {string} value
   * @param {string[]} values
   * @param {(value: string) => Values} changes
   */
  #select(label, value, values, changes) {
    return html`
      <select class="small" aria-label=${label} .value=${live(value)}
        @change=${(/** @type {Event} */ event) => this.context.change(changes(/** @type {HTMLSelectElement} */ (event.target).value))}>
        ${values.map(each => html`<option value=${each} ?selected=${each === value}>${each}</option>`)}
      </select>
    `;
  }

  /** @param {Page} page */
  #pages({ next, total }) {
    const { cursor } = this.query;
    const limit = this.#limit;
    const count = Math.max(1, Math.ceil(total / limit));
    const number = Number(this.query.page ?? 1) || 1;
    return html`
      <nav class="pages" aria-label="Pages">
        ${cursor ? html`<a class="button" href=${this.#changed({})}>First page</a>` : nothing}
        ${next ? html`<a class="button" rel="next" href=${this.#changed({ cursor: next, page: String(number + 1) })}>Next page</a>` : nothing}
        <span class="muted">${cursor || next ? `Page ${grouped(number)} of ${grouped(count)}` : "All on one page"}</span>
        <label class="end">${this.#select("Devices on a page", String(limit), LIMITS.map(String), value => ({
          limit: value === String(LIMIT) ? undefined : value,
          cursor: undefined,
          page: undefined,
        }))} <span aria-hidden="true">on a page</span></label>
      </nav>
    `;
  }

  get #limit() {
    const given = Number(this.query.limit ?? LIMIT);
    return LIMITS.includes(given) ? given : LIMIT;
  }

  /**
   * Return the address of the list with other values, from its first page on.
   *
   * @param {Values} changes
   */
  #changed(changes) {
    return addressOf("/", { ...this.query, cursor: undefined, page: undefined, ...changes });
  }

  /** @param {{id: number}} device */
  #addressOf({ id }) {
    return addressOf(`/ui/devices/${id}`, { tz: this.query.tz });
  }
}
