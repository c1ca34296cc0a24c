// Dialogs: the browser's own <dialog>, which keeps the focus inside and ends with Escape.

import { fill, h } from "../dom.js";

/** Show a dialog. body: nodes. actions: from the function that closes it to its buttons. onsubmit: what Enter in a field
 * and the primary button do. Gives the element, which is gone once it is closed. */
export function dialog({ title, body, actions, wide = false, onsubmit, onclose }) {
  const close = () => element.close();
  const form = h(
    "form",
    { method: "dialog", on: { submit: submitted } },
    h(
      "header",
      {},
      h("h2", { id: "dialog-title" }, title),
      h("button", { type: "button", class: "quiet icon", "aria-label": "Close", on: { click: close } }, "✕"),
    ),
    h("div", { class: "dialog-body" }, body),
    h("footer", {}, actions(close)),
  );
  const element = h(
    "dialog",
    { class: wide ? "wide" : null, "aria-labelledby": "dialog-title", on: { close: ended } },
    form,
  );
  function submitted(event) {
    event.preventDefault();
    onsubmit?.(close);
  }
  function ended() {
    element.remove();
    onclose?.();
  }
  document.body.append(element);
  element.showModal();
  return element;
}

/** Say something in passing, at the edge of the page. kind: info | good | bad. more: a node. about: what it is about, of
 * which it takes the place of what was said before. */
export function toast(text, kind = "info", more = null, about = "") {
  const box = document.getElementById("toasts");
  if (about) [...box.children].find(one => one.dataset.about === about)?.remove();
  const item = h(
    "div",
    { class: `toast ${kind}`, "data-about": about },
    h("span", {}, text),
    more,
    h(
      "button",
      { type: "button", class: "quiet icon", "aria-label": "Dismiss", on: { click: () => item.remove() } },
      "✕",
    ),
  );
  box.append(item);
  while (box.childElementCount > 4) box.firstElementChild.remove();
  setTimeout(() => item.remove(), kind === "bad" ? 20000 : 8000);
}

/** Show what went wrong in place of what was to be there. */
export function failed(element, problem) {
  if (problem.name === "AbortError") return;
  fill(element, trouble(problem));
}

/** What went wrong, with what may help. */
export function trouble(problem) {
  const help = problem.wantsToken
    ? h(
        "button",
        { type: "button", class: "link", on: { click: () => dispatchEvent(new Event("gateway:signin")) } },
        "Sign in",
      )
    : null;
  return h(
    "div",
    { class: "notice bad", role: "alert" },
    h("strong", {}, problem.message),
    help,
    problem.errors?.length
      ? h(
          "ul",
          {},
          problem.errors.map(one => h("li", {}, place(one), one.reason, hint(one))),
        )
      : null,
  );
}

/** Where a problem of a config is. */
export function place({ line, path }) {
  const where = [line ? `line ${line}` : "", path ?? ""].filter(Boolean).join(", ");
  return where ? h("span", { class: "dim" }, `${where}: `) : null;
}

/** What helps against it. */
export function hint({ hint: text }) {
  return text ? h("span", { class: "dim" }, ` ${text}`) : null;
}
