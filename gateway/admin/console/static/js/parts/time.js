// Moments that stay right while a page is open.

import { h, say } from "../dom.js";
import { ago, time } from "../format.js";

/** "3 min ago", with the time itself behind it. at: seconds since the epoch. */
export function since(at) {
  return h(
    "time",
    {
      class: "since",
      datetime: at ? new Date(at * 1000).toISOString() : null,
      title: time(at),
      "data-at": at,
    },
    ago(at),
  );
}

/** Renew them all, from now on. */
export function run() {
  setInterval(
    () =>
      document
        .querySelectorAll("time.since")
        .forEach(element => say(element, ago(Number(element.dataset.at)))),
    5000,
  );
}
