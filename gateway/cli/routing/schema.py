"""gateway schema: the JSON Schema of the routing config, or the reference of both config files, as Markdown:
config/reference.md is what that gives."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.core.process import reference as of_process
from gateway.core.routing.settings import json_schema

_HEAD = """\
# Every key of the two config files

Made by `gateway schema --reference`. What to do with them, with examples: [README.md](README.md).

## gateway.conf

The process: read once at the start. Paths begin at its folder, or at `data` where it says so.

"""
_ROUTING = """\
## routing.yaml

What is served, and for whom: live. Times are `250ms`, `5s`, `2m`, `1h`; sizes `64KiB`, `10MiB`; rates
`100/s`, `600/m`.

"""


def run(arguments: argparse.Namespace) -> int:
    """Print the one or the other."""
    print(markdown() if arguments.reference else json.dumps(json_schema(), indent=2))
    return 0


def markdown() -> str:
    """The reference, without the last line's end."""
    return f"{_HEAD}{of_process.markdown()}\n{_ROUTING}{_of_routing(json_schema())}".rstrip()


# --- routing.yaml, from its JSON Schema ------------------------------------------------------------

Schema = Mapping[str, Any]

# In the order of the file, and with the words that one looks for.
_TITLES = {
    "BackendSettings": "A backend: `backends: NAME:`",
    "AddressSettings": "One of its addresses: `addresses:`",
    "TlsSettings": "TLS to it: `tls:`",
    "ResolveSettings": "Its names: `resolve:`",
    "HealthSettings": "Its health: `health:`",
    "QueueSettings": "Its queue: `queue:`",
    "IssuerSettings": "An issuer of tokens: `issuers: NAME:`",
    "ClaimsSettings": "Its claims: `claims:`",
    "IntrospectionSettings": "Asking it: `introspection:`",
    "SecretSettings": "Where a secret is: `client_secret:`",
    "CertificateSettings": "Clients that show a certificate: `certificates: NAME:`",
    "TenantSettings": "A tenant: `tenants: NAME:`",
    "DocumentsSettings": "Its documents: `documents:`",
    "RouteSettings": "A route: each of `routes:`",
    "TimeoutSettings": "Its times: `timeouts:`",
    "CorsSettings": "Pages of other origins: `cors:`",
    "WebSocketSettings": "Its WebSockets: `websocket:`",
    "RateLimitSettings": "A rate with a burst: `rate_limit:`, `client_limit:`, `frames:`",
    "FrontPageSettings": "The front page: `front_page:`",
}
_DEFAULT = re.compile(r"(?:^|[;.,]?\s+)[Dd]efault:?\s+(?P<default>[^.]+)$")


def _of_routing(schema: Schema) -> str:
    """Tables of all keys, as Markdown. schema: that of `settings.json_schema`. Raises KeyError for a part of
    it that has no heading here, and ValueError for a key without a description."""
    definitions = schema["$defs"]
    parts = [_table("The file", schema)]
    for name in sorted(definitions, key=list(_TITLES).index):
        parts.append(_table(_TITLES[name], definitions[name]))
    return "\n".join(parts)


def _table(title: str, part: Schema) -> str:
    lines = [f"### {title}", "", "| key | default | example | |", "|---|---|---|---|"]
    required = part.get("required", ())
    for name, written in part["properties"].items():
        what, default = _described(name, written)
        if name in required:
            default = "needed"
        lines.append(f"| `{name}` | {_cell(default)} | {_cell(_example(written))} | {_cell(what)} |")
    return "\n".join([*lines, ""])


def _described(name: str, written: Schema) -> tuple[str, str]:
    """What a key is, and its default."""
    what = written.get("description", "")
    if not what:
        raise ValueError(f"{name} has no description")
    said = _DEFAULT.search(what)
    if said:
        return what[: said.start()], said["default"]
    default = written.get("default")
    if default is None or default in ({}, [], "") or isinstance(default, Mapping):
        return what, ""
    return what, f"`{_yaml(default)}`"


def _example(written: Schema) -> str:
    """The first that is not the default."""
    found = [one for one in _examples(written) if one != written.get("default")]
    return f"`{_yaml(found[0])}`" if found else ""


def _examples(written: Schema) -> Iterator[Any]:
    yield from written.get("examples", ())
    if "const" in written:
        yield written["const"]
    yield from written.get("enum", ())
    if written.get("type") == "boolean":
        yield not written.get("default", False)
    if "items" in written:
        yield from ([one] for one in _examples(written["items"]))
    for choice in written.get("anyOf", ()):
        yield from _examples(choice)
    if "minimum" in written and written.get("type") in ("integer", "number"):
        yield max(1, written["minimum"])


def _yaml(value: Any) -> str:
    """In YAML's flow style, which takes what JSON writes."""
    if isinstance(value, str):
        return value if re.fullmatch(r"[A-Za-z0-9/_.:*{}+-]+", value) else json.dumps(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    return json.dumps(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
