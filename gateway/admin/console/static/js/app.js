// The start: the frame around the pages, who is at it, and which page is shown.

import { get, post } from "./api.js";
import { h } from "./dom.js";
import { listen } from "./keys.js";
import { shell } from "./parts/shell.js";
import { signIn } from "./parts/signin.js";
import { toast } from "./parts/dialog.js";
import { run as runClocks } from "./parts/time.js";
import { page as audit } from "./pages/audit.js";
import { page as config } from "./pages/config.js";
import { page as nodes } from "./pages/nodes.js";
import { page as now } from "./pages/now.js";
import { page as routes } from "./pages/routes.js";
import { page as tenants } from "./pages/tenants.js";
import { here } from "./router.js";
import { session, takeTicket } from "./session.js";
import { restore } from "./theme.js";
import { traffic } from "./traffic.js";

const PAGES = { now, routes, config, tenants, audit, nodes };
let leave = new AbortController();

/** Show the page that the address names. A page gets where it is, and a signal that aborts when it is left. */
function show() {
  leave.abort();
  leave = new AbortController();
  const { parts, query } = here();
  const name = PAGES[parts[0]] ? parts[0] : "now";
  const main = document.getElementById("main");
  const { title, element } = PAGES[name]({ parts: parts.slice(1), query, signal: leave.signal });
  main.replaceChildren(element);
  scrollTo(0, 0);
  document.title = `${title} · Gateway`;
  document.querySelectorAll("nav a").forEach(link => {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  });
}

/** Ask the gateway who we are, by ticket where there is one. */
async function identify(ticket) {
  if (ticket) {
    try {
      const { token, operator, role } = await post("session", { ticket });
      session.use(token);
      toast(`Signed in as ${operator} (${role}).`, "good");
    } catch (problem) {
      toast(`The ticket is not taken: ${problem.message}`, "bad");
    }
  }
  await whoami();
}

async function whoami() {
  try {
    session.known(await get("whoami"));
  } catch {
    // The stream shows what is wrong; without a token on loopback this is the viewer.
  }
}

restore();
const ticket = takeTicket(); // before anything else can read the address
document.body.append(...shell(), h("div", { id: "toasts", role: "status", "aria-live": "polite" }));
listen();
runClocks();
session.addEventListener("expired", () => toast("The token is not valid any more. Sign in again.", "bad"));
addEventListener("gateway:signin", () => signIn(whoami));
addEventListener("hashchange", show);
identify(ticket).then(() => {
  show();
  traffic.run();
});
