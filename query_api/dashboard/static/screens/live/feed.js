/** The readings of a device: those stored before, and those that the stream brings. */

import { get } from "../../api.js";
import { Source } from "../../source.js";
import { Rolling } from "../../state/rolling.js";
import { AXES, byAxis, columnsOf } from "../../state/series.js";
import { iso, momentOf } from "../../state/times.js";
import { SECOND } from "../../state/zones.js";

/** @typedef {import("../../../records.js").SharedSeries} SharedSeries */
/** @typedef {import("../../../records.js").StoredReading} StoredReading */
/** @typedef {import("../../state/series.js").Axis} Axis */
/** @typedef {{moment: number, x: number, y: number, z: number}} Reading */

/** As many gaps say that the device has another interval now. */
const MANY_GAPS = 12;
/** Readings that came while the ones before them were read; more of them, and that read is given up. */
const MOST_WAITING = 100_000;

export class Feed {
  /** @type {Reading | null} */
  latest = null;
  /** The number of readings that the stream brought. */
  count = 0;
  /** Those that are not in the lines yet. @type {Reading[]} */
  #new = [];
  /** Those since the history was requested; null: it is not being read. @type {Reading[] | null} */
  #since = null;
  #gaps = 0;

  /**
   * @param {string} device
   * @param {number} points of each axis, at most
   * @param {() => void} refresh
   */
  constructor(device, points, refresh) {
    this.device = device;
    this.points = points;
    this.lines = byAxis(() => new Rolling(points));
    /** Of the history. @type {Source<true>} */
    this.source = new Source(refresh);
  }

  /**
   * Read the history from a moment on, and replace the lines with it.
   *
   * The stream is open, so every reading is in the history or comes by the stream. Some are in both: the whole reading
   * identifies it, so it is drawn once.
   *
   * @param {() => number} start
   * @param {() => number} length of the window, in microseconds
   */
  read(start, length) {
    this.again = () => this.read(start, length);
    return this.source.load(async signal => {
      this.#since = [];
      const points = String(Math.floor(this.points / 2));
      const query = { columns: "shared", start: iso(start()), points };
      this.#replace((await get(`/stats/${this.device}/series`, query, signal)).data, length());
      return true;
    });
  }

  again = () => Promise.resolve();

  /**
   * @param {SharedSeries} series
   * @param {number} length
   */
  #replace(series, length) {
    const columns = columnsOf(series);
    const least = (8 * length) / this.points / SECOND;
    const above = series.gaps_above === null ? Number.POSITIVE_INFINITY : Math.max(series.gaps_above, least);
    for (const axis of AXES) this.lines[axis].replace(columns[axis], above);
    const last = series.timestamp.at(-1);
    if (last !== undefined) {
      const [x = 0, y = 0, z = 0] = AXES.map(axis => columns[axis].values.at(-1) ?? 0);
      this.#note({ moment: momentOf(last), x, y, z });
    }
    this.#new = this.#since ?? [];
    this.#since = null;
    this.#gaps = 0;
  }

  /** @param {{timestamp: string, x: number, y: number, z: number}} stored */
  take({ timestamp, x, y, z }) {
    const reading = { moment: momentOf(timestamp), x, y, z };
    this.count += 1;
    this.#new.push(reading);
    this.#since?.push(reading);
    this.#note(reading);
    if ((this.#since?.length ?? 0) > MOST_WAITING) void this.again();
  }

  /** @param {Reading} reading */
  #note(reading) {
    if (reading.moment >= (this.latest?.moment ?? reading.moment)) this.latest = reading;
  }

  /**
   * Add the new readings to the lines, and remove what is not in the period.
   *
   * @param {{start: number, end: number}} period
   */
  flush({ start, end }) {
    for (const reading of this.#new) this.#add(reading);
    this.#new = [];
    for (const axis of AXES) this.lines[axis].trim(start / SECOND, end / SECOND);
  }

  /** @param {Reading} reading */
  #add(reading) {
    const [isAfterGap] = AXES.map(axis => this.lines[axis].add(reading.moment / SECOND, reading[axis]));
    const isUnusual = isAfterGap || this.lines.x.above === Number.POSITIVE_INFINITY;
    if (!isUnusual || this.#since) return;
    this.#gaps += 1;
    if (this.#gaps >= MANY_GAPS) void this.again(); // the history says what is usual
  }

  close() {
    this.source.close();
  }
}
