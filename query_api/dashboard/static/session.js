/** Who uses the page, and what the key allows. The cookie of the session is not visible to scripts. */

import { Problem, refused, send, Unreachable } from "./api.js";
import { Repeat } from "./source.js";

/**
 * The caller, as GET /session describes it. `by`: session, or nothing while the service asks for no key.
 *
 * @typedef {{by: string, role: string, prefix: string | null, name: string | null, may: string[]}} Session
 */

/** @typedef {"read" | "queue" | "store" | "administer" | "metrics"} Permission */

/** While the service asks for no key, everybody may do everything. @type {Session} */
const ANYBODY = {
  by: "nothing",
  role: "admin",
  prefix: null,
  name: null,
  may: ["read", "queue", "store", "administer", "metrics"],
};

/** The API refuses an ended session within a second. */
const CHECK_MS = 1_500;

/** @type {Session | null} */
let current = null;
/** Why the session has ended, in the words of the API; empty without one, and after signing out. */
let reason = "";
/** @type {Set<() => void>} */
const listeners = new Set();

/** @param {() => void} listener is called when the session begins or ends */
export function onSession(listener) {
  listeners.add(listener);
}

/** @param {Session | null} session */
function set(session) {
  if (current === session) return;
  current = session;
  if (session) reason = "";
  checking.plan();
  for (const listener of listeners) listener();
}

const checking = new Repeat(
  () => void check(),
  () => (current?.by === "session" ? CHECK_MS : 0),
);

/** Ask whether the session still exists. The connection is judged by the requests of the screens. */
async function check() {
  try {
    const answer = await fetch("/session", { cache: "no-store" });
    if (answer.status === 401) refused((await answer.json()).detail);
  } catch {
    // No answer, or that of a proxy.
  }
}

/**
 * Forget the session, which the API has refused.
 *
 * @param {string} detail the words of the API
 */
export function endSession(detail) {
  if (current) reason = detail;
  set(null);
}

export function reasonOfEnd() {
  return reason;
}

/** The session; null while it is not known, and without one. */
export function session() {
  return current;
}

/** @param {Permission} permission */
export function may(permission) {
  return current?.may.includes(permission) ?? false;
}

/** Whether programs need a key. */
export function isClosed() {
  return current !== null && current.by !== "nothing";
}

/** Read the session. Without one, the first refused request leads to the screen for signing in. */
export async function readSession() {
  try {
    set((await send("GET", "/session")).data);
  } catch (error) {
    if (error instanceof Problem && error.details.status === 404) set(ANYBODY);
    else if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
  }
}

/**
 * Sign in. Throws Problem and Unreachable.
 *
 * @param {string} key
 */
export async function signIn(key) {
  set((await send("POST", "/session", { body: { key } })).data);
}

export async function signOut() {
  await send("DELETE", "/session");
  set(null);
  refused("");
}
