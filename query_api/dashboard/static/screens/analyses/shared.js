/** What the lists of analyses and of schedules share. */

import { Problem, send, Unreachable } from "../../api.js";
import { html, nothing } from "../../html.js";
import { age } from "../../state/numbers.js";
import { clock, momentOf } from "../../state/times.js";

/** @typedef {import("../../../records.js").AnalysisRequest["status"]} Status */

/** @type {Record<Status, string>} */
export const STATUSES = {
  queued: "Waiting",
  running: "Running",
  done: "Done",
  failed: "Failed",
  cancelled: "Cancelled",
};

/** @param {Status} status */
export function statusChip(status) {
  return html`<span class=${`status ${status}`}><span class="dot" aria-hidden="true"></span>${STATUSES[status]}</span>`;
}

/**
 * Return a time as its age.
 *
 * @param {string} time
 * @param {number} now
 * @param {string} zone
 */
export function ageOf(time, now, zone) {
  const moment = momentOf(time);
  return html`<time datetime=${time} title=${clock(moment, zone)}>${age(moment, now)}</time>`;
}

/**
 * Return the links to other pages of a list; what it counts, if there is only one page.
 *
 * @param {string | undefined} cursor of this page
 * @param {string | undefined} next
 * @param {(cursor: string | undefined) => string} addressAt
 * @param {string} count
 */
export function pageLinks(cursor, next, addressAt, count) {
  if (!cursor && !next) return html`<p class="muted">${count}</p>`;
  return html`
    <nav class="pages" aria-label="Pages">
      ${cursor ? html`<a class="button" href=${addressAt(undefined)}>First page</a>` : nothing}
      ${next ? html`<a class="button" rel="next" href=${addressAt(next)}>Next page</a>` : html`<span class="muted">This is the last page.</span>`}
    </nav>
  `;
}

/** A change that was requested, one at a time. */
export class Change {
  /** What is being changed. @type {number | null} */
  of = null;
  /** @type {Problem | Unreachable | null} */
  failure = null;

  /** @param {() => void} refresh */
  constructor(refresh) {
    this.refresh = refresh;
  }

  /**
   * Send a change. Returns whether it was made.
   *
   * @param {number} of
   * @param {string} method
   * @param {string} path
   * @param {unknown} [body]
   */
  async send(of, method, path, body) {
    if (this.of !== null) return false;
    this.of = of;
    this.failure = null;
    this.refresh();
    try {
      await send(method, path, { body });
    } catch (error) {
      if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
      this.failure = error;
    }
    this.of = null;
    this.refresh();
    return this.failure === null;
  }
}
