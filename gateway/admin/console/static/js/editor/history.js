// The revisions: all of them, one with its text, and the difference of any two.

import { get, post } from "../api.js";
import { fill, h } from "../dom.js";
import { bytes, time } from "../format.js";
import { changes, lines, summary } from "../parts/changes.js";
import { dialog, failed, toast, trouble } from "../parts/dialog.js";
import { reloaded } from "../parts/live.js";
import { table } from "../parts/table.js";
import { since } from "../parts/time.js";
import { go, link } from "../router.js";
import { session } from "../session.js";
import { traffic } from "../traffic.js";
import { confirmation, reason } from "./apply.js";
import { editor } from "./editor.js";

const PAGE = 50;

export function historyPage({ signal }) {
  const chosen = [];
  const compare = h(
    "button",
    {
      type: "button",
      disabled: true,
      on: { click: () => go("config", "diff", ...[...chosen].sort((a, b) => a - b)) },
    },
    "Compare two",
  );
  const more = h("button", { type: "button", hidden: true, on: { click: () => load(false) } }, "Older");
  const rows = table(
    [
      { name: h("span", { class: "unseen" }, "Compare"), cell: box },
      {
        name: "Revision",
        cell: one => h("a", { href: link("config", "revisions", one.number) }, `r${one.number}`),
      },
      { name: "When", cell: one => since(one.at) },
      {
        name: "Who",
        cell: one => h("div", {}, one.author || "–", h("div", { class: "dim priority-2" }, one.source)),
      },
      {
        name: "Why",
        cell: one => h("div", {}, one.reason || h("span", { class: "dim" }, "–"), tags(one, live, pending)),
        wide: true,
      },
      { name: h("span", { class: "unseen" }, "Actions"), cell: actions },
    ],
    { label: "Revisions", empty: "No revision is kept yet." },
  );
  const holder = h("div", { class: "panel" }, rows.element);
  let shown = [];
  let live = 0;
  let pending = null;

  function box(one) {
    return h("input", {
      type: "checkbox",
      "aria-label": `Compare revision ${one.number}`,
      checked: chosen.includes(one.number),
      on: {
        change: event => {
          if (event.target.checked) chosen.push(one.number);
          else chosen.splice(chosen.indexOf(one.number), 1);
          if (chosen.length > 2) chosen.shift();
          compare.disabled = chosen.length !== 2;
          rows.show(shown);
        },
      },
    });
  }

  function actions(one) {
    return h(
      "div",
      { class: "actions" },
      one.parent
        ? h("a", { class: "button small", href: link("config", "diff", one.parent, one.number) }, "Changes")
        : null,
      one.number === live
        ? null
        : h(
            "button",
            { type: "button", class: "small", on: { click: () => rollBack(one, () => load(true)) } },
            "Roll back",
          ),
    );
  }

  async function load(anew) {
    try {
      const before = anew ? 0 : shown.at(-1).number;
      const page = await get(`revisions?limit=${PAGE}${before ? `&before=${before}` : ""}`, signal);
      const { revisions } = page;
      ({ live, pending } = page);
      shown = anew ? revisions : [...shown, ...revisions];
      more.hidden = revisions.length < PAGE;
      rows.show(shown);
    } catch (problem) {
      failed(holder, problem);
    }
  }

  load(true);
  reloaded(() => load(true), signal);
  return {
    title: "History",
    element: h(
      "div",
      {},
      h(
        "div",
        { class: "edit-bar" },
        h("span", { class: "dim grow" }, "Each state that was live, the newest first."),
        compare,
      ),
      holder,
      more,
    ),
  };
}

function tags(one, live, pending) {
  return [
    one.number === live ? h("span", { class: "tag good" }, "live") : null,
    pending?.number === one.number ? h("span", { class: "tag warn" }, "to be confirmed") : null,
    one.restores ? h("span", { class: "tag" }, `as r${one.restores}`) : null,
    one.pinned ? h("span", { class: "tag" }, "pinned") : null,
  ];
}

/** Ask why, show what it would change, and go back to a revision. */
function rollBack(one, done) {
  if (!session.token) return dispatchEvent(new Event("gateway:signin"));
  const why = reason(`Back to revision ${one.number}`);
  const wait = confirmation();
  const found = h("div", {}, h("p", { class: "dim" }, "Comparing…"));
  const wrong = h("div", { "aria-live": "assertive" });
  const button = h("button", { class: "primary", disabled: true }, "Roll back");
  let expected = 0; // the revision that is live as far as the operator was shown
  dialog({
    title: `Roll back to revision ${one.number}`,
    wide: true,
    body: [
      h(
        "p",
        { class: "dim" },
        `Of ${time(one.at)}, by ${one.author || "–"}${one.reason ? `: ${one.reason}` : ""}. Its text becomes a new revision.`,
      ),
      found,
      why.element,
      wait.element,
      wrong,
    ],
    actions: close => [h("button", { type: "button", on: { click: close } }, "Cancel"), button],
    onsubmit: async close => {
      button.disabled = true;
      try {
        const given = { reason: why.field.value.trim(), expected };
        if (wait.value) given.confirm_within = wait.value;
        const { revision } = await post(`revisions/${one.number}:rollback`, given);
        toast(
          `Revision ${revision.number} is live, with the text of ${one.number}.`,
          "good",
          null,
          `r${revision.number}`,
        );
        close();
        done(revision);
      } catch (problem) {
        button.disabled = false;
        fill(wrong, trouble(problem));
      }
    },
  });
  return get(`revisions/live/diff/${one.number}`).then(
    ({ from, changes: list }) => {
      fill(found, h("h3", {}, `What it changes: ${summary(list)}`), changes(list));
      expected = from;
      button.disabled = false;
      button.focus();
    },
    problem => fill(found, trouble(problem)),
  );
}

export function revisionPage({ parts: [, number], signal }) {
  const head = h("div", { class: "edit-bar" });
  const text = editor({ label: `Text of revision ${number}`, readOnly: true });
  const holder = h("div", {}, head, h("div", { class: "panel editor-box" }, text.element));

  async function load() {
    try {
      const answer = await get(`revisions/${encodeURIComponent(number)}?text`, signal);
      const one = answer.revision ?? answer;
      fill(
        head,
        h(
          "span",
          { class: "grow" },
          h("b", {}, `r${one.number}`),
          h("span", { class: "dim" }, ` by ${one.author || "–"}, `),
          since(one.at),
          " ",
          one.reason || "",
          tags(one, traffic.last?.config.revision, traffic.last?.config.pending),
          h("span", { class: "dim" }, ` ${bytes(one.size)}`),
        ),
        h("a", { class: "button", href: link("config", "diff", one.number, "live") }, "Compare with live"),
        h(
          "button",
          { type: "button", on: { click: () => rollBack(one, () => go("config", "history")) } },
          "Roll back",
        ),
      );
      text.set(answer.text);
    } catch (problem) {
      failed(holder, problem);
    }
  }

  load();
  return { title: `Revision ${number}`, element: holder };
}

export function diffPage({ parts: [, a, b = "live"], signal }) {
  const found = h("div", {}, h("p", { class: "dim" }, "Comparing…"));
  const ends = [a, b].map(one =>
    one === "live" ? "what is live" : h("a", { href: link("config", "revisions", one) }, `r${one}`),
  );

  async function load() {
    try {
      const { changes: list, text_diff: text } = await get(
        `revisions/${encodeURIComponent(a)}/diff/${encodeURIComponent(b)}`,
        signal,
      );
      fill(
        found,
        h("section", { class: "panel" }, h("h2", {}, `By meaning: ${summary(list)}`), changes(list)),
        h(
          "section",
          { class: "panel" },
          h("h2", {}, "By lines"),
          text
            ? lines(text)
            : h(
                "p",
                { class: "empty" },
                text === null ? "The texts are too long to be compared by lines." : "The texts are the same.",
              ),
        ),
      );
    } catch (problem) {
      failed(found, problem);
    }
  }

  load();
  return {
    title: "Difference",
    element: h(
      "div",
      {},
      h(
        "div",
        { class: "edit-bar" },
        h("span", { class: "grow" }, "From ", ends[0], " to ", ends[1]),
        h("a", { class: "button", href: link("config", "diff", b, a) }, "Swap"),
      ),
      found,
    ),
  };
}
