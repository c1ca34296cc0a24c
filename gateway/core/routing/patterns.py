"""The paths of the routing config: the pattern of a route, the path of a probe.

Whoever comes from another router writes its patterns: they would be literals here, which no request ever has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from gateway.core.routing.names import URL
from gateway.core.routing.problems import Wrong
from gateway.core.routing.table import PatternError, compile_pattern

# What an editor may underline: no more than `check_path` refuses.
PATH = r"/[^?#*<>\[\]^|\\]*(\{[A-Za-z_][A-Za-z0-9_]*\*\})?"
PROBE_PATH = r"/[\x21\x22\x24-\x7e]{0,1000}"
_TYPES = frozenset({"int", "str", "string", "path", "uuid", "slug", "float", "any", "re", "regex"})
# In a literal these only look like a pattern of another router: no client sends the path that they spell.
_FOREIGN = (
    (re.compile(r"\?|#"), "the query is no part of a path"),
    (re.compile(r"\*|\.\.\.|…"), "* is no wildcard; {rest*} as the last segment takes all that follows"),
    (re.compile(r"^:[A-Za-z_]"), "a parameter is written {name}"),
    (re.compile(r"[<>]"), "a parameter is written {name}"),
    (re.compile(r"\\|[\[\]^|]|\.\+|\)\+|\(\?|\$$"), "a path is no regular expression; a parameter is {name}"),
    (re.compile(r"^\s|\s$|[\t\r\n]"), "there is white space at an end of a segment"),
)


def check_path(value: str) -> str:
    """The pattern of a route: `/literal/{param}/{rest*}`."""
    fault = _path_fault(value)
    if fault:
        hint = "{name} for one segment, {rest*} for all the rest"
        raise Wrong(f"is not a path that can match: {fault}", hint, _plain_path, _paths(value))
    return value


def _path_fault(value: str) -> str:
    if not value.startswith("/"):
        return "a path starts with a slash"
    for part in value.split("/")[1:]:
        if not re.fullmatch(r"\{[A-Za-z_][A-Za-z0-9_]*\*?\}", part):
            for pattern, fault in _FOREIGN:
                if pattern.search(part):
                    return fault
    try:
        compile_pattern(value)
    except PatternError as error:
        return str(error)
    return ""


def _plain_path(value: str) -> None:
    if _path_fault(value):
        raise Wrong("is no path")


def _paths(value: str) -> Iterable[str]:
    found = URL.fullmatch(value.strip())
    text = (found[3] if found else value).strip().removeprefix("^")
    text = re.sub(r"\?$|(?<!\()\?(?=[A-Za-z_.-]+=).*|#.*|\$$", "", text)
    parts = [part for part in text.split("/") if part.strip() and part not in (".", "..")]
    names: set[str] = set()
    segments = [_segment(part.strip(), names, last=i == len(parts) - 1) for i, part in enumerate(parts)]
    yield "/" + "/".join(segments) + ("/" if text.endswith("/") and parts else "")
    yield "/" + "/".join(segments)


def _segment(part: str, names: set[str], *, last: bool) -> str:
    """A segment as it is written here, of one as another router has it."""
    if not any(pattern.search(part) for pattern, _ in _FOREIGN) and not set("{}") & set(part):
        return quote(part, safe="%!$&'()*+,;=:@~-._")
    words = re.findall(r"[A-Za-z_][A-Za-z0-9_]*", re.sub(r"\\.", "", part))
    wild = last and bool(re.search(r"\*|\.\.\.|…|\.\+|\bpath\b", part))
    chosen = next((w for w in words if w.lower() not in _TYPES and len(w) < 33), "rest" if wild else "id")
    name, count = chosen, 1
    while name in names:
        count += 1
        name = f"{chosen}{count}"
    names.add(name)
    return f"{{{name}*}}" if wild else f"{{{name}}}"


def check_probe_path(value: str) -> str:
    """The request target of a probe."""
    if not re.fullmatch(PROBE_PATH, value):
        found = URL.fullmatch(value)
        text = (found[3] if found else value).partition("#")[0].strip()
        near = quote(text if text.startswith("/") else f"/{text}", safe="/%?!$&'()*+,;=:@~-._")
        hint = "a path that begins with a slash, of up to 1000 visible ASCII characters"
        raise Wrong("is not the path of a probe", hint, check_probe_path, [near])
    return value
