// The gateway's clock: the browser's may be minutes off, and what goes back does so by the gateway's.

let ahead = 0; // seconds that it is before the browser's

/** The gateway just said what time it is. at: seconds since the epoch. */
export function heard(at) {
  ahead = at - Date.now() / 1000;
}

/** Seconds since the epoch. */
export function now() {
  return Date.now() / 1000 + ahead;
}
