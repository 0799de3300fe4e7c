/** Access keys: list, create, rotate, revoke; and the audit log. */

import { get, Problem, send, Unreachable } from "../api.js";
import { html, nothing, repeat } from "../html.js";
import { copyBlock } from "../parts/copy.js";
import { dialog } from "../parts/dialog.js";
import { failureNotice, loadingNotice } from "../parts/notices.js";
import { ScreenPeriod } from "../parts/screen-period.js";
import { session } from "../session.js";
import { Repeat, Source } from "../source.js";
import { addressOf } from "../state/address.js";
import { age } from "../state/numbers.js";
import { clock, currentMoment, iso, momentOf, parse } from "../state/times.js";
import { visible } from "../state/visible.js";
import { AuditPart } from "./keys/audit.js";

/** @typedef {import("../../records.js").Key} Key */
/** @typedef {import("../../records.js").IssuedKey} IssuedKey */
/** @typedef {import("../router.js").Context} Context */
/** @typedef {import("../router.js").Screen} Screen */
/** @typedef {import("../state/address.js").Values} Values */
/** @typedef {{keys: Key[], next: string | undefined}} Page */
/** The dialog that is open. `made`: a new key with its secret. @typedef {{kind: "create" | "rotate" | "revoke", key: Key | null, made: IssuedKey | null}} Act */

const EVERY_MS = 10_000;
const STATES = ["valid", "expired", "revoked", "all"];
/** @type {Record<string, string>} */
const MAY = {
  analyst: "read, and run analyses now, in the queue and on schedules",
  writer: "store readings of all devices over HTTP",
  admin: "everything, also devices, keys and refused messages",
};
/** What an expiry is, in the grammar of times. @type {Array<[string, string]>} */
const EXPIRIES = [
  ["", "never"],
  ["now+7d", "in 7 days"],
  ["now+30d", "in 30 days"],
  ["now+90d", "in 90 days"],
  ["now+1y", "in a year"],
];
/** @type {Array<[string, string]>} */
const OVERLAPS = [
  ["", "not at all: it is revoked now"],
  ["300", "5 minutes"],
  ["3600", "1 hour"],
  ["86400", "1 day"],
  ["604800", "7 days"],
];

/**
 * @param {Context} context
 * @returns {Screen}
 */
export function open(context) {
  return new Keys(context);
}

/** @implements {Screen} */
class Keys {
  /** @type {Act | null} */
  #act = null;
  /** @type {Problem | Unreachable | null} */
  #failure = null;
  #isSending = false;

  /** @param {Context} context */
  constructor(context) {
    this.context = context;
    this.query = context.query;
    /** @type {Source<Page>} */
    this.page = new Source(context.refresh);
    this.period = new ScreenPeriod(context, { from: "now-30d", to: "now" }, () => this.#load());
    this.audit = new AuditPart(context, this.period);
    this.repeat = new Repeat(
      () => this.#load(),
      () => this.page.interval(EVERY_MS),
    );
    this.#load();
  }

  title() {
    return "Keys";
  }

  get shortcuts() {
    const create = { key: "n", label: "Create a key", run: () => this.#open("create", null) };
    return [...(this.page.value ? [create] : []), ...this.period.shortcuts];
  }

  /** @param {Values} query */
  update(query) {
    this.query = query;
    this.#load();
  }

  close() {
    this.repeat.close();
    this.page.close();
    this.audit.close();
  }

  #load() {
    const { state = "valid", keys: cursor } = this.query;
    void this.page.load(async signal => {
      const { data, headers } = await get("/keys", { state: state === "all" ? undefined : state, cursor }, signal);
      return { keys: data, next: headers.get("X-Next-Cursor") ?? undefined };
    });
    this.audit.load();
    this.repeat.plan();
  }

  view() {
    const page = this.page.value;
    const failure = failureNotice(this.page.toTell, () => this.#load());
    if (!page)
      return html`<div class="title"><h1 tabindex="-1">Keys</h1></div>${this.page.failure ? failure : loadingNotice("the keys")}`;
    return html`
      <div class="title"><h1 tabindex="-1">Keys</h1>${this.#states()}
        <button class="primary" @click=${() => this.#open("create", null)}>Create a key</button></div>
      ${failure} ${this.#list(page)} ${this.audit.view()} ${this.#act ? this.#dialog(this.#act) : nothing}
    `;
  }

  #states() {
    const { state: chosen = "valid" } = this.query;
    return html`
      <fieldset class="choice"><legend class="visually-hidden">State</legend>
        ${STATES.map(state => html`<label><input type="radio" name="state" .checked=${chosen === state} @change=${() => this.context.change({ state: state === "valid" ? undefined : state, keys: undefined })}>${state}</label>`)}
      </fieldset>
    `;
  }

  /** @param {Page} page */
  #list({ keys, next }) {
    const { query } = this;
    const now = currentMoment();
    /** @param {string | undefined} cursor */
    const to = cursor => addressOf("/ui/keys", { ...query, keys: cursor });
    if (keys.length === 0)
      return html`<div class="notice"><p>There is no ${query.state === "all" ? "" : (query.state ?? "valid")} key.</p></div>`;
    return html`
      <div class="scroll" tabindex="0" role="region" aria-label="Keys">
        <table class="dense access-keys">
          <thead><tr><th scope="col">Name</th><th scope="col">Role</th><th scope="col">Key</th><th scope="col" class="wide">Created</th>
            <th scope="col">Last used</th><th scope="col">Ends</th><th scope="col"><span class="visually-hidden">Actions</span></th></tr></thead>
          <tbody>${repeat(
            keys,
            ({ prefix }) => prefix,
            key => this.#row(key, now),
          )}</tbody>
        </table>
      </div>
      ${
        next || query.keys
          ? html`<nav class="pages" aria-label="Pages of keys">
              ${query.keys ? html`<a class="button" href=${to(undefined)}>First page</a>` : nothing}
              ${next ? html`<a class="button" rel="next" href=${to(next)}>Next page</a>` : html`<span class="muted">This is the last page.</span>`}
            </nav>`
          : html`<p class="muted">${keys.length === 1 ? "1 key" : `${keys.length} keys`}</p>`
      }
    `;
  }

  /**
   * @param {Key} key
   * @param {number} now
   */
  #row(key, now) {
    const isOwn = isOwnKey(key);
    return html`
      <tr>
        <th scope="row" class="wrap"><bdi>${visible(key.name) || html`<span class="muted">no name</span>`}</bdi></th>
        <td>${key.role}</td>
        <td><code>${key.prefix}</code> ${isOwn ? html`<span class="muted">yours</span>` : nothing}</td>
        <td class="wide">${this.#time(key.created_at)}</td>
        <td>${key.last_used_at === null ? html`<span class="muted">never</span>` : html`<time title=${this.#time(key.last_used_at)}>${age(momentOf(key.last_used_at), now)}</time>`}</td>
        <td>${this.#end(key)}</td>
        <td class="acts">${
          key.state === "valid"
            ? html`<button class="small" aria-label=${`Rotate ${key.prefix}`} @click=${() => this.#open("rotate", key)}>Rotate …</button>
              <button class="small" aria-label=${`Revoke ${key.prefix}`} @click=${() => this.#open("revoke", key)}>Revoke …</button>`
            : nothing
        }</td>
      </tr>
    `;
  }

  /** @param {Key} key */
  #end({ state, revoked_at: revoked, expires_at: expires }) {
    if (revoked !== null) return `revoked ${this.#time(revoked)}`;
    if (expires === null) return html`<span class="muted">never</span>`;
    return `${state === "expired" ? "expired " : ""}${this.#time(expires)}`;
  }

  /** @param {string} text */
  #time(text) {
    return clock(Math.floor(momentOf(text) / 1_000_000) * 1_000_000, this.period.zoneName);
  }

  /**
   * @param {Act["kind"]} kind
   * @param {Key | null} key
   */
  #open(kind, key) {
    this.#act = { kind, key, made: null };
    this.#failure = null;
    this.context.refresh();
  }

  #close() {
    this.#act = null;
    this.context.refresh();
  }

  /** @param {Act} act */
  #dialog(act) {
    const { kind, key, made } = act;
    const titles = { create: "Create a key", rotate: `Rotate ${key?.prefix}`, revoke: `Revoke ${key?.prefix}` };
    const content = made
      ? this.#secret(made, key)
      : key === null
        ? this.#creation()
        : kind === "rotate"
          ? this.#rotation(key)
          : this.#revocation(key);
    return dialog(titles[kind], html`${content} ${failureNotice(this.#failure)}`, () => this.#close());
  }

  #creation() {
    return html`
      <form class="key-form" @submit=${(/** @type {SubmitEvent} */ event) => this.#submit(event, "/keys", fields => ({ name: fields.name, role: fields.role, expires_at: this.#expiry(fields.expires) }))}>
        <label class="field"><span>Name: its owner or its purpose</span><input name="name" required autofocus maxlength="200" autocomplete="off" placeholder="Ada"></label>
        <fieldset class="roles"><legend>It may</legend>
          ${Object.entries(MAY).map(([role, text], at) => html`<label><input type="radio" name="role" value=${role} ?checked=${at === 0}><b>${role}</b>: ${text}</label>`)}
        </fieldset>
        ${this.#expirySelect("Expires", EXPIRIES)}
        <p class="row"><button class="primary" ?disabled=${this.#isSending}>Create</button></p>
      </form>
    `;
  }

  /** @param {Key} key */
  #rotation(key) {
    const isOwn = isOwnKey(key);
    const end = key.expires_at === null ? "never, as the old one" : `${this.#time(key.expires_at)}, as the old one`;
    const path = `/keys/${key.prefix}/rotate`;
    return html`
      <form class="key-form" @submit=${(/** @type {SubmitEvent} */ event) => this.#submit(event, path, fields => ({ grace_s: fields.grace ? Number(fields.grace) : null, expires_at: this.#expiry(fields.expires) }))}>
        <p>A new key with the role and the name of this one replaces it.</p>
        <label class="field"><span>The old key still works for</span>
          <select name="grace">${OVERLAPS.filter(([seconds]) => seconds || !isOwn).map(([seconds, text]) => html`<option value=${seconds} ?selected=${seconds === "3600"}>${text}</option>`)}</select>
        </label>
        ${isOwn ? html`<p class="hint">This is the key of your session, which ends with it. Sign in with the new key before.</p>` : nothing}
        ${this.#expirySelect("The new key expires", [["", end], ...EXPIRIES.slice(1)])}
        <p class="row"><button class="primary" ?disabled=${this.#isSending}>Rotate</button></p>
      </form>
    `;
  }

  /** @param {Key} key */
  #revocation(key) {
    if (isOwnKey(key))
      return html`<p>This is the key of your session. It cannot revoke itself, so that the last administrator is not locked out by a slip.
        Rotate it, or revoke it with another admin key or with <code>devicestat keys revoke</code>.</p>`;
    const used =
      key.last_used_at === null
        ? "It was never used."
        : `It was last used ${age(momentOf(key.last_used_at), currentMoment())}.`;
    return html`
      <p><bdi>${visible(key.name)}</bdi> (${key.role}) may ${MAY[key.role]}. ${used}</p>
      <p>Within a second, all programs that send this key are refused, and browsers that are signed in with it are signed out.
        ${key.role === "writer" ? "Devices that send their own tokens go on." : ""} This cannot be undone.</p>
      <p class="row"><button class="primary danger" autofocus ?disabled=${this.#isSending} @click=${() => this.#send("DELETE", `/keys/${key.prefix}`)}>Revoke</button>
        <button @click=${() => this.#close()}>Cancel</button></p>
    `;
  }

  /**
   * @param {IssuedKey} made
   * @param {Key | null} old
   */
  #secret(made, old) {
    return html`
      <p role="status">The key is shown only now, and not stored. Keep it like a password.</p>
      ${copyBlock(made.key, "the key")}
      <p class="hint">Programs send it as <code>Authorization: Bearer …</code>; a browser signs in with it.${old ? ` The old key is ${old.prefix}.` : ""}</p>
      <p class="row"><button @click=${() => this.#close()}>Close</button></p>
    `;
  }

  /**
   * @param {string} label
   * @param {Array<[string, string]>} choices
   */
  #expirySelect(label, choices) {
    return html`
      <label class="field"><span>${label}</span>
        <select name="expires">${choices.map(([value, text]) => html`<option value=${value}>${text}</option>`)}</select>
      </label>
    `;
  }

  /** @param {string | undefined} text */
  #expiry(text) {
    return text ? iso(parse(text, { now: currentMoment(), zone: this.period.zoneName })) : null;
  }

  /**
   * @param {SubmitEvent} event
   * @param {string} path
   * @param {(fields: Record<string, string>) => object} bodyOf
   */
  #submit(event, path, bodyOf) {
    event.preventDefault();
    const fields = new FormData(/** @type {HTMLFormElement} */ (event.target));
    /** @type {Record<string, string>} */
    const texts = {};
    for (const [name, value] of fields) texts[name] = String(value).trim();
    void this.#send("POST", path, bodyOf(texts));
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {object} [body]
   */
  async #send(method, path, body) {
    const act = this.#act;
    this.#isSending = true;
    this.#failure = null;
    this.context.refresh();
    try {
      const { data } = await send(method, path, { body });
      if (method === "DELETE") this.#act = null;
      else if (act) act.made = data;
    } catch (error) {
      if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
      this.#failure = error;
    }
    this.#isSending = false;
    this.#load();
  }
}

/** @param {Key} key */
function isOwnKey({ prefix }) {
  return session()?.prefix === prefix;
}
