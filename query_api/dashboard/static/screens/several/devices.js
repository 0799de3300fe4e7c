/** The devices of an address such as ?device=7&device=8: their records, and choices of more and of fewer. */

import { get, Problem } from "../../api.js";
import { html, nothing } from "../../html.js";
import { failureNotice } from "../../parts/notices.js";
import { lastSeen, remember } from "../../seen.js";
import { Source } from "../../source.js";
import { readAll } from "../../state/address.js";
import { MOST_TOGETHER } from "../../state/lists.js";
import { DeviceSearch } from "./search.js";

/** @typedef {import("../../../records.js").Device} Device */
/** @typedef {import("../../router.js").Context} Context */

export class ChosenDevices {
  /** The ids, in the order of the address. @type {string[]} */
  ids = [];
  /** What the address names besides, and why it is not shown. @type {string[]} */
  #faults = [];
  /** @type {Map<string, Source<Device>>} */
  #records = new Map();

  /**
   * @param {Context} context
   * @param {() => void} onChange is called when a record was read
   */
  constructor(context, onChange) {
    this.context = context;
    this.onChange = onChange;
    this.search = new DeviceSearch(context.refresh, {
      choose: device => this.#add(device),
      isChosen: id => this.ids.includes(id),
    });
  }

  /** Read the address. */
  update() {
    const { device: given = [] } = readAll(location.search);
    const unique = [...new Set(given.map(id => id.trim()))];
    const ids = unique.filter(id => /^\d{1,18}$/.test(id)).map(id => String(BigInt(id)));
    this.ids = ids.slice(0, MOST_TOGETHER);
    this.#faults = [
      ...unique.filter(id => !/^\d{1,18}$/.test(id)).map(id => `The address has a device that is not a number: ${id}.`),
      ...(ids.length > MOST_TOGETHER
        ? [
            `At most ${MOST_TOGETHER} devices are shown together. These are left out: ${ids.slice(MOST_TOGETHER).join(", ")}.`,
          ]
        : []),
    ];
    for (const [id, source] of this.#records) {
      if (this.ids.includes(id)) continue;
      source.close();
      this.#records.delete(id);
    }
    for (const id of this.ids) if (!this.#records.has(id)) this.#load(id);
  }

  /** @param {string} id */
  #load(id) {
    /** @type {Source<Device>} */
    const source = this.#records.get(id) ?? new Source(this.onChange);
    source.value ??= lastSeen(id);
    this.#records.set(id, source);
    void source.load(async signal => (await get(`/devices/${id}`, {}, signal)).data);
  }

  /** Read all records again. */
  reload() {
    for (const id of this.ids) this.#load(id);
  }

  /** The ids without those of devices that do not exist. */
  get existing() {
    return this.ids.filter(id => !this.isMissing(id));
  }

  /** @param {string} id */
  isMissing(id) {
    const failure = this.#records.get(id)?.failure;
    return failure instanceof Problem && failure.details.status === 404;
  }

  /** Whether it is known of each device whether it exists. */
  get areKnown() {
    return this.ids.every(id => this.recordOf(id) !== null || this.isMissing(id));
  }

  /** @param {string} id */
  recordOf(id) {
    return this.#records.get(id)?.value ?? null;
  }

  /**
   * Return the name of a device, with its key if another one is called the same.
   *
   * @param {string} id
   */
  nameOf(id) {
    const record = this.recordOf(id);
    if (!record) return `Device ${id}`;
    const isAmbiguous = this.ids.some(other => other !== id && this.recordOf(other)?.name === record.name);
    return isAmbiguous ? `${record.name} (${record.key})` : record.name;
  }

  /** @param {Device} device */
  #add(device) {
    remember([device]);
    this.context.change({ device: [...this.ids, String(device.id)] });
  }

  /** @param {string} id */
  remove(id) {
    this.context.change({ device: this.ids.filter(other => other !== id) });
  }

  /** The input that adds a device, or why there is none. */
  adder() {
    if (this.ids.length < MOST_TOGETHER) return this.search.view();
    return html`<p class="hint">At most ${MOST_TOGETHER} devices are shown together.</p>`;
  }

  /** @param {string} id */
  removeButton(id) {
    const label = `Remove ${this.nameOf(id)}`;
    return html`<button class="quiet small" aria-label=${label} title=${label} @click=${() => this.remove(id)}>✕</button>`;
  }

  /** What is wrong with the devices of the address. */
  notices() {
    const failures = this.ids.map(id => this.#records.get(id)?.toTell).filter(failure => failure);
    return html`
      ${this.#faults.length ? html`<div class="notice bad" role="alert">${this.#faults.map(fault => html`<p>${fault}</p>`)}</div>` : nothing}
      ${failures.map(failure => failureNotice(failure ?? null))}
    `;
  }

  close() {
    this.search.close();
    for (const source of this.#records.values()) source.close();
  }
}
