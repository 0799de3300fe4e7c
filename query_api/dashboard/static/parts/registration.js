/** Registers a device in two steps: its name, then commands for its first reading, which it waits for. */

import { get, Problem, send, Unreachable } from "../api.js";
import { html, nothing } from "../html.js";
import { Repeat } from "../source.js";
import { curlLine, publishLine } from "../state/commands.js";
import { stored } from "../state/numbers.js";
import { copyBlock } from "./copy.js";
import { failureNotice } from "./notices.js";

/** @typedef {import("../../records.js").RegisteredDevice} RegisteredDevice */
/** @typedef {import("../../records.js").Device} Device */

const ASK_EVERY_MS = 1500;

export class Registration {
  /** @type {RegisteredDevice | null} */
  made = null;
  /** The device with its first reading. @type {Device | null} */
  live = null;
  /** @type {Problem | Unreachable | null} */
  failure = null;
  isSending = false;
  /** @type {Repeat | null} */
  #asking = null;

  /**
   * @param {() => void} refresh
   * @param {(device: Device) => string} addressOf the address of the device's screen
   */
  constructor(refresh, addressOf) {
    this.refresh = refresh;
    this.addressOf = addressOf;
  }

  view() {
    return html`<ol class="steps">${this.#nameStep()} ${this.#publishStep()}</ol>`;
  }

  #nameStep() {
    if (this.made) {
      return html`<li class="done"><h3>Register a device</h3><p>${this.made.name} is registered, with the key <code>${this.made.key}</code>.</p></li>`;
    }
    return html`
      <li>
        <h3>Register a device</h3>
        <form class="row" @submit=${(/** @type {SubmitEvent} */ event) => this.#submit(event)}>
          <label class="field"><span>Name</span><input name="name" autofocus required maxlength="200" placeholder="Boiler, north" autocomplete="off"></label>
          <label class="field"><span>Key, its level in the MQTT topic</span><input name="key" maxlength="128" placeholder="default: its id" autocomplete="off" spellcheck="false"></label>
          <button class="primary" ?disabled=${this.isSending}>Register</button>
        </form>
        ${failureNotice(this.failure)}
      </li>
    `;
  }

  #publishStep() {
    if (!this.made) return html`<li class="later"><h3>Publish its first reading</h3></li>`;
    if (this.live) return this.#arrived(this.live);
    const host = location.hostname;
    return html`
      <li>
        <h3>Publish its first reading</h3>
        <p>The device's token is shown only now. It is its password at the broker, and its key for HTTP.</p>
        ${copyBlock(this.made.token, "the token")}
        <p>By MQTT:</p>
        ${copyBlock(publishLine(this.made, host), "the command for MQTT")}
        <p class="hint">This is for a broker on the host of this page${
          this.made.mqtt.port === null
            ? html`, at port 1883. <code>-p</code> names another port; over TLS,
          add <code>-p 8883 --cafile ca.pem</code>`
            : this.made.mqtt.tls
              ? html`. <code>ca.pem</code> has the authority of its certificate`
              : nothing
        }.</p>
        <p>Or by HTTP:</p>
        ${copyBlock(curlLine(this.made, location.origin), "the command for HTTP")}
        <p class="waiting" role="status"><span class="pulse" aria-hidden="true"></span>Waiting for the first reading …</p>
      </li>
    `;
  }

  /** @param {Device} device */
  #arrived(device) {
    const reading = device.latest_reading;
    return html`
      <li class="done">
        <h3>Publish its first reading</h3>
        <p role="status">The first reading is stored: ${reading ? html`x ${stored(reading.x)}, y ${stored(reading.y)}, z ${stored(reading.z)}` : nothing}.
          <a href=${this.addressOf(device)}>Open ${device.name}</a></p>
      </li>
    `;
  }

  /** @param {SubmitEvent} event */
  async #submit(event) {
    event.preventDefault();
    const fields = new FormData(/** @type {HTMLFormElement} */ (event.target));
    const key = String(fields.get("key") ?? "").trim();
    const body = { name: String(fields.get("name") ?? ""), ...(key ? { key } : {}) };
    this.isSending = true;
    this.failure = null;
    this.refresh();
    try {
      this.made = (await send("POST", "/devices", { body })).data;
      this.#asking = new Repeat(
        () => this.#ask(),
        () => ASK_EVERY_MS,
      );
    } catch (error) {
      if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
      this.failure = error;
    }
    this.isSending = false;
    this.refresh();
  }

  async #ask() {
    if (!this.made) return;
    try {
      const device = (await get(`/devices/${this.made.id}`)).data;
      if (!device.latest_reading) return;
      this.live = device;
      this.close();
      this.refresh();
    } catch (error) {
      if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
    }
  }

  close() {
    this.#asking?.close();
    this.#asking = null;
  }
}
