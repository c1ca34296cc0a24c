// A page with a table of objects of the live config, which is searched as one types.

import { get } from "../api.js";
import { h, say } from "../dom.js";
import { note } from "../router.js";
import { traffic } from "../traffic.js";
import { failed } from "./dialog.js";
import { reloaded } from "./live.js";
import { table } from "./table.js";

/**
 * title, one: what the objects are called. columns, href: of the table. hint: what may be searched for.
 * items(data): of the config's data, each { item, text }, the text in lower case. matches(text, typed).
 * refresh(holder): shows what the live stream says in the table's cells.
 */
export function list(
  { title, one, columns, href, hint, items, matches, refresh },
  { query, signal },
) {
  const rows = table(columns, { label: title, empty: `No ${one} is like that.`, href });
  const search = h("input", {
    type: "search",
    "data-search": true,
    placeholder: `${hint}…  ( / )`,
    "aria-label": `Search ${one}s`,
    value: query.get("q") ?? "",
    on: { input: show },
  });
  const number = h("span", { class: "dim", role: "status" });
  const holder = h("div", { class: "panel" }, rows.element);
  let all = null;

  function show() {
    note({ q: search.value });
    if (!all) return;
    const typed = search.value.toLowerCase();
    const found = all.filter(({ text }) => matches(text, typed));
    const of = found.length === all.length ? "" : `${found.length} of `;
    say(number, `${of}${all.length} ${one}s`);
    rows.show(found.map(({ item }) => item));
  }

  async function load() {
    try {
      all = items((await get("config", signal)).data);
      show();
    } catch (problem) {
      failed(holder, problem);
    }
  }

  load();
  reloaded(load, signal);
  traffic.each(() => refresh(holder), signal);
  const head = h("header", { class: "page-head" }, h("h1", {}, title), search, number);
  return { title, element: h("div", {}, head, holder) };
}
