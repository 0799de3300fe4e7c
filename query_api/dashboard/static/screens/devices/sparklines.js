/** The small plots of the rows: one request for all of them, or of a long page for those that are visible. */

import { get } from "../../api.js";
import { html, nothing } from "../../html.js";
import { Repeat, Source } from "../../source.js";
import { LIMIT, pathOf } from "../../state/lists.js";
import { stored } from "../../state/numbers.js";
import { currentMoment, iso } from "../../state/times.js";
import { HOUR } from "../../state/zones.js";

/** @typedef {import("../../../records.js").Device} Device */
/** @typedef {import("../../../records.js").DeviceLine} DeviceLine */
/** @typedef {{path: string, label: string}} Drawn */

const EVERY_MS = 30_000;
const SCROLLING_MS = 150;
const POINTS = 60;
const BOX = { width: 112, height: 26 };
export const SPANS = { "1h": HOUR, "24h": 24 * HOUR, "7d": 7 * 24 * HOUR };
export const SPAN = "1h";

/** @typedef {{axis: string, span: keyof typeof SPANS}} Choice */

export class Sparklines {
  /** Changes with what is drawn. */
  version = 0;
  /** Of the devices that were read. @type {Map<number, Drawn | null>} */
  #drawn = new Map();
  /** @type {Map<number, Device>} */
  #devices = new Map();
  /** @type {Choice} */
  #choice = { axis: "x", span: SPAN };
  #scrolling = 0;

  /** @param {() => void} refresh */
  constructor(refresh) {
    this.refresh = refresh;
    /** @type {Source<null>} */
    this.source = new Source(refresh);
    this.repeat = new Repeat(
      () => this.#load(this.#wanted()),
      () => EVERY_MS,
    );
    this.scrolled = () => {
      clearTimeout(this.#scrolling);
      this.#scrolling = window.setTimeout(() => this.#loadMissing(), SCROLLING_MS);
    };
    window.addEventListener("scroll", this.scrolled, { passive: true });
  }

  /**
   * Show the devices of a page. Those that are new are read at once.
   *
   * @param {Device[]} devices
   * @param {Choice} choice
   */
  show(devices, choice) {
    if (choice.axis !== this.#choice.axis || choice.span !== this.#choice.span) this.#drawn.clear();
    this.#choice = choice;
    this.#devices = new Map(devices.map(device => [device.id, device]));
    for (const id of this.#drawn.keys()) if (!this.#devices.has(id)) this.#drawn.delete(id);
    requestAnimationFrame(() => this.#loadMissing()); // the rows are in the page then
  }

  close() {
    clearTimeout(this.#scrolling);
    window.removeEventListener("scroll", this.scrolled);
    this.#devices.clear();
    this.repeat.close();
    this.source.close();
  }

  /** The devices whose plots are wanted: all of a page, or the visible ones of a long page. */
  #wanted() {
    const all = [...this.#devices.keys()];
    if (all.length <= LIMIT) return all;
    const rows = document.querySelectorAll(".devices tbody tr");
    const first = rows[0]?.getBoundingClientRect();
    if (!first || first.height === 0) return all.slice(0, LIMIT);
    const at = Math.max(0, Math.floor(-first.top / first.height));
    const most = Math.ceil(innerHeight / first.height) + 10;
    return all.slice(Math.max(0, at - 5), at + Math.min(most, LIMIT - 5));
  }

  #loadMissing() {
    const wanted = this.#wanted();
    if (wanted.some(id => !this.#drawn.has(id))) this.#load(wanted);
  }

  /** @param {number[]} ids */
  #load(ids) {
    if (ids.length === 0) return;
    const { axis, span } = this.#choice;
    const end = currentMoment();
    const period = { start: end - SPANS[span], end };
    const devices = ids.map(id => `device_id=${id}`).join("&");
    const path = `/stats/series?${devices}&points=${POINTS}&axis=${axis}&start=${iso(period.start)}`;
    void this.source.load(async signal => {
      /** @type {DeviceLine[]} */
      const lines = (await get(path, {}, signal)).data;
      this.version += 1;
      for (const line of lines) {
        const interval = this.#devices.get(line.device_id)?.expected_interval ?? null;
        const value = line.value.length ? line.value : [0];
        const label = `${axis} from ${stored(Math.min(...value))} to ${stored(Math.max(...value))}`;
        this.#drawn.set(line.device_id, line.count ? { path: pathOf(line, period, BOX, interval), label } : null);
      }
      return null;
    });
  }

  /** @param {Device} device */
  drawn({ id }) {
    return this.#drawn.get(id)?.path ?? "";
  }

  /** @param {Device} device */
  view({ id }) {
    const drawn = this.#drawn.get(id);
    if (!drawn) return nothing;
    return html`<svg class="sparkline" width=${BOX.width} height=${BOX.height} role="img" aria-label=${drawn.label}><title>${drawn.label}</title><path d=${drawn.path}></path></svg>`;
  }
}
