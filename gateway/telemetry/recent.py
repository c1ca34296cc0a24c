"""The heads of the last requests, for the rehearsal of another config and for the page of a route.

A request costs half a microsecond, so nothing is copied here that is not made already: the outline of a head
is made once for all requests that repeat it, what is known of a caller once for each credential. No secret is
kept: no query, no credential, no ticket, no value of a header but of those that routing looks at.
"""

from __future__ import annotations

import asyncio
import pickle
from collections import Counter, deque
from typing import Any

from gateway.call import Call
from gateway.core.config.rehearsal import Recorded
from gateway.core.redact import redact

KEPT = 10_000  # requests, up to 2.5 KB each
LONGEST = 512  # characters of a path; a request with a longer one is not kept
_VIEWED = 20  # requests of a route that are shown
_SLICE = 100  # requests that are pickled at a time: a quarter of a millisecond

_Entry = tuple[Any, ...]  # the fields of Recorded: to make one costs more than all else here


class RecentRequests:
    """The last requests, of which none is kept where `keep` is 0. dropped: those that were too long."""

    def __init__(self, keep: int = KEPT) -> None:
        self._entries: deque[_Entry] = deque(maxlen=keep)
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._entries)

    def call_ended(self, call: Call) -> None:
        """Keep the head of a call that ended."""
        path, head = call.path, call.head
        outline = head.outlined or head.outline()
        if outline is None or len(path) > LONGEST:
            self.dropped += 1
            return
        if "gw" in path or "eyJ" in path:  # what keys, tickets and tokens have in common
            path = redact(path)
        route, identity = call.route, call.identity
        self._entries.append(
            (
                call.received_at,
                call.method,
                path,
                outline,
                identity.caller if identity is not None else None,
                route.name if route is not None else "",
                call.status,
                call.code,
            )
        )

    async def pickled(self, most: int = KEPT) -> list[bytes]:
        """The last ones of them, the oldest first, in slices: pickled lists of the fields of `Recorded`. Made
        without holding the event loop up. most: how many."""
        entries, slices = list(self._entries)[-most:], []
        for at in range(0, len(entries), _SLICE):
            slices.append(pickle.dumps(entries[at : at + _SLICE], 5))
            await asyncio.sleep(0)
        return slices

    def of_route(self, name: str) -> dict[str, Any]:
        """The JSON of GET /admin/v1/routes/{name}/recent: how often each code came ("" for none), and the
        last requests, the newest first. name: of a route, "" for what met none."""
        those = [Recorded._make(entry) for entry in self._entries if entry[5] == name]
        codes = Counter((one.status, one.code) for one in those)
        last = [
            {
                "at": one.at,
                "method": one.method,
                "path": one.path or None,
                "tenant": one.caller.tenant if one.caller is not None else None,
                "status": one.status,
                "code": one.code or None,
            }
            for one in reversed(those[-_VIEWED:])
        ]
        counts = [
            {"status": status, "code": code or None, "count": count}
            for (status, code), count in codes.most_common()
        ]
        since = those[0].at if those else None
        return {"requests": len(those), "since": since, "codes": counts, "last": last}
