// One route: what matches it, what it asks, where it goes, what it refused of late; and a box to try a request.

import { get } from "../api.js";
import { fill, h } from "../dom.js";
import { amount, count, members, time, value } from "../format.js";
import { failed } from "../parts/dialog.js";
import { facts } from "../parts/facts.js";
import { charts, reloaded } from "../parts/live.js";
import { since } from "../parts/time.js";
import { tryRequest } from "../parts/try.js";
import { link } from "../router.js";

const TOLD = new Set([
  "name",
  "path",
  "host",
  "methods",
  "target",
  "strip",
  "prefix",
  "scopes",
  "public",
  "auth",
  "issuers",
  "require",
]);

export function page({ parts: [name], signal }) {
  const about = h("div", { class: "columns" });
  const refusals = h("section", { class: "panel" }, h("h2", {}, "Last refusals"));
  const found = h("div");
  refusals.append(found);
  const trial = h("section", { class: "panel" }, h("h2", {}, "Try a request"));
  const element = h(
    "div",
    {},
    h(
      "header",
      { class: "page-head" },
      h("h1", {}, h("a", { class: "dim", href: link("routes") }, "Routes"), " / ", name),
      h("a", { class: "button", href: link("config", { find: `name: ${name}` }) }, "In the config"),
    ),
    h("div", { class: "tiles two" }, charts("routes", name, signal)),
    about,
    h("div", { class: "columns" }, trial, refusals),
  );
  let shown = null;

  async function load() {
    try {
      const { data } = await get("config", signal);
      const route = (data.routes ?? []).find(one => one.name === name);
      if (!route)
        return fill(
          about,
          h("p", { class: "panel empty" }, "There is no route of that name in what is live."),
        );
      describe(about, route, data.backends?.[route.target]);
      if (!shown) trial.append(tryRequest(route, signal));
      shown = route;
    } catch (problem) {
      failed(about, problem);
    }
  }

  async function loadRefusals() {
    try {
      const recent = await get(`routes/${encodeURIComponent(name)}/recent`, signal);
      fill(found, refused(recent));
    } catch (problem) {
      failed(found, problem);
    }
  }

  load();
  loadRefusals();
  reloaded(load, signal);
  const timer = setInterval(loadRefusals, 5000);
  signal.addEventListener("abort", () => clearInterval(timer));
  return { title: name, element };
}

function describe(element, route, backend) {
  const rest = Object.fromEntries(Object.entries(route).filter(([key]) => !TOLD.has(key)));
  fill(
    element,
    facts("What matches it", [
      ["Host", route.host ?? "any"],
      ["Path", h("code", {}, route.path)],
      ["Methods", methods(route)],
    ]),
    facts("What it asks", [
      ["Who", access(route)],
      ["Credentials", route.auth?.join(", ")],
      ["Issuers", route.issuers?.join(", ")],
      ...Object.entries(route.scopes ?? {}).map(([action, scopes]) => [
        `To ${action}`,
        scopes.join(" ") || "any valid token",
      ]),
      ...Object.entries(route.require ?? {}).map(([claim, values]) => [`Claim ${claim}`, value(values)]),
    ]),
    facts("Where it goes", [
      ["Target", route.target],
      ["Kind", backend?.kind],
      ["Addresses", backend?.addresses?.map(one => one.address ?? one).join(", ")],
      ["Threads", backend?.threads],
      ["Strips", route.strip],
      ...members(rest),
    ]),
  );
}

/** What the gateway refused of the last requests, by reason, each with the last of them. */
function refused({ requests, since: first, codes, last }) {
  const reasons = codes.filter(({ status }) => status >= 400);
  if (!requests) return h("p", { class: "empty" }, "No request came of late.");
  return [
    h("p", { class: "dim" }, `Of the last ${count(requests, "request")}, since ${time(first)}:`),
    reasons.length
      ? reasons.map(reason => refusal(reason, last))
      : h("p", { class: "good" }, "None was refused."),
  ];
}

function refusal({ status, code, count: number }, last) {
  const examples = last.filter(one => one.status === status && one.code === code).slice(0, 3);
  return h(
    "div",
    { class: "refusal" },
    h("b", { class: "number" }, amount(number)),
    h(
      "div",
      {},
      h("code", {}, `${status} ${code ?? "by the backend"}`),
      examples.map(one =>
        h(
          "div",
          { class: "dim" },
          `${one.method} ${one.path ?? ""}${one.tenant ? ` · ${one.tenant}` : ""} · `,
          since(one.at),
        ),
      ),
    ),
  );
}

/** The methods of a route as written. */
export function methods(route) {
  return route.methods?.join(" ") || h("span", { class: "dim" }, "any");
}

/** Who may call a route, in a word or two. */
export function access(route) {
  if (route.public) return "public";
  const scopes = [...new Set(Object.values(route.scopes ?? {}).flat())];
  return scopes.length ? scopes.join(" ") : "any valid token";
}
