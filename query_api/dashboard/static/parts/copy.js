/** A text to copy, such as a command. */

import { html } from "../html.js";

/**
 * @param {string} text
 * @param {string} label what the text is, for its button
 */
export function copyBlock(text, label) {
  return html`
    <div class="copy">
      <pre tabindex="0" aria-label=${label}><code>${text}</code></pre>
      ${copyButton(text, label)}
    </div>
  `;
}

/**
 * @param {string} text
 * @param {string} label
 */
export function copyButton(text, label) {
  return html`<button class="small" aria-label=${`Copy: ${label}`} @click=${(/** @type {Event} */ event) => copy(event, text)}>Copy</button>`;
}

/**
 * @param {Event} event
 * @param {string} text
 */
async function copy(event, text) {
  const button = /** @type {HTMLButtonElement} */ (event.currentTarget);
  const isDone = await written(text);
  const before = "Copy";
  button.textContent = isDone ? "Copied" : "Select and copy it";
  setTimeout(() => {
    button.textContent = before;
  }, 2000);
}

/** @param {string} text */
async function written(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return writtenBySelection(text); // without HTTPS a browser has no clipboard for scripts
  }
}

/** @param {string} text */
function writtenBySelection(text) {
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const isDone = document.execCommand("copy");
  area.remove();
  return isDone;
}
