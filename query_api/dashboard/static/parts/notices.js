/** Texts about failures, and about what is not there. */

import { Problem, Unreachable } from "../api.js";
import { html, nothing } from "../html.js";

/** @typedef {import("../html.js").Content} Content */

/**
 * Return a failure in the words of the API.
 *
 * @param {Problem | Unreachable | null} failure
 * @param {(() => void) | null} retry
 * @returns {Content}
 */
export function failureNotice(failure, retry = null) {
  if (failure === null) return nothing;
  const isProblem = failure instanceof Problem;
  const title = isProblem ? failure.details.title : "No connection";
  const isFinal = isProblem && failure.details.status === 403;
  const faults = isProblem ? (failure.details.errors ?? []) : [];
  return html`
    <div class="notice bad" role="alert">
      <p><strong>${title}.</strong> ${failure.message}</p>
      ${faults.length > 1 ? html`<ul>${faults.map(({ field, detail }) => html`<li><code>${field}</code>: ${detail}</li>`)}</ul>` : nothing}
      ${retry && !isFinal ? html`<button @click=${retry}>Try again</button>` : nothing}
    </div>
  `;
}

/**
 * @param {Content} text
 * @param {Content} [action]
 */
export function emptyNotice(text, action = nothing) {
  return html`<div class="notice"><p>${text}</p>${action}</div>`;
}

/** @param {string} what */
export function loadingNotice(what) {
  return html`<p class="loading" role="status">Reading ${what} …</p>`;
}
