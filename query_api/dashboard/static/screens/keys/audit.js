/** The audit log: who did what, when and from where. */

import { get } from "../../api.js";
import { html, live, nothing } from "../../html.js";
import { failureNotice, loadingNotice } from "../../parts/notices.js";
import { Source } from "../../source.js";
import { addressOf } from "../../state/address.js";
import { clock, iso, momentOf } from "../../state/times.js";
import { visible } from "../../state/visible.js";

/** @typedef {import("../../../records.js").AuditEntry} Entry */
/** @typedef {{entries: Entry[], next: string | undefined}} Page */

/** As `Action` of shared/access/audit.py (tests/dashboard/test_keys_screen.py). */
const ACTIONS =
  "key.created key.rotated key.revoked device.created device.renamed device.deleted device.token_rotated schedule.created schedule.changed schedule.deleted analysis.cancelled analysis.retried result.deleted session.created session.ended session.refused dead_letters.replay_begun dead_letters.replayed dead_letters.purged audit.expired".split(
    " ",
  );

export class AuditPart {
  /**
   * @param {import("../../router.js").Context} context
   * @param {import("../../parts/screen-period.js").ScreenPeriod} period
   */
  constructor(context, period) {
    this.context = context;
    this.period = period;
    /** @type {Source<Page>} */
    this.source = new Source(context.refresh);
  }

  load() {
    const period = this.period.resolve();
    if (!period) return;
    const { actor, action, cursor } = this.context.query;
    const query = { start: iso(period.start), end: iso(period.end), actor, action, cursor };
    void this.source.load(async signal => {
      const { data, headers } = await get("/audit", query, signal);
      return { entries: data, next: headers.get("X-Next-Cursor") ?? undefined };
    });
  }

  close() {
    this.source.close();
  }

  view() {
    const page = this.source.value;
    return html`
      <section class="card audit" aria-busy=${this.source.isLoading}>
        <header><h2>Audit log</h2><p class="facts">changes, sign-ins, replays and deletions of refused messages</p></header>
        ${this.period.view()} ${this.#filters()} ${failureNotice(this.source.toTell)}
        ${page ? this.#list(page) : this.source.failure ? nothing : loadingNotice("the audit log")}
      </section>
    `;
  }

  #filters() {
    const { actor, action } = this.context.query;
    /** @param {string} name */
    const changed = name => (/** @type {Event} */ event) =>
      this.context.change({
        [name]: /** @type {HTMLInputElement} */ (event.target).value.trim() || undefined,
        cursor: undefined,
      });
    return html`
      <div class="row">
        <label class="field"><span>Actor</span><input name="actor" type="search" maxlength="200" spellcheck="false" placeholder="dsk_…" .value=${live(actor ?? "")} @change=${changed("actor")}></label>
        <label class="field"><span>Action</span>
          <select name="action" @change=${changed("action")}>
            <option value="">all</option>
            ${ACTIONS.map(name => html`<option ?selected=${name === action}>${name}</option>`)}
          </select>
        </label>
      </div>
    `;
  }

  /** @param {Page} page */
  #list({ entries, next }) {
    const { query } = this.context;
    /** @param {string | undefined} cursor */
    const to = cursor => addressOf("/ui/keys", { ...query, cursor });
    return html`
      ${entries.length === 0 ? html`<p class="muted">No entry meets these conditions.</p>` : this.#table(entries)}
      <nav class="pages" aria-label="Pages of the audit log">
        ${query.cursor ? html`<a class="button" href=${to(undefined)}>First page</a>` : nothing}
        ${next ? html`<a class="button" rel="next" href=${to(next)}>Next page</a>` : html`<span class="muted">${entries.length} ${query.cursor ? "on the last page" : entries.length === 1 ? "entry" : "entries"}</span>`}
      </nav>
    `;
  }

  /** @param {Entry[]} entries */
  #table(entries) {
    const zone = this.period.zoneName;
    return html`
      <div class="scroll" tabindex="0" role="region" aria-label="Audit log">
        <table class="dense">
          <thead><tr><th scope="col">Time (${zone})</th><th scope="col">Action</th><th scope="col">Subject</th>
            <th scope="col">Actor</th><th scope="col" class="wide">From</th><th scope="col" class="wide">Detail</th></tr></thead>
          <tbody>${entries.map(entry => this.#row(entry, zone))}</tbody>
        </table>
      </div>
    `;
  }

  /**
   * @param {Entry} entry
   * @param {string} zone
   */
  #row({ recorded_at: at, action, subject, actor, origin, detail }, zone) {
    return html`
      <tr>
        <th scope="row">${clock(Math.floor(momentOf(at) / 1000) * 1000, zone)}</th>
        <td>${action}</td><td><bdi>${visible(subject)}</bdi></td>
        <td><a href=${addressOf("/ui/keys", { ...this.context.query, actor, cursor: undefined })} title="Only this actor"><bdi>${visible(actor)}</bdi></a></td>
        <td class="wide">${visible(origin)}</td>
        <td class="wide wrap">${Object.entries(detail).map(([name, value]) => html`<span class="detail"><span class="muted">${name}</span> ${visible(typeof value === "string" ? value : JSON.stringify(value))}</span> `)}</td>
      </tr>
    `;
  }
}
