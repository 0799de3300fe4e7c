/** The list of devices: search, pages, registration. */

import { get } from "../api.js";
import { html, live, nothing, repeat } from "../html.js";
import { dialog } from "../parts/dialog.js";
import { failureNotice, loadingNotice } from "../parts/notices.js";
import { Registration } from "../parts/registration.js";
import { remember } from "../seen.js";
import { may } from "../session.js";
import { Repeat, Source } from "../source.js";
import { addressOf } from "../state/address.js";
import { age, readingsOf, stored } from "../state/numbers.js";
import { clock, currentMoment, momentOf } from "../state/times.js";
import { zoneOf } from "../state/zones.js";

/** @typedef {import("../../records.js").Device} Device */
/** @typedef {import("../router.js").Context} Context */
/** @typedef {import("../router.js").Screen} Screen */
/** @typedef {import("../state/address.js").Values} Values */
/** A page of the list, and where the next one begins. @typedef {{devices: Device[], next: string | undefined}} Page */

const EVERY_MS = 10_000;
const TYPING_MS = 250;

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
    this.repeat = new Repeat(
      () => this.#load(),
      () => EVERY_MS,
    );
    this.#load();
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
    const isOther = query.search !== this.query.search || query.cursor !== this.query.cursor;
    this.query = query;
    if (isOther) this.#load();
  }

  close() {
    clearTimeout(this.#typing);
    this.repeat.close();
    this.page.close();
    this.#registration?.close();
  }

  #load() {
    const { search, cursor } = this.query;
    void this.page.load(async signal => {
      const { data, headers } = await get("/devices", { search, cursor }, signal);
      remember(data);
      return { devices: data, next: headers.get("X-Next-Cursor") ?? undefined };
    });
  }

  view() {
    const page = this.page.value;
    const isEmpty = page?.devices.length === 0 && !this.query.search && !this.query.cursor;
    this.#isTeaching ||= isEmpty; // until the user leaves, also with the first device
    const isNew = this.#isTeaching;
    return html`
      <div class="title"><h1 tabindex="-1">Devices</h1>${isNew ? nothing : this.#tools()}</div>
      ${failureNotice(this.page.toTell, () => this.#load())}
      ${page === null ? (this.page.failure ? nothing : loadingNotice("the devices")) : isNew ? this.#firstSteps() : this.#list(page)}
      ${this.#registration && !isNew ? this.#dialog(this.#registration) : nothing}
    `;
  }

  #tools() {
    return html`
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
      () => this.context.change({ search: value || undefined, cursor: undefined }, { replace: true }),
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

  /** @param {Page} page */
  #list(page) {
    if (page.devices.length === 0) {
      return html`<div class="notice"><p>No device has “${this.query.search}” in its name or key.</p></div>`;
    }
    const now = currentMoment();
    return html`
      <div class="scroll" tabindex="0" role="region" aria-label="Devices">
        <table class="dense devices">
          <thead>
            <tr>
              <th scope="col">Name</th><th scope="col" class="wide">Key</th><th scope="col">Last reading</th>
              <th scope="col" class="number">x</th><th scope="col" class="number">y</th><th scope="col" class="number">z</th>
              <th scope="col" class="number wide">Readings</th>
            </tr>
          </thead>
          <tbody>${repeat(
            page.devices,
            device => device.id,
            device => this.#row(device, now),
          )}</tbody>
        </table>
      </div>
      ${this.#pages(page)}
    `;
  }

  /**
   * @param {Device} device
   * @param {number} now
   */
  #row(device, now) {
    const reading = device.latest_reading;
    return html`
      <tr>
        <th scope="row"><a href=${this.#addressOf(device)}>${device.name}</a></th>
        <td class="wide"><code>${device.key}</code></td>
        <td>${this.#lastReading(device, now)}</td>
        <td class="number">${stored(reading?.x)}</td>
        <td class="number">${stored(reading?.y)}</td>
        <td class="number">${stored(reading?.z)}</td>
        <td class="number wide">${readingsOf(device)}</td>
      </tr>
    `;
  }

  /**
   * @param {Device} device
   * @param {number} now
   */
  #lastReading({ last_reading_at: last }, now) {
    if (last === null) return html`<span class="muted">never</span>`;
    const moment = momentOf(last);
    return html`<time datetime=${last} title=${clock(moment, zoneOf(this.query.tz ?? "browser"))}>${age(moment, now)}</time>`;
  }

  /** @param {Page} page */
  #pages({ devices, next }) {
    const { cursor } = this.query;
    if (!cursor && !next)
      return html`<p class="muted">${devices.length === 1 ? "1 device" : `${devices.length} devices`}</p>`;
    return html`
      <nav class="pages" aria-label="Pages">
        ${cursor ? html`<a class="button" href=${addressOf("/", { ...this.query, cursor: undefined })}>First page</a>` : nothing}
        ${next ? html`<a class="button" rel="next" href=${addressOf("/", { ...this.query, cursor: next })}>Next page</a>` : html`<span class="muted">This is the last page.</span>`}
      </nav>
    `;
  }

  /** @param {{id: number}} device */
  #addressOf({ id }) {
    return addressOf(`/ui/devices/${id}`, { tz: this.query.tz });
  }
}
