/** Pages of dead letters, of which some are selected. */

import { get } from "../../api.js";
import { html, nothing, repeat } from "../../html.js";
import { failureNotice, loadingNotice } from "../../parts/notices.js";
import { Source } from "../../source.js";
import { addressOf } from "../../state/address.js";
import { grouped } from "../../state/numbers.js";
import { clock, momentOf } from "../../state/times.js";
import { visible } from "../../state/visible.js";
import { reasonName } from "./reasons.js";

/** @typedef {import("../../../records.js").DeadLetter} Letter */
/** @typedef {import("../../state/address.js").Values} Values */
/** @typedef {{letters: Letter[], next: string | undefined}} Page */

const HEX_SHOWN = 16;

export class ListPart {
  /** The ids of the selected ones, also of other pages. @type {Set<number>} */
  selected = new Set();

  /** @param {import("../../router.js").Context} context */
  constructor(context) {
    this.context = context;
    /** @type {Source<Page>} */
    this.source = new Source(context.refresh);
  }

  /** @param {Values} conditions */
  load(conditions) {
    const { cursor } = this.context.query;
    void this.source.load(async signal => {
      const { data, headers } = await get("/dead-letters", { ...conditions, cursor }, signal);
      return { letters: data, next: headers.get("X-Next-Cursor") ?? undefined };
    });
  }

  close() {
    this.source.close();
  }

  /**
   * @param {string} zone
   * @param {() => import("../../html.js").Content} whenEmpty
   */
  view(zone, whenEmpty) {
    const page = this.source.value;
    const { failure } = this.source;
    if (!page) return failure ? nothing : loadingNotice("the dead letters");
    return html`
      ${failureNotice(this.source.toTell)}
      ${page.letters.length === 0 ? whenEmpty() : this.#table(page.letters, zone)} ${this.#pages(page)}
    `;
  }

  /**
   * @param {Letter[]} letters
   * @param {string} zone
   */
  #table(letters, zone) {
    const chosen = letters.filter(({ id }) => this.selected.has(id)).length;
    return html`
      <div class="scroll" tabindex="0" role="region" aria-label="Dead letters" aria-busy=${this.source.isLoading}>
        <table class="dense letters">
          <thead>
            <tr>
              <th scope="col"><input type="checkbox" aria-label="Select all of this page" .checked=${chosen === letters.length} .indeterminate=${chosen > 0 && chosen < letters.length}
                @change=${(/** @type {Event} */ event) =>
                  this.#select(
                    letters.map(({ id }) => id),
                    event,
                  )}></th>
              <th scope="col">Received (${zone})</th><th scope="col">Reason</th><th scope="col" class="wide">What was wrong</th>
              <th scope="col">Topic</th><th scope="col" class="number wide">Readings</th><th scope="col" class="wide">Payload</th>
            </tr>
          </thead>
          <tbody>${repeat(
            letters,
            ({ id }) => id,
            letter => this.#row(letter, zone),
          )}</tbody>
        </table>
      </div>
    `;
  }

  /**
   * @param {Letter} letter
   * @param {string} zone
   */
  #row(letter, zone) {
    const { id, received_at: at, reason, detail, topic, readings } = letter;
    const { query } = this.context;
    const time = clock(Math.floor(momentOf(at) / 1000) * 1000, zone);
    return html`
      <tr aria-selected=${this.selected.has(id)}>
        <td><input type="checkbox" aria-label=${`Select dead letter ${id}`} .checked=${this.selected.has(id)} @change=${(/** @type {Event} */ event) => this.#select([id], event)}></td>
        <th scope="row"><a href=${addressOf("/ui/refused", { ...query, letter: String(id) })} title=${`Dead letter ${id}`}>${time}</a></th>
        <td>${reasonName(reason)}</td>
        <td class="wide cut"><bdi>${visible(detail)}</bdi></td>
        <td class="cut"><a href=${addressOf("/ui/refused", { ...query, topic, cursor: undefined })} title="Only this topic"><bdi>${visible(topic)}</bdi></a></td>
        <td class="number wide">${grouped(readings)}</td>
        <td class="wide cut"><code><bdi>${previewOf(letter)}</bdi></code></td>
      </tr>
    `;
  }

  /**
   * @param {number[]} ids
   * @param {Event} event
   */
  #select(ids, event) {
    const { checked } = /** @type {HTMLInputElement} */ (event.target);
    for (const id of ids) {
      if (checked) this.selected.add(id);
      else this.selected.delete(id);
    }
    this.context.refresh();
  }

  /** @param {Page} page */
  #pages({ next }) {
    const { query } = this.context;
    if (!query.cursor && !next) return nothing;
    /** @param {string | undefined} cursor */
    const to = cursor => addressOf("/ui/refused", { ...query, cursor });
    return html`
      <nav class="pages" aria-label="Pages">
        ${query.cursor ? html`<a class="button" href=${to(undefined)}>First page</a>` : nothing}
        ${next ? html`<a class="button" rel="next" href=${to(next)}>Next page</a>` : html`<span class="muted">This is the last page.</span>`}
      </nav>
    `;
  }
}

/** @param {Letter} letter */
function previewOf({ preview, preview_encoding: encoding, kept_bytes: kept, payload_bytes: all }) {
  if (kept === 0) return all ? "not kept" : "empty";
  if (encoding === "text") return visible(preview);
  const digits = Array.from(atob(preview).slice(0, HEX_SHOWN), byte =>
    byte.charCodeAt(0).toString(16).padStart(2, "0"),
  );
  return `${digits.join(" ")}${kept > HEX_SHOWN ? " …" : ""}`;
}
