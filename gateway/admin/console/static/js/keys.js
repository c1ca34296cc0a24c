// The keyboard: `/` to search, `g` and a letter to go somewhere, `?` for this list. Not while one types.

import { h } from "./dom.js";
import { dialog } from "./parts/dialog.js";
import { go } from "./router.js";
import { toggle } from "./theme.js";

const PAGES = { n: "now", r: "routes", c: "config", t: "tenants", a: "audit", o: "nodes" };
const LIST = [
  ["/", "search this page"],
  ["g n", "Now"],
  ["g r", "Routes"],
  ["g c", "Config"],
  ["g t", "Tenants"],
  ["g a", "Audit"],
  ["g o", "Nodes"],
  ["t", "light or dark"],
  ["Ctrl F", "in the editor: find"],
  ["Ctrl S", "in the editor: apply"],
  ["Esc Tab", "leave the editor"],
  ["?", "this list"],
];

/** Listen from now on. */
export function listen() {
  let before = "";
  addEventListener("keydown", event => {
    if (
      event.ctrlKey ||
      event.metaKey ||
      event.altKey ||
      typing(event.target) ||
      document.querySelector("dialog[open]")
    )
      return;
    const pair = before + event.key;
    before = event.key === "g" ? "g" : "";
    if (pair[0] === "g" && PAGES[pair[1]]) go(PAGES[pair[1]]);
    else if (event.key === "/") document.querySelector("[data-search]")?.focus();
    else if (event.key === "?") help();
    else if (event.key === "t") toggle();
    else return;
    event.preventDefault();
  });
}

function typing(element) {
  return element.matches?.("input, textarea, select, [contenteditable]");
}

/** Show what the keys do. */
export function help() {
  const rows = LIST.map(([keys, what]) => [
    h(
      "dt",
      {},
      keys.split(" ").map(key => h("kbd", {}, key)),
    ),
    h("dd", {}, what),
  ]);
  dialog({
    title: "Keyboard",
    body: h("dl", { class: "keys" }, rows),
    actions: close => [h("button", { class: "primary", on: { click: close } }, "Close")],
  });
}
