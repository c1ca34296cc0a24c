"""The front page, at `/` unless a route takes it: HTML for a browser, the same as JSON for a program.

It says how to get a token and where to read more. Routes are listed only if the routing config says so.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from gateway.core.model import Route

GIVEN_OUT = "Whoever runs this gateway gives out tokens."
NAME = "front-page"  # of its route, and of its target
PATH = "/"
METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --dim: #5c6675; --paper: #f6f7f9; --card: #fff;
  --line: #dfe3e9; --accent: #1b64c8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --dim: #9aa4b2; --paper: #12161c;
  --card: #1a2028; --line: #2b343f; --accent: #7db4ff; } }
body { margin: 0; padding: 3rem 1.25rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 46rem; margin: 0 auto; }
h1 { margin: 0 0 .25rem; font-size: 1.9rem; letter-spacing: -.02em; }
h2 { margin: 0 0 .6rem; font-size: .8rem; letter-spacing: .08em; text-transform: uppercase;
  color: var(--dim); }
p { margin: 0 0 .6rem; }
.lead { margin-bottom: 1.75rem; color: var(--dim); }
section { margin: 0 0 1rem; padding: 1.1rem 1.25rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .6rem; overflow-x: auto; }
code { font: .88em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
pre { margin: .6rem 0 0; white-space: pre-wrap; color: var(--dim); }
a { color: var(--accent); text-decoration: none; }
a:hover, a:focus { text-decoration: underline; }
ul { margin: 0; padding-left: 1.1rem; }
table { width: 100%; border-collapse: collapse; }
th { text-align: left; font-weight: 600; color: var(--dim); font-size: .85rem; }
th, td { padding: .35rem 1rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
td code { white-space: nowrap; }
.dim { color: var(--dim); }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; img-src data:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)


# Marks, while a page is made, where the public prefix belongs: before each address of the gateway. It is a
# noncharacter, which no text has (Unicode, section 23.7).
_PREFIX_MARK = "\uffff"


class _Form:
    """One form of the page, split where the public prefix belongs."""

    __slots__ = ("_plain", "_texts")

    def __init__(self, text: str) -> None:
        self._texts = text.split(_PREFIX_MARK)
        self._plain = "".join(self._texts).encode()

    def below(self, prefix: str) -> bytes:
        """The page below a public prefix, encoded as the form needs it. Cheap: any client of a trusted proxy
        may ask with another prefix."""
        return prefix.join(self._texts).encode() if prefix else self._plain


class FrontPage:
    """Both forms of the page, ready to send but for the prefix that proxies before the gateway strip
    (`forwarding.public_prefix`). html, json: with _PREFIX_MARK where it belongs."""

    __slots__ = ("_html", "_json")

    def __init__(self, html: str, json: str) -> None:
        self._html, self._json = _Form(html), _Form(json)

    def html(self, prefix: str = "") -> bytes:
        """The page as HTML, below a public prefix."""
        return self._html.below(escape(prefix))

    def json(self, prefix: str = "") -> bytes:
        """The page as JSON, below a public prefix, of which JSON escapes no character."""
        return self._json.below(prefix)


def make(
    title: str, token: str, links: Mapping[str, str], routes: Iterable[Route[Any, Any]] | None = None
) -> FrontPage:
    """The page. token: how to get one, as lines of text with `code`. links: name to address. routes: those to
    list; None: no list."""
    listed = None if routes is None else [_listed(route) for route in routes]
    title, token = _text(title), _text(token)
    links = {_text(name): _address(_text(address)) for name, address in links.items()}
    data: dict[str, Any] = {"title": title, "token": token, "links": links}
    if listed is not None:
        data["routes"] = listed
    body = "".join([_lead(title), _token(token), _links(links), _routes(listed or [])])
    html = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n<style>{_STYLE}</style>\n'
        f"</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
    return FrontPage(html, json.dumps(data, ensure_ascii=False, separators=(",", ":")))


def _text(given: str) -> str:
    return given.replace(_PREFIX_MARK, "\ufffd")


def _address(given: str) -> str:
    """An address of this gateway with _PREFIX_MARK; one of another host unchanged."""
    return _PREFIX_MARK + given if given.startswith("/") and not given.startswith("//") else given


def _listed(route: Route[Any, Any]) -> dict[str, Any]:
    host = {"host": route.host} if route.host else {}
    return {
        "name": route.name, **host, "path": _address(_text(route.path)), "methods": sorted(route.methods),
        "token": not route.public,
    }  # fmt: skip


def _lead(title: str) -> str:
    return (
        f"<h1>{escape(title)}</h1>\n"
        '<p class="lead">This is an API gateway: programs call it, and a browser gets this page.</p>\n'
    )


def _token(token: str) -> str:
    lines = "".join(f"<p>{_with_code(line)}</p>\n" for line in token.splitlines())
    return (
        f"<section>\n<h2>Token</h2>\n{lines}"
        "<p>A request carries it in a header:</p>\n"
        "<pre><code>Authorization: Bearer &lt;token&gt;</code></pre>\n</section>\n"
    )


def _with_code(line: str) -> str:
    """A line as HTML, where text between two backticks is code."""
    parts = [escape(part) for part in line.split("`")]
    if len(parts) % 2 == 0:
        return escape(line)
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))


def _links(links: Mapping[str, str]) -> str:
    if not links:
        return ""
    items = "".join(
        f'<li><a href="{escape(address)}">{escape(name)}</a></li>\n' for name, address in links.items()
    )
    return f"<section>\n<h2>Links</h2>\n<ul>\n{items}</ul>\n</section>\n"


def _routes(listed: list[dict[str, Any]]) -> str:
    if not listed:
        return ""
    rows = "".join(
        f"<tr><td>{escape(route['name'])}</td>"
        f"<td><code>{escape(route.get('host', '') + route['path'])}</code></td>"
        f"<td>{escape(' '.join(route['methods'])) or '<span class=dim>any</span>'}</td>"
        f"<td>{'yes' if route['token'] else '<span class=dim>no</span>'}</td></tr>\n"
        for route in listed
    )
    head = "<tr><th>Route</th><th>Path</th><th>Methods</th><th>Token</th></tr>\n"
    return f"<section>\n<h2>Routes</h2>\n<table>\n{head}{rows}</table>\n</section>\n"


def prefers_html(accepts: Sequence[str]) -> bool:
    """Whether these values of Accept prefer HTML to JSON (RFC 9110 section 12.5.1). A client without a
    preference gets JSON: `*/*` is what programs send."""
    ranges = [item for value in accepts for item in value.lower().split(",")]
    html, plain = _preference("text/html", ranges), _preference("application/json", ranges)
    return html > plain and html[0] > 0


def _preference(kind: str, ranges: list[str]) -> tuple[float, int]:
    """The weight of a media type, and how specifically it was named."""
    family = kind.partition("/")[0] + "/*"
    exactness = {kind: 3, family: 2, "*/*": 1}
    best: tuple[int, float] = (0, 0.0)
    for item in ranges:
        name, *parameters = (part.strip() for part in item.split(";"))
        if name in exactness:
            best = max(best, (exactness[name], _weight(parameters)))
    return best[1], best[0]


def _weight(parameters: Iterable[str]) -> float:
    for parameter in parameters:
        name, _, text = parameter.partition("=")
        if name.strip() == "q":
            try:
                weight = float(text)
            except ValueError:
                return 0.0
            return weight if 0 <= weight <= 1 else 0.0
    return 1.0
