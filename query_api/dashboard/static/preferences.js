/** Choices that stay in this browser. The state of a screen is in its address instead. */

const PREFIX = "devicestat.";

/**
 * @param {string} name
 * @param {string} otherwise
 */
export function preference(name, otherwise) {
  return localStorage.getItem(PREFIX + name) ?? otherwise;
}

/**
 * @param {string} name
 * @param {string} value
 */
export function prefer(name, value) {
  localStorage.setItem(PREFIX + name, value);
}

/** @typedef {"system" | "light" | "dark"} Theme */

/** @returns {Theme} */
export function theme() {
  return /** @type {Theme} */ (preference("theme", "system"));
}

/**
 * Set the theme. Canvases are drawn again at the event `themechange`.
 *
 * @param {Theme} chosen
 */
export function setTheme(chosen) {
  prefer("theme", chosen);
  document.documentElement.dataset.theme = chosen;
  window.dispatchEvent(new Event("themechange"));
}

/** Tell canvases of a change of the system's theme. */
export function watchSystemTheme() {
  const changed = () => window.dispatchEvent(new Event("themechange"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
}
