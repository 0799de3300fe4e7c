/** Commands and programs to copy. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { curlLine, programs, publishLine, quoted } from "../../query_api/dashboard/static/state/commands.js";

const MQTT = { topic: "devices/it's $HOME/stats", port: 1883, tls: false };
const DEVICE = { id: 7, token: "dst_7_abc", mqtt_username: "device-7", mqtt: MQTT };

test("texts are quoted for the shell", () => {
  assert.equal(quoted("boiler-north"), "boiler-north");
  assert.equal(quoted("it's"), `'it'\\''s'`);
  assert.equal(quoted(""), "''");
});

test("the commands for the first reading", () => {
  assert.equal(
    publishLine(DEVICE, "example.com"),
    `mosquitto_pub -h example.com -q 1 \\
  -u device-7 -i device-7 -P dst_7_abc \\
  -t 'devices/it'\\''s $HOME/stats' -m '{"x": 1, "y": 2, "z": 3}'`,
  );
  assert.match(publishLine({ ...DEVICE, mqtt: { ...MQTT, port: null, tls: null } }, "h"), /^mosquitto_pub -h h -q 1 /);
  const secure = { topic: "plant/7", port: 8883, tls: true };
  assert.match(publishLine({ ...DEVICE, mqtt: secure }, "h"), /^mosquitto_pub -h h -p 8883 --cafile ca.pem -q 1 /);
  assert.match(publishLine({ ...DEVICE, mqtt: secure }, "h"), /-t plant\/7 /);
  assert.match(curlLine(DEVICE, "http://localhost:8000"), /-d '\{"device_id": 7, "x": 1, "y": 2, "z": 3\}'$/);
});

test("programs name the period, and the key only if one is needed", () => {
  const period = { start: "2026-01-31T12:00:00Z", end: "2026-01-31T13:00:00Z", zone: "UTC" };
  const url = "http://localhost:8000/stats/7.csv?start=2026-01-31T12:00:00Z&end=2026-01-31T13:00:00Z";
  for (const [name, text] of programs("http://localhost:8000", "7", period, false)) {
    assert.ok(text.includes(url), name);
    assert.ok(!text.includes("API_KEY"), name);
  }
  for (const [name, text] of programs("http://localhost:8000", "7", period, true)) {
    assert.ok(text.includes("DEVICESTAT_API_KEY"), name);
  }
});
