"""gateway revoke: what is refused from now on although it is genuine; the list of it, and taking it back."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from gateway.auth.store import read_once
from gateway.cli import console, process_config
from gateway.cli.credentials.given import id_of, lifetime, read_token
from gateway.cli.credentials.notes import issuers
from gateway.cli.credentials.store import open_store, operator, told
from gateway.core.api_keys import id_in, is_api_key
from gateway.core.errors import Unauthenticated
from gateway.core.jwt.issuer import Issuer
from gateway.core.jwt.verify import identity_of, parse
from gateway.core.process.operators import ISSUER_NAME
from gateway.core.process.settings import ProcessConfig
from gateway.core.revocations import KEEP, LONGEST, Revocation, check, view
from gateway.runtime.moments import moment

_CLOCKS = 60.0  # seconds more than a token can be good for, by clocks that differ


def run(arguments: argparse.Namespace) -> int:
    """Revoke what the options name, list what is revoked, or take one back."""
    config = process_config.load(arguments.config)
    if arguments.list:
        return _list(arguments, config)
    now, by = time.time(), operator()
    if arguments.lift is not None:
        lifted = open_store(config).lift(arguments.lift, by, now)
        told(f"The revocation {arguments.lift} is lifted: {lifted.describe()}{_before(lifted)}.")
        return 0
    revocation = _wanted(arguments, config, now, by)
    check(revocation, now)
    number = open_store(config).revoke(revocation)
    told(
        f"Revocation {number}: {revocation.describe()}{_before(revocation)} is refused, tokens until"
        f" {moment(revocation.until)}. Take it back with: {console.program()} revoke --lift {number}"
    )
    return 0


def _wanted(arguments: argparse.Namespace, config: ProcessConfig, now: float, by: str) -> Revocation:
    """What the options ask for. Raises ValueError."""
    tenant, jti, issuer, until, subject = arguments.tenant, arguments.jti, arguments.issuer, 0.0, ""
    api_key = id_of(arguments.api_key) if arguments.api_key else ""
    if arguments.subject:
        named, slash, subject = arguments.subject.partition("/")
        if not (named and slash and subject) or tenant not in ("", named):
            raise ValueError("--subject names a subject and its tenant, as in acme/alice")
        tenant = named
    known = dict(issuers(config, tenant))
    if config.operators.issuer is not None:
        known.setdefault(ISSUER_NAME, config.operators.issuer.issuer)
    if issuer and issuer not in known:
        names = f"the issuers are {', '.join(sorted(known))}"
        raise ValueError(f"--issuer {issuer!r}: {names}{console.near(issuer, known)}")
    if arguments.token is not None:
        text = read_token(arguments.token)
        if is_api_key(text):
            api_key = id_in(text)
        else:
            issuer, jti, until = _of_token(text, known, now)
    if arguments.for_ or not until:
        until = now + (lifetime("--for", arguments.for_) if arguments.for_ else KEEP)
    return Revocation(
        until,
        created=now,
        by=by,
        reason=arguments.reason,
        jti=jti,
        tenant=tenant,
        subject=subject,
        api_key=api_key,
        issuer=issuer,
        before=_moment(arguments.before, now) if arguments.before else 0.0,
    )


def _of_token(text: str, known: Mapping[str, Issuer], now: float) -> tuple[str, str, float]:
    """The issuer's name, the jti and the end of a token, as it says itself: whoever has it to revoke it need
    not have the keys. Raises ValueError, which does not repeat the token."""
    try:
        claims = parse(text).claims
        issuer = next((one for one in known.values() if one.issuer == claims.get("iss")), None)
        if issuer is None:
            raise ValueError("--token: none of the issuers here has issued it, so it is refused anyway")
        identity = identity_of(claims, issuer, now)
    except Unauthenticated as error:
        raise ValueError(f"--token: it is refused anyway: {error}") from None
    if not identity.credential_id:
        who = f"{identity.tenant}/{identity.subject}"
        program = f"{console.program()} revoke --subject {who} --before {identity.issued + 1:.0f}"
        raise ValueError(f"--token: it has no `jti`; revoke what its subject got until then: {program}")
    return issuer.name, identity.credential_id, min(identity.good_until + _CLOCKS, now + LONGEST)


def _moment(given: str, now: float) -> float:
    """Seconds since the epoch of --before. Raises ValueError."""
    if given == "now":
        return now
    try:
        return float(given)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(given).timestamp()  # without a zone: as the clock on the wall says
    except ValueError:
        pass
    raise ValueError(
        f"--before {given!r} is no time; write now, 2026-11-28T12:00:00Z, or seconds since the epoch"
    )


def _before(revocation: Revocation) -> str:
    return f", issued before {moment(revocation.before)}" if revocation.before else ""


def _list(arguments: argparse.Namespace, config: ProcessConfig) -> int:
    revocations = read_once(open_store(config).path).revocations
    if arguments.json:
        print(json.dumps([view(one) for one in revocations], indent=2))
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("N", "REFUSED", "ISSUED BEFORE", "TOKENS UNTIL", "SINCE", "BY", "REASON"):
        table.add_column(title, overflow="fold")
    for one in revocations:
        row: list[Any] = [str(one.number), one.describe(), moment(one.before) if one.before else "any time"]
        row += [moment(one.until), moment(one.created), one.by, one.reason]
        table.add_row(*map(Text, row))
    console.out.print(table)
    return 0
