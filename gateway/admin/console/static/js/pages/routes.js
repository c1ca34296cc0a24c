// Routes: all of them, searchable; and one, which explains itself.

import { h, say } from "../dom.js";
import { amount } from "../format.js";
import { list } from "../parts/list.js";
import { latest } from "../parts/live.js";
import { link } from "../router.js";
import { access, methods, page as one } from "./route.js";

export function page(where) {
  return where.parts.length ? one(where) : routes(where);
}

const COLUMNS = [
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
];

function routes(where) {
  return list(
    {
      title: "Routes",
      one: "route",
      columns: COLUMNS,
      href: route => link("routes", route.name),
      hint: "Name, path, target, scope",
      items: data =>
        (data.routes ?? []).map(route => ({ item: route, text: JSON.stringify(route).toLowerCase() })),
      matches: (text, typed) =>
        typed
          .split(/\s+/)
          .filter(Boolean)
          .every(word => text.includes(word)),
      refresh: holder =>
        holder
          .querySelectorAll("[data-rate]")
          .forEach(cell => say(cell, amount(latest("routes", cell.dataset.rate)))),
    },
    where,
  );
}

function figure(name) {
  return h("span", { "data-rate": name }, amount(latest("routes", name)));
}
