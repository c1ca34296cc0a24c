// The live stream of what the gateway does: one message a second, of which the last five minutes are kept.
// Read by fetch() and not by EventSource, which can send no token.

import { send } from "./api.js";
import { heard } from "./clock.js";
import { session } from "./session.js";

export const WINDOW = 300; // seconds that charts show
const BACKOFF = [0.5, 1, 2, 5, 10, 15]; // seconds until it tries again
const UNSEEN = 60; // seconds in the background after which the connection is let go: browsers have six for a host
const SILENCE = 10; // seconds without a message after which a connection counts as lost

class Traffic extends EventTarget {
  samples = []; // the messages of the last five minutes, the oldest first
  state = "connecting"; // live | connecting | offline | refused
  reason = "";

  get last() {
    return this.samples.at(-1) ?? null;
  }

  /** Call `work` with each message, and at once with the last one, until the signal aborts. */
  each(work, signal) {
    this.addEventListener("message", () => work(this.last), { signal });
    if (this.last) work(this.last);
  }

  /** Connect, and stay connected. */
  async run() {
    for (let failures = 0; ; failures += 1) {
      await seen();
      try {
        await this.#read();
        failures = -1;
        this.#is("connecting");
      } catch (error) {
        if (this.state === "live") failures = 0;
        this.#is(error.status === 401 || error.status === 403 ? "refused" : "offline", error.message);
      }
      const wait = BACKOFF[Math.min(Math.max(failures, 0), BACKOFF.length - 1)] * (0.75 + Math.random() / 2);
      await this.#pause(wait * 1000);
    }
  }

  async #read() {
    const stop = new AbortController();
    let watch = setTimeout(() => stop.abort(), SILENCE * 1000);
    const again = () => stop.abort();
    let unseen = 0;
    const look = () => {
      clearTimeout(unseen);
      if (document.hidden) unseen = setTimeout(again, UNSEEN * 1000);
    };
    document.addEventListener("visibilitychange", look);
    session.addEventListener("change", again, { once: true });
    try {
      const response = await send("GET", "traffic", {
        headers: { Accept: "text/event-stream" },
        signal: stop.signal,
      });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        clearTimeout(watch);
        watch = setTimeout(() => stop.abort(), SILENCE * 1000);
        const events = (rest + value).split("\n\n");
        rest = events.pop();
        if (events.filter(event => this.#take(event)).length) this.dispatchEvent(new Event("message"));
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      throw error.status === undefined
        ? Object.assign(error, { message: "The connection was lost." })
        : error;
    } finally {
      clearTimeout(watch);
      clearTimeout(unseen);
      document.removeEventListener("visibilitychange", look);
      session.removeEventListener("change", again);
    }
  }

  /** Keep a message; gives whether it was one. Pages hear once of all that came together. */
  #take(event) {
    const lines = event.split("\n");
    const data = lines
      .filter(line => line.startsWith("data:"))
      .map(line => line.slice(5))
      .join("\n");
    if (!data || !lines.some(line => line === "event: traffic")) return false;
    const message = JSON.parse(data);
    heard(message.at);
    this.samples.push(message);
    while (this.samples[0].at < message.at - WINDOW) this.samples.shift();
    this.#is("live");
    return true;
  }

  #is(state, reason = "") {
    if (state === this.state && reason === this.reason) return;
    this.state = state;
    this.reason = reason;
    this.dispatchEvent(new Event("state"));
  }

  /** Wait, but no longer than until somebody signs in or the network is back. */
  #pause(wait) {
    return new Promise(done => {
      const timer = setTimeout(end, wait);
      function end() {
        clearTimeout(timer);
        session.removeEventListener("change", end);
        removeEventListener("online", end);
        done();
      }
      session.addEventListener("change", end);
      addEventListener("online", end);
    });
  }
}

/** Until somebody looks at the page. */
function seen() {
  if (!document.hidden) return null;
  return new Promise(done => document.addEventListener("visibilitychange", done, { once: true }));
}

export const traffic = new Traffic();

/** Requests a second of a part of a message. */
export function rate(message, part) {
  return part ? part.requests / (message.seconds || 1) : 0;
}
