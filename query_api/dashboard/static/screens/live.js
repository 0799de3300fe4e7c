/** The readings of one or several devices as they are stored. */

import { html, live, nothing, ref } from "../html.js";
import { failureNotice } from "../parts/notices.js";
import { zonePicker } from "../parts/zone.js";
import { pointsTable } from "../plot/points-table.js";
import "../plot/time-plot.js";
import { MOST_TOGETHER } from "../state/lists.js";
import { gapsOf } from "../state/rolling.js";
import { iso, momentOf } from "../state/times.js";
import { isZone, MILLISECOND, MINUTE, SECOND, zoneOf } from "../state/zones.js";
import { Feed } from "./live/feed.js";
import { latestTable, timeOf } from "./live/latest.js";
import { Pace } from "./live/pace.js";
import { LiveStream } from "./live/stream.js";
import { axesChoice, axesOf, layoutButton, layoutOf, toggleLayout } from "./several/axes.js";
import { ChosenDevices } from "./several/devices.js";
import { linesOf } from "./several/lines.js";

/** @typedef {import("../router.js").Context} Context */
/** @typedef {import("../router.js").Screen} Screen */
/** @typedef {import("../state/address.js").Values} Values */
/** @typedef {import("../state/times.js").Period} Period */
/** @typedef {import("../plot/time-plot.js").Content} Content */
/** @typedef {import("../plot/time-plot.js").TimePlot} TimePlot */
/** @typedef {import("../state/events.js").ServerEvent} ServerEvent */

/** @type {Array<[string, number, string]>} */
const WINDOWS = [
  ["1m", MINUTE, "minute"],
  ["5m", 5 * MINUTE, "5 minutes"],
  ["15m", 15 * MINUTE, "15 minutes"],
  ["60m", 60 * MINUTE, "60 minutes"],
];
const USUAL_WINDOW = 1;
/** Points of all lines of an axis together, and of one line at least. */
const ALL_POINTS = 16_000;
const LEAST_POINTS = 2_000;
const MOST_NOTES = 5;
/** A clock of the browser that differs less is right. */
const WRONG_CLOCK_MS = 3_000;
const NUMBERS_MS = 250;

/**
 * @param {Context} context
 * @returns {Screen}
 */
export function open(context) {
  return new Live(context);
}

/** @implements {Screen} */
class Live {
  /** @type {Map<string, Feed>} */
  #feeds = new Map();
  /** When the picture was paused; null: it moves. @type {number | null} */
  #pausedAt = null;
  /** What the stream said about missing readings, the last ones. @type {Array<{at: number, text: string}>} */
  #notes = [];
  #earlierNotes = 0;
  /** By how much the clock of the service is ahead of that of the browser, in milliseconds. */
  #ahead = 0;
  #isTableOpen = false;
  /** @type {Content | null} */
  #content = null;
  /** @type {TimePlot | null} */
  #plot = null;
  #numbersAt = 0;

  /** @param {Context} context */
  constructor(context) {
    this.context = context;
    this.query = context.query;
    this.stream = new LiveStream({
      opened: headers => this.#opened(headers),
      event: event => this.#take(event),
      changed: () => this.#changed(),
    });
    this.devices = new ChosenDevices(context, () => this.#compareDevices());
    this.pace = new Pace(
      () => this.#draw(),
      () => this.length / MILLISECOND,
    );
    this.seen = () => this.#changeVisibility();
    this.place = (/** @type {Element | undefined} */ element) => this.#place(element);
    document.addEventListener("visibilitychange", this.seen);
    this.devices.update();
    this.#connect();
  }

  title() {
    return "Live";
  }

  get shortcuts() {
    return [
      { key: "p", label: "Pause or continue", run: () => this.#togglePause() },
      { key: "a", label: "Axes apart or together", run: () => toggleLayout(this.context) },
    ];
  }

  /** The length of the window in microseconds. */
  get length() {
    return this.#window[1];
  }

  get #window() {
    const named = WINDOWS.find(([name]) => name === this.query.window);
    return named ?? /** @type {[string, number, string]} */ (WINDOWS[USUAL_WINDOW]);
  }

  /** The zone of the address: browser, UTC or a name that the browser knows. */
  get zone() {
    const zone = this.query.tz ?? "browser";
    return isZone(zone) ? zone : "browser";
  }

  /** The end of the window: the present, or when the picture stopped. */
  get end() {
    return this.#pausedAt ?? ((this.stream.lostAt ?? Date.now()) + this.#ahead) * MILLISECOND;
  }

  /** @param {Values} query */
  update(query) {
    const before = { length: this.length, ids: this.devices.ids.join() };
    this.query = query;
    this.devices.update();
    if (this.devices.ids.join() !== before.ids) this.#connect();
    else if (this.length !== before.length) this.#readAll();
    this.#draw();
  }

  close() {
    document.removeEventListener("visibilitychange", this.seen);
    this.pace.close();
    this.stream.close();
    this.devices.close();
    for (const feed of this.#feeds.values()) feed.close();
  }

  /** Open the stream of the devices that exist; the history of each is read when it is open. */
  #connect() {
    const ids = this.devices.existing;
    const points = Math.max(LEAST_POINTS, Math.floor(ALL_POINTS / Math.max(ids.length, 2)));
    const before = this.#feeds;
    this.#feeds = new Map(ids.map(id => [id, before.get(id) ?? new Feed(id, points, this.context.refresh)]));
    for (const [id, feed] of before) if (!this.#feeds.has(id)) feed.close();
    this.#resume();
    if (this.#pausedAt !== null) this.#readAll();
  }

  /** The stream has another state: if a device was not found, learn which. */
  #changed() {
    if (this.stream.refusal?.details.status === 404) this.devices.reload();
    this.context.refresh();
  }

  /** Leave out the devices that do not exist. */
  #compareDevices() {
    if ([...this.#feeds.keys()].some(id => this.devices.isMissing(id))) this.#connect();
    this.context.refresh();
  }

  #resume() {
    if (this.#pausedAt === null && !document.hidden) this.stream.open([...this.#feeds.keys()]);
    if (this.#feeds.size > 0 && this.#pausedAt === null && !document.hidden) this.pace.start();
    else this.pace.stop();
  }

  #stop() {
    this.#draw();
    this.stream.close();
    this.pace.stop();
  }

  #changeVisibility() {
    if (document.hidden) this.#stop();
    else this.#resume();
    this.context.refresh();
  }

  #togglePause() {
    if (this.#pausedAt === null) {
      this.#pausedAt = this.end;
      this.#stop();
    } else {
      this.#pausedAt = null;
      this.#resume();
    }
    this.context.refresh();
  }

  /** @param {Headers} headers */
  #opened(headers) {
    const ahead = Date.parse(headers.get("Date") ?? "") - Date.now();
    this.#ahead = Math.abs(ahead) > WRONG_CLOCK_MS ? ahead : 0;
    this.#readAll();
  }

  #readAll() {
    for (const feed of this.#feeds.values()) this.#read(feed);
  }

  /** @param {Feed} feed */
  #read(feed) {
    void feed
      .read(
        () => Math.max(0, this.end - this.length),
        () => this.length,
      )
      .then(() => this.#draw());
  }

  /** @param {ServerEvent} event */
  #take({ name, data }) {
    if (name === "reading") this.#feeds.get(String(data.device_id))?.take(data);
    else if (name === "gap" || name === "dropped") this.#reread(name, data);
    else if (name === "removed") {
      this.#note(`${this.devices.nameOf(String(data.device_id))}: ${data.detail}.`);
      this.devices.reload();
    }
  }

  /**
   * Read again what may be missing.
   *
   * @param {string} name
   * @param {{detail?: string, count?: number, since?: string, device_id?: number}} data
   */
  #reread(name, { detail, count, since, device_id: device }) {
    const feed = device === undefined ? null : this.#feeds.get(String(device));
    if (feed) this.#read(feed);
    else this.#readAll();
    const reason = name === "gap" ? detail : `the page was too slow for ${count} readings`;
    const whose = feed ? `${this.devices.nameOf(feed.device)}: ` : "";
    const which = since
      ? `those from ${timeOf(momentOf(since), this.zone)} on were read again`
      : "the last ones were read again";
    this.#note(`${whose}Readings may have been missing, as ${reason}; ${which}.`);
  }

  /** @param {string} text */
  #note(text) {
    this.#notes.push({ at: this.end, text });
    if (this.#notes.length > MOST_NOTES) {
      this.#notes.shift();
      this.#earlierNotes += 1;
    }
    this.context.refresh();
  }

  /** Draw the window as it is now. */
  #draw() {
    const { end } = this;
    const period = { start: Math.round(end - this.length), end: Math.round(end) };
    for (const feed of this.#feeds.values()) feed.flush(period);
    this.#content = this.#contentOf(period);
    if (this.#plot && this.#content) this.#plot.content = this.#content;
    if (performance.now() - this.#numbersAt < NUMBERS_MS) return;
    this.#numbersAt = performance.now();
    this.context.refresh();
  }

  /**
   * @param {Period} period
   * @returns {Content | null}
   */
  #contentOf(period) {
    const feeds = [...this.#feeds.values()];
    const [only] = feeds;
    if (!only) return null;
    const layout = layoutOf(this.query);
    const axes = axesOf(this.query);
    const names = feeds.map(({ device }) => this.devices.nameOf(device));
    const drawn = feeds.map(({ lines }, at) => ({ name: names[at] ?? "", points: lines }));
    return {
      lines: linesOf(drawn, axes, layout),
      period,
      zone: zoneOf(this.zone),
      gaps: feeds.length === 1 ? gapsOf(only.lines.x, period.end / SECOND) : [],
      bands: {},
      marks: [],
      layout,
      label: `Plot of ${axes.join(", ")} of ${names.join(", ")} over the last ${this.#window[2]}, which moves. The arrow keys move the cursor. Pause to read its points in a table.`,
    };
  }

  view() {
    return html`
      <div class="title"><h1 tabindex="-1">Live</h1>${this.#state()}</div>
      ${this.#choices()} ${this.devices.notices()} ${failureNotice(this.stream.refusal)}
      ${[...this.#feeds.values()].map(feed => failureNotice(feed.source.toTell))}
      ${this.#feeds.size ? this.#body() : this.#empty()}
    `;
  }

  #state() {
    if (this.#feeds.size === 0) return nothing;
    const isMoving = this.#pausedAt === null;
    return html`
      <p class="live-state" role="status">${this.#stateText()}</p>
      ${this.stream.state === "ended" ? html`<button @click=${() => this.#connect()}>Connect again</button>` : html`<button class=${isMoving ? "" : "primary"} title="p" @click=${() => this.#togglePause()}>${isMoving ? "Pause" : "Continue"}</button>`}
    `;
  }

  #stateText() {
    const { state, lostAt, reason, refusal } = this.stream;
    if (this.#pausedAt !== null)
      return html`<span class="dot off"></span>Paused at ${timeOf(this.#pausedAt, this.zone)}`;
    if (lostAt !== null)
      return html`<span class="dot lost"></span><span><strong>Not live since ${timeOf(lostAt * MILLISECOND, this.zone)}.</strong> ${refusal ? nothing : reason} ${state === "ended" ? nothing : "Connecting again …"}</span>`;
    return state === "open" ? html`<span class="dot on"></span>Live` : html`<span class="dot off"></span>Connecting …`;
  }

  #choices() {
    /** @param {Event} event */
    const changed = event =>
      this.context.change({ window: /** @type {HTMLSelectElement} */ (event.target).value }, { replace: true });
    return html`
      <div class="period">
        ${this.devices.adder()}
        <label class="field"><span>Window</span>
          <select @change=${changed} .value=${live(this.#window[0])}>
            ${WINDOWS.map(([name, , label]) => html`<option value=${name} ?selected=${name === this.#window[0]}>Last ${label}</option>`)}
          </select>
        </label>
        ${zonePicker(this.zone, tz => this.context.change({ tz }, { replace: true }))}
      </div>
    `;
  }

  #empty() {
    return html`<div class="notice"><p>Choose a device to see its readings as they are stored. Up to ${MOST_TOGETHER} devices are shown together.</p></div>`;
  }

  #body() {
    const isPaused = this.#pausedAt !== null;
    const content = this.#content;
    return html`
      ${latestTable([...this.#feeds.values()], this.devices, this.zone, this.end)}
      <section class="card plot">
        <header><h2>The last ${this.#window[2]}</h2>${axesChoice(this.context)}<span class="end">${layoutButton(this.context)}</span></header>
        <time-plot ${ref(this.place)} .content=${content} @zoomout=${() => this.#widen()}
          @zoom=${(/** @type {CustomEvent<Period>} */ event) => this.#look(event.detail)}></time-plot>
        ${isPaused && content ? this.#table(content) : html`<p class="hint">Drag over the plot to look at a period. Pause to read the points in a table.</p>`}
      </section>
      ${this.#notes.length ? this.#notesCard() : nothing}
    `;
  }

  /** @param {Element | undefined} element */
  #place(element) {
    this.#plot = /** @type {TimePlot | null} */ (element ?? null);
  }

  /** @param {Content} content */
  #table(content) {
    return pointsTable(content.lines, content.zone, this.#isTableOpen, isOpen => {
      if (this.#isTableOpen === isOpen) return;
      this.#isTableOpen = isOpen;
      this.context.refresh();
    });
  }

  #notesCard() {
    return html`
      <section class="card">
        <header><h2>Interruptions</h2></header>
        <ul class="notes" role="log">${this.#notes.map(({ at, text }) => html`<li><time>${timeOf(at, this.zone)}</time> ${text}</li>`)}</ul>
        ${this.#earlierNotes ? html`<p class="muted">${this.#earlierNotes} earlier ones are not shown.</p>` : nothing}
      </section>
    `;
  }

  /** Show the next longer window. */
  #widen() {
    const next = WINDOWS[WINDOWS.findIndex(([name]) => name === this.#window[0]) + 1];
    if (next) this.context.change({ window: next[0] }, { replace: true });
  }

  /**
   * Go to the screen that shows a period.
   *
   * @param {Period} period
   */
  #look({ start, end }) {
    const ids = [...this.#feeds.keys()];
    const { tz, show, axes } = this.query;
    const chosen = { from: iso(start), to: iso(end), tz, axes };
    if (ids.length === 1) this.context.go(`/ui/devices/${ids[0]}`, chosen);
    else this.context.go("/ui/compare", { device: ids, ...chosen, show });
  }
}
