// The text that is being edited. It is kept by this tab, so that a reload loses nothing.

const KEY = "gateway.draft";
let kept = read();

function read() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY));
  } catch {
    return null;
  }
}

/** {text, base}: base is the revision's number that the edit began on. null when nothing is unsaved. */
export function load() {
  return kept;
}

export function exists() {
  return kept !== null;
}

export function save(text, base) {
  kept = { text, base };
  try {
    sessionStorage.setItem(KEY, JSON.stringify(kept));
  } catch {
    // The browser has no room: it lives as long as the page.
  }
  dispatchEvent(new Event("gateway:draft"));
}

export function drop() {
  kept = null;
  sessionStorage.removeItem(KEY);
  dispatchEvent(new Event("gateway:draft"));
}

addEventListener("beforeunload", event => {
  if (exists()) event.preventDefault();
});
