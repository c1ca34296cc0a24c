// Tenants: their limits, what they used of them, who waits; and one of them.

import { get } from "../api.js";
import { fill, h, say } from "../dom.js";
import { amount, bytes, members, span } from "../format.js";
import { failed } from "../parts/dialog.js";
import { facts } from "../parts/facts.js";
import { list } from "../parts/list.js";
import { charts, latest, reloaded } from "../parts/live.js";
import { link } from "../router.js";
import { colour } from "../tenants.js";
import { traffic } from "../traffic.js";

export function page(where) {
  return where.parts.length ? one(where) : tenants(where);
}

const COLUMNS = [
  { name: "Tenant", cell: name, sort: tenant => tenant.name, wide: true },
  {
    name: "Weight",
    cell: tenant => tenant.weight ?? 1,
    sort: tenant => tenant.weight ?? 1,
    number: true,
    priority: 2,
  },
  { name: "Rate", cell: tenant => tenant.rate_limit?.rate ?? none(), priority: 2 },
  { name: "Quota", cell: tenant => tenant.quota ?? none(), priority: 3 },
  {
    name: "req/s",
    cell: tenant => live("rate", tenant.name),
    sort: tenant => latest("tenants", tenant.name),
    number: true,
  },
  {
    name: "Inside",
    cell: tenant => live("inside", tenant.name),
    sort: tenant => held(tenant.name, "in_use"),
    number: true,
    priority: 2,
  },
  {
    name: "Waiting",
    cell: tenant => live("waiting", tenant.name),
    sort: tenant => held(tenant.name, "waiting"),
    number: true,
  },
];

function tenants(where) {
  return list(
    {
      title: "Tenants",
      one: "tenant",
      columns: COLUMNS,
      href: tenant => link("tenants", tenant.name),
      hint: "Name",
      items: data =>
        Object.entries(data.tenants ?? {}).map(([id, settings]) => ({
          item: { ...settings, title: settings?.name, name: id },
          text: `${id} ${settings?.name ?? ""}`.toLowerCase(),
        })),
      matches: (text, typed) => text.includes(typed),
      refresh: holder =>
        holder
          .querySelectorAll("[data-live]")
          .forEach(cell => say(cell, figure(cell.dataset.live, cell.dataset.tenant))),
    },
    where,
  );
}

function name(tenant) {
  return h(
    "a",
    { href: link("tenants", tenant.name) },
    h("i", { class: `swatch ${colour(tenant.name)}` }),
    tenant.name,
    tenant.title && tenant.title !== tenant.name ? h("span", { class: "dim" }, ` ${tenant.title}`) : null,
  );
}

function none() {
  return h("span", { class: "dim" }, "–");
}

function live(kind, tenant) {
  return h("span", { "data-live": kind, "data-tenant": tenant }, figure(kind, tenant));
}

function figure(kind, tenant) {
  return amount(
    kind === "rate" ? latest("tenants", tenant) : held(tenant, kind === "inside" ? "in_use" : "waiting"),
  );
}

/** What a tenant holds at all backends together now. */
function held(tenant, part) {
  return Object.values(traffic.last?.backends ?? {}).reduce(
    (sum, backend) => sum + (backend.tenants?.[tenant]?.[part] ?? 0),
    0,
  );
}

function one({ parts: [id], signal }) {
  const about = h("div", { class: "columns" });
  const places = h("section", { class: "panel" }, h("h2", {}, "At the backends now"));
  const now = h("div");
  places.append(now);
  const element = h(
    "div",
    {},
    h(
      "header",
      { class: "page-head" },
      h(
        "h1",
        {},
        h("a", { class: "dim", href: link("tenants") }, "Tenants"),
        " / ",
        h("i", { class: `swatch ${colour(id)}` }),
        id,
      ),
      h("a", { class: "button", href: link("config", { find: `${id}:` }) }, "In the config"),
    ),
    h("div", { class: "tiles two" }, charts("tenants", id, signal)),
    about,
    places,
  );

  async function load() {
    try {
      const [{ data }, usage] = await Promise.all([
        get("config", signal),
        get(`tenants/${encodeURIComponent(id)}/usage`, signal).catch(ignored),
      ]);
      const settings = data.tenants?.[id];
      if (settings === undefined)
        return fill(
          about,
          h("p", { class: "panel empty" }, "There is no tenant of that name in what is live."),
        );
      describe(about, settings ?? {}, usage);
    } catch (problem) {
      failed(about, problem);
    }
  }

  load();
  reloaded(load, signal);
  const timer = setInterval(load, 10000);
  signal.addEventListener("abort", () => clearInterval(timer));
  traffic.each(message => showPlaces(now, id, message.backends ?? {}), signal);
  return { title: id, element };
}

function ignored(problem) {
  if (problem.name === "AbortError") throw problem;
  return null;
}

function describe(element, settings, usage) {
  const { weight = 1, ...rest } = settings;
  fill(element, facts("Limits", [["weight", weight], ...members(rest)]), usage ? used(usage) : null);
}

function used({ quota, documents }) {
  return h(
    "section",
    { class: "panel" },
    h("h2", {}, "Used"),
    bar("Requests of the day", quota.used, quota.limit, amount),
    documents
      ? [
          bar("Documents", documents.documents, documents.max_documents, amount),
          bar("Bytes of documents", documents.bytes, documents.max_bytes, bytes),
          bar("Collections", documents.collections, documents.max_collections, amount),
          documents.complete ? null : h("p", { class: "dim" }, "Not all collections were looked at."),
        ]
      : h("p", { class: "bad" }, "The store of the documents is away."),
    quota.limit ? h("p", { class: "dim" }, `The day ends in ${span(quota.resets_in)}.`) : null,
  );
}

function bar(name, used, limit, format) {
  return h(
    "div",
    { class: "use" },
    h(
      "div",
      { class: "use-head" },
      h("span", {}, name),
      h(
        "span",
        { class: "dim" },
        limit ? `${format(used)} of ${format(limit)}` : `${format(used)}, no limit`,
      ),
    ),
    limit
      ? h("meter", { min: 0, max: limit, high: limit * 0.8, optimum: 0, value: used, "aria-label": name })
      : null,
  );
}

function showPlaces(element, id, backends) {
  const there = Object.entries(backends)
    .map(([backend, state]) => [backend, state.tenants?.[id], state])
    .filter(([, mine]) => mine && (mine.in_use || mine.waiting));
  fill(
    element,
    there.length
      ? h(
          "dl",
          { class: "facts" },
          there.map(([backend, mine, state]) => [
            h("dt", {}, backend),
            h(
              "dd",
              {},
              `${amount(mine.in_use)}${state.seats ? ` of ${amount(state.seats)}` : ""} inside, ${amount(mine.waiting)} waiting`,
            ),
          ]),
        )
      : h("p", { class: "empty" }, "It holds no seat, and nothing of it waits."),
  );
}
