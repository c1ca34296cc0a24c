// Which page is shown: the fragment of the address says it, so that each tenant, route and revision has a link and
// the browser's back button works. A fragment is never sent to a server.

/** The fragment of a page: link("routes", name), link("routes", {q: text}). */
export function link(...parts) {
  const query = typeof parts.at(-1) === "object" ? new URLSearchParams(parts.pop()).toString() : "";
  return `#/${parts.map(encodeURIComponent).join("/")}${query ? `?${query}` : ""}`;
}

/** {parts, query} of the address. */
export function here() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { parts: path.split("/").filter(Boolean).map(decoded), query: new URLSearchParams(query) };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Go to a page, with an entry in the browser's history. */
export function go(...parts) {
  location.hash = link(...parts);
}

/** Keep what was typed into a page in its address, without another entry in the history. */
export function note(query) {
  const kept = Object.fromEntries(Object.entries(query).filter(([, value]) => value !== ""));
  history.replaceState(null, "", link(...here().parts, kept));
}
