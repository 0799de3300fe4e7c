/** One dead letter: what was wrong, and where in the payload. */

import { get } from "../../api.js";
import { html, nothing } from "../../html.js";
import { copyButton } from "../../parts/copy.js";
import { dialog } from "../../parts/dialog.js";
import { failureNotice, loadingNotice } from "../../parts/notices.js";
import { Source } from "../../source.js";
import { grouped } from "../../state/numbers.js";
import { clock, momentOf } from "../../state/times.js";
import { visible } from "../../state/visible.js";
import { around, bytesOf, hexRows, textParts } from "./payload.js";
import { REASONS, reasonName } from "./reasons.js";

/** @typedef {import("../../../records.js").WholeDeadLetter} Letter */
/** @typedef {import("../../../records.js").LetterFault} Fault */
/** @typedef {import("./payload.js").Place} Place */
/** @typedef {import("./payload.js").Part} Part */
/** @typedef {{letter: Letter, bytes: Uint8Array}} Read */

/** Bytes of a payload that are shown at once. */
const SHOWN = 2048;
const NARROW = matchMedia("(max-width: 640px)");

export class LetterPart {
  #chosen = 0;
  #start = 0;
  #id = "";

  /** @param {() => void} refresh */
  constructor(refresh) {
    this.refresh = refresh;
    /** @type {Source<Read>} */
    this.source = new Source(refresh);
  }

  /** @param {string | undefined} id undefined: none is open */
  open(id) {
    if (id === (this.#id || undefined)) return;
    this.#id = id ?? "";
    this.source.close();
    this.source.value = null;
    this.source.failure = null;
    if (id) this.load();
  }

  load() {
    const id = this.#id;
    if (!id) return;
    void this.source.load(async signal => {
      const letter = (await get(`/dead-letters/${encodeURIComponent(id)}`, {}, signal)).data;
      const read = { letter, bytes: bytesOf(letter.hex) };
      this.#choose(read, 0);
      return read;
    });
  }

  close() {
    this.source.close();
  }

  /**
   * @param {Read} read
   * @param {number} number of a fault
   */
  #choose({ letter, bytes }, number) {
    this.#chosen = number;
    this.#start = around(bytes.length, placeOf(letter.faults[number])?.start ?? 0, SHOWN).start;
    this.refresh();
  }

  /**
   * @param {string} zone
   * @param {{close: () => void, replay: (id: number) => void, purge: (id: number) => void}} acts
   */
  view(zone, acts) {
    if (!this.#id) return nothing;
    const read = this.source.value;
    const content = html`
      ${failureNotice(this.source.failure, () => this.load())}
      ${read ? html`${facts(read.letter, zone)} ${this.#faults(read)} ${this.#payload(read)} ${buttons(read.letter, acts)}` : this.source.failure ? nothing : loadingNotice("the dead letter")}
    `;
    return html`<div class="letter">${dialog(`Dead letter ${this.#id}`, content, acts.close)}</div>`;
  }

  /** @param {Read} read */
  #faults(read) {
    const { faults, reasons, refused_elements: elements } = read.letter;
    const total = Object.values(reasons).reduce((one, other) => one + other, 0);
    return html`
      <div>
        <h3>What was wrong</h3>
        <ul class="faults">${faults.map((fault, number) => this.#fault(read, fault, number))}</ul>
        ${
          total > faults.length
            ? html`<p class="hint">${grouped(total)} readings were refused: ${Object.entries(reasons)
                .map(([reason, count]) => `${reasonName(reason)} ${grouped(count)}`)
                .join(", ")}. These are the first faults, and the first of each reason.</p>`
            : nothing
        }
        ${elements ? html`<p class="hint">Refused elements of the array: ${rangesOf(elements)}. The others are stored.</p>` : nothing}
      </div>
    `;
  }

  /**
   * @param {Read} read
   * @param {Fault} fault
   * @param {number} number
   */
  #fault(read, fault, number) {
    const place = placeOf(fault);
    const where = [fault.index === null ? "" : `element ${fault.index}`, placeName(place, read.bytes.length)]
      .filter(Boolean)
      .join(", ");
    return html`
      <li>
        <strong title=${REASONS[fault.reason]?.[1] ?? ""}>${reasonName(fault.reason)}.</strong> <bdi>${visible(fault.detail)}</bdi>
        ${where ? html`<span class="muted">(${where})</span>` : nothing}
        ${place && read.letter.faults.length > 1 ? html`<button class="small" aria-pressed=${number === this.#chosen} @click=${() => this.#choose(read, number)}>Show</button>` : nothing}
      </li>
    `;
  }

  /** @param {Read} read */
  #payload({ letter, bytes }) {
    const shown = { start: this.#start, end: Math.min(this.#start + SHOWN, bytes.length) };
    const places = /** @type {Place[]} */ (letter.faults.map(placeOf).filter(Boolean));
    const chosen = placeOf(letter.faults[this.#chosen]);
    if (bytes.length === 0)
      return html`<p class="muted">${letter.payload_bytes ? "The payload was not kept." : "The payload is empty."}</p>`;
    return html`
      <div class="payload">
        <header><h3>Payload</h3><span class="muted">${sizeOf(letter)}</span></header>
        ${bytes.length > SHOWN ? this.#steps(bytes.length, shown) : nothing}
        <header><h4>${letter.text === null ? "Text (it is not UTF-8)" : "Text"}</h4>${letter.text === null ? nothing : copyButton(letter.text, "text")}</header>
        <pre class="text" dir="ltr" tabindex="0" role="region" aria-label="Payload as text">${textParts(bytes, shown, places, chosen).map(marked)}</pre>
        <header><h4>Hexadecimal</h4>${copyButton(letter.hex, "hexadecimal digits")}</header>
        <pre class="hex" dir="ltr" tabindex="0" role="region" aria-label="Payload as hexadecimal digits">${hexRows(bytes, shown, places, chosen, NARROW.matches ? 8 : 16).map(row)}</pre>
      </div>
    `;
  }

  /**
   * @param {number} length
   * @param {Place} shown
   */
  #steps(length, { start, end }) {
    /** @param {number} to */
    const go = to => {
      this.#start = Math.max(0, to);
      this.refresh();
    };
    return html`
      <p class="row steps-of">
        <button class="small" ?disabled=${start === 0} @click=${() => go(0)}>Start</button>
        <button class="small" ?disabled=${start === 0} @click=${() => go(start - SHOWN)}>Earlier</button>
        <span>bytes ${grouped(start)} to ${grouped(end)} of ${grouped(length)}</span>
        <button class="small" ?disabled=${end === length} @click=${() => go(start + SHOWN)}>Later</button>
        <button class="small" ?disabled=${end === length} @click=${() => go(around(length, length, SHOWN).start)}>End</button>
      </p>
    `;
  }
}

/**
 * @param {Letter} letter
 * @param {string} zone
 */
function facts(letter, zone) {
  const { received_until: until, messages } = letter;
  return html`
    <dl class="facts-of">
      <dt>Received</dt><dd>${clock(momentOf(letter.received_at), zone)}${until ? ` to ${clock(momentOf(until), zone)}` : ""} <span class="muted">${zone}</span></dd>
      <dt>Topic</dt><dd><code><bdi>${visible(letter.topic)}</bdi></code></dd>
      ${letter.content_type === null ? nothing : html`<dt>Content type</dt><dd><bdi>${visible(letter.content_type)}</bdi></dd>`}
      <dt>Reason</dt><dd>${reasonName(letter.reason)}: ${REASONS[letter.reason]?.[1] ?? ""}</dd>
      ${messages > 1 ? html`<dt>Messages</dt><dd>${grouped(messages)}</dd>` : nothing}
    </dl>
    ${letter.missing === null ? nothing : html`<div class="notice"><p>It cannot be replayed: ${letter.missing}.</p></div>`}
  `;
}

/**
 * @param {Letter} letter
 * @param {{replay: (id: number) => void, purge: (id: number) => void}} acts
 */
function buttons({ id, missing }, { replay, purge }) {
  return html`
    <p class="row">
      ${missing === null ? html`<button class="primary" @click=${() => replay(id)}>Replay …</button>` : nothing}
      <button @click=${() => purge(id)}>Delete …</button>
    </p>
  `;
}

/** @param {Part} part */
function marked({ text, mark, isEnd }) {
  if (!mark) return text;
  return html`<mark class=${mark === 2 ? "chosen" : ""}>${isEnd ? "⟨the payload ends here⟩" : text}</mark>`;
}

/** @param {import("./payload.js").Row} row */
function row({ offset, hex, characters }) {
  const digits = hex.map((part, at) => [
    at ? " " : "",
    part.isEnd ? html`<mark class="chosen" title="The payload ends here">⟨end⟩</mark>` : marked(part),
  ]);
  const ascii = characters.filter(({ isEnd }) => !isEnd).map(marked);
  return html`<span class="hex-row"><span class="muted">${offset}</span><span>${digits}</span><span>${ascii}</span></span>`;
}

/** @param {Fault | undefined} fault */
function placeOf(fault) {
  const { start_byte: start, end_byte: end } = fault ?? {};
  return typeof start === "number" && typeof end === "number" ? { start, end } : null;
}

/**
 * @param {Place | null} place
 * @param {number} length
 */
function placeName(place, length) {
  if (!place) return "";
  const { start, end } = place;
  if (start === end)
    return start === length ? `behind byte ${grouped(length)}, the last one` : `at byte ${grouped(start)}`;
  return end - start === 1 ? `byte ${grouped(start)}` : `bytes ${grouped(start)} to ${grouped(end - 1)}`;
}

/** @param {Letter} letter */
function sizeOf({ payload_bytes: length, kept_bytes: kept }) {
  const all = length === 1 ? "1 byte" : `${grouped(length)} bytes`;
  return kept < length ? `the first ${grouped(kept)} of ${all}` : all;
}

/** @param {Array<unknown>} elements pairs of the first and the last index */
function rangesOf(elements) {
  return /** @type {Array<[number, number]>} */ (elements)
    .map(([first, last]) => (first === last ? String(first) : `${first}–${last}`))
    .join(", ");
}
