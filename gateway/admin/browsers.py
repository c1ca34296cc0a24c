"""What pages in a browser may do at the admin listener: those of our own origin what their operator may,
others nothing. A browser reaches loopback as well as whoever sits before it.

Other origins are known by what browsers add and pages cannot change: Origin (RFC 6454 section 7) and
Sec-Fetch-Site (W3C Fetch Metadata). A page on another port of this host is another origin, too.
"""

from __future__ import annotations

import re

from aiohttp import hdrs
from multidict import MultiMapping

from gateway.core.errors import Forbidden, UnsupportedMediaType
from gateway.core.http import request_target

# Of every response. A page of ours runs scripts and styles of ours only, sends nothing elsewhere and is in no
# frame; no page of others loads anything from here.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# None of those that a page may send to another origin without asking it first (a form's, text/plain).
MEDIA_TYPES = (
    "application/json", "application/merge-patch+json",
    "application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml",
)  # fmt: skip
_OWN_SITES = frozenset({"same-origin", "none"})  # none: the person typed it, or a bookmark
_PORTS = {"http": 80, "https": 443}  # that an Origin leaves out
_origin = re.compile(r"(https?)://([^/?#@\\\s]+)", re.ASCII).fullmatch


def check(method: str, headers: MultiMapping[str]) -> None:
    """That no page of another origin asks. It may link here. Raises Forbidden."""
    origins, sites = headers.getall(hdrs.ORIGIN, ()), headers.getall("Sec-Fetch-Site", ())
    if not all(_is_own(origin, headers.get(hdrs.HOST, "")) for origin in origins):
        raise Forbidden(
            "A page of another origin may do nothing here. (A proxy in between must pass on the Host that the"
            " browser sent.)"
        )
    if not all(site.strip() in _OWN_SITES for site in sites) and not _is_link(method, headers):
        raise Forbidden("A page of another site may do nothing here.")


def _is_own(origin: str, host: str) -> bool:
    """Whether an Origin is that of the Host that the request is for. TLS may end before us."""
    found = _origin(origin)
    if found is None:  # `null`, too: of a page in a sandbox, or from a file
        return False
    own, theirs = request_target.authority(host), request_target.authority(found[2])
    if own is None or theirs is None or not own[0]:
        return False
    default = _PORTS[found[1]]
    return (own[0], own[1] or default) == (theirs[0], theirs[1] or default)


def _is_link(method: str, headers: MultiMapping[str]) -> bool:
    """Whether somebody followed a link to here, in a tab: what comes is shown to them alone."""
    is_page = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
    return is_page and method in (hdrs.METH_GET, hdrs.METH_HEAD)


def check_content(headers: MultiMapping[str]) -> None:
    """That the body of a change, if it has one, is of a type for which a browser asks first. Raises
    UnsupportedMediaType."""
    if headers.get(hdrs.CONTENT_LENGTH, "0") == "0" and hdrs.TRANSFER_ENCODING not in headers:
        return
    types = [value.partition(";")[0].strip().lower() for value in headers.getall(hdrs.CONTENT_TYPE, ())]
    if len(types) != 1 or types[0] not in MEDIA_TYPES:
        raise UnsupportedMediaType(f"Send one Content-Type of {', '.join(MEDIA_TYPES)}.")
