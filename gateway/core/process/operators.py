"""Who may use the admin listener, as gateway.conf says: [operators] and [operators:issuer]."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.core.config.operator import KINDS, Grant, Role
from gateway.core.http.urls import in_the_clear
from gateway.core.jwt.algorithms import ALGORITHMS
from gateway.core.jwt.issuer import ClaimRules, Discovery, Issuer, KeyFile, KeySource, KeyUrl, TenantRule
from gateway.core.model import SUBJECT_PATTERN
from gateway.core.routing.issuers import words
from gateway.core.routing.problems import Wrong, did_you_mean

NAMED, ISSUER = "operators", "operators:issuer"
ISSUER_NAME = "operators"  # of that issuer, in the log and where its tokens are revoked
ROLES = {role.name.lower(): role for role in Role}
_SOURCES = ("discovery", "jwks_uri", "keys")
ISSUER_KEYS = frozenset({"issuer", "audience", *_SOURCES, "algorithms", "claim", "name", *ROLES})
# What is in a key set that anybody can read verifies no work of a secret.
_PUBLIC = tuple(name for name in ALGORITHMS if not name.startswith("HS"))
_ROLES_HINT = "write owner, viewer, or editor routes=shop-* tenants=acme,eu-*"
_WHY_NO_NAMES = {Role.VIEWER: "a viewer changes nothing", Role.OWNER: "an owner may change everything"}
_name = re.compile(SUBJECT_PATTERN).fullmatch
_pattern = re.compile(r"[A-Za-z0-9._*?-]+").fullmatch
_words = re.compile(r'"([^"]*)"|([^\s"]+)')


@dataclass(frozen=True, slots=True)
class OperatorsIssuer:
    """The identity provider of the operators. claim: where its tokens say the groups of an operator. groups:
    what each of them is given."""

    issuer: Issuer
    claim: str
    groups: tuple[tuple[str, Grant], ...]


@dataclass(frozen=True, slots=True)
class Operators:
    """named: by the `sub` (in lower case, as the keys of the file are read) of a token of the gateway's own
    issuer; None without the section: whoever has the scope gateway:admin is an owner. issuer: None without
    one."""

    named: Mapping[str, Grant] | None = None
    issuer: OperatorsIssuer | None = None


ANY_ADMIN = Operators()


class Reader(Protocol):
    """What the file says, and where the problems with it go. wrong: section, key ("" for all of it), reason
    and hint."""

    @property
    def sections(self) -> Mapping[str, Mapping[str, str]]: ...
    @property
    def wrong(self) -> Callable[[str, str, str, str], None]: ...
    def text(self, section: str, key: str, default: str) -> str: ...
    def path(self, section: str, key: str, default: str) -> str: ...
    def seconds(self, section: str, key: str, default: float) -> float: ...
    def choice(self, section: str, key: str, default: str) -> bool: ...


def parse(read: Reader, local: str) -> Operators:
    """What the two sections say. local: the `iss` of the gateway's own issuer."""
    named: dict[str, Grant] | None = {} if NAMED in read.sections else None
    for name, text in read.sections.get(NAMED, {}).items():
        try:
            grant = _named(name, text)
        except Wrong as wrong:
            read.wrong(NAMED, name, wrong.reason, wrong.hint)
            continue
        if named is not None:
            named[name] = grant
    return Operators(named, _IssuerReader(read).read(local) if ISSUER in read.sections else None)


def _named(name: str, text: str) -> Grant:
    """`alice = editor routes=shop-*`. Raises Wrong."""
    role, *rest = text.split() or [""]
    if not _name(name):
        hint = "write the one that its tokens have"
        raise Wrong("the name is no `sub` of a token: 1 to 200 visible ASCII characters", hint)
    if "\n" in text:
        hint = "begin it in the first column"
        raise Wrong("the line below it is indented, and so goes on with its value", hint)
    if re.search(r"(?:^|\s)[;#]", text):
        raise Wrong("a comment would belong to the value", "give it a line of its own")
    if role.lower() not in ROLES:
        reason = f"{role!r} is no role" if role else "it is empty"
        raise Wrong(reason, did_you_mean(role.lower(), ROLES) + _ROLES_HINT)
    return _grant(ROLES[role.lower()], rest)


def _grant(role: Role, patterns: Sequence[str]) -> Grant:
    """A role, with `routes=shop-*,cart tenants=acme` behind it. Raises Wrong."""
    found: dict[str, tuple[str, ...]] = {}
    for word in patterns:
        kind, _, text = word.partition("=")
        names = tuple(text.split(","))
        if kind not in KINDS:
            near = did_you_mean(kind.lower(), KINDS)
            raise Wrong(f"{word!r} does not say which objects", f"{near}write {', '.join(KINDS)}: kind=names")
        if not all(map(_pattern, names)):
            hint = f"write names with * for any characters, and commas between them: {kind}=shop-*,cart"
            raise Wrong(f"{word!r} holds what is no pattern of names", hint)
        found[kind] = (*found.get(kind, ()), *names)
    if role is Role.EDITOR and not found:
        raise Wrong("an editor of nothing can change nothing", "write editor routes=* or tenants=acme")
    if role is not Role.EDITOR and found:
        reason = f"{role.name.lower()} is not bound to names: {_WHY_NO_NAMES[role]}"
        raise Wrong(reason, "remove what stands behind it, or make it an editor")
    return Grant(role, tuple(found.items()))


class _IssuerReader:
    """Reads [operators:issuer]."""

    def __init__(self, read: Reader) -> None:
        self._read = read
        self._given = read.sections[ISSUER]

    def read(self, local: str) -> OperatorsIssuer:
        iss = self._needed("issuer", words.check_issuer, "https://sso.example.com")
        if iss and iss == local:
            hint = "its tokens are the gateway's own: name their `sub` in [operators]"
            self._wrong("issuer", "that of [tokens] has this `iss` too", hint)
        audience = self._needed("audience", words.check_text, "gateway-admin")
        claim = self._needed("claim", words.check_claim, "roles")
        groups = tuple(found for name in ROLES for found in self._groups(name))
        if not ROLES.keys() & self._given.keys():
            hint = f"write owner = and a value of the claim {claim or 'roles'}; editor and viewer likewise"
            self._wrong("", "it gives nobody a role", hint)
        name = self._checked("name", self._text("name") or "sub", words.check_claim)
        issuer = Issuer(
            ISSUER_NAME,
            iss,
            (audience,),
            self._source(iss),
            algorithms=self._algorithms(),
            claims=ClaimRules(subject=name),
            tenants=TenantRule(fixed=ISSUER_NAME),
        )
        return OperatorsIssuer(issuer, claim, groups)

    def _groups(self, role: str) -> Iterator[tuple[str, Grant]]:
        """`shop-team routes=shop-*`, several on lines of their own; a group with spaces stands in quotes."""
        for line in filter(None, map(str.strip, self._given.get(role, "").splitlines())):
            try:
                yield from _group_grants(role, line)
            except Wrong as wrong:
                self._wrong(role, wrong.reason, wrong.hint)

    def _source(self, iss: str) -> KeySource:
        """Where its keys are, in exactly one way."""
        found = [name for name in _SOURCES if name in self._given]
        hint = "write discovery = yes (its metadata name them), jwks_uri = URL or keys = FILE"
        if not found:
            self._wrong("", "it does not say where its keys are", hint)
        for name in found[1:]:
            self._wrong(name, f"{found[0]} says already where its keys are", "leave one of the two out")
        if "keys" in found:
            self._checked("keys", self._text("keys"), words.check_key_file)
            return KeyFile(self._read.path(ISSUER, "keys", ""))
        if "jwks_uri" in found:
            self._check_secure(
                "jwks_uri", self._checked("jwks_uri", self._text("jwks_uri"), words.check_jwks_uri)
            )
            return KeyUrl(self._text("jwks_uri"))
        if self._text("discovery").lower() not in ("", "yes", "true", "on", "1"):
            self._wrong("discovery", "it can only be yes", "remove it, and write jwks_uri or keys")
        elif "discovery" in found and iss and not iss.startswith(("https://", "http://")):
            reason = f"{iss!r} is no URL, so its metadata cannot be found"
            self._wrong("issuer", reason, "write jwks_uri or keys in place of discovery")
        elif "discovery" in found and iss:
            self._check_secure("issuer", iss)
        return Discovery()

    def _check_secure(self, key: str, url: str) -> None:
        try:
            clear = in_the_clear(url)
        except ValueError:
            return  # no URL at all, and reported as that
        if clear:
            reason = "it leads to another host without TLS: who is between could put keys of its own in place"
            self._wrong(key, reason, "write https://")

    def _algorithms(self) -> tuple[str, ...]:
        in_file = "keys" in self._given
        if "algorithms" not in self._given:
            return ALGORITHMS if in_file else _PUBLIC
        names = self._text("algorithms").replace(",", " ").split()
        for name in names:
            self._checked("algorithms", name, words.check_algorithm)
            if name.startswith("HS") and not in_file:
                reason = f"{name} is done with a secret, and whoever can read a key set at a URL could sign"
                self._wrong("algorithms", reason, "remove it, or put the secret's key set into a file: keys")
        if not names:
            self._wrong("algorithms", "it is empty", f"remove it, or write {' '.join(_PUBLIC)}")
        return tuple(names)

    def _text(self, key: str) -> str:
        return self._read.text(ISSUER, key, "")

    def _needed(self, key: str, check: Callable[[str], str], example: str) -> str:
        text = self._text(key)
        if text:
            return self._checked(key, text, check)
        self._wrong(key if key in self._given else "", f"it lacks {key}", f"write {key} = {example}")
        return ""

    def _checked(self, key: str, text: str, check: Callable[[str], str]) -> str:
        try:
            return check(text)
        except Wrong as wrong:
            given = "what stands here" if wrong.secret or "@" in text else repr(text)
            example = wrong.example()
            hint = "; ".join(filter(None, (f"write {key} = {example}" if example else "", wrong.hint)))
            self._wrong(key, f"{given} {wrong.reason}", hint)
            return text

    def _wrong(self, key: str, reason: str, hint: str) -> None:
        self._read.wrong(ISSUER, key, reason, hint)


def _group_grants(role: str, line: str) -> list[tuple[str, Grant]]:
    """What one line gives to its groups. Raises Wrong."""
    if line.count('"') % 2:
        raise Wrong("a quote is not closed", f'write {role} = "Platform Team"')
    found = _words.findall(line)
    groups = [quoted or plain for quoted, plain in found if not _is_pattern(plain)]
    loose = next((group for group in groups if group == "=" or group.endswith(",")), None)
    if loose is not None or not groups:
        reason = f"{loose!r} is no group" if loose is not None else "it names no group"
        raise Wrong(reason, f"write values of the claim, with spaces between: {role} = ops sre")
    grant = _grant(ROLES[role], [plain for _, plain in found if _is_pattern(plain)])
    return [(group, grant) for group in groups]


def _is_pattern(word: str) -> bool:
    """Whether it is `routes=...`, misspelt perhaps. A group may hold the sign too: `cn=admins,ou=staff`."""
    kind, sign, _ = word.partition("=")
    return bool(kind and sign) and bool(difflib.get_close_matches(kind.lower(), KINDS, 1))
