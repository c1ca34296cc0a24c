"""The one table of methods: what each of them promises (RFC 9110 section 9; PATCH: RFC 5789; QUERY:
draft-ietf-httpbis-safe-method-w-body).

CONNECT and TRACE are in none of these sets: they are never served.
"""

from __future__ import annotations

# Those that routes are written for, in the order in which Allow names them.
COMMON = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "QUERY", "OPTIONS")
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "QUERY"})  # they only read
IDEMPOTENT = SAFE | {"PUT", "DELETE"}  # they may run twice
WITHOUT_BODY = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})  # their content has no meaning of its own
# The IANA registry of HTTP methods, and what caches and devices use beside it. Of any other one it is not
# known what it does: it takes a route that lists it.
_RARE = """
    ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT COPY LABEL LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL
    MKREDIRECTREF MKWORKSPACE MOVE NOTIFY ORDERPATCH PROPFIND PROPPATCH PURGE REBIND REPORT SEARCH SOURCE
    SUBSCRIBE UNBIND UNCHECKOUT UNLINK UNLOCK UNSUBSCRIBE UPDATE UPDATEREDIRECTREF VERSION-CONTROL
"""
KNOWN = frozenset((*COMMON, *_RARE.split()))
