/** Devices that a list has shown: a screen of one of them begins with its record, instead of waiting for it. */

/** @typedef {import("../records.js").Device} Device */

/** @type {Map<string, Device>} */
const seen = new Map();
const MOST = 2_000;

/** @param {Device[]} devices */
export function remember(devices) {
  if (seen.size > MOST) seen.clear();
  for (const device of devices) seen.set(String(device.id), device);
}

/** @param {string} id */
export function lastSeen(id) {
  return seen.get(id) ?? null;
}
