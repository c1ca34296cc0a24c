// The text that is being edited. It is kept by this tab, so that a reload loses nothing.

const KEY = "gateway.draft";
const WRITE_AFTER = 300; // milliseconds
let kept = read();
let later = 0;

function read() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY));
  } catch {
    return null;
  }
}

/** {text, base, seen}: base is the revision's number that the edit began on; seen its text, where that was shown without
 * what resembles secrets. null when nothing is unsaved. */
export function load() {
  return kept;
}

export function exists() {
  return kept !== null;
}

/** Keep a text from now on; the tab's storage has it a moment later, not at each key. */
export function save(text, base, seen = null) {
  kept = { text, base, seen };
  clearTimeout(later);
  later = setTimeout(write, WRITE_AFTER);
  dispatchEvent(new Event("gateway:draft"));
}

function write() {
  if (kept === null) return;
  try {
    sessionStorage.setItem(KEY, JSON.stringify(kept));
  } catch {
    // The browser has no room: it lives as long as the page.
  }
}

export function drop() {
  kept = null;
  sessionStorage.removeItem(KEY);
  dispatchEvent(new Event("gateway:draft"));
}

addEventListener("pagehide", write);
addEventListener("beforeunload", event => {
  write();
  if (exists()) event.preventDefault();
});
