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

/** A file of readings: the address and, if the API asks for one, a key. @typedef {{url: string, isClosed: boolean}} Wanted */

/**
 * Return programs that read the readings of a period, by name.
 *
 * @param {string} origin
 * @param {string} device
 * @param {Values} period start and end
 * @param {boolean} isClosed whether the API asks for a key
 * @returns {Array<[string, string]>}
 */
export function programs(origin, device, period, isClosed) {
  const url = origin + addressOf(`/stats/${device}.csv`, period);
  return [
    ["curl", curlProgram(url, device, isClosed)],
    ["Python", pythonProgram(url, isClosed)],
    ["pandas", pandasProgram(url, isClosed)],
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
 * @param {string} url
 * @param {boolean} isClosed
 */
function pandasProgram(url, isClosed) {
  return [
    ...(isClosed ? ["import os"] : []),
    "import pandas",
    "",
    "readings = pandas.read_csv(",
    `    ${JSON.stringify(url)},`,
    '    parse_dates=["timestamp"],',
    ...(isClosed ? ['    storage_options={"Authorization": f"Bearer {os.environ[\'DEVICESTAT_API_KEY\']}"},'] : []),
    ")",
    "print(readings.describe())",
  ].join("\n");
}
