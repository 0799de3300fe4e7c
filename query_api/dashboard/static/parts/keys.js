/** Keyboard shortcuts, and the dialog that lists them. They can be switched off (WCAG 2.1.4). */

import { html } from "../html.js";
import { prefer, preference } from "../preferences.js";
import { dialog } from "./dialog.js";

/**
 * @typedef {object} Shortcut
 * @property {string} key as KeyboardEvent.key
 * @property {string} label
 * @property {() => void} run
 */

const EDITABLE = "input:not([type=checkbox]):not([type=radio]), select, textarea, [contenteditable]";

export function areShortcutsOn() {
  return preference("shortcuts", "on") === "on";
}

/**
 * Run the shortcut of a key, unless the user types or a modifier is pressed.
 *
 * @param {KeyboardEvent} event
 * @param {Shortcut[]} shortcuts
 */
export function runShortcut(event, shortcuts) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || !areShortcutsOn()) return;
  if (event.target instanceof Element && event.target.closest(`${EDITABLE}, dialog`)) return;
  const found = shortcuts.find(({ key }) => key === event.key);
  if (!found) return;
  event.preventDefault();
  found.run();
}

/**
 * @param {Shortcut[]} shortcuts
 * @param {() => void} onClose
 */
export function keysDialog(shortcuts, onClose) {
  /** @param {Event} event */
  const toggle = event => prefer("shortcuts", /** @type {HTMLInputElement} */ (event.target).checked ? "on" : "off");
  const content = html`
    <dl class="keys">
      ${shortcuts.map(({ key, label }) => html`<div><dt><kbd>${key}</kbd></dt><dd>${label}</dd></div>`)}
    </dl>
    <h3>In a plot that has the focus</h3>
    <dl class="keys">
      ${PLOT_KEYS.map(([key, label]) => html`<div><dt><kbd>${key}</kbd></dt><dd>${label}</dd></div>`)}
    </dl>
    <h3>With a mouse or by touch</h3>
    <p>Drag over a plot to zoom in; double-click to zoom out. On a touch screen, drag sideways to select, pinch to zoom, and
      drag up or down to scroll the page.</p>
    <label class="check"><input type="checkbox" ?checked=${areShortcutsOn()} @change=${toggle}> Use the shortcuts of single keys</label>
  `;
  return dialog("Keyboard", content, onClose);
}

/** @type {Array<[string, string]>} */
const PLOT_KEYS = [
  ["← →", "Move the cursor by a point; with Shift, by ten"],
  ["+", "Zoom in around the cursor"],
  ["−", "Zoom out"],
  ["Esc", "Remove the cursor"],
];
