/** Commands and programs to copy. */

import { addressOf } from "./address.js";

/** @typedef {import("./address.js").Values} Values */

/**
 * Quote a text for a POSIX shell.
 *
 * @param {string} text
 */
export function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/**
 * Return the command that publishes a reading of a device.
 *
 * @param {{token: string, mqtt_username: string, mqtt: {topic: string, port: number | null, tls: boolean | null}}} device
 * @param {string} host of the broker
 */
export function publishLine({ token, mqtt_username: name, mqtt: { topic, port, tls } }, host) {
  const user = quoted(name);
  const place = `-h ${quoted(host)}${port && port !== 1883 ? ` -p ${port}` : ""}${tls ? " --cafile ca.pem" : ""}`;
  return `mosquitto_pub ${place} -q 1 \\
  -u ${user} -i ${user} -P ${quoted(token)} \\
  -t ${quoted(topic)} -m '{"x": 1, "y": 2, "z": 3}'`;
}

/**
 * Return the command that stores a reading of a device over HTTP.
 *
 * @param {{id: number, token: string}} device
 * @param {string} origin of the API
 */
export function curlLine({ id, token }, origin) {
  return `curl -X POST ${quoted(`${origin}/stats`)} \\
  -H ${quoted(`Authorization: Bearer ${token}`)} \\
  -H 'Content-Type: application/json' \\
  -d '{"device_id": ${id}, "x": 1, "y": 2, "z": 3}'`;
}

/**
 * Return the query of a file of readings with times in a zone. The API writes UTC without one.
 *
 * @param {Values} period start and end
 * @param {string} zone an IANA name
 * @returns {Values}
 */
export function zoned(period, zone) {
  return { ...period, timezone: zone === "UTC" ? undefined : zone };
}

/**
 * Return programs that read the readings of a period, by name.
 *
 * @param {string} origin
 * @param {string} device
 * @param {{start: string, end: string, zone: string}} period `zone`: an IANA name
 * @param {boolean} isClosed whether the API asks for a key
 * @returns {Array<[string, string]>}
 */
export function programs(origin, device, { start, end, zone }, isClosed) {
  const file = `${origin}/stats/${device}.csv`;
  const url = addressOf(file, zoned({ start, end }, zone));
  return [
    ["curl", curlProgram(url, device, isClosed)],
    ["Python", pythonProgram(url, isClosed)],
    ["pandas", pandasProgram(addressOf(file, { start, end }), zone, isClosed)],
  ];
}

/**
 * @param {string} url
 * @param {string} device
 * @param {boolean} isClosed
 */
function curlProgram(url, device, isClosed) {
  const key = isClosed ? ` -H "Authorization: Bearer $DEVICESTAT_API_KEY"` : "";
  return `curl --fail${key} -o device-${device}.csv \\\n  ${quoted(url)}`;
}

/**
 * @param {string} url
 * @param {boolean} isClosed
 */
function pythonProgram(url, isClosed) {
  return [
    "import csv",
    ...(isClosed ? ["import os"] : []),
    "from urllib.request import Request, urlopen",
    "",
    `request = Request(${JSON.stringify(url)})`,
    ...(isClosed ? ['request.add_header("Authorization", f"Bearer {os.environ[\'DEVICESTAT_API_KEY\']}")'] : []),
    "with urlopen(request) as answer:",
    "    lines = (line.decode() for line in answer)",
    "    for reading in csv.DictReader(lines):",
    "        print(reading)",
  ].join("\n");
}

/**
 * Pandas reads times of one offset only, so it reads UTC and converts.
 *
 * @param {string} url
 * @param {string} zone
 * @param {boolean} isClosed
 */
function pandasProgram(url, zone, isClosed) {
  return [
    ...(isClosed ? ["import os"] : []),
    "import pandas",
    "",
    "readings = pandas.read_csv(",
    `    ${JSON.stringify(url)},`,
    '    parse_dates=["timestamp"],',
    ...(isClosed ? ['    storage_options={"Authorization": f"Bearer {os.environ[\'DEVICESTAT_API_KEY\']}"},'] : []),
    ")",
    ...(zone === "UTC" ? [] : [`readings["timestamp"] = readings["timestamp"].dt.tz_convert(${JSON.stringify(zone)})`]),
    "print(readings.describe())",
  ].join("\n");
}
