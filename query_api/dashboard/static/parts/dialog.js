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
    queueMicrotask(() => element.isConnected && !element.open && element.showModal());
  }
}
