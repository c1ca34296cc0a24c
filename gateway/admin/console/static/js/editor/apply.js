// Applying a text: why, and whether it goes back by itself unless it is confirmed.

import { sendText } from "../api.js";
import { fill, h } from "../dom.js";
import { amount } from "../format.js";
import { changes, summary } from "../parts/changes.js";
import { dialog, trouble } from "../parts/dialog.js";
import { refused, rehearsal } from "../parts/rehearsal.js";
import { since } from "../parts/time.js";

const LONG = 10; // seconds of a rehearsal, after which one may choose to go without it

/** Ask, and apply. live: the revision that is live; base: the number of the one that the text was made on; digest: of the
 * one that must be live still. done: gets the response. stale: called when another revision became live meanwhile. */
export function apply({ text, changes: list, digest, done, stale }) {
  const why = reason("");
  const wait = confirmation();
  const outcome = h("div", {}, h("p", { class: "dim" }, "Rehearsing…"));
  const wrong = h("div", { "aria-live": "assertive" });
  const risk = h("label", { class: "check", hidden: true });
  const sure = h("input", { type: "checkbox" });
  const button = h("button", { class: "primary", disabled: true }, "Apply"); // until it is known what it would do
  const late = setTimeout(() => without("the rehearsal, which takes long"), LONG * 1000);
  dialog({
    title: "Apply",
    wide: true,
    body: [
      h(
        "details",
        { open: list.length < 6 },
        h("summary", {}, h("b", {}, "Changes"), list.length ? ` ${summary(list)}` : ""),
        changes(list),
      ),
      outcome,
      risk,
      why.element,
      wait.element,
      wrong,
    ],
    actions: close => [h("button", { type: "button", on: { click: close } }, "Cancel"), button],
    onclose: () => clearTimeout(late),
    onsubmit: async close => {
      button.disabled = true;
      try {
        done(
          await sendText("PUT", `config?${asked(why, wait)}`, text, {
            headers: { "If-Match": `"${digest}"` },
          }),
        );
        close();
      } catch (problem) {
        button.disabled = false;
        fill(wrong, problem.status === 412 ? moved(problem, close) : trouble(problem));
        if (problem.status === 412) stale();
      }
    },
  });
  why.field.focus();
  sendText("POST", "config:rehearse", text).then(
    found => {
      fill(outcome, rehearsal(found));
      const many = refused(found);
      decide(many ? `Apply although ${amount(many)} of these requests would be refused` : "");
    },
    problem => {
      fill(outcome, trouble(problem));
      without("a rehearsal");
    },
  );

  function without(what) {
    decide(`Apply without ${what}`);
  }

  /** It may be applied now; words: what has to be ticked for that, "" for nothing. */
  function decide(words) {
    clearTimeout(late);
    risk.hidden = !words;
    sure.required = Boolean(words);
    sure.checked = false;
    fill(risk, sure, ` ${words}`);
    button.disabled = false;
  }
}

/** Who changed what meanwhile. The text is kept. */
function moved({ body }, close) {
  return h(
    "div",
    { class: "notice warn", role: "alert" },
    h("p", {}, h("b", {}, "Another revision became live meanwhile."), " Your text is kept."),
    h(
      "ul",
      {},
      (body.since ?? []).map(one =>
        h(
          "li",
          {},
          h("b", {}, `r${one.number}`),
          ` by ${one.author || "–"}, `,
          since(one.at),
          one.reason ? `: ${one.reason}` : "",
        ),
      ),
    ),
    h("button", { type: "button", on: { click: close } }, "Back to my text"),
  );
}

function asked(why, wait) {
  const query = new URLSearchParams({ reason: why.field.value.trim() });
  if (wait.value) query.set("confirm_within", wait.value);
  return query;
}

/** The field of a reason: {element, field}. */
export function reason(text) {
  const field = h("input", {
    id: "reason",
    required: true,
    maxlength: 500,
    autocomplete: "off",
    value: text,
    placeholder: "For the history and the audit",
  });
  return { field, element: h("div", { class: "row" }, h("label", { for: "reason" }, "Why"), field) };
}

/** The choice to have it go back unless it is confirmed: {element, value}; value is "" without. */
export function confirmation() {
  const on = h("input", { type: "checkbox", id: "confirm-on", on: { change: show } });
  const field = h("input", {
    id: "confirm-within",
    value: "60s",
    size: 6,
    list: "spans",
    "aria-label": "Time to confirm",
    pattern: "\\d+(s|m|h)",
    title: "30s, 5m, 1h",
  });
  const spans = h(
    "datalist",
    { id: "spans" },
    ["30s", "60s", "5m", "15m"].map(one => h("option", { value: one })),
  );
  function show() {
    field.disabled = !on.checked;
  }
  show();
  return {
    element: h(
      "div",
      { class: "row check" },
      on,
      h("label", { for: "confirm-on" }, "Goes back by itself unless I confirm within"),
      field,
      spans,
    ),
    get value() {
      return on.checked ? field.value.trim() : "";
    },
  };
}
