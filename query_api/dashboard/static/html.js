/** lit-html and its directives, from one place. */

export { live } from "../node_modules/lit-html/directives/live.js";
export { ref } from "../node_modules/lit-html/directives/ref.js";
export { repeat } from "../node_modules/lit-html/directives/repeat.js";
export { html, noChange, nothing, render, svg } from "../node_modules/lit-html/lit-html.js";

/** @typedef {import("../node_modules/lit-html/lit-html.js").TemplateResult | typeof import("../node_modules/lit-html/lit-html.js").nothing | string} Content */
