// Who is at the console. The token is kept by this tab alone, until it is closed: no cookie, which any page on
// another port of this host would send along.

const KEY = "gateway.token";

class Session extends EventTarget {
  token = sessionStorage.getItem(KEY) ?? "";
  operator = null; // {name, role}, as the gateway says it; null while it did not

  /** Use a token from now on; "" for none. */
  use(token) {
    this.token = token;
    this.operator = null;
    if (token) sessionStorage.setItem(KEY, token);
    else sessionStorage.removeItem(KEY);
    this.changed();
  }

  /** The gateway does not take the token any more. */
  expired() {
    this.use("");
    this.dispatchEvent(new Event("expired"));
  }

  known(operator) {
    this.operator = operator;
    this.changed();
  }

  changed() {
    this.dispatchEvent(new Event("change"));
  }
}

export const session = new Session();

/** The single-use ticket that `gateway console` put into the address, "" when there is none. It is out of the address,
 * and of the browser's history, when this returns. */
export function takeTicket() {
  const found = /^#ticket=([^&]*)/.exec(location.hash);
  if (!found) return "";
  history.replaceState(null, "", location.pathname + location.search);
  return decodeURIComponent(found[1]);
}
