"""Checks of what an issuer's settings hold: texts that tokens carry, claims, algorithms, URLs, files, and
where secrets are. Each gives the value back, or raises Wrong; what may be a secret is never shown."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from gateway.core.jwt.algorithms import OFFERED
from gateway.core.model import TENANT_PATTERN
from gateway.core.routing.amounts import parse_duration
from gateway.core.routing.names import is_host, split_authority
from gateway.core.routing.problems import Wrong

ISSUER = r"[\x21-\x7a\x7c\x7e]{1,1000}"
TEXT = r"[^\s\x00-\x1f\x7f*]|[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]{0,998}[^\s\x00-\x1f\x7f]"
_PLAIN = r"[^\s\x00-\x1f\x7f{}\[\]]"  # a character of a claim's path
CLAIM = rf"(?!\$|/){_PLAIN}{{1,200}}"
TEMPLATE = rf"(?!\$|/){_PLAIN}{{0,100}}\{{{_PLAIN}{{1,200}}\}}{_PLAIN}{{0,100}}"
URL = r"https?://[A-Za-z0-9.\[\]:_-]+(/[\x21\x22\x24-\x7e]*)?(\?[\x21\x22\x24-\x7e]*)?"
FILE = r"[^~\s\x00-\x1f\x7f{-]([^\x00-\x1f\x7f]{0,998}[^\s\x00-\x1f\x7f])?"
VARIABLE = r"[A-Z_][A-Z0-9_]{0,127}"
HOLDER = r"(uri|email|dns|cn):[\x21-\x7e]{1,200}"
TENANTS = rf"\*|{TENANT_PATTERN}\*?"
_METADATA = re.compile(r"/+\.well-known/(openid-configuration|oauth-authorization-server)/?$")
_ANY_DIRECTORY = re.compile(r"^https://login\.microsoftonline\.[a-z]+/(common|organizations|consumers)(/|$)")
_MAX_LEEWAY = 600  # seconds


def check_issuer(value: str) -> str:
    """The `iss` of tokens (RFC 7519 section 4.1.1): compared byte for byte."""
    if "{" in value or "}" in value:
        hint = "write the `iss` that its tokens have, with the tenant's or realm's own name in it"
        raise Wrong("is a template, and names no one issuer", hint)
    if _ANY_DIRECTORY.search(value):
        hint = "write the directory's own ID in its place; each directory is an issuer of its own"
        raise Wrong("stands for any directory of Entra ID, and no token has it as `iss`", hint)
    if _METADATA.search(value):
        hint = "the issuer is what stands before /.well-known"
        raise Wrong("is where its metadata are, and not the issuer", hint, check_issuer, [_issuer_in(value)])
    if not re.fullmatch(ISSUER, value):
        hint = "write it to the character as `iss` has it, also a slash at its end"
        raise Wrong("is not what tokens have as `iss`", hint, check_issuer, [value.strip()])
    return value


def _issuer_in(url: str) -> str:
    return _METADATA.sub("", url)


def check_text(value: str) -> str:
    """An audience, or the value of a claim: compared character for character."""
    if value == "*":
        hint = "list each value that is taken"
        raise Wrong("stands for itself here, and not for any", hint)
    if "{{" in value or "${" in value:
        raise Wrong("is a template, and is not filled in here", "render the file before")
    if not re.fullmatch(TEXT, value):
        hint = "1 to 1000 characters, no white space at its ends"
        raise Wrong("is not a text that a token carries", hint, check_text, [value.strip()])
    return value


def claim_value(value: Any) -> str:
    """One value of a claim, as text; numbers, true and false as JSON writes them."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise Wrong("is not the value of a claim", "a text, a whole number, true or false")
    return check_text(value)


def check_claim(value: str) -> str:
    """Where a claim is: its name, or a dotted path."""
    if not re.fullmatch(CLAIM, value):
        hint = "the name of a claim, or a path with dots, such as realm_access.roles"
        raise Wrong("is not where a claim is", hint, check_claim, _claims(value))
    return value


def check_template(value: str) -> str:
    """Where a claim is, or a template with one such path in braces (of two, `a-b` and `c` would make the same
    as `a` and `b-c`)."""
    if not re.fullmatch(CLAIM, value) and not re.fullmatch(TEMPLATE, value):
        hint = "a claim, a path with dots (realm_access.roles), or a template (role:{groups})"
        raise Wrong("is not where a claim is", hint, check_template, _claims(value))
    return value


def _claims(value: str) -> Iterable[str]:
    """A path as it is written here, of one in JSONPath, JMESPath or as a JSON Pointer."""
    text = re.sub(r"""\[\s*["']?([^"'\]]*)["']?\s*\]""", r".\1", value.strip().removeprefix("$"))
    text = re.sub(r"\.(\*|[0-9]+|)(?=\.|$)", "", text)
    yield text.lstrip(".")
    yield text.strip("/").replace("/", ".")
    yield re.sub(r"\s+", "_", text.strip())


def check_algorithm(value: str) -> str:
    """An algorithm of signatures (RFC 7518 section 3.1)."""
    if value not in OFFERED:
        if value.lower() == "none":
            raise Wrong("is no signature: anybody could write such a token", f"offered: {', '.join(OFFERED)}")
        plain = {re.sub("[^A-Z0-9]", "", name.upper()): name for name in OFFERED}
        near = difflib.get_close_matches(re.sub("[^A-Z0-9]", "", value.upper()), plain, 1)
        meant = [plain[one] for one in near]
        raise Wrong("is not an algorithm here", f"offered: {', '.join(OFFERED)}", check_algorithm, meant)
    return value


# --- URLs, files, secrets --------------------------------------------------------------------------


def check_discovery(value: Any) -> Any:
    """Whether metadata are looked up: those of the issuer, so no URL is written."""
    if isinstance(value, str) and "://" in value:
        hint = f"what it leads to is looked up below the issuer, here issuer: {_issuer_in(value)}"
        raise Wrong("is a URL, and none is needed", hint, check_discovery, [True])
    return value


def check_url(value: str) -> str:
    """A URL that the gateway asks."""
    fault = _url_fault(value)
    if fault:
        hint = "https:// with host and path"
        raise Wrong(f"is not a URL to ask: {fault}", hint, check_url, _urls(value))
    return value


def check_jwks_uri(value: str) -> str:
    """The URL of a key set."""
    if _METADATA.search(value):
        hint = f"or write discovery: true in its place: it finds the keys of the issuer {_issuer_in(value)}"
        raise Wrong("is the URL of the issuer's metadata, which only name that of its keys", hint)
    return check_url(value)


def _url_fault(value: str) -> str:
    scheme, mark, rest = value.partition("://")
    if scheme == "file":
        return "a file is written as keys: and its path"
    if not mark or scheme not in ("https", "http"):
        return "it does not begin with https://"
    if "@" in rest.partition("/")[0]:
        return "no user and no password stand in it"
    if "#" in value:
        return "a server never sees what follows #"
    try:
        host, port = split_authority(urlsplit(value).netloc)
    except ValueError:
        host, port = "", ""
    if not re.fullmatch(URL, value) or not is_host(host) or not 0 < int(port or 1) < 65536:
        return "its host, its port or a character of it is not valid"
    return ""


def _urls(value: str) -> Iterable[str]:
    text = re.sub(r"#.*", "", value.strip())
    text = re.sub(r"^([A-Za-z]+:)?/*([^/@]*@)?", lambda m: "http://" if m[1] == "http:" else "https://", text)
    yield text
    yield text.replace(" ", "%20")


def check_file(value: Any) -> str:
    """The path of a file, where nothing is filled in. Not shown unless it looks like one: a key or a secret
    may have been pasted here."""
    text = value if isinstance(value, str) else ""
    if re.match(r"https?://", text):
        raise Wrong("is a URL, and not the path of a file", "a key set at a URL is written as jwks_uri")
    if not re.fullmatch(FILE, text) or "-----" in text:
        hint = "a path, from this file's folder, without ~; no key and no secret itself is written here"
        raise Wrong("is not the path of a file", hint, secret=True)
    return text


def check_key_file(value: Any) -> str:
    """The path of a key set. Not shown when it is a key."""
    if isinstance(value, list | dict) or (isinstance(value, str) and re.match(r"\s*(-----BEGIN|\{)", value)):
        hint = 'put it into a file of its own, as a JWK set ({"keys": [...]}), and write the path'
        raise Wrong("is a key, and not the path of a file", hint, secret=True)
    return check_file(value)


def check_variable(value: Any) -> str:
    """The name of a variable of the environment. Not shown when it is none: it may be the secret."""
    if not isinstance(value, str) or not re.fullmatch(VARIABLE, value):
        hint = "the name of the variable (capital letters, digits, _) that holds the secret, not the secret"
        raise Wrong("is not the name of a variable", hint, check_variable, _variables(value), secret=True)
    return value


def check_reference(value: Any) -> Any:
    """A mapping that says in one way where a secret is. Not shown when it does not: it may be the secret."""
    if not isinstance(value, Mapping) or len(value) != 1 or not {"env", "file"} & value.keys():
        hint = "this file says where a secret is: env: and a variable's name, or file: and a path"
        near = [{"env": name} for name in _variables(value)]
        raise Wrong("is not where the secret is", hint, check_reference, near, secret=True)
    return value


def _variables(value: Any) -> list[str]:
    text = value if isinstance(value, str) else ""
    found = re.fullmatch(r"\$(\{(?:env\.)?|env:|\()?([A-Z_][A-Z0-9_]*)[})]?", text)
    return [found[2]] if found else []


def leeway(value: Any) -> float:
    """Seconds by which clocks may differ. Raises Wrong beyond 10 minutes."""
    try:
        seconds = parse_duration(value)
    except Wrong as wrong:
        raise Wrong(wrong.reason, wrong.hint, leeway, [wrong.example(), "10m"]) from None
    if seconds > _MAX_LEEWAY:
        hint = "so much longer than it says would each token be good"
        raise Wrong("is more than clocks differ: at most 10m", hint, leeway, ["10m"])
    return seconds


def check_holder(value: str) -> str:
    """A name in clients' certificates, with its kind before it, or with one * for many."""
    if not re.fullmatch(HOLDER, value) or holder_fault(value):
        hint = "by its kind: uri:spiffe://shop.example/till/*, email:*@shop.example, dns:*.shop.example, cn:"
        reason = f"is not a name in certificates{holder_fault(value)}"
        raise Wrong(reason, hint, check_holder, _holders(value))
    return value


def holder_fault(value: str) -> str:
    """What is wrong with the * of a name in certificates; "" when there is none, or nothing."""
    kind, _, name = value.partition(":")
    if "*" not in name:
        return ""
    good = {
        "uri": name.endswith(("/*", ":*")),
        "dns": name.startswith("*."),
        "email": name.startswith("*@"),
    }.get(kind, True)
    if name.count("*") > 1 or not good:
        return ": * stands once: at the end of a URI behind / or :, for the first label, or before @"
    return ""


def _holders(value: str) -> Iterable[str]:
    text = value.strip()
    yield text.lower()
    if "://" in text:
        yield f"uri:{text}"
    elif "@" in text:
        yield f"email:{text}"
    elif named := re.search(r"(?:^|[,/]\s*)CN\s*=\s*([^,/]+)", text, re.IGNORECASE):  # of a subject
        yield f"cn:{named[1].strip()}"
    elif "." in text and " " not in text:
        yield f"dns:{text}"
    else:
        yield f"cn:{text}"


def check_tenants(value: str) -> str:
    """A tenant's name, the beginning of names with * behind it, or * for any."""
    if not re.fullmatch(TENANTS, value):
        hint = 'a tenant\'s name, eu-* for all that begin so, or "*" for any'
        near = re.sub(r"[^a-z0-9-]+", "-", value.lower()).strip("-")[:63]
        raise Wrong("is not a tenant's name", hint, check_tenants, [near])
    return value
