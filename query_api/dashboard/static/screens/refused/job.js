/** Replays or deletes dead letters after a confirmation, in as many requests as it takes, and shows what became of each. */

import { Problem, send, Unreachable } from "../../api.js";
import { html, nothing } from "../../html.js";
import { dialog } from "../../parts/dialog.js";
import { failureNotice } from "../../parts/notices.js";
import { addressOf } from "../../state/address.js";
import { grouped } from "../../state/numbers.js";
import { visible } from "../../state/visible.js";
import { reasonName } from "./reasons.js";

/** @typedef {import("../../../records.js").ReplayOutcome} Outcome */
/** @typedef {import("../../../records.js").ReplayOutcomes} Outcomes */
/** @typedef {import("../../../records.js").Purged} Purged */
/** Dead letters: by their ids in order, or by conditions. @typedef {{ids?: number[], conditions?: import("../../state/address.js").Values, count: number}} Chosen */

const AT_ONCE = 200;
/** Outcomes that are listed. The numbers above the list are of all. */
const LISTED = 500;

export class Job {
  /** @type {"asked" | "running" | "stopped" | "done"} */
  state = "asked";
  /** @type {Problem | Unreachable | null} */
  failure = null;
  done = 0;
  /** @type {Outcome[]} */
  #outcomes = [];
  #totals = { stored: 0, duplicates: 0, incomplete: 0, gone: 0, held: 0, cut_off: 0, deleted: 0 };
  /** @type {Record<string, number>} */
  #refused = {};
  /** @type {number | null} */
  #after = null;
  #isStopping = false;

  /**
   * @param {"replay" | "purge"} kind
   * @param {Chosen} chosen
   * @param {{refresh: () => void, finished: () => void, close: () => void}} acts
   */
  constructor(kind, chosen, acts) {
    this.kind = kind;
    this.chosen = chosen;
    this.acts = acts;
  }

  /** The ids that are not deleted yet, or not asked for yet. */
  get #ids() {
    return this.chosen.ids?.slice(this.done, this.done + AT_ONCE);
  }

  async run() {
    this.state = "running";
    this.failure = null;
    this.#isStopping = false;
    this.acts.refresh();
    try {
      while (!this.#isStopping && (await (this.kind === "replay" ? this.#replay() : this.#purge())));
      this.state = this.#isStopping && this.done < this.chosen.count ? "stopped" : "done";
    } catch (error) {
      if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
      this.failure = error;
      this.state = "stopped";
    }
    this.acts.finished();
    this.acts.refresh();
  }

  /** Replay some; return whether more are left. */
  async #replay() {
    const ids = this.#ids;
    const given = ids
      ? { ids, limit: AT_ONCE }
      : { ...this.chosen.conditions, up_to: Number(this.chosen.conditions?.up_to), limit: AT_ONCE };
    const body = this.#after === null || ids ? given : { ...given, after: this.#after };
    /** @type {Outcomes} */
    const { outcomes, next_after: after } = (await send("POST", "/dead-letters/replay", { body })).data;
    for (const outcome of outcomes) this.#note(outcome);
    if (!ids) {
      this.done += outcomes.length;
      this.#after = after;
      this.acts.refresh();
      return after !== null;
    }
    // Those of the ids that are gone have no outcome. They are in ascending order.
    const reached = after === null ? ids.length : ids.findIndex(id => id > after);
    const known = new Set(outcomes.map(({ id }) => id));
    for (const id of ids.slice(0, reached))
      if (!known.has(id)) this.#note({ id, outcome: "gone", stored: 0, duplicates: 0, refused: {}, detail: "" });
    this.done += reached;
    this.acts.refresh();
    return this.done < ids.length || this.done < this.chosen.count;
  }

  /** Delete some; return whether more are left. */
  async #purge() {
    const ids = this.#ids;
    const path = ids
      ? `/dead-letters?${ids.map(id => `id=${id}`).join("&")}`
      : addressOf("/dead-letters", this.chosen.conditions ?? {});
    /** @type {Purged} */
    const { deleted, left } = (await send("DELETE", path)).data;
    this.#totals.gone += ids && left === 0 ? ids.length - deleted : 0;
    this.#totals.deleted += deleted;
    this.done += ids ? (left ? 0 : ids.length) : deleted;
    this.acts.refresh();
    return left > 0 || (ids !== undefined && this.done < this.chosen.count);
  }

  /** @param {Outcome} outcome */
  #note(outcome) {
    this.#totals.stored += outcome.stored ?? 0;
    this.#totals.duplicates += outcome.duplicates ?? 0;
    if (outcome.outcome !== "replayed") this.#totals[outcome.outcome] += 1;
    for (const [reason, count] of Object.entries(outcome.refused ?? {}))
      this.#refused[reason] = (this.#refused[reason] ?? 0) + count;
    if (this.#outcomes.length < LISTED) this.#outcomes.push(outcome);
  }

  close() {
    this.#isStopping = true;
  }

  view() {
    const many = lettersOf(this.chosen.count);
    const title = this.kind === "replay" ? `Replay ${many}` : `Delete ${many}`;
    return dialog(title, this.state === "asked" ? this.#question() : this.#progress(), this.acts.close);
  }

  #question() {
    const isReplay = this.kind === "replay";
    const many = lettersOf(this.chosen.count);
    return html`
      <p>${
        isReplay
          ? `The refused readings of ${many} are decoded again. Those that are valid now are stored, each once. The others stay here.`
          : `This deletes ${many} with their payloads. They cannot be restored or replayed.`
      }</p>
      <p class="row">
        <button class=${isReplay ? "primary" : "primary danger"} autofocus @click=${() => this.run()}>${isReplay ? "Replay" : "Delete"} ${many}</button>
        <button @click=${this.acts.close}>Cancel</button>
      </p>
    `;
  }

  #progress() {
    const { count } = this.chosen;
    return html`
      ${this.state === "running" ? html`<label class="field"><span>${grouped(this.done)} of ${grouped(count)}</span><progress max=${count} value=${this.done}></progress></label>` : nothing}
      <div role="status">${this.state === "running" ? nothing : this.#summary()}</div>
      ${failureNotice(this.failure)} ${this.kind === "replay" && this.#outcomes.length ? this.#list() : nothing}
      <p class="row">
        ${this.state === "running" ? html`<button @click=${() => this.close()}>Stop</button>` : nothing}
        ${this.state === "stopped" ? html`<button class="primary" @click=${() => this.run()}>Continue</button>` : nothing}
        ${this.state === "running" ? nothing : html`<button @click=${this.acts.close}>Close</button>`}
      </p>
    `;
  }

  #summary() {
    const { stored, duplicates, incomplete, gone, held, cut_off: cutOff, deleted } = this.#totals;
    const rest =
      this.state === "stopped" ? `Stopped: ${grouped(this.done)} of ${grouped(this.chosen.count)} were done.` : "";
    if (this.kind === "purge")
      return html`<p>${lettersOf(deleted)} deleted. ${gone ? `${grouped(gone)} were gone already.` : ""} ${rest}</p>`;
    const refused = Object.entries(this.#refused);
    return html`
      <ul class="outcome">
        <li>${readingsOf(stored)} stored</li>
        ${duplicates ? html`<li>${readingsOf(duplicates)} stored already</li>` : nothing}
        ${refused.map(([reason, count]) => html`<li>${readingsOf(count)} refused again: ${reasonName(reason).toLowerCase()}</li>`)}
        ${incomplete ? html`<li>${lettersOf(incomplete)} skipped: the payload was not fully kept</li>` : nothing}
        ${gone ? html`<li>${lettersOf(gone)} gone: replayed or deleted before</li>` : nothing}
        ${held ? html`<li>${lettersOf(held)} skipped: locked by another transaction</li>` : nothing}
        ${cutOff ? html`<li>${lettersOf(cutOff)} not replayed: took too long</li>` : nothing}
      </ul>
      <p>${rest}</p>
    `;
  }

  #list() {
    return html`
      <div class="scroll" tabindex="0" role="region" aria-label="Outcomes">
        <table class="dense">
          <thead><tr><th scope="col">Dead letter</th><th scope="col">Outcome</th></tr></thead>
          <tbody>${this.#outcomes.map(one => html`<tr><th scope="row">${one.id}</th><td class="wrap">${outcomeOf(one)}</td></tr>`)}</tbody>
        </table>
      </div>
      ${this.done > LISTED ? html`<p class="hint">The list has the first ${LISTED} of ${grouped(this.done)}. The numbers are of all.</p>` : nothing}
    `;
  }
}

/** @param {Outcome} outcome */
function outcomeOf({ outcome, stored = 0, duplicates = 0, refused = {}, detail }) {
  if (outcome === "gone") return "gone: replayed or deleted before";
  if (outcome === "held") return "skipped: locked by another transaction, such as another replay";
  if (outcome === "cut_off") return "not replayed: took too long. Replay it again";
  if (outcome === "incomplete") return `skipped: ${detail}`;
  const again = Object.values(refused).reduce((one, other) => one + other, 0);
  const parts = [
    stored ? `${readingsOf(stored)} stored` : "",
    duplicates ? `${readingsOf(duplicates)} stored already` : "",
    again ? `${readingsOf(again)} refused again: ${visible(detail ?? "")}` : "",
  ];
  return parts.filter(Boolean).join("; ");
}

/** @param {number} count */
function lettersOf(count) {
  return count === 1 ? "1 dead letter" : `${grouped(count)} dead letters`;
}

/** @param {number} count */
function readingsOf(count) {
  return count === 1 ? "1 reading" : `${grouped(count)} readings`;
}
