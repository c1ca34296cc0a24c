// A box to try a request: what the live config would do with it, step by step. Nothing is sent to a backend.

import { post } from "../api.js";
import { fill, h } from "../dom.js";
import { trouble } from "./dialog.js";

/** The box, for a route as written. */
export function tryRequest(route, signal) {
  const method = h(
    "select",
    { "aria-label": "Method" },
    methodsOf(route).map(name => h("option", {}, name)),
  );
  const path = h("input", {
    "aria-label": "Path",
    class: "mono",
    spellcheck: "false",
    value: route.path.replace(/\{rest\*\}|\{[^}]*\*\}/, "").replace(/\{[^}]*\}/g, "1"),
    required: true,
  });
  const host = h("input", {
    "aria-label": "Host",
    class: "mono",
    placeholder: "Host (any)",
    spellcheck: "false",
    value: route.host?.replace("*", "www") ?? "",
  });
  const token = h("input", {
    type: "password",
    "aria-label": "Token of a client",
    placeholder: "Token of a client (none)",
    autocomplete: "off",
  });
  const result = h("div", { class: "steps-box", "aria-live": "polite" });
  const form = h(
    "form",
    { class: "try", on: { submit: ask } },
    h("div", { class: "try-line" }, method, path),
    h("div", { class: "try-line" }, host, token, h("button", { class: "primary" }, "Try")),
  );

  async function ask(event) {
    event.preventDefault();
    const request = { method: method.value, path: path.value };
    if (host.value.trim()) request.host = host.value.trim();
    if (token.value.trim()) request.token = token.value.trim();
    try {
      fill(result, steps(await post("explain", request, signal)));
    } catch (problem) {
      if (problem.name !== "AbortError") fill(result, trouble(problem));
    }
  }

  return h("div", {}, form, result);
}

function methodsOf(route) {
  return (
    route.methods?.filter(name => name !== "OPTIONS") ?? ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]
  );
}

function steps({ steps: list }) {
  return h(
    "dl",
    { class: "facts steps" },
    list.map(({ name, text, value }) => {
      const said = text ?? value;
      const bad = name === "outcome" && said.startsWith("refused");
      return [
        h("dt", {}, name),
        h("dd", { class: name === "outcome" ? (bad ? "bad" : "good") : null }, said),
      ];
    }),
  );
}
