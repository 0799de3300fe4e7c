/** Reasons of refusals in words. */

/** @type {Record<string, [string, string]>} name, meaning; in the order of the bars */
export const REASONS = {
  malformed: ["Malformed", "The payload cannot be read as JSON or MessagePack."],
  invalid_reading: ["Invalid reading", "A field is missing or has a wrong type."],
  out_of_range: ["Out of range", "A value is outside of the range that is allowed."],
  bad_timestamp: ["Bad timestamp", "The timestamp is no time, too old, or in the future."],
  unknown_device: ["Unknown device", "No device is registered with the key of the topic."],
  bad_topic: ["Bad topic", "The topic has no key of a device at the place of MQTT_TOPIC."],
  too_large: ["Too large", "The message is larger than the service accepts."],
  database_refused: ["Refused by the database", "The database did not accept the reading."],
};

/** @param {string} reason */
export function reasonName(reason) {
  return REASONS[reason]?.[0] ?? reason;
}

/**
 * Return the topic filter of a search: a filter as it is, or that of a device's key, which is the second level.
 *
 * @param {string | undefined} text
 */
export function topicFilter(text) {
  const given = text?.trim();
  if (!given) return undefined;
  return /[/+#]/.test(given) ? given : `+/${given}/#`;
}
