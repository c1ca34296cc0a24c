// What an edit means: objects of the config that are added, removed or changed, field by field.

import { h } from "../dom.js";
import { count, value } from "../format.js";

const SIGNS = { added: "+", removed: "−", changed: "~" };
const SHOWN = 40; // objects; the rest is a number

/** A list of changes as the admin API gives them. */
export function changes(list) {
  if (!list.length) return h("p", { class: "empty" }, "No difference in meaning.");
  return h(
    "div",
    { class: "changes" },
    list.slice(0, SHOWN).map(change),
    list.length > SHOWN ? h("p", { class: "dim" }, `and ${count(list.length - SHOWN, "more object")}`) : null,
  );
}

function change({ kind, name, action, fields, renamed }) {
  return h(
    "div",
    { class: `change ${action}` },
    h(
      "div",
      { class: "change-head" },
      h("span", { class: "sign", "aria-hidden": "true" }, SIGNS[action] ?? "~"),
      h("span", { class: "dim" }, singular(kind)),
      h("code", {}, name || kind),
      renamed ? h("span", { class: "dim" }, "as ", h("code", {}, renamed)) : null,
      h("span", { class: "change-action" }, action),
    ),
    fields?.length ? h("dl", {}, fields.map(field)) : null,
  );
}

function field({ path, before, after }) {
  return h(
    "div",
    { class: "field" },
    h("dt", {}, path || "value"),
    h(
      "dd",
      {},
      before !== null && before !== undefined ? h("del", {}, value(before)) : null,
      after !== null && after !== undefined ? h("ins", {}, value(after)) : null,
    ),
  );
}

function singular(kind) {
  return kind === "settings" ? "setting" : kind.replace(/s$/, "");
}

/** In a few words: "2 changed, 1 added". */
export function summary(list) {
  const number = action => list.filter(one => one.action === action).length;
  return (
    ["added", "changed", "removed"]
      .filter(number)
      .map(action => `${number(action)} ${action}`)
      .join(", ") || "no difference"
  );
}

/** A unified diff, line by line. */
export function lines(text) {
  const kind = line =>
    line.startsWith("@@")
      ? "hunk"
      : /^(---|\+\+\+)/.test(line)
        ? "file"
        : ({ "+": "ins", "-": "del" }[line[0]] ?? "");
  return h(
    "pre",
    { class: "lines", tabindex: "0", "aria-label": "Difference by lines" },
    text.split("\n").map(line => h("span", { class: kind(line) || null }, `${line}\n`)),
  );
}
