/** Selects the screen of an address, and follows links without loading the page again. */

import { addressOf, match, readAll, readQuery } from "./state/address.js";

/** @typedef {import("./state/address.js").Values} Values */
/** @typedef {import("./state/address.js").Query} Query */
/** @typedef {import("./html.js").Content} Content */
/**
 * What a screen gets: its address, and how it changes it.
 *
 * @typedef {object} Context
 * @property {Record<string, string>} parameters those of the path
 * @property {Values} query that of the current address
 * @property {() => void} refresh draw the page again
 * @property {(path: string, query: Query, options?: {replace?: boolean}) => void} go to another address
 * @property {(address: string) => void} leave go to an address of this page, as it came from a query
 * @property {(changes: Query, options?: {replace?: boolean}) => void} change values of the query
 */
/**
 * @typedef {object} Screen
 * @property {() => string} title
 * @property {() => Content} view
 * @property {(query: Values) => void} update the query has changed
 * @property {() => void} close
 * @property {Array<import("./parts/keys.js").Shortcut>} [shortcuts]
 */
/** A screen's module. @typedef {{open: (context: Context) => Screen}} Module */
/** @typedef {{path: string, load: () => Promise<Module>}} Route */

const SIGN_IN = "/ui/sign-in";

/**
 * The screens, each loaded when it is first opened. The service answers only these paths (query_api/dashboard/shell.py).
 *
 * @type {Route[]}
 */
export const ROUTES = [
  { path: "/", load: () => import("./screens/devices.js") },
  { path: "/ui/devices/{device_id:int}", load: () => import("./screens/device.js") },
  { path: "/ui/live", load: () => import("./screens/live.js") },
  { path: "/ui/compare", load: () => import("./screens/compare.js") },
  { path: "/ui/analyses", load: () => import("./screens/analyses.js") },
  { path: "/ui/schedules", load: () => import("./screens/schedules.js") },
  { path: "/ui/refused", load: () => import("./screens/refused.js") },
  { path: "/ui/health", load: () => import("./screens/health.js") },
  { path: "/ui/keys", load: () => import("./screens/keys.js") },
  { path: "/ui/sign-in", load: () => import("./screens/sign-in.js") },
];

/**
 * The links of the header, each with what a role must be able to do to see it. Default: read.
 *
 * @type {Array<[string, string, import("./session.js").Permission?]>}
 */
export const LINKS = [
  ["/", "Devices"],
  ["/ui/live", "Live"],
  ["/ui/compare", "Compare"],
  ["/ui/analyses", "Analyses"],
  ["/ui/schedules", "Schedules"],
  ["/ui/refused", "Refused", "administer"],
  ["/ui/health", "Health"],
  ["/ui/keys", "Keys", "administer"],
];

export class Router {
  /** @type {Screen | null} */
  screen = null;
  /** Why there is no screen. @type {"loading" | "failed" | "unknown"} */
  state = "loading";
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
    if (this.#path !== location.pathname) {
      this.screen?.close();
      this.screen = null;
      this.#path = location.pathname;
      void this.#open(this.#path, isNew);
    } else this.screen?.update(readQuery(location.search));
    this.onChange();
  }

  /**
   * Open the screen of the path, unless the address is another one when it is loaded.
   *
   * @param {string} path
   * @param {boolean} isNew
   */
  async #open(path, isNew) {
    const found = routeOf(path);
    this.state = found ? "loading" : "unknown";
    if (!found) return;
    try {
      const { open } = await found.route.load();
      if (path !== this.#path) return;
      this.screen = open(contextOf(this, found.parameters));
    } catch {
      if (path !== this.#path) return;
      this.state = "failed";
      this.#path = "";
    }
    this.onChange();
    if (!isNew) return;
    window.scrollTo(0, 0);
    requestAnimationFrame(() => document.querySelector("h1")?.focus());
  }

  /** @param {MouseEvent} event */
  #follow(event) {
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    const isPlain = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
    if (!link || !isPlain || event.defaultPrevented || link.target || link.hash || link.hasAttribute("download"))
      return;
    if (link.origin !== location.origin || !routeOf(link.pathname)) return;
    event.preventDefault();
    this.go(link.pathname + link.search);
  }
}

/** @param {string} path */
function routeOf(path) {
  for (const route of ROUTES) {
    const parameters = match(route.path, path);
    if (parameters) return { route, parameters };
  }
  return null;
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
      router.go(addressOf(location.pathname, { ...readAll(location.search), ...changes }), options),
  };
}

/**
 * Return an address of a screen as it is, and the first screen for any other: a link must not lead to another site.
 *
 * @param {string} address
 */
function ownAddress(address) {
  const url = URL.parse(address, location.origin);
  const isOwn = url?.origin === location.origin && routeOf(url.pathname);
  return isOwn && url.pathname !== SIGN_IN ? url.pathname + url.search : "/";
}
