"""The operator's handbook says what is there, and all of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.cli.routing import schema
from gateway.core import errors
from gateway.core.errors import GatewayError
from gateway.core.process import operators, settings, tls
from gateway.core.process import reference as process_reference
from gateway.core.process.settings import parse_process

CONFIG = Path(__file__).resolve().parents[2] / "config"
# What an example needs beside it.
ISSUER = {
    "issuer": "https://sso.example.com",
    "audience": "gateway-admin",
    "discovery": "yes",
    "claim": "roles",
    "owner": "admins",
}
ZOOKEEPER = {"source": "zookeeper", "servers": "zk1:2181"}
BESIDE = {
    "operators:issuer": {"operators:issuer": ISSUER},
    "servers": {"config": ZOOKEEPER},
    "path": {"config": ZOOKEEPER},
    "credentials": {"config": ZOOKEEPER},
    "uri": {"config": {"source": "mongodb", "uri": "mongodb://other.example:27017/gateway"}},
    "tls:NAME": {"tls:shop": {"certificate": "tls.pem"}},
    "client": {"tls:shop": {"certificate": "tls.pem", "verify": "ca.pem"}},
    "crl": {"tls:shop": {"certificate": "tls.pem", "verify": "ca.pem"}},
    "backend:NAME": {"backend:shop": {"command": "python app.py"}},
}


def test_the_runbook_has_every_error_code_with_its_status_and_no_other() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", (CONFIG / "runbook.md").read_text("utf-8"), re.MULTILINE)
    found = (kind for kind in vars(errors).values() if isinstance(kind, type))
    codes = {(kind.code, str(kind.status)) for kind in found if issubclass(kind, GatewayError)}
    assert sorted(rows) == sorted(codes)


def test_the_reference_is_what_the_command_gives() -> None:
    shown = (CONFIG / "reference.md").read_text("utf-8")
    assert shown == schema.markdown() + "\n", "gateway schema --reference > config/reference.md"


def test_the_reference_has_every_key_of_the_process_and_no_other() -> None:
    read = {name: set(keys) for name, keys in settings.KEYS.items()} | {
        "backend:NAME": set(settings.BACKEND_KEYS),
        "tls:NAME": set(tls.KEYS),
        operators.NAMED: {"NAME"},
    }
    assert {name: set(keys) for name, keys in process_reference.SECTIONS.items()} == read


@pytest.mark.parametrize(
    ("section", "key"),
    [(section, key) for section, keys in process_reference.SECTIONS.items() for key in keys],
)
def test_each_default_says_what_holds_without_the_key_and_each_example_is_taken(
    section: str, key: str
) -> None:
    about = process_reference.SECTIONS[section][key]
    where = section.replace("NAME", "shop")
    named = "alice" if key == "NAME" else key
    base = {name: dict(values) for name, values in BESIDE.get(key, BESIDE.get(section, {})).items()}
    plain = parse_process(base, "/etc/gateway")
    if about.default:
        said = {**base, where: {**base.get(where, {}), named: about.default}}
        assert parse_process(said, "/etc/gateway") == plain
    given = {**base, where: {**base.get(where, {}), named: about.example}}
    if key in ("jwks_uri", "keys") and section == "operators:issuer":
        del given[where]["discovery"]
    assert parse_process(given, "/etc/gateway") != plain or about.example == base.get(where, {}).get(named)
