/** The state of a screen in its address. */

/** @typedef {Record<string, string | undefined>} Values */
/** Values of which some are repeated, such as device=7&device=8. @typedef {Record<string, string | string[] | undefined>} Query */

/**
 * Match a path with a pattern such as /ui/devices/{id}.
 *
 * @param {string} pattern
 * @param {string} path
 * @returns {Record<string, string> | null} the parameters by name; null if the path does not match
 */
export function match(pattern, path) {
  const wanted = pattern.split("/");
  const given = path.length > 1 ? path.replace(/\/$/, "").split("/") : path.split("/");
  if (wanted.length !== given.length) return null;
  /** @type {Record<string, string>} */
  const found = {};
  for (const [at, part] of wanted.entries()) {
    const text = given[at] ?? "";
    if (!part.startsWith("{")) {
      if (part !== text) return null;
    } else if (text === "" || (part.endsWith(":int}") && !/^\d+$/.test(text))) return null;
    else found[part.slice(1, -1).replace(":int", "")] = decodeURIComponent(text);
  }
  return found;
}

/**
 * Return a query as values. Of a repeated name, the first counts.
 *
 * @param {string} search such as ?from=now-6h
 * @returns {Values}
 */
export function readQuery(search) {
  /** @type {Values} */
  const values = {};
  for (const [name, value] of new URLSearchParams(search)) values[name] ??= value;
  return values;
}

/**
 * Return a query with all values of repeated names.
 *
 * @param {string} search
 */
export function readAll(search) {
  /** @type {Record<string, string[]>} */
  const values = {};
  for (const [name, value] of new URLSearchParams(search)) values[name] = [...(values[name] ?? []), value];
  return values;
}

/**
 * Return an address with a query. Values that are undefined or empty are left out. `:` and `/`, which a query may
 * contain, stay as they are, so that times can be read.
 *
 * @param {string} path
 * @param {Query} values
 */
export function addressOf(path, values) {
  const query = Object.entries(values)
    .flatMap(([name, value]) => [value ?? ""].flat().map(each => [name, each]))
    .filter(([, value]) => value !== "")
    .map(([name, value]) => `${encode(name ?? "")}=${encode(value ?? "")}`);
  return query.length ? `${path}?${query.join("&")}` : path;
}

/** @param {string} text */
function encode(text) {
  return encodeURIComponent(text).replace(/%(3A|2F|2C)/g, code => decodeURIComponent(code));
}
