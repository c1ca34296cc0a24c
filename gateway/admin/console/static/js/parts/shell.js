// The frame around each page: where one is, what is live, who is at it.

import { send } from "../api.js";
import { now } from "../clock.js";
import { fill, h, say, svg } from "../dom.js";
import { clock } from "../format.js";
import { help } from "../keys.js";
import { link } from "../router.js";
import { session } from "../session.js";
import { toggle } from "../theme.js";
import { traffic } from "../traffic.js";
import { toast } from "./dialog.js";
import * as draft from "../editor/draft.js";

const PAGES = {
  now: ["Now", "M2 9h3l2-5 3 9 2-4h4"],
  routes: ["Routes", "M3 4h4l4 9h4M3 13h4l4-9h4"],
  config: ["Config", "M5 3h8v12H5zM7.5 6.5h3M7.5 9h3M7.5 11.5h3"],
  tenants: [
    "Tenants",
    "M6.5 8a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5ZM2 15c0-3 2-4.500 4.500-4.500S11 12 11 15M11.500 3.500a2.200 2.200 0 0 1 0 4.400M13 10.800c1.900.5 3 2 3 4.200",
  ],
  audit: ["Audit", "M3 4h12M3 9h12M3 14h7"],
  nodes: ["Nodes", "M3 3h12v5H3zM3 10h12v5H3zM5.500 5.500h.01M5.500 12.500h.01"],
};
const STATES = {
  live: "Live",
  connecting: "Connecting…",
  offline: "No connection",
  refused: "Not signed in",
};

/** The frame's elements. */
export function shell() {
  const brand = h(
    "a",
    { class: "brand", href: link("now") },
    icon("M3 4h4l4 9h4M3 13h4l4-9h4"),
    h("span", {}, "Gateway"),
  );
  const nav = h(
    "nav",
    { "aria-label": "Pages" },
    Object.entries(PAGES).map(([page, [name, path]]) =>
      h(
        "a",
        { href: link(page), "data-page": page },
        icon(path),
        h("span", {}, name),
        page === "config"
          ? h("i", { class: "unsaved", hidden: true, title: "An edit is not applied yet" })
          : null,
      ),
    ),
  );
  const skip = h(
    "a",
    {
      class: "skip",
      href: "#main",
      on: {
        click: event => {
          event.preventDefault();
          document.getElementById("main").focus();
        },
      },
    },
    "Skip to the page",
  );
  const foot = h("div", { class: "shell-foot" }, who(), tools());
  followDraft(nav.querySelector(".unsaved"));
  return [
    skip,
    h("aside", { class: "shell" }, brand, status(), nav, foot),
    h("div", { class: "content" }, banner(), h("main", { id: "main", tabindex: "-1" })),
  ];
}

function icon(path) {
  return svg(
    "svg",
    { class: "glyph", viewBox: "0 0 18 18", "aria-hidden": "true" },
    svg("path", { d: path }),
  );
}

/** Whether the stream is there, and which revision is live. A new one is said, whoever made it. */
function status() {
  const state = h("span", { class: "live-state", role: "status" });
  const revision = h("a", { class: "live-revision", href: link("config", "history") });
  let known = null;
  const show = () => {
    state.dataset.state = traffic.state;
    say(state, STATES[traffic.state]);
    state.title = traffic.reason;
  };
  traffic.addEventListener("state", show);
  traffic.addEventListener("message", () => {
    const config = traffic.last.config;
    say(revision, `r${config.revision}`);
    revision.title = `Revision ${config.revision} is live`;
    if (known !== null && known !== config.revision) {
      toast(
        `Revision ${config.revision} is live, by ${config.author || "nobody"}${config.reason ? `: ${config.reason}` : ""}`,
        "info",
        h("a", { href: link("config", "diff", known, config.revision) }, "Changes"),
        `r${config.revision}`,
      );
    }
    known = config.revision;
  });
  show();
  return h("div", { class: "live" }, state, revision);
}

function who() {
  const element = h("div", { class: "who" });
  const show = () => {
    const { token, operator } = session;
    const name = operator?.operator ?? operator?.name;
    fill(
      element,
      h("span", { class: "who-name", title: name }, token ? (name ?? "Signed in") : "Viewing only"),
      token && operator?.role ? h("span", { class: "dim" }, operator.role) : null,
      token
        ? h("button", { type: "button", class: "link", on: { click: signOut } }, "Sign out")
        : h(
            "button",
            {
              type: "button",
              class: "link",
              on: { click: () => dispatchEvent(new Event("gateway:signin")) },
            },
            "Sign in",
          ),
    );
  };
  session.addEventListener("change", show);
  show();
  return element;
}

/** The session ends at the gateway too, if it is one; a token that was pasted lives on. */
async function signOut() {
  const ended = session.operator?.session ? send("POST", "session:end") : null;
  session.use("");
  await ended?.catch(() => null);
}

function tools() {
  return h(
    "div",
    { class: "tools" },
    h(
      "button",
      {
        type: "button",
        class: "quiet icon",
        title: "Light or dark (t)",
        "aria-label": "Light or dark",
        on: { click: toggle },
      },
      icon("M9 2.500a6.500 6.500 0 1 0 0 13zM9 2.500a6.500 6.500 0 0 1 0 13"),
    ),
    h(
      "button",
      {
        type: "button",
        class: "quiet icon",
        title: "Keyboard (?)",
        "aria-label": "Keyboard",
        on: { click: help },
      },
      "?",
    ),
  );
}

/** Above each page while a revision waits for its confirmation, or the source says what was refused. */
function banner() {
  const left = h("b", { class: "countdown" });
  const pending = h("a", { class: "strip warn", href: link("config"), hidden: true });
  const refused = h(
    "a",
    { class: "strip bad", href: link("config"), hidden: true },
    "The source of the config says something that is refused; what was live goes on. ",
    h("u", {}, "See what"),
  );
  let waits = null;
  traffic.addEventListener("message", () => {
    const config = traffic.last.config;
    if (config.pending && waits?.number !== config.pending.number) {
      fill(
        pending,
        `Revision ${config.pending.number} goes back to ${config.pending.back_to} in `,
        left,
        " unless it is confirmed. ",
        h("u", {}, "Confirm"),
      );
    }
    waits = config.pending;
    pending.hidden = !waits;
    refused.hidden = !config.refused;
    tick();
  });
  const tick = () => waits && say(left, clock(waits.due - now()));
  setInterval(tick, 250);
  return h("div", { class: "strips" }, pending, refused);
}

function followDraft(mark) {
  const show = () => {
    mark.hidden = !draft.exists();
  };
  addEventListener("gateway:draft", show);
  show();
}
