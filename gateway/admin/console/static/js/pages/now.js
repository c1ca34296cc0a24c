// Now: what the gateway does this second, in all, by backend with its queue, by route and by tenant.

import { fill, h, keyed, say } from "../dom.js";
import { amount, milliseconds, percent, time } from "../format.js";
import { chart, sparkline } from "../parts/chart.js";
import { backend } from "../parts/queue.js";
import { link } from "../router.js";
import { colour } from "../tenants.js";
import { rate, traffic } from "../traffic.js";

const NONE = "none"; // stands for requests that no route took, or that have no tenant
const ROWS = 12;
const ORDER_EVERY = 5; // messages between two orders of a table: rows that jump cannot be read
const COUNTED = 60; // messages, of a second each, whose requests order a table
const RECENT = 10; // messages that a row's figures are taken over

export function page({ signal }) {
  const tiles = [requests(), errors(), latency(), queued()];
  const backends = h("div", { class: "backends" });
  const routes = ranking("Routes", "routes");
  const tenants = ranking("Tenants", "tenants");
  const nothing = h("div", { class: "panel empty" }, "Waiting for the first message of the gateway…");
  const element = h(
    "div",
    { class: "now" },
    h("h1", { class: "unseen" }, "Now"),
    nothing,
    h(
      "section",
      { class: "tiles", "aria-label": "In all" },
      tiles.map(tile => tile.element),
    ),
    h("section", { "aria-labelledby": "of-backends" }, h("h2", { id: "of-backends" }, "Backends"), backends),
    h("div", { class: "rankings" }, routes.element, tenants.element),
  );

  traffic.each(message => {
    if (document.hidden) return;
    nothing.hidden = true;
    tiles.forEach(tile => tile.update(message, traffic.samples));
    keyed(
      backends,
      ordered(message.backends ?? {}),
      ([name]) => name,
      made,
      (one, [, state]) => one.update(state),
    );
    backends.classList.toggle(
      "crowded",
      Object.values(message.backends ?? {}).filter(one => one.seats).length > 6,
    );
    routes.update(traffic.samples);
    tenants.update(traffic.samples);
  }, signal);
  traffic.addEventListener(
    "state",
    () => {
      if (traffic.state !== "live" && !traffic.last) fill(nothing, traffic.reason || "Connecting…");
    },
    { signal },
  );
  return { title: "Now", element };
}

function made([name]) {
  const one = backend(name);
  one.element.update = one.update;
  return one.element;
}

/** Those with seats first: there is something to see. */
function ordered(backends) {
  return Object.entries(backends).sort(
    ([a, one], [b, other]) => Boolean(other.seats) - Boolean(one.seats) || a.localeCompare(b),
  );
}

function tile(label, series, figures) {
  const drawing = chart(`${label} of the last five minutes`, series);
  const values = figures.map(({ name }) => ({ number: h("b"), name: h("span", { class: "dim" }, name) }));
  const element = h(
    "article",
    { class: "panel tile" },
    h(
      "header",
      {},
      h("h3", {}, label),
      h(
        "div",
        { class: "figures" },
        values.map(({ number, name }) => h("span", { class: "figure" }, number, name)),
      ),
    ),
    drawing.element,
  );
  function update(message, samples) {
    figures.forEach(({ show }, index) => say(values[index].number, show(message)));
    drawing.draw(samples);
  }
  return { element, update };
}

function requests() {
  return tile(
    "Requests",
    [{ name: "requests/s", kind: "area", pick: one => rate(one, one.total), format: amount }],
    [{ name: "/s", show: one => amount(rate(one, one.total)) }],
  );
}

function errors() {
  const part = one => (one.total.requests ? one.total.errors / one.total.requests : 0);
  return tile(
    "Errors",
    [
      {
        name: "refused/s",
        kind: "line",
        pick: one => (one.total.refused ?? 0) / (one.seconds || 1),
        format: amount,
      },
      { name: "errors/s", kind: "area", pick: one => one.total.errors / (one.seconds || 1), format: amount },
    ],
    [
      { name: "5xx", show: one => percent(part(one)) },
      { name: "4xx/s", show: one => amount((one.total.refused ?? 0) / (one.seconds || 1)) },
    ],
  );
}

function latency() {
  return tile(
    "Latency",
    [
      { name: "p99", kind: "line", pick: one => one.total.p99, format: milliseconds },
      { name: "p50", kind: "area", pick: one => one.total.p50, format: milliseconds },
    ],
    [
      { name: "p50", show: one => milliseconds(one.total.p50) },
      { name: "p99", show: one => milliseconds(one.total.p99) },
    ],
  );
}

function queued() {
  const sum = part => one =>
    Object.values(one.backends ?? {}).reduce((number, backend) => number + (backend[part] ?? 0), 0);
  return tile(
    "Waiting for a seat",
    [{ name: "waiting", kind: "area", pick: sum("waiting"), format: amount }],
    [
      { name: "waiting", show: one => amount(sum("waiting")(one)) },
      { name: "inside", show: one => amount(sum("in_use")(one)) },
    ],
  );
}

/** The busiest of a kind, with a line of their requests. */
function ranking(title, kind) {
  const body = h("tbody");
  const none = h("p", { class: "empty" }, "");
  const more = h("a", { class: "more", href: link(kind) }, `All ${title.toLowerCase()}`);
  const element = h(
    "section",
    { class: "panel ranking" },
    h("header", {}, h("h2", {}, title), more),
    h(
      "div",
      { class: "table-box" },
      h(
        "table",
        { "aria-label": title },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            ["Name", "", "req/s", "4xx", "5xx", "p50", "p99"].map((name, index) =>
              h(
                "th",
                {
                  scope: "col",
                  class:
                    [index > 1 ? "number" : "", index === 1 || index === 5 ? "priority-2" : ""]
                      .join(" ")
                      .trim() || null,
                },
                name,
              ),
            ),
          ),
        ),
        body,
      ),
    ),
    none,
  );
  let order = [];
  let age = ORDER_EVERY;

  function update(samples) {
    const recent = samples.slice(-RECENT);
    age += 1;
    if (age > ORDER_EVERY || order.length < ROWS) {
      const sums = new Map();
      for (const one of samples.slice(-COUNTED))
        for (const [name, { requests: number }] of Object.entries(one[kind] ?? {}))
          sums.set(name, (sums.get(name) ?? 0) + number);
      order = [...sums]
        .sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))
        .slice(0, ROWS)
        .map(([name]) => name);
      if (age > ORDER_EVERY) age = 0;
    }
    none.hidden = order.length > 0;
    if (!order.length) say(none, nothing());
    keyed(
      body,
      order,
      name => name,
      name => row(kind, name),
      (element, name) => element.update(recent, samples, name),
    );
  }

  return { element, update };
}

/** That there was no request: in the time that the order is made of, or as long as somebody looks. */
function nothing() {
  const opened = performance.timeOrigin;
  if (Date.now() - opened >= 1000 * COUNTED) return "No request in the last minute.";
  const [hours, minutes] = time(opened / 1000).split(" ").at(-1).split(":");
  return `None since this page was opened, ${hours}:${minutes}.`;
}

function row(kind, name) {
  const line = sparkline(one => rate(one, one[kind]?.[name]));
  const cells = Array.from({ length: 5 }, (_, index) =>
    h("td", { class: index === 3 ? "number priority-2" : "number" }),
  );
  const mark = kind === "tenants" ? h("i", { class: `swatch ${colour(name)}` }) : null;
  const title =
    name === NONE
      ? h("span", { class: "dim" }, kind === "tenants" ? "no tenant" : "no route")
      : h("a", { href: link(kind, name), title: name }, mark, name);
  const element = h(
    "tr",
    {},
    h("td", { class: "stretch" }, title),
    h("td", { class: "priority-2 spark" }, line.element),
    cells,
  );
  element.update = (recent, samples) => {
    line.draw(samples);
    const parts = recent.map(one => one[kind]?.[name]).filter(Boolean);
    const sum = field => parts.reduce((number, part) => number + (part[field] ?? 0), 0);
    const seconds = recent.reduce((number, one) => number + (one.seconds || 1), 0);
    const latest = parts.findLast(part => part.p50 !== null) ?? {};
    say(cells[0], amount(sum("requests") / seconds));
    ["refused", "errors"].forEach((field, index) =>
      say(cells[1 + index], percent(sum("requests") ? sum(field) / sum("requests") : 0)),
    );
    cells[2].classList.toggle("bad", sum("errors") > 0);
    say(cells[3], milliseconds(latest.p50));
    say(cells[4], milliseconds(latest.p99));
  };
  return element;
}
