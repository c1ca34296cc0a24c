// A backend as it is this second: its seats, each in the colour of the tenant that has it, and before them the requests
// that wait, a lane for each tenant. A request that gets its seat is seen moving there.

import { fill, h, keyed, say } from "../dom.js";
import { amount, count } from "../format.js";
import { link } from "../router.js";
import { colour } from "../tenants.js";

const MOST_CELLS = 160;
const MOST_TOKENS = 72; // of one lane
const MOST_LANES = 8;
const MOST_FLIGHTS = 12; // of a lane at once
const KEPT = 8; // messages for which a lane stays after its last request, so that lanes do not flicker
const OTHERS = "\u0000others";
const PUBLIC = "(public)"; // stands for calls without a tenant
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Gives {element, update(state)}; state as the stream has it for one backend. */
export function backend(name) {
  const circuits = h("ul", { class: "circuits" });
  const seats = h("div", { class: "seats", role: "img" });
  const lanes = h("ol", { class: "lanes" });
  const figure = h("span", { class: "backend-figure" });
  const waiting = h("span", { class: "backend-waiting" });
  const floor = h("div", { class: "floor" }, h("div", { class: "seat-box" }, seats, figure), lanes);
  const element = h(
    "article",
    { class: "panel backend", "aria-label": `Backend ${name}` },
    h("header", {}, h("h3", {}, name), waiting, circuits),
    floor,
  );
  const holders = []; // by cell: the tenant that has the seat, or null
  const idle = new Map(); // by tenant: messages since it had a request here

  function update(state) {
    const tenants = Object.entries(state.tenants ?? {});
    const total = state.seats ?? state.in_use;
    const unit = Math.max(1, Math.ceil(total / MOST_CELLS));
    const got = place(
      holders,
      Math.ceil(total / unit),
      tenants.map(([tenant, { in_use }]) => [tenant, Math.round(in_use / unit)]),
    );
    element.classList.toggle("open-ended", state.seats === null || state.seats === undefined);
    seats.classList.toggle("many", holders.length > 48);
    draw(seats, holders, got);
    seats.setAttribute("aria-label", described(state, tenants));
    say(
      figure,
      state.seats
        ? `${amount(state.in_use)} of ${count(state.seats, "seat")}${unit > 1 ? `, ${unit} a cell` : ""}`
        : `${amount(state.in_use)} inside`,
    );
    say(waiting, state.waiting ? `${amount(state.waiting)} waiting` : "");
    waiting.classList.toggle("some", Boolean(state.waiting));
    keyed(
      lanes,
      rows(tenants, idle),
      row => row.tenant,
      lane,
      (item, row) => queue(item, row, got),
    );
    floor.classList.toggle("empty", !lanes.childElementCount);
    showCircuits(circuits, state.addresses ?? []);
  }

  function queue(item, row, got) {
    const held = [...holders.keys()].filter(cell => holders[cell] === row.tenant);
    item.update(row, [...(got.get(row.tenant) ?? []), ...held], got.get(row.tenant)?.length ?? 0);
  }

  return { element, update };
}

function described(state, tenants) {
  const by = tenants
    .filter(([, { in_use }]) => in_use)
    .map(([tenant, { in_use }]) => `${tenant} ${in_use}`)
    .join(", ");
  return `${state.in_use} of ${state.seats ?? "any number of"} seats in use${by ? `: ${by}` : ""}`;
}

/** Give each cell its holder, moving as few as can be. Gives the cells that each tenant got anew. */
function place(holders, size, wanted) {
  holders.length = Math.min(holders.length, size);
  while (holders.length < size) holders.push(null);
  const left = new Map(wanted);
  holders.forEach((tenant, cell) => {
    const more = left.get(tenant) ?? 0;
    if (more > 0) left.set(tenant, more - 1);
    else holders[cell] = null;
  });
  const got = new Map();
  for (const [tenant, number] of left) {
    for (let more = number; more > 0; more -= 1) {
      const cell = holders.indexOf(null);
      if (cell < 0) return got;
      holders[cell] = tenant;
      got.set(tenant, [...(got.get(tenant) ?? []), cell]);
    }
  }
  return got;
}

function draw(seats, holders) {
  while (seats.childElementCount > holders.length) seats.lastElementChild.remove();
  while (seats.childElementCount < holders.length) seats.append(h("i", { class: "seat" }));
  holders.forEach((tenant, cell) => {
    const kind = tenant === null ? "seat" : `seat taken ${colour(tenant)}`;
    const element = seats.children[cell];
    if (element.className !== kind) element.className = kind;
    const title = tenant ?? "";
    if (element.title !== title) element.title = title;
  });
}

/** The lanes: a tenant that waits or waited a moment ago, in a steady order; the rest of them as one. */
function rows(tenants, idle) {
  for (const tenant of idle.keys()) idle.set(tenant, idle.get(tenant) + 1);
  for (const [tenant, { waiting }] of tenants) if (waiting) idle.set(tenant, 0);
  for (const [tenant, messages] of idle) if (messages > KEPT) idle.delete(tenant);
  const now = new Map(tenants);
  const all = [...idle.keys()].map(tenant => ({ tenant, ...(now.get(tenant) ?? { in_use: 0, waiting: 0 }) }));
  if (all.length <= MOST_LANES) return all;
  const first = new Set(
    [...all]
      .sort((a, b) => b.waiting - a.waiting)
      .slice(0, MOST_LANES - 1)
      .map(row => row.tenant),
  );
  const rest = all.filter(row => !first.has(row.tenant));
  const sum = part => rest.reduce((number, row) => number + row[part], 0);
  return [
    ...all.filter(row => first.has(row.tenant)),
    { tenant: OTHERS, title: `${rest.length} more tenants`, in_use: sum("in_use"), waiting: sum("waiting") },
  ];
}

function lane({ tenant, title }) {
  const tokens = h("div", { class: "train" });
  const number = h("span", { class: "lane-count" });
  const name =
    tenant === OTHERS
      ? h("a", { class: "lane-name", href: link("tenants") }, title)
      : tenant === PUBLIC
        ? h(
            "span",
            { class: "lane-name", title: "Calls of public routes" },
            h("i", { class: `swatch ${colour(tenant)}` }),
            "public",
          )
        : h(
            "a",
            { class: "lane-name", href: link("tenants", tenant), title: tenant },
            h("i", { class: `swatch ${colour(tenant)}` }),
            tenant,
          );
  const item = h(
    "li",
    { class: `lane ${tenant === OTHERS ? "others" : colour(tenant)}` },
    name,
    number,
    h("div", { class: "tokens", "aria-hidden": "true" }, tokens),
  );
  item.update = (row, cells, fresh) => {
    if (row.title) say(name, row.title);
    say(number, row.waiting ? amount(row.waiting) : "");
    number.title = `${row.waiting} waiting, ${row.in_use} in a seat`;
    move(item, tokens, Math.min(row.waiting, MOST_TOKENS), cells, fresh);
  };
  return item;
}

/** Have a lane show so many requests: those that got a seat go to it, the others move up, new ones come last. cells: where
 * they go, of which the first `got` are seats that the tenant did not have before. */
function move(item, tokens, wanted, cells, got) {
  const before = tokens.childElementCount;
  const still = calm.matches || document.hidden;
  const leaving = Math.min(before, Math.max(before - wanted, Math.min(got, before, MOST_FLIGHTS)));
  const gone = [...tokens.children].slice(0, leaving);
  const step =
    tokens.children.length > 1 ? tokens.children[1].offsetLeft - tokens.children[0].offsetLeft : 10;
  if (!still && cells.length)
    gone.slice(0, MOST_FLIGHTS).forEach((token, index) => fly(item, token, cells[index % cells.length]));
  gone.forEach(token => token.remove());
  const added = wanted - tokens.childElementCount;
  for (let more = 0; more < added; more += 1) tokens.append(h("i", { class: "token" }));
  if (still) return;
  if (leaving)
    tokens.animate([{ transform: `translateX(${leaving * step}px)` }, { transform: "none" }], {
      duration: 450,
      easing: "cubic-bezier(.2,.7,.3,1)",
    });
  [...tokens.children]
    .slice(wanted - Math.min(added, MOST_FLIGHTS))
    .forEach(token => token.animate([{ opacity: 0.3 }, { opacity: 1 }], { duration: 300 }));
}

/** Show a request on its way from its lane to its seat. */
function fly(item, token, cell) {
  const floor = item.closest(".floor");
  const seat = floor?.querySelector(".seats").children[cell];
  if (!seat) return;
  const from = token.getBoundingClientRect();
  const to = seat.getBoundingClientRect();
  const box = floor.getBoundingClientRect();
  const flying = h("i", {
    class: `token flying ${[...item.classList].find(name => /^t\d/.test(name)) ?? ""}`,
  });
  flying.style.setProperty("left", `${from.left - box.left}px`);
  flying.style.setProperty("top", `${from.top - box.top}px`);
  floor.append(flying);
  const way = `translate(${to.left - from.left + (to.width - from.width) / 2}px, ${to.top - from.top + (to.height - from.height) / 2}px)`;
  flying
    .animate(
      [
        { transform: "none", opacity: 1 },
        { transform: way, opacity: 0.9, offset: 0.9 },
        { transform: way, opacity: 0 },
      ],
      { duration: 550, easing: "cubic-bezier(.4,0,.3,1)" },
    )
    .finished.finally(() => flying.remove());
}

function showCircuits(list, addresses) {
  const known = addresses.map(({ address, circuit }) => `${address} ${circuit}`).join("\n");
  if (list.dataset.known === known) return;
  list.dataset.known = known;
  const shown =
    addresses.length > 4
      ? [...addresses].sort((a, b) => (a.circuit === "closed") - (b.circuit === "closed")).slice(0, 3)
      : addresses;
  fill(
    list,
    shown.map(({ address, circuit }) =>
      h(
        "li",
        { class: `circuit ${circuit}`, title: `${address}: the circuit is ${circuit}` },
        h("i", { class: "dot" }),
        h("span", { class: "circuit-address" }, address),
        circuit === "closed" ? h("span", { class: "unseen" }, "closed") : h("b", {}, circuit),
      ),
    ),
    shown.length < addresses.length ? h("li", { class: "dim" }, `+${addresses.length - shown.length}`) : null,
  );
}
