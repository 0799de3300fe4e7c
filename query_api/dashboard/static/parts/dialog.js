/** A modal dialog. */

import { html, ref } from "../html.js";

/** @typedef {import("../html.js").Content} Content */

let number = 0;

/**
 * @param {string} title
 * @param {Content} content
 * @param {() => void} onClose
 */
export function dialog(title, content, onClose) {
  number += 1;
  const id = `dialog-title-${number}`;
  return html`
    <dialog aria-labelledby=${id} @close=${onClose} ${ref(showModal)}>
      <header>
        <h2 id=${id}>${title}</h2>
        <form method="dialog"><button class="quiet" aria-label="Close">✕</button></form>
      </header>
      <div class="dialog-body">${content}</div>
    </dialog>
  `;
}

/** @param {Element | undefined} element */
function showModal(element) {
  if (element instanceof HTMLDialogElement && !element.open) {
    // The element is not in the document yet when lit-html calls this.
    queueMicrotask(() => {
      if (!element.isConnected || element.open) return;
      element.showModal();
      focusFirstField(element);
    });
  }
}

/**
 * Focus the first field, and not the button that closes the dialog, unless the dialog names what to focus.
 *
 * @param {Element} element
 */
function focusFirstField(element) {
  const field = element.querySelector(".dialog-body :is(input, select, textarea):enabled");
  if (!element.querySelector("[autofocus]") && field instanceof HTMLElement) field.focus();
}
