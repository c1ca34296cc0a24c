// The live config in the editor: checked and rehearsed as one types, and applied.

import { get, sendText } from "../api.js";
import { debounced, fill, h } from "../dom.js";
import { count } from "../format.js";
import { changes, summary } from "../parts/changes.js";
import { hint, place, toast, trouble } from "../parts/dialog.js";
import { rehearsal } from "../parts/rehearsal.js";
import { since } from "../parts/time.js";
import { link } from "../router.js";
import { session } from "../session.js";
import { traffic } from "../traffic.js";
import { apply } from "./apply.js";
import * as draft from "./draft.js";
import { editor, finder } from "./editor.js";
import { merge } from "./merge.js";
import { pendingPanel } from "./pending.js";

const CHECK_AFTER = 300; // milliseconds without a key
const REHEARSE_AFTER = 900;

export function editPage({ query, signal }) {
  let live = null; // what the gateway says is live: {revision, text, pending, refused, source, available}
  let base = null; // the revision that the text began on, with its text
  let seenAs = null; // the token that the live text was read with
  let known = []; // changes of the text that was checked last
  let asked = new AbortController(); // of the check that is under way

  const edit = editor({ label: "Text of the config", onchange: changed, onapply: submit });
  const find = finder(edit);
  const head = h("div", { class: "edit-head" });
  const news = h("div");
  const state = h("div", { class: "check-state", role: "status" });
  const meaning = h("div");
  const outcome = h("div");
  const applyButton = h(
    "button",
    { type: "button", class: "primary", disabled: true, on: { click: submit } },
    "Apply…",
  );
  const revert = h("button", { type: "button", disabled: true, on: { click: discard } }, "Discard");
  const pending = pendingPanel(signal, load);
  const help = h(
    "p",
    { class: "unseen", id: "editor-help" },
    "Tab indents. Escape, then Tab, leaves the editor. Control S applies.",
  );
  const element = h(
    "div",
    { class: "edit" },
    pending,
    news,
    h("div", { class: "edit-bar" }, head, find.element, revert, applyButton),
    h(
      "div",
      { class: "edit-body" },
      h("div", { class: "panel editor-box" }, edit.element, help),
      h(
        "aside",
        { class: "edit-side" },
        h("section", { class: "panel" }, h("h2", {}, "Check"), state),
        h("section", { class: "panel" }, h("h2", {}, "Changes"), meaning),
        h("section", { class: "panel" }, h("h2", {}, "Rehearsal"), outcome),
      ),
    ),
  );
  const checkSoon = debounced(check, CHECK_AFTER);
  const rehearseSoon = debounced(rehearse, REHEARSE_AFTER - CHECK_AFTER);

  async function load() {
    const token = session.token;
    try {
      const found = await get("config", signal);
      if (token !== session.token) return; // it is read again
      const before = live;
      [live, seenAs] = [found, token];
      const kept = draft.load();
      if (kept && kept.text !== live.text) {
        base ??= kept.seen === null ? await baseOf(kept.base) : { number: kept.base, text: kept.seen };
        if (before === null) edit.set(kept.text);
        if (base.number === live.revision.number && base.text !== live.text) rebase();
        else check();
      } else {
        draft.drop();
        showLive();
      }
      show();
      if (before === null && query.get("find")) {
        find.field.value = query.get("find");
        find.seek(false, false);
      }
    } catch (problem) {
      if (problem.name !== "AbortError") fill(news, trouble(problem));
    }
  }

  function showLive() {
    const { scrollTop } = edit.area;
    base = { number: live.revision.number, text: live.text };
    edit.set(live.text);
    edit.area.scrollTop = scrollTop;
    nothing();
  }

  async function baseOf(number) {
    if (number === live.revision.number) return { number, text: live.text };
    try {
      return { number, text: (await get(`revisions/${number}?text`, signal)).text };
    } catch {
      return { number, text: live.text }; // it is not kept any more
    }
  }

  function nothing() {
    asked.abort();
    known = [];
    edit.problems(live.refused?.problems ?? []);
    fill(state, live.refused ? refusal(live.refused) : h("p", { class: "empty" }, "As live."));
    fill(meaning, h("p", { class: "empty" }, "No change."));
    fill(outcome, h("p", { class: "empty" }, "A change is rehearsed with the requests that came of late."));
    buttons(false);
  }

  function refusal({ problems = [] }) {
    return h(
      "div",
      {},
      h(
        "p",
        { class: "bad" },
        h("b", {}, "What the source says is refused"),
        "; the revision before it goes on.",
      ),
      listed(problems),
    );
  }

  function buttons(ok) {
    const dirty = edit.text !== base?.text;
    revert.disabled = !dirty;
    applyButton.disabled = !dirty || !ok;
  }

  function show() {
    const { revision, source, available } = live;
    fill(
      head,
      h("b", {}, `r${base.number}`),
      base.number === revision.number
        ? [
            h("span", { class: "dim" }, ` by ${revision.author || "–"}, `),
            since(revision.at),
            revision.reason ? h("span", { class: "edit-reason" }, revision.reason) : null,
          ]
        : h("span", { class: "dim" }, " edited since"),
      source ? h("span", { class: "tag" }, source.kind ?? source) : null,
      available === false ? h("span", { class: "tag bad" }, "source away") : null,
    );
    const behind = base.number !== revision.number;
    fill(
      news,
      behind
        ? h(
            "div",
            { class: "notice warn" },
            h(
              "span",
              {},
              h("b", {}, `Revision ${revision.number}`),
              ` by ${revision.author || "–"} is live since you began`,
              revision.reason ? `: ${revision.reason}` : "",
              ".",
            ),
            h(
              "span",
              { class: "actions" },
              h(
                "a",
                { class: "button", href: link("config", "diff", base.number, revision.number) },
                "What changed",
              ),
              h("button", { type: "button", on: { click: rebase } }, "Bring it into my text"),
            ),
          )
        : null,
    );
    pending.update(live.pending, revision);
  }

  function changed(text) {
    asked.abort();
    if (text === base?.text) {
      draft.drop();
      nothing();
      return;
    }
    draft.save(text, base.number, ["editor", "owner"].includes(session.operator?.role) ? null : base.text);
    buttons(false);
    checkSoon();
  }

  async function check() {
    asked.abort();
    asked = new AbortController();
    const text = edit.text;
    if (text === base.text) return nothing();
    if (!session.token) return notChecked(); // it would be refused
    try {
      const { problems = [], changes: list = [] } = await sendText("POST", "config:check", text, {
        signal: asked.signal,
      });
      known = list;
      edit.problems(problems);
      fill(state, problems.length ? listed(problems) : h("p", { class: "good" }, "✓ No problem found."));
      fill(
        meaning,
        problems.length && !list.length
          ? h("p", { class: "empty" }, "Shown once there is no problem.")
          : [list.length ? h("p", { class: "dim" }, summary(list)) : null, changes(list)],
      );
      fill(
        outcome,
        h("p", { class: "empty" }, problems.length ? "Shown once there is no problem." : "Rehearsing…"),
      );
      buttons(!problems.length);
      if (!problems.length) rehearseSoon(text);
    } catch (problem) {
      if (problem.name === "AbortError") return undefined;
      if (problem.status === 429) return checkSoon(); // the one before is not over yet
      if (problem.wantsToken && !session.token) notChecked();
      else fill(state, trouble(problem));
      edit.problems(problem.errors);
    }
    return undefined;
  }

  function notChecked() {
    fill(
      state,
      h(
        "div",
        { class: "notice" },
        "Viewing only: what you type is kept, and is checked once you are signed in. ",
        h(
          "button",
          { type: "button", class: "link", on: { click: () => dispatchEvent(new Event("gateway:signin")) } },
          "Sign in",
        ),
      ),
    );
    fill(meaning, h("p", { class: "empty" }, "Not checked: sign in."));
  }

  async function rehearse(text) {
    if (text !== edit.text) return;
    try {
      fill(outcome, rehearsal(await sendText("POST", "config:rehearse", text, { signal: asked.signal })));
    } catch (problem) {
      if (problem.name !== "AbortError") fill(outcome, trouble(problem));
    }
  }

  function listed(problems) {
    return h(
      "div",
      {},
      h("p", { class: "bad" }, h("b", {}, count(problems.length, "problem"))),
      h(
        "ol",
        { class: "problems" },
        problems.map(one =>
          h(
            "li",
            {},
            h(
              "button",
              { type: "button", class: "problem", on: { click: () => edit.goTo(one.line || 1) } },
              place(one),
              one.reason,
              hint(one),
            ),
          ),
        ),
      ),
    );
  }

  function discard() {
    draft.drop();
    edit.set(live.text);
    showLive();
    show();
  }

  function rebase() {
    const same = base.number === live.revision.number; // which others are shown without what resembles secrets
    const { text, conflicts } = merge(base.text, edit.text, live.text, `revision ${live.revision.number}`);
    base = { number: live.revision.number, text: live.text };
    edit.set(text);
    changed(text);
    show();
    if (same && !conflicts) return;
    toast(
      conflicts
        ? `${count(conflicts, "place")} changed by both: they stand between <<<<<<< and >>>>>>>.`
        : "Both edits are together now.",
      conflicts ? "bad" : "good",
    );
    if (conflicts) edit.goTo(text.slice(0, text.indexOf("<<<<<<< ")).split("\n").length);
  }

  function submit() {
    if (applyButton.disabled) return;
    if (!session.token) return dispatchEvent(new Event("gateway:signin"));
    if (seenAs !== session.token) return load(); // the text may lack what a viewer is not shown
    apply({
      text: edit.text,
      changes: known,
      base: base.number,
      live: live.revision,
      digest: digestOf(),
      done: async ({ revision }) => {
        draft.drop();
        toast(`Revision ${revision.number} is live.`, "good", null, `r${revision.number}`);
        await load();
      },
      stale: load,
    });
  }

  /** What must be live for the text to be applied: the revision that it was made on. */
  function digestOf() {
    return base.number === live.revision.number ? live.revision.digest : "stale";
  }

  session.addEventListener("change", load, { signal }); // a viewer sees the text without what resembles secrets
  traffic.each(({ config }) => {
    const now = [config.revision, config.pending?.number, config.refused];
    const known = live && [live.revision.number, live.pending?.number, Boolean(live.refused)];
    if (known && now.some((one, index) => one !== known[index])) load();
  }, signal);
  signal.addEventListener("abort", () => asked.abort());
  load();
  return { title: "Config", element };
}
