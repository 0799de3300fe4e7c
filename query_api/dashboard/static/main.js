/** The start of the page: header, banner of a lost connection, and the screen of the address. */

import { connection, unauthenticated } from "./api.js";
import { html, nothing, render } from "./html.js";
import { keysDialog, runShortcut } from "./parts/keys.js";
import { loadingNotice } from "./parts/notices.js";
import { setTheme, theme, watchSystemTheme } from "./preferences.js";
import { LINKS, Router } from "./router.js";
import { endSession, may, onSession, readSession, session, signOut } from "./session.js";
import { addressOf, readQuery } from "./state/address.js";
import { clock } from "./state/times.js";
import { zoneOf } from "./state/zones.js";

/** @typedef {import("./preferences.js").Theme} Theme */

const app = /** @type {HTMLElement} */ (document.getElementById("app"));
let isPlanned = false;
let areKeysShown = false;
/** The address of the link that was moved into view last. */
let shownLink = "";

/** Draw the page in the next frame. */
function refresh() {
  if (isPlanned) return;
  isPlanned = true;
  requestAnimationFrame(() => {
    isPlanned = false;
    draw();
  });
}

const router = new Router(refresh);

function shortcuts() {
  return [
    { key: "?", label: "Show this list", run: showKeys },
    {
      key: "d",
      label: "Go to the devices",
      run: () => router.go(addressOf("/", { tz: readQuery(location.search).tz })),
    },
    ...(router.screen?.shortcuts ?? []),
  ];
}

function showKeys() {
  areKeysShown = true;
  refresh();
}

function hideKeys() {
  areKeysShown = false;
  refresh();
}

function draw() {
  const title = router.screen?.title();
  document.title = title ? `${title} · Devicestat` : "Devicestat";
  render(
    html`
      <a class="skip" href="#main">Skip to the content</a>
      ${header()} ${banner()}
      <main id="main" tabindex="-1">${router.screen?.view() ?? noScreen()}</main>
      ${areKeysShown ? keysDialog(shortcuts(), hideKeys) : nothing}
    `,
    app,
  );
  showLink();
}

/** Move the link of the open screen into view, where there is no place for all: once for each screen and width. */
function showLink() {
  const link = /** @type {HTMLAnchorElement | null} */ (app.querySelector(".top nav [aria-current]"));
  const nav = link?.parentElement;
  if (!link || !nav) return;
  const place = `${link.href} ${nav.scrollWidth} ${nav.clientWidth}`; // links and styles may come later
  if (place === shownLink) return;
  shownLink = place;
  nav.scrollLeft = link.offsetLeft - nav.offsetLeft - (nav.clientWidth - link.offsetWidth) / 2;
}

function header() {
  const { tz } = readQuery(location.search);
  return html`
    <header class="top">
      <a class="brand" href=${addressOf("/", { tz })}><span aria-hidden="true" class="mark"></span>Devicestat</a>
      <nav aria-label="Screens">
        ${LINKS.filter(isAllowed).map(([path, name]) => html`<a href=${addressOf(path, { tz })} aria-current=${isOpen(path) ? "page" : nothing}>${name}</a>`)}
      </nav>
      <div class="tools">
        ${caller()}
        <a href="/docs">API</a>
        <label><span class="visually-hidden">Theme</span>
          <select @change=${(/** @type {Event} */ event) => setTheme(/** @type {Theme} */ (/** @type {HTMLSelectElement} */ (event.target).value))}>
            ${["system", "light", "dark"].map(name => html`<option value=${name} ?selected=${theme() === name}>${name[0]?.toUpperCase()}${name.slice(1)}</option>`)}
          </select>
        </label>
        <button class="quiet" aria-label="Keyboard shortcuts" title="Keyboard shortcuts ( ? )" @click=${showKeys}>?</button>
      </div>
    </header>
  `;
}

function caller() {
  const found = session();
  if (!found || found.by === "nothing") return nothing;
  return html`<span class="caller">${found.name ?? "key"} · ${found.role}</span><button class="small" @click=${signOut}>Sign out</button>`;
}

/** While the role is not known, the screens of all readers are shown. @param {(typeof LINKS)[number]} link */
function isAllowed([, , permission = "read"]) {
  return may(permission) || (session() === null && permission === "read");
}

/** @param {string} path */
function isOpen(path) {
  return path === "/"
    ? location.pathname === "/" || location.pathname.startsWith("/ui/devices/")
    : location.pathname === path;
}

function banner() {
  const { since, reason } = connection;
  if (since === null) return nothing;
  const zone = zoneOf(readQuery(location.search).tz ?? "browser");
  const time = clock(Math.floor(since.getTime() / 1000) * 1_000_000, zone).slice(11);
  return html`
    <div class="banner" role="status">
      <strong>Not current since ${time}.</strong> ${reason} The page shows the last state, and keeps trying.
    </div>
  `;
}

function noScreen() {
  if (router.state === "loading") return loadingNotice("the screen");
  if (router.state === "failed")
    return html`<div class="notice bad" role="alert"><p>This screen was not loaded.</p><button @click=${() => location.reload()}>Reload the page</button></div>`;
  return html`<h1 tabindex="-1">Not found</h1><p>There is no screen at ${location.pathname}. <a href="/">Devices</a></p>`;
}

connection.listeners.add(refresh);
unauthenticated.listeners.add(detail => {
  endSession(detail);
  router.signIn();
});
onSession(refresh);
void readSession();
watchSystemTheme();
document.addEventListener("keydown", event => runShortcut(event, shortcuts()));
router.start();
