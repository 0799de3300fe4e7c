/**
 * uPlot with its types. The page loads it as a classic script before the modules, since the package has no small module
 * (22 KB compressed instead of 42).
 */

/** @typedef {import("uplot")} UPlot */
/** @typedef {import("uplot").Options} Options */

/** @type {typeof import("uplot")} */
export const UPlot = /** @type {any} */ (globalThis).uPlot;
