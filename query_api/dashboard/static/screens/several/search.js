/** An input that finds a device by its name or key (a combobox, https://www.w3.org/WAI/ARIA/apg/patterns/combobox/). */

import { get } from "../../api.js";
import { html, live, nothing } from "../../html.js";
import { failureNotice } from "../../parts/notices.js";
import { Source } from "../../source.js";

/** @typedef {import("../../../records.js").Device} Device */
/** @typedef {{text: string, devices: Device[], hasMore: boolean}} Found */

const TYPING_MS = 200;
const SHOWN = 8;
/** More than are shown, since some may be chosen already. */
const ASKED = 20;

export class DeviceSearch {
  text = "";
  #isOpen = false;
  #active = -1;
  #typing = 0;

  /**
   * @param {() => void} refresh
   * @param {{choose: (device: Device) => void, isChosen: (id: string) => boolean}} actions
   */
  constructor(refresh, actions) {
    this.refresh = refresh;
    this.actions = actions;
    /** @type {Source<Found>} */
    this.source = new Source(refresh);
  }

  /** The devices that were found and are not chosen. */
  get #others() {
    return (this.source.value?.devices ?? []).filter(({ id }) => !this.actions.isChosen(String(id)));
  }

  get #offered() {
    return this.#others.slice(0, SHOWN);
  }

  view() {
    const offered = this.#isOpen ? this.#offered : [];
    const active = offered[this.#active];
    return html`
      <div class="combobox">
        <input role="combobox" aria-label="Add a device by name or key" aria-autocomplete="list" autocomplete="off" spellcheck="false"
          placeholder="Add a device" maxlength="200" aria-expanded=${offered.length > 0} aria-controls=${offered.length ? "device-options" : nothing}
          aria-activedescendant=${active ? `device-option-${active.id}` : nothing} .value=${live(this.text)}
          @input=${(/** @type {Event} */ event) => this.#typed(event)} @focus=${() => this.#open()} @click=${() => this.#open()}
          @blur=${() => this.#close()} @keydown=${(/** @type {KeyboardEvent} */ event) => this.#key(event)}>
        ${this.#isOpen ? this.#options(offered, active) : nothing}
      </div>
    `;
  }

  /**
   * @param {Device[]} offered
   * @param {Device | undefined} active
   */
  #options(offered, active) {
    return html`
      <div class="options" @pointerdown=${(/** @type {Event} */ event) => event.preventDefault()}>
        ${failureNotice(this.source.failure)}
        ${offered.length ? html`<ul role="listbox" id="device-options" aria-label="Devices">${offered.map(device => this.#option(device, device === active))}</ul>` : nothing}
        <p class="hint" role="status">${this.#hint(offered)}</p>
      </div>
    `;
  }

  /**
   * @param {Device} device
   * @param {boolean} isActive
   */
  #option(device, isActive) {
    return html`
      <li role="option" id=${`device-option-${device.id}`} aria-selected=${isActive} @click=${() => this.#choose(device)}>
        ${device.name} <code>${device.key}</code>
      </li>
    `;
  }

  /** @param {Device[]} offered */
  #hint(offered) {
    const found = this.source.value;
    if (!found) return this.source.failure ? nothing : "Reading the devices …";
    const isMore = found.hasMore || this.#others.length > offered.length;
    if (offered.length === 0)
      return found.text ? `No other device has “${found.text}” in its name or key.` : "There is no other device.";
    return isMore ? "There are more. Type a part of the name or key." : nothing;
  }

  #open() {
    if (this.#isOpen) return;
    this.#isOpen = true;
    this.#active = -1;
    this.#find();
  }

  #close() {
    this.#isOpen = false;
    this.refresh();
  }

  /** @param {Event} event */
  #typed(event) {
    this.text = /** @type {HTMLInputElement} */ (event.target).value;
    this.#isOpen = true;
    this.#active = -1; // what is found for the text before must not be chosen by Enter
    clearTimeout(this.#typing);
    this.#typing = window.setTimeout(() => this.#find(), TYPING_MS);
  }

  #find() {
    const { text } = this;
    void this.source.load(async signal => {
      const { data, headers } = await get("/devices", { search: text, limit: String(ASKED) }, signal);
      this.#active = text ? 0 : -1;
      return { text, devices: data, hasMore: headers.get("X-Next-Cursor") !== null };
    });
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const run = this.#actionOf(event.key);
    if (!run) return;
    event.preventDefault();
    run();
    this.refresh();
    requestAnimationFrame(() =>
      document.querySelector("[role=option][aria-selected=true]")?.scrollIntoView({ block: "nearest" }),
    );
  }

  /** @param {string} key */
  #actionOf(key) {
    const offered = this.#offered;
    const active = offered[this.#active];
    const step = (/** @type {number} */ by) => () => {
      if (!this.#isOpen) this.#open();
      else this.#active = offered.length ? (this.#active + by + offered.length) % offered.length : -1;
    };
    if (key === "ArrowDown") return step(1);
    if (key === "ArrowUp") return step(this.#active < 0 ? 0 : -1);
    if (key === "Enter" && this.#isOpen && active) return () => this.#choose(active);
    if (key === "Escape" && this.#isOpen) return () => this.#close();
    return null;
  }

  /** @param {Device} device */
  #choose(device) {
    this.text = "";
    this.#isOpen = false;
    this.actions.choose(device);
  }

  close() {
    clearTimeout(this.#typing);
    this.source.close();
  }
}
