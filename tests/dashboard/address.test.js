/** The state of a screen in its address. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { addressOf, match, readQuery } from "../../query_api/dashboard/static/state/address.js";

test("paths", () => {
  assert.deepEqual(match("/", "/"), {});
  assert.deepEqual(match("/ui/devices/{device_id:int}", "/ui/devices/7"), { device_id: "7" });
  assert.deepEqual(match("/ui/devices/{device_id:int}", "/ui/devices/7/"), { device_id: "7" });
  assert.equal(match("/ui/devices/{device_id:int}", "/ui/devices/x"), null);
  assert.equal(match("/ui/devices/{device_id:int}", "/ui/devices"), null);
  assert.equal(match("/", "/ui"), null);
});

test("a query can be read by people, and leads back", () => {
  const values = {
    from: "now-1d/d",
    to: "2026-01-31T12:00:00.25+01:00",
    tz: "Europe/Berlin",
    search: "a & b",
    none: undefined,
  };
  const address = addressOf("/ui/devices/7", values);
  assert.equal(
    address,
    "/ui/devices/7?from=now-1d/d&to=2026-01-31T12:00:00.25%2B01:00&tz=Europe/Berlin&search=a%20%26%20b",
  );
  const { none: _, ...given } = values;
  assert.deepEqual(readQuery(address.slice(address.indexOf("?"))), given);
  assert.equal(addressOf("/", { search: "" }), "/");
  assert.deepEqual(readQuery("?a=1&a=2"), { a: "1" });
});
