// Config: its parts are the editor, the history, one revision, and the difference of two.

import { editPage } from "../editor/edit.js";
import { diffPage, historyPage, revisionPage } from "../editor/history.js";
import { h } from "../dom.js";
import { link } from "../router.js";

const PARTS = { history: historyPage, revisions: revisionPage, diff: diffPage };

export function page(where) {
  const part = PARTS[where.parts[0]];
  const { title, element } = (part ?? editPage)(where);
  const tab = (name, href, current) => h("a", { href, "aria-current": current ? "page" : null }, name);
  return {
    title,
    element: h(
      "div",
      {},
      h(
        "header",
        { class: "page-head" },
        h("h1", {}, "Config"),
        h(
          "div",
          { class: "tabs", role: "navigation", "aria-label": "Config" },
          tab("Edit", link("config"), !part),
          tab("History", link("config", "history"), part),
        ),
      ),
      element,
    ),
  };
}
