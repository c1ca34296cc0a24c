// Names and values, side by side.

import { h } from "../dom.js";

/** A panel of names and values; those without a value are left out. */
export function facts(title, rows) {
  const known = rows.filter(([, given]) => given !== undefined && given !== null && given !== "");
  return h(
    "section",
    { class: "panel" },
    h("h2", {}, title),
    known.length
      ? h(
          "dl",
          { class: "facts" },
          known.map(([name, given]) => [h("dt", {}, name), h("dd", {}, given)]),
        )
      : h("p", { class: "empty" }, "Nothing."),
  );
}
