/** Selects the screen of an address, and follows links without loading the page again. */

import { open as openDevice } from "./screens/device.js";
import { open as openDevices } from "./screens/devices.js";
import { open as openSignIn } from "./screens/sign-in.js";
import { addressOf, match, readQuery } from "./state/address.js";

/** @typedef {import("./state/address.js").Values} Values */
/** @typedef {import("./html.js").Content} Content */
/**
 * What a screen gets: its address, and how it changes it.
 *
 * @typedef {object} Context
 * @property {Record<string, string>} parameters those of the path
 * @property {Values} query that of the current address
 * @property {() => void} refresh draw the page again
 * @property {(path: string, query: Values, options?: {replace?: boolean}) => void} go to another address
 * @property {(address: string) => void} leave go to an address of this page, as it came from a query
 * @property {(changes: Values, options?: {replace?: boolean}) => void} change values of the query
 */
/**
 * @typedef {object} Screen
 * @property {() => string} title
 * @property {() => Content} view
 * @property {(query: Values) => void} update the query has changed
 * @property {() => void} close
 * @property {Array<import("./parts/keys.js").Shortcut>} [shortcuts]
 */
/** @typedef {{path: string, open: (context: Context) => Screen}} Route */

const SIGN_IN = "/ui/sign-in";

/**
 * The screens. The service answers only these paths (query_api/dashboard/shell.py).
 *
 * @type {Route[]}
 */
export const ROUTES = [
  { path: "/", open: openDevices },
  { path: "/ui/devices/{device_id:int}", open: openDevice },
  { path: "/ui/sign-in", open: openSignIn },
];

/** The links of the header. @type {Array<[string, string]>} */
export const LINKS = [["/", "Devices"]];

export class Router {
  /** @type {Screen | null} */
  screen = null;
  #path = "";

  /** @param {() => void} onChange */
  constructor(onChange) {
    this.onChange = onChange;
    window.addEventListener("popstate", () => this.#show(false));
    document.addEventListener("click", event => this.#follow(event));
  }

  start() {
    this.#show(false);
  }

  /**
   * Go to an address of a screen.
   *
   * @param {string} address
   * @param {{replace?: boolean}} options
   */
  go(address, { replace = false } = {}) {
    if (address === location.pathname + location.search) return;
    if (replace) history.replaceState(null, "", address);
    else history.pushState(null, "", address);
    this.#show(!replace);
  }

  /** Go to the screen for signing in, which leads back here. */
  signIn() {
    if (location.pathname === SIGN_IN) return;
    this.go(addressOf(SIGN_IN, { next: location.pathname + location.search }), { replace: true });
  }

  /** @param {boolean} isNew */
  #show(isNew) {
    const query = readQuery(location.search);
    if (this.#path === location.pathname && this.screen) this.screen.update(query);
    else {
      this.screen?.close();
      this.#path = location.pathname;
      this.screen = this.#open();
      if (isNew) {
        window.scrollTo(0, 0);
        requestAnimationFrame(() => document.querySelector("h1")?.focus());
      }
    }
    this.onChange();
  }

  /** @returns {Screen | null} */
  #open() {
    for (const { path, open } of ROUTES) {
      const parameters = match(path, location.pathname);
      if (parameters) return open(contextOf(this, parameters));
    }
    return null;
  }

  /** @param {MouseEvent} event */
  #follow(event) {
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    const isPlain = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
    if (!link || !isPlain || event.defaultPrevented || link.target || link.hash || link.hasAttribute("download"))
      return;
    if (link.origin !== location.origin || !ROUTES.some(({ path }) => match(path, link.pathname))) return;
    event.preventDefault();
    this.go(link.pathname + link.search);
  }
}

/**
 * @param {Router} router
 * @param {Record<string, string>} parameters
 * @returns {Context}
 */
function contextOf(router, parameters) {
  return {
    parameters,
    get query() {
      return readQuery(location.search);
    },
    refresh: router.onChange,
    go: (path, values, options) => router.go(addressOf(path, values), options),
    leave: address => router.go(ownAddress(address), { replace: true }),
    change: (changes, options) =>
      router.go(addressOf(location.pathname, { ...readQuery(location.search), ...changes }), options),
  };
}

/**
 * Return an address of a screen as it is, and the first screen for any other: a link must not lead to another site.
 *
 * @param {string} address
 */
function ownAddress(address) {
  const url = URL.parse(address, location.origin);
  const isOwn = url?.origin === location.origin && ROUTES.some(({ path }) => match(path, url.pathname));
  return isOwn && url.pathname !== SIGN_IN ? url.pathname + url.search : "/";
}
