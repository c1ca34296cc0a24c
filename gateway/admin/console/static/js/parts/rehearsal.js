// What a rehearsal found: which requests that really came would be answered differently by another config.

import { h } from "../dom.js";
import { amount, count, time } from "../format.js";

const KINDS = {
  refused: ["bad", "would be refused"],
  limited: ["warn", "would be limited otherwise"],
  rerouted: ["warn", "would go elsewhere"],
  allowed: ["good", "would be allowed"],
};

/** The outcome, kind by kind with examples. */
export function rehearsal(outcome) {
  if (!outcome.requests)
    return h("p", { class: "notice" }, "No request came yet that it could be rehearsed with.");
  const found = Object.entries(KINDS).filter(([kind]) => outcome.kinds?.[kind]?.count);
  const took = outcome.took ? ` in ${Math.max(1, Math.round(1000 * outcome.took))} ms` : "";
  return h(
    "div",
    { class: "rehearsal" },
    h(
      "p",
      {},
      h("b", {}, count(outcome.requests, "recent request")),
      outcome.since ? ` since ${time(outcome.since)}` : "",
      ` rehearsed${took}.`,
    ),
    found.map(([kind, [tone, words]]) => part(kind, tone, words, outcome.kinds[kind])),
    (outcome.unknown ?? []).map(({ count: number, reason }) =>
      h(
        "p",
        { class: "notice", "data-kind": "unknown" },
        `${count(number, "request")} could not be judged: ${reason}.`,
      ),
    ),
    found.length || outcome.unknown?.length
      ? null
      : h("p", { class: "notice good" }, "Each would be answered as before."),
    found.length ? h("p", { class: "dim" }, `${count(outcome.unchanged ?? 0, "request")} as before.`) : null,
  );
}

/** How many requests that were served would be refused. */
export function refused(outcome) {
  return outcome?.kinds?.refused?.count ?? 0;
}

function part(kind, tone, words, { count: number, examples = [] }) {
  return h(
    "details",
    { class: `notice ${tone}`, open: kind === "refused", "data-kind": kind },
    h("summary", {}, h("b", {}, amount(number)), ` ${words}`),
    h("ul", {}, examples.slice(0, 8).map(example)),
  );
}

function example({ method, host, path, tenant, before, after, count: number }) {
  return h(
    "li",
    {},
    h("code", {}, `${method} ${path}`),
    number > 1 ? h("span", { class: "dim" }, ` ×${amount(number)}`) : null,
    h("div", { class: "dim" }, [tenant, host].filter(Boolean).join(" · ")),
    h("div", {}, outcomeOf(before), " → ", outcomeOf(after)),
  );
}

function outcomeOf(given) {
  if (!given) return "–";
  const target = given.target && given.target !== given.route ? `(${given.target})` : "";
  const limits = Object.entries(given.limits ?? {})
    .map(([name, limit]) => `${name} ${limit}`)
    .join(", ");
  return [given.route ?? "no route", target, given.status, given.code, limits && `[${limits}]`]
    .filter(Boolean)
    .join(" ");
}
