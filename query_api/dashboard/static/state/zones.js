/**
 * Time zones, by the browser's Intl.
 *
 * A moment is a number of microseconds since 1970, as the API stores times. A wall time is the number of microseconds
 * since 1970 that a clock in the zone shows: the moment plus the offset of the zone.
 */

export const MILLISECOND = 1_000;
export const SECOND = 1_000_000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/** @type {Map<string, Intl.DateTimeFormat>} */
const formats = new Map();

/** @param {string} zone */
function formatOf(zone) {
  let format = formats.get(zone);
  if (format === undefined) {
    format = new Intl.DateTimeFormat("en-GB", {
      timeZone: zone,
      hourCycle: "h23",
      year: "numeric",
      month: "numeric",
      day: "numeric",
      hour: "numeric",
      minute: "numeric",
      second: "numeric",
    });
    formats.set(zone, format);
  }
  return format;
}

/** The name of the browser's time zone. */
export function browserZone() {
  return Intl.DateTimeFormat().resolvedOptions().timeZone;
}

/**
 * Return the IANA name of a zone in an address: browser, utc or a name.
 *
 * @param {string} name
 */
export function zoneOf(name) {
  if (name === "browser") return browserZone();
  return name.toLowerCase() === "utc" ? "UTC" : name;
}

/** @param {string} name */
export function isZone(name) {
  try {
    formatOf(zoneOf(name));
    return true;
  } catch {
    return false;
  }
}

/** The names of all zones that the browser knows. */
export function allZones() {
  return Intl.supportedValuesOf("timeZone");
}

/**
 * Return the offset of the zone from UTC in microseconds.
 *
 * @param {number} moment
 * @param {string} zone
 */
export function offsetAt(moment, zone) {
  if (zone === "UTC") return 0;
  const milliseconds = Math.floor(moment / SECOND) * 1000;
  /** @type {Record<string, number>} */
  const shown = {};
  for (const { type, value } of formatOf(zone).formatToParts(milliseconds)) shown[type] = Number(value);
  const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = shown;
  return (Date.UTC(year, month - 1, day, hour, minute, second) - milliseconds) * MILLISECOND;
}

/**
 * @param {number} moment
 * @param {string} zone
 */
export function toWall(moment, zone) {
  return moment + offsetAt(moment, zone);
}

/**
 * Return the first moment at which the wall time is shown. If the clocks skip it, return the end of the skip.
 *
 * @param {number} wall
 * @param {string} zone
 */
export function fromWall(wall, zone) {
  if (zone === "UTC") return wall;
  const offsets = [offsetAt(wall - DAY, zone), offsetAt(wall + DAY, zone)];
  const earliest = wall - Math.max(...offsets);
  const latest = wall - Math.min(...offsets);
  for (const moment of [earliest, latest]) {
    if (toWall(moment, zone) === wall) return moment;
  }
  return firstShowing(wall, zone, earliest, latest);
}

/**
 * Return the first whole second from which the zone shows at least the wall time.
 *
 * @param {number} wall
 * @param {string} zone
 * @param {number} before a moment that shows less
 * @param {number} after a moment that shows more
 */
function firstShowing(wall, zone, before, after) {
  let [low, high] = [Math.floor(before / SECOND), Math.ceil(after / SECOND)];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (toWall(middle * SECOND, zone) >= wall) high = middle;
    else low = middle;
  }
  return high * SECOND;
}

/**
 * Return the wall time at which the unit begins that contains the wall time. Weeks begin on Monday.
 *
 * @param {number} wall
 * @param {string} unit s, m, h, d, w, M, Q or y
 */
export function floorWall(wall, unit) {
  const date = new Date(Math.floor(wall / MILLISECOND));
  const [year, month, day] = [date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate()];
  switch (unit) {
    case "s":
      return Math.floor(wall / SECOND) * SECOND;
    case "m":
      return Math.floor(wall / MINUTE) * MINUTE;
    case "h":
      return Math.floor(wall / HOUR) * HOUR;
    case "d":
      return Math.floor(wall / DAY) * DAY;
    case "w":
      return Date.UTC(year, month, day - ((date.getUTCDay() + 6) % 7)) * MILLISECOND;
    case "M":
      return Date.UTC(year, month) * MILLISECOND;
    case "Q":
      return Date.UTC(year, month - (month % 3)) * MILLISECOND;
    default:
      return Date.UTC(year, 0) * MILLISECOND;
  }
}

/**
 * Add calendar units to a wall time. A day that the month does not have becomes its last day.
 *
 * @param {number} wall
 * @param {number} count
 * @param {string} unit d, w, M, Q or y
 */
export function addToWall(wall, count, unit) {
  if (unit === "d") return wall + count * DAY;
  if (unit === "w") return wall + count * 7 * DAY;
  const months = count * (unit === "y" ? 12 : unit === "Q" ? 3 : 1);
  const date = new Date(Math.floor(wall / MILLISECOND));
  const [year, month] = [date.getUTCFullYear(), date.getUTCMonth() + months];
  const day = Math.min(date.getUTCDate(), new Date(Date.UTC(year, month + 1, 0)).getUTCDate());
  const within = wall - Math.floor(wall / DAY) * DAY;
  return Date.UTC(year, month, day) * MILLISECOND + within;
}
