// Asks the admin API. The token, if there is one, goes with each request in its header, and nowhere else.

import { session } from "./session.js";

const BASE = new URL("admin/v1/", document.baseURI);

/** What the gateway refused, or that it could not be reached (status 0). errors: the problems of a config, each
 * {path, line, reason, hint}; body: the whole of the problem (RFC 9457). */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `The gateway answered ${status}.`);
    this.status = status;
    this.body = body;
    this.errors = body.errors ?? [];
  }

  /** Whether signing in may help. */
  get wantsToken() {
    return this.status === 401;
  }
}

/** Send a request as the operator; gives the Response of one that succeeded. Raises Problem, and AbortError. */
export async function send(method, path, { body, headers = {}, signal } = {}) {
  const token = session.token;
  const given = token ? { Authorization: `Bearer ${token}`, ...headers } : headers;
  let response; // `./`: what stands before the colon of `config:check` is no scheme
  try {
    response = await fetch(new URL(`./${path}`, BASE), {
      method,
      headers: given,
      body,
      signal,
      credentials: "omit",
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "The gateway cannot be reached." });
  }
  if (response.ok) return response;
  const problem = new Problem(response.status, await response.json().catch(() => ({})));
  if (problem.wantsToken && token && token === session.token) session.expired();
  throw problem;
}

/** GET as JSON. */
export async function get(path, signal) {
  return (await send("GET", path, { headers: { Accept: "application/json" }, signal })).json();
}

/** POST JSON, and give the JSON of the response. */
export async function post(path, value, signal) {
  const headers = { "Content-Type": "application/json", Accept: "application/json" };
  return (await send("POST", path, { body: JSON.stringify(value), headers, signal })).json();
}

/** Send a config's text, and give the JSON of the response. */
export async function sendText(method, path, text, { headers = {}, signal } = {}) {
  const types = { "Content-Type": "application/yaml", Accept: "application/json" };
  return (await send(method, path, { body: text, headers: { ...types, ...headers }, signal })).json();
}
