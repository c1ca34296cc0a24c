"""What is said of a credential that is explained: whose it is, by which key, and what of it is not as wanted.

It is for the operator, at his own terminal: some claims of the token are shown, never it or its signature.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from time import time
from typing import Any

from gateway.admin.explain.certificate import Shown
from gateway.auth.chain import takes
from gateway.auth.issuers import ByKeys, Issuers, Verifier
from gateway.auth.store import State, read_once
from gateway.call import Call
from gateway.core import api_keys
from gateway.core.errors import GatewayError, Unauthenticated
from gateway.core.jwt.claims import claim, claim_texts, template
from gateway.core.jwt.issuer import Issuer, TenantRule
from gateway.core.jwt.keys import Key
from gateway.core.jwt.verify import MAX_TIME, Token, check_audience, parse, tenant_of
from gateway.core.model import CallerRule, Identity
from gateway.core.policy.certificates import identify
from gateway.core.revocations import Revocation, Revoked
from gateway.runtime import threads
from gateway.runtime.moments import moment
from gateway.runtime.sqlite_file import SQLiteUnusable

_LONGEST = 100  # characters of a claim's value that are shown
_MOST = 10  # values, or names, of a list that are shown
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def rows(call: Call, refused: GatewayError | None, issuers: Issuers) -> Iterator[tuple[str, str]]:
    """Whose the token is, by which key and which claims; what the route asks of it beside scopes; what of it
    is not as wanted."""
    if call.route is None or call.route.public or not call.head.token:
        return
    rule = call.route.callers
    if rule is not None:
        kinds = [f"credentials: {' or '.join(sorted(rule.kinds))}"] if rule.kinds else []
        named = [f"tokens of: {' or '.join(sorted(rule.issuers))}"] if rule.issuers else []
        claims = [f"{path} is {' or '.join(sorted(wanted))}" for path, wanted in rule.claims.items()]
        yield "takes", "; ".join([*kinds, *named, *claims])
    if api_keys.is_api_key(call.head.token):
        yield "issuer", "the gateway, which gave out the API key"
        return
    try:
        verifier, token = issuers.find(call.head.token, takes(call.route))
    except GatewayError:
        yield from _untrusted(call.head.token, issuers)
        return  # the outcome says why
    issuer, now = verifier.issuer, time()
    yield "issuer", f"{issuer.name}, {issuer.issuer}"
    yield from _keys(verifier, token, refused, now)
    said, tenants = issuer.claims, issuer.tenants
    tenant = f"{tenants.fixed}, fixed" if tenants.fixed else said.tenant
    scopes = " and ".join(said.scopes) or "none"
    yield "claims", f"tenant: {tenant}; subject: {said.subject}; scopes: {scopes}"
    if refused is None:
        return
    found: list[str] = []
    if token is not None and isinstance(verifier, ByKeys):
        found += _differences(token.claims, issuer, now)
    if rule is not None and (call.identity is not None or token is not None):
        shown = call.identity.claims if call.identity is not None else token.claims if token else {}
        found += _unfit(shown, rule)
    if found:
        yield "differs", "; ".join(found)


# --- keys ------------------------------------------------------------------------------------------


def _keys(
    verifier: Verifier, token: Token | None, refused: GatewayError | None, now: float
) -> Iterator[tuple[str, str]]:
    state = verifier.state()
    failure = state["last_failure"]
    failing = failure is not None and not failure["over"]
    if token is None or not isinstance(verifier, ByKeys):
        yield "key", f"none: the issuer is asked about each token, at {state['where']}"
        held = "know another word of the issuer"
    else:
        keys = verifier.source.keys
        there = ", ".join(_name(key, now) for key in keys or ()) or "none yet"
        yield "key", f"{_kid(token.kid)}, {token.algorithm[:16]!a}; there are {there}, from {state['where']}"
        ended = _ended_signer(token, keys.candidates(token.kid, token.algorithm) if keys else None, now)
        if refused is not None and ended is not None:
            when = moment(ended.retires)
            yield (
                "ended",
                f"the key that signed it, {_kid(ended.kid)}, was withdrawn or has retired at {when}",
            )
        held = "hold other keys"
    if state["source"] != "file":
        tried = "tried by this command just now, in vain" if failing else "by this command just now"
        yield "fetched", f"{tried}; the running gateway may {held}: see /admin/auth"
    if failing:
        yield "failure", failure["reason"]


def _kid(kid: str | None) -> str:
    return "no kid" if kid is None else f"kid {kid[:64]!a}"


def _name(key: Key, now: float) -> str:
    parts = [" ".join(key.algorithms)]
    if key.use_after > now:
        parts.append(f"not used before {moment(key.use_after)}")
    if key.is_retired(now):
        parts.append(f"ended at {moment(key.retires)}")
    return f"{_kid(key.kid)} ({', '.join(parts)})"


def _ended_signer(token: Token, candidates: list[Key] | None, now: float) -> Key | None:
    ended = (key for key in candidates or () if key.is_retired(now))
    return next((k for k in ended if k.verifies(token.algorithm, token.message, token.signature)), None)


# --- claims ----------------------------------------------------------------------------------------


def _untrusted(text: str, issuers: Issuers) -> Iterator[tuple[str, str]]:
    try:
        claims = parse(text).claims
    except Unauthenticated:
        return
    trusted = [f"{state['name']} {state['issuer'][:200]!a}" for state in issuers.states()]
    yield "differs", f"{_said(claims, 'iss')}, trusted are {_some(trusted)}"


def _differences(claims: Mapping[str, Any], issuer: Issuer, now: float) -> Iterator[str]:
    """What the claims say that the issuer's config does not let pass, and what it does."""
    try:
        check_audience(claims, issuer)
    except Unauthenticated:
        yield f"{_said(claims, 'aud')}, wanted is {' or '.join(map(repr, issuer.audiences))}"
    for name in ("exp", "nbf", "iat"):
        when = claims.get(name)
        if isinstance(when, bool) or not isinstance(when, int | float) or not abs(when) < MAX_TIME:
            continue
        if name == "exp" and when + issuer.leeway <= now:
            yield f"its `exp` is {moment(when)}, {_span(now - when)} ago"
        elif name != "exp" and when > now + issuer.leeway:
            yield f"its `{name}` is {moment(when)}, in {_span(when - now)} by the clock here"
    try:
        tenant_of(claims, issuer)
    except Unauthenticated:
        path = template(issuer.claims.tenant)[1]
        yield f"{_said(claims, path)}, the issuer may speak for {_allowed(issuer.tenants)}"


def _unfit(claims: Mapping[str, Any], rule: CallerRule) -> Iterator[str]:
    for path, wanted in rule.claims.items():
        if wanted.isdisjoint(claim_texts(claims, path)):
            yield f"{_said(claims, path)}, wanted is {' or '.join(sorted(wanted))}"


def _allowed(rule: TenantRule) -> str:
    begins = [f"those that begin with {prefix}" for prefix in rule.prefixes]
    return "any tenant" if rule.any else _some([*sorted(rule.names), *begins])


def _said(claims: Mapping[str, Any], path: str) -> str:
    """What a token says in a claim, with no more of it than can be shown."""
    value = claim(claims, path)
    if value is None:
        return f"it has no `{path}`"
    if isinstance(value, list):
        return f"its `{path}` is a list of {_some([_shown(one) for one in value[: _MOST + 1]])}"
    return f"its `{path}` is {_shown(value)}"


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = ascii(value[: _LONGEST + 1]) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST + 2 else f"{text[:_LONGEST]}..."


def _some(texts: list[str]) -> str:
    more = ", ..." if len(texts) > _MOST else ""
    return (", ".join(texts[:_MOST]) or "nothing") + more


def _span(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds // size:,.0f} {unit}"
    return "less than 1 s"


# --- revocations -----------------------------------------------------------------------------------


async def revocations(
    call: Call,
    refused: GatewayError | None,
    issuers: Issuers,
    store: Path,
    program: str,
    shown: Shown | None = None,
) -> list[tuple[str, str]]:
    """Which revocations refuse the credential, and how to lift them. store: the file, which may not be
    there. program: what runs a command of ours, for the hints. shown: the client's certificate."""
    text = call.head.token
    if not isinstance(refused, Unauthenticated) or not (text or shown) or not store.exists():
        return []
    try:
        state = await threads.run(threads.AUTH, read_once, store)
    except SQLiteUnusable:
        return []  # the log says so
    try:
        if shown is not None and not text:
            of = shown.names, shown.fingerprint, shown.begins, shown.ends
            identity = identify(call.snapshot.certificates, shown.tls, *of)
        elif api_keys.is_api_key(text):
            id_, digest = api_keys.split(text)
            key = state.keys[id_]
            identity = api_keys.identity(replace(key, revoked=0.0), digest, time())
            if key.revoked:
                return [("revoked", _for_good(key, state, program))]
        else:
            identity = await issuers.verify(text, takes(call.route))
    except (GatewayError, KeyError):
        return []  # it is refused for what it is
    return _covering(identity, state, program)


def _covering(identity: Identity, state: State, program: str) -> list[tuple[str, str]]:
    found = [
        f"{_described(one)}; lift it: {program} revoke --lift {one.number}"
        for one in Revoked(state.revocations).covering(identity, time())
    ]
    return [("revoked", "; ".join(found[:_MOST]))] if found else []


def _described(one: Revocation) -> str:
    before = f", issued before {moment(one.before)}" if one.before else ""
    reason = f" ({one.reason})" if one.reason else ""
    return (
        f"revocation {one.number}: {one.describe()}{before}, since {moment(one.created)} by {one.by}{reason}"
    )


def _for_good(key: api_keys.ApiKey, state: State, program: str) -> str:
    by = next((_described(one) for one in state.revocations if one.api_key == key.id), "")
    why = f" ({by})" if by else ""
    hint = f"make another: {program} keys create"
    return f"the API key {key.id}, for good, since {moment(key.revoked)}{why}; {hint}"
