// Signing in: a token that is pasted. `gateway console` brings a ticket instead, see app.js.

import { get, Problem } from "../api.js";
import { fill, h } from "../dom.js";
import { session } from "../session.js";
import { dialog, toast, trouble } from "./dialog.js";

/** Ask for a token. */
export function signIn(whoami) {
  if (document.querySelector("dialog[open]")) return;
  const field = h("input", {
    type: "password",
    id: "token",
    autocomplete: "off",
    spellcheck: "false",
    placeholder: "gwop_…",
    required: true,
  });
  const wrong = h("div", { "aria-live": "polite" });
  dialog({
    title: "Sign in",
    body: [
      h("label", { for: "token" }, "Operator's token"),
      field,
      wrong,
      h(
        "p",
        { class: "dim" },
        "The local one is in ",
        h("code", {}, "data/operator.token"),
        "; ",
        h("code", {}, "gateway console"),
        " opens this page signed in. The token stays in this tab, until it is closed.",
      ),
    ],
    actions: close => [
      h("button", { type: "button", on: { click: close } }, "Cancel"),
      h("button", { class: "primary" }, "Sign in"),
    ],
    onsubmit: async close => {
      const before = session.token;
      const token = field.value.trim().replace(/^(authorization:\s*)?bearer\s+/i, "");
      try {
        session.use(token);
        const operator = await get("whoami");
        session.known(operator);
        toast(`Signed in as ${operator.operator ?? operator.name} (${operator.role}).`, "good");
        close();
      } catch (problem) {
        if (!(problem instanceof Problem)) throw problem;
        session.use(before);
        whoami();
        fill(
          wrong,
          trouble({ message: problem.status === 401 ? "This token is not taken." : problem.message }),
        );
        field.select();
      }
    },
  });
  field.focus();
}
