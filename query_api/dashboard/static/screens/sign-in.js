/** Signing in with a key. */

import { Problem, Unreachable } from "../api.js";
import { html, nothing } from "../html.js";
import { failureNotice } from "../parts/notices.js";
import { reasonOfEnd, signIn } from "../session.js";

/** @typedef {import("../router.js").Context} Context */
/** @typedef {import("../router.js").Screen} Screen */

/**
 * @param {Context} context
 * @returns {Screen}
 */
export function open(context) {
  return new SignIn(context);
}

/** @implements {Screen} */
class SignIn {
  /** @type {Problem | Unreachable | null} */
  #failure = null;
  #isSending = false;

  /** @param {Context} context */
  constructor(context) {
    this.context = context;
  }

  title() {
    return "Sign in";
  }

  update() {}

  close() {}

  view() {
    return html`
      <section class="card sign-in">
        <h1 tabindex="-1">Sign in</h1>
        ${reasonOfEnd() ? html`<div class="notice bad" role="alert"><p><strong>You were signed out.</strong> ${reasonOfEnd()}</p></div>` : nothing}
        <p>Type an access key of this service. An administrator creates it with <code>devicestat keys create</code>.</p>
        <form @submit=${(/** @type {SubmitEvent} */ event) => this.#submit(event)}>
          <label class="field"><span>Access key</span>
            <input name="key" type="password" required autocomplete="current-password" spellcheck="false" placeholder="dsk_…">
          </label>
          <button class="primary" ?disabled=${this.#isSending}>Sign in</button>
        </form>
        ${failureNotice(this.#failure)}
      </section>
    `;
  }

  /** @param {SubmitEvent} event */
  async #submit(event) {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    this.#isSending = true;
    this.#failure = null;
    this.context.refresh();
    try {
      await signIn(String(new FormData(form).get("key")).trim());
      this.context.leave(this.context.query.next ?? "/");
    } catch (error) {
      if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
      this.#failure = error;
    }
    this.#isSending = false;
    this.context.refresh();
  }
}
