// Routes: all of them, searchable; and one, which explains itself.

import { get } from "../api.js";
import { h, say } from "../dom.js";
import { amount } from "../format.js";
import { failed } from "../parts/dialog.js";
import { latest, reloaded } from "../parts/live.js";
import { table } from "../parts/table.js";
import { link, note } from "../router.js";
import { traffic } from "../traffic.js";
import { access, methods, page as one } from "./route.js";

export function page(where) {
  return where.parts.length ? one(where) : list(where);
}

function list({ query, signal }) {
  const rows = table(
    [
      {
        name: "Name",
        cell: route => h("a", { href: link("routes", route.name) }, route.name),
        sort: route => route.name,
      },
      {
        name: "Path",
        cell: route => h("code", {}, `${route.host ?? ""}${route.path}`),
        sort: route => `${route.path}${route.host ?? ""}`,
        wide: true,
      },
      { name: "Methods", cell: route => methods(route), priority: 2 },
      { name: "Target", cell: route => route.target, sort: route => route.target, priority: 2 },
      { name: "Who", cell: access, sort: access, priority: 3 },
      {
        name: "req/s",
        cell: route => figure(route.name),
        sort: route => latest("routes", route.name),
        number: true,
      },
    ],
    { label: "Routes", empty: "No route is like that.", href: route => link("routes", route.name) },
  );
  const search = h("input", {
    type: "search",
    "data-search": true,
    placeholder: "Name, path, target, scope…  ( / )",
    "aria-label": "Search routes",
    value: query.get("q") ?? "",
    on: { input: show },
  });
  const number = h("span", { class: "dim", role: "status" });
  const holder = h("div", { class: "panel" }, rows.element);
  let routes = null;

  function show() {
    note({ q: search.value });
    if (!routes) return;
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = routes.filter(({ text }) => words.every(word => text.includes(word)));
    say(
      number,
      found.length === routes.length
        ? `${routes.length} routes`
        : `${found.length} of ${routes.length} routes`,
    );
    rows.show(found.map(({ route }) => route));
  }

  async function load() {
    try {
      const { data } = await get("config", signal);
      routes = (data.routes ?? []).map(route => ({ route, text: JSON.stringify(route).toLowerCase() }));
      show();
    } catch (problem) {
      failed(holder, problem);
    }
  }

  load();
  reloaded(load, signal);
  traffic.each(
    () =>
      holder
        .querySelectorAll("[data-rate]")
        .forEach(cell => say(cell, amount(latest("routes", cell.dataset.rate)))),
    signal,
  );
  return {
    title: "Routes",
    element: h("div", {}, h("header", { class: "page-head" }, h("h1", {}, "Routes"), search, number), holder),
  };
}

function figure(name) {
  return h("span", { "data-rate": name }, amount(latest("routes", name)));
}
