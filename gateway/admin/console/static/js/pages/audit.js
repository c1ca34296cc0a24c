// Audit: who did or tried what. The lines are chained; whether the chain holds is asked here.

import { get } from "../api.js";
import { fill, h } from "../dom.js";
import { time } from "../format.js";
import { changes } from "../parts/changes.js";
import { failed, toast, trouble } from "../parts/dialog.js";
import { reloaded } from "../parts/live.js";
import { table } from "../parts/table.js";
import { link, note } from "../router.js";

const PAGE = 100;

export function page({ query, signal }) {
  const author = h("input", {
    type: "search",
    "data-search": true,
    placeholder: "Author…  ( / )",
    "aria-label": "Author",
    value: query.get("author") ?? "",
    on: { change: again },
  });
  const action = h(
    "select",
    { "aria-label": "Action", on: { change: again } },
    h("option", { value: "" }, "Every action"),
    [
      "applied",
      "rolled_back",
      "confirmed",
      "unconfirmed",
      "refused",
      "pinned",
      "recovered",
      "signed_in",
    ].map(name => h("option", { value: name }, name.replace("_", " "))),
  );
  action.value = query.get("action") ?? "";
  const verdict = h("div", { "aria-live": "polite" });
  const rows = table(
    [
      { name: "When", cell: line => h("span", { class: "mono nowrap" }, time(line.at)) },
      {
        name: "Who",
        cell: line =>
          h(
            "div",
            {},
            line.author || "–",
            h("div", { class: "dim priority-2" }, [line.role, line.address].filter(Boolean).join(" · ")),
          ),
      },
      {
        name: "What",
        cell: line =>
          h(
            "span",
            { class: `tag ${line.outcome === "refused" ? "bad" : ""}` },
            String(line.action).replace("_", " "),
          ),
      },
      { name: "Why", cell: why, wide: true },
      { name: "Revision", cell: revision, priority: 2 },
      {
        name: "#",
        cell: line => h("span", { class: "dim", title: line.hash }, line.seq),
        number: true,
        priority: 3,
      },
    ],
    { label: "Audit", empty: "No line is like that." },
  );
  const holder = h("div", { class: "panel" }, rows.element);
  const more = h("button", { type: "button", hidden: true, on: { click: older } }, "Older");
  let shown = [];
  let next = null; // the line before which older ones go on

  function again() {
    note({ author: author.value, action: action.value });
    shown = [];
    next = null;
    older();
  }

  async function older() {
    const asked = new URLSearchParams({ limit: PAGE });
    if (next) asked.set("before", next);
    if (author.value) asked.set("author", author.value);
    if (action.value) asked.set("action", action.value);
    try {
      const page = await get(`audit?${asked}`, signal);
      shown = [...shown, ...page.lines];
      next = page.next;
      rows.show(shown);
      more.hidden = !next;
    } catch (problem) {
      failed(holder, problem);
    }
  }

  async function verify() {
    try {
      const { ok, problems } = await get("audit:verify", signal);
      if (ok) toast("The chain holds: no line was changed or removed.", "good");
      fill(
        verdict,
        problems.length
          ? h(
              "div",
              { class: "notice bad", role: "alert" },
              h("strong", {}, "The audit was changed or has a gap."),
              h(
                "ul",
                {},
                problems.map(one => h("li", {}, one)),
              ),
            )
          : null,
      );
    } catch (problem) {
      fill(verdict, trouble(problem));
    }
  }

  older();
  reloaded(again, signal);
  return {
    title: "Audit",
    element: h(
      "div",
      {},
      h(
        "header",
        { class: "page-head" },
        h("h1", {}, "Audit"),
        author,
        action,
        h("button", { type: "button", on: { click: verify } }, "Verify the chain"),
      ),
      verdict,
      holder,
      more,
    ),
  };
}

function why(line) {
  const list = Array.isArray(line.diff) ? line.diff : null;
  return h(
    "div",
    {},
    line.reason || "",
    line.detail ? h("div", { class: "dim" }, line.detail) : null,
    list?.length ? h("details", {}, h("summary", {}, "What changed"), changes(list)) : null,
  );
}

function revision(line) {
  if (!line.to && !line.from) return h("span", { class: "dim" }, "–");
  if (!line.to || !line.from || line.to === line.from) return `r${line.to || line.from}`;
  return h(
    "a",
    { class: "nowrap", href: link("config", "diff", line.from, line.to) },
    `r${line.from} → r${line.to}`,
  );
}
