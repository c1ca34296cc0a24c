// A revision that goes back by itself unless it is confirmed: how long it has, and the button.

import { post } from "../api.js";
import { now } from "../clock.js";
import { fill, h, say } from "../dom.js";
import { clock } from "../format.js";
import { toast } from "../parts/dialog.js";
import { session } from "../session.js";

/** An element with update(pending, revision). done: called once it was confirmed. */
export function pendingPanel(signal, done) {
  const left = h("b", { class: "countdown", role: "timer" });
  const meter = h("meter", { min: 0, "aria-label": "Time left" });
  const element = h("section", { class: "panel pending", hidden: true });
  let waits = null;
  let whole = 1;

  element.update = (pending, revision) => {
    if (pending && waits?.number !== pending.number) {
      whole = Math.max(1, pending.due - Math.max(revision.at, 0));
      fill(
        element,
        h(
          "div",
          { class: "pending-text" },
          h("b", {}, `Revision ${pending.number} waits for its confirmation.`),
          h("span", {}, " It goes back to ", h("b", {}, `r${pending.back_to}`), " in ", left, "."),
        ),
        meter,
        h("button", { type: "button", class: "primary", on: { click: confirm } }, "Confirm"),
      );
    }
    waits = pending ?? null;
    element.hidden = !waits;
    tick();
  };

  function tick() {
    if (!waits) return;
    const seconds = waits.due - now();
    say(left, clock(seconds));
    meter.max = whole;
    meter.value = Math.max(0, seconds);
  }

  async function confirm() {
    if (!session.token) return dispatchEvent(new Event("gateway:signin"));
    try {
      await post("config:confirm", { revision: waits.number });
      toast(`Revision ${waits.number} is confirmed; it stays.`, "good");
    } catch (problem) {
      toast(problem.message, "bad");
    }
    return done();
  }

  const timer = setInterval(tick, 250);
  signal.addEventListener("abort", () => clearInterval(timer));
  return element;
}
