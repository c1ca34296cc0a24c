"""Changing the live config by the admin API: who may, what it changes, and what came in between."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

from aiohttp import hdrs, web

from gateway.admin import guard
from gateway.admin.body import json_response
from gateway.admin.refusals import OneEach
from gateway.admin.v1 import asked
from gateway.config import source
from gateway.config.edit.splice import NotEditable
from gateway.config.live import LiveConfig
from gateway.config.ports import ConfigRefused, HeadMoved, NoRevision, Waits, WaitsNot
from gateway.config.refusal import as_dict, summary
from gateway.config.source import Comparison, rewrite_apart
from gateway.core.config import differences
from gateway.core.config.audit import Entry
from gateway.core.config.operator import Operator, Role
from gateway.core.config.reach import overreaches
from gateway.core.config.revision import Draft, Origin, Pending, Revision, view
from gateway.core.errors import (
    ConfigUnavailable,
    ConfirmationPending,
    Forbidden,
    GatewayError,
    InvalidConfig,
    NotFound,
    NothingToConfirm,
    PreconditionFailed,
    StaleConfig,
    Unprocessable,
)
from gateway.core.routing.problems import Problem, Problems
from gateway.runtime import threads
from gateway.runtime.moments import moment

L = logging.getLogger(__name__)
REVISION = "X-Config-Revision"
_NAMED = 100  # objects that an error lists
_TRIES = 5  # of a change whose base another one replaced meanwhile
_SINCE = 100  # revisions that a stale change is told of
_CHANGES = 100  # of those revisions that it is told of
_COMPARED = 2 * 1024 * 1024  # bytes of a text that is compared for that
_LOOKED_AT = 1000  # revisions among which the base of a stale change is looked for

# The text that is to be live, made of the live revision and its text.
Make = Callable[[Revision, str], Awaitable[str]]
Commit = Callable[[Draft, int], Awaitable[Revision]]


class Config:
    """The live config, as the pages of the admin API see it and change it. wall: seconds since the epoch."""

    def __init__(self, live: LiveConfig, wall: Callable[[], float] = time.time) -> None:
        self.live = live
        self.one_each = OneEach()
        self._wall = wall

    async def data(self, text: str) -> Any:
        """The plain data of a text, not to be changed. Raises Problems."""
        return (await self.live.texts.document(text)).data

    async def edited(self, text: str, wanted: Mapping[str, Any]) -> str:
        """The text, changed so that it reads as wanted. Raises Problems, NotEditable."""
        return await rewrite_apart(text, wanted)

    async def changes(self, before: str, after: str) -> Comparison:
        """What differs by meaning between two texts. Raises Problems."""
        return await self.live.texts.compare(before, after)

    async def change(
        self, request: web.Request, given: Mapping[str, Any], make: Make, commit: Commit | None = None
    ) -> dict[str, Any]:
        """Make a text live, as far as the operator may; the JSON of the response. Tried again where another
        change was faster: `make` says whether that matters. given: where the reason and the time to confirm
        stand. Raises GatewayError."""
        origin = asked.origin(request, given)
        by = asked.confirm_by(given, self._wall())
        with as_errors():
            try:
                return await self._change(
                    guard.operator(request), origin, by, make, commit or self.live.apply
                )
            except (PreconditionFailed, NotEditable, _Refused) as error:  # of all else the audit knows
                await self._note(origin, error)
                raise

    async def _change(
        self, operator: Operator, origin: Origin, by: float, make: Make, commit: Commit
    ) -> dict[str, Any]:
        moved: HeadMoved | None = None
        for _ in range(_TRIES):
            base, before = self.live.head, self.live.text
            try:
                text = await make(base, before)
                changes = await self.changes(before, text)
            except Problems as problems:
                raise _Refused(problems) from None
            await self.require(operator, before, text, changes)
            try:
                revision = await commit(Draft(text, origin, self._wall(), confirm_by=by), base.number)
            except HeadMoved as error:
                moved = error
                continue
            return self.outcome(revision, changes)
        assert moved is not None
        raise StaleConfig(
            "Others change the config all the time; try again.", extra={"since": [view(moved.head)]}
        )

    async def require(self, operator: Operator, before: str, after: str, changes: Comparison) -> None:
        """Raises Forbidden, naming the objects, where some of what changes from one text to the other is not
        the operator's to change, or a route of theirs reaches what is not. Raises Problems."""
        require(operator, changes.changes)
        if operator.role is not Role.EDITOR:
            return
        data = await self.data(before), await self.data(after)
        found = await threads.run(threads.CONFIG, overreaches, operator, *data, changes.changes)
        if found:
            first, more = found[0], f", and {len(found) - 1} more" if len(found) > 1 else ""
            raise Forbidden(
                f"{operator.name}, who is editor, may not have routes/{first.name} so: it"
                f" {first.reason}{more}. Nothing was changed.",
                extra={"objects": [{"kind": "routes", **asdict(one)} for one in found[:_NAMED]]},
            )

    def outcome(self, revision: Revision, changes: Comparison) -> dict[str, Any]:
        """The JSON of a change. kept: the file with the refused edit that it replaced. behind: the workers
        that do not have it yet."""
        number, kept = self.live.kept
        return {
            "revision": view(revision),
            "changes": changes.views,
            "pending": self.pending(),
            **({"kept": kept} if number == revision.number else {}),
            **({"behind": list(self.live.behind)} if self.live.behind else {}),
        }

    def pending(self) -> dict[str, Any] | None:
        """What goes back unless it is confirmed, as JSON."""
        pending = self.live.pending
        return None if pending is None else asdict(pending)

    async def stale(self, base: Revision, detail: str, is_base: Callable[[Revision], bool]) -> StaleConfig:
        """What a change was made of is not live any more. base: what is. is_base: what it was made of.

        `since` has the revisions after that, the newest first; the newest ones where it is not kept.
        `changes`: what they changed by meaning, None where that cannot be told. `more`: how many others.
        """
        found: list[Revision] = []
        made_of: Revision | None = None
        before = 0
        while made_of is None and len(found) < _LOOKED_AT:
            page = await self.live.revisions.page(before, _SINCE)
            made_of = next(filter(is_base, page), None)
            found += page[: page.index(made_of)] if made_of is not None else page
            if not page:
                break
            before = page[-1].number
        extra: dict[str, Any] = {"since": [view(one) for one in found[:_SINCE]], "changes": None, "more": 0}
        if made_of is not None and max(made_of.size, base.size) <= _COMPARED:
            with suppress(Problems, NoRevision):
                old = await self.live.revisions.text(made_of.number)
                views = (await self.changes(old, await self.live.revisions.text(base.number))).views
                extra |= {"changes": views[:_CHANGES], "more": max(0, len(views) - _CHANGES)}
        return StaleConfig(detail, extra=extra)

    async def _note(self, origin: Origin, error: Exception) -> None:
        detail = str(error)
        if isinstance(error, _Refused):
            detail = summary(error.problems.items)
        await self.audit(origin, "refused", outcome="refused", detail=detail)

    async def audit(self, origin: Origin, action: str, *, outcome: str = "done", **more: Any) -> None:
        """Tell the audit what an operator did or tried."""
        entry = Entry(
            action,
            outcome,
            author=origin.author,
            role=origin.role,
            address=origin.address,
            reason=origin.reason,
            source=origin.source,
            from_revision=self.live.head.number,
            **more,
        )
        try:
            await self.live.audit.record(entry)
        except OSError as error:
            L.error("What an operator did is not in the audit: %s", error)


class _Refused(Exception):
    """Problems that were found before the live config was asked."""

    def __init__(self, problems: Problems) -> None:
        super().__init__()
        self.problems = problems


def require(operator: Operator, changes: list[differences.Change]) -> None:
    """Raises Forbidden, naming the objects, where some are not the operator's to change by their names."""
    foreign = [one for one in changes if not operator.may_change(one.kind, one.name)]
    if not foreign:
        return
    names = ", ".join(f"{one.kind}/{one.name}" for one in foreign[:10])
    more = f" and {len(foreign) - 10} more" if len(foreign) > 10 else ""
    role = operator.role.name.lower()
    objects = [{"kind": one.kind, "name": one.name, "action": one.action} for one in foreign[:_NAMED]]
    detail = f"{operator.name}, who is {role}, may not change {names}{more}. Nothing was changed."
    raise Forbidden(detail, extra={"objects": objects})


@contextmanager
def as_errors() -> Iterator[None]:
    """What the config raises, as the errors of responses."""
    try:
        yield
    except _Refused as error:
        raise _invalid(error.problems) from None
    except Problems as problems:
        raise _invalid(problems) from None
    except ConfigRefused as refused:
        raise ConfigUnavailable(_first(refused.problems), extra=_errors(refused.problems)) from None
    except NotEditable:
        raise Unprocessable(
            "The config's text has a form that an edit of one part of it cannot keep. Send the whole text:"
            " PUT /admin/v1/config. Nothing was changed."
        ) from None
    except NoRevision:
        raise NotFound("There is no such revision, or it is not kept any more.") from None
    except Waits as waits:
        raise _waits(waits.pending, waits.head) from None
    except WaitsNot as error:
        raise NothingToConfirm(f"{str(error).capitalize()}.") from None
    except HeadMoved as moved:
        detail = f"Revision {moved.head.number} is live, and not the one that the change was made for."
        raise StaleConfig(detail, extra={"since": [view(moved.head)]}) from None
    except OSError as error:
        raise ConfigUnavailable(f"{error}.") from None


def _invalid(problems: Problems) -> GatewayError:
    kind = ConfigUnavailable if isinstance(problems, source.TransientProblems) else InvalidConfig
    return kind(f"{_first(problems.items)} Nothing was changed.", extra=_errors(problems.items))


def _waits(pending: Pending, revision: Revision) -> ConfirmationPending:
    origin, number = revision.origin, pending.number
    reason = f" ({origin.reason})" if origin.reason else ""
    detail = (
        f"Revision {number} of {origin.author}{reason} waits for its confirmation until"
        f" {moment(pending.due, exact=True)}. Confirm it, or roll back to revision {pending.back_to}."
        " Nothing was changed."
    )
    return ConfirmationPending(detail, extra={"pending": asdict(pending), "revision": view(revision)})


def _first(problems: list[Problem]) -> str:
    text = summary(problems)
    return f"{text[0].upper()}{text[1:]}."


def _errors(problems: list[Problem]) -> dict[str, Any]:
    return {"errors": [as_dict(one) for one in problems]}


async def reply(
    body: Any, status: int = 200, *, etag: str = "", headers: Mapping[str, str] | None = None
) -> web.Response:
    """A response of JSON that nobody keeps. etag: with its quotes."""
    response = await json_response(body, status)
    response.headers.update({hdrs.ETAG: etag} if etag else {})
    response.headers.update(headers or {})
    return response
