/** The lines of several devices. */

import { nothing, svg } from "../../html.js";
import { dashOf } from "../../plot/colours.js";
import { AXES } from "../../state/series.js";
import { layoutOf } from "./axes.js";

/** @typedef {import("../../state/series.js").Axis} Axis */
/** @typedef {import("../../state/series.js").Line} Line */
/** @typedef {{times: number[], values: Array<number | null>}} Points */
/**
 * The points of a device. `ghost`: how the lines are called that are there for comparison.
 *
 * @typedef {{name: string, points: Record<Axis, Points>, ghost?: {name: string, points: Record<Axis, Points>} | null}} Drawn
 */

/**
 * Return the lines of the devices, axis by axis. Those of one device have the colours of their axes; those of several
 * have the colours of the devices or, on one scale, each its own.
 *
 * @param {Drawn[]} devices
 * @param {Axis[]} axes
 * @param {"apart" | "together"} layout
 * @returns {Line[]}
 */
export function linesOf(devices, axes, layout) {
  return axes.flatMap(axis =>
    devices.flatMap(({ name, points, ghost }, at) => {
      const style = styleOf(at, axis, devices.length, axes, layout);
      const called = nameOf(name, axis, devices.length, layout);
      const line = { name: called, style, pane: axis, ...points[axis] };
      if (!ghost) return [line];
      const ghostName = called === axis && layout === "apart" ? ghost.name : `${called}, ${ghost.name}`;
      return [{ name: ghostName, style, pane: axis, isGhost: true, ...ghost.points[axis] }, line];
    }),
  );
}

/**
 * @param {number} device
 * @param {Axis} axis
 * @param {number} count of devices
 * @param {Axis[]} axes
 * @param {"apart" | "together"} layout
 */
function styleOf(device, axis, count, axes, layout) {
  if (count === 1) return AXES.indexOf(axis);
  return layout === "together" ? device * axes.length + axes.indexOf(axis) : device;
}

/**
 * @param {string} device
 * @param {Axis} axis
 * @param {number} count
 * @param {"apart" | "together"} layout
 */
function nameOf(device, axis, count, layout) {
  if (count === 1) return axis;
  return layout === "together" ? `${device} ${axis}` : device;
}

/**
 * Return a picture of the line of a device, for texts about it; nothing if each of its axes has another line.
 *
 * @param {import("../../state/address.js").Values} query
 * @param {number} count of devices
 * @param {number} style
 */
export function lineSample(query, count, style) {
  if (count === 1 || layoutOf(query) === "together") return nothing;
  return svg`<svg class=${`sample line-${style % 6}`} viewBox="0 0 28 8" aria-hidden="true"><line x1="0" y1="4" x2="28" y2="4" stroke-dasharray=${dashOf(style).join(" ")}></line></svg>`;
}
