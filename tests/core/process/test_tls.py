"""The sections [tls:NAME] of gateway.conf, and listeners that name them."""

from __future__ import annotations

import pytest

from gateway.core.model import TenantId
from gateway.core.policy.certificates import CertificateRule
from gateway.core.process.listeners import Listen
from gateway.core.process.settings import parse_process
from gateway.core.process.tls import KeyPair, TlsSettings, https_port, unknown_sections
from gateway.core.routing.problems import Problems

PAIR = {"certificate": "a.pem", "key": "a.key"}


def read(written: dict[str, str], listen: str = "*:8443 tls=public", name: str = "tls:public"):
    return parse_process({"gateway": {"listen": listen}, name: written}, "/etc/gateway").tls


def problem(written: dict[str, str], **more: str) -> str:
    with pytest.raises(Problems) as raised:
        read(written, **more)
    return "; ".join(f"{one.where}: {one.reason}; {one.hint}" for one in raised.value.items)


def test_certificates_and_keys_stand_one_on_a_line_and_begin_in_the_files_folder() -> None:
    (found,) = read({"certificate": "a.pem\n/srv/b c.pem", "key": "a.key\nb.key", "hsts": "365d"})
    pairs = KeyPair("/etc/gateway/a.pem", "/etc/gateway/a.key"), KeyPair("/srv/b c.pem", "/etc/gateway/b.key")
    assert found == TlsSettings("public", pairs, hsts=365 * 86_400)
    assert found.files == (pairs[0].certificate, pairs[0].key, pairs[1].certificate, pairs[1].key)


def test_a_file_may_hold_the_key_behind_its_certificate() -> None:
    (found,) = read({"certificate": "a.pem"})
    assert found.pairs == (KeyPair("/etc/gateway/a.pem", "/etc/gateway/a.pem"),)
    assert found.files == ("/etc/gateway/a.pem",)


def test_clients_that_are_asked_for_a_certificate_have_to_show_one_unless_it_is_said() -> None:
    assert [one.client for one in read(PAIR | {"verify": "ca.pem"})] == ["required"]
    (found,) = read(PAIR | {"verify": "ca.pem", "client": "optional", "crl": "crl.pem"})
    assert (found.verify, found.client, found.crl) == (
        "/etc/gateway/ca.pem",
        "optional",
        "/etc/gateway/crl.pem",
    )


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({}, "it names no certificate"),
        ({"certificate": "a.pem\nb.pem", "key": "a.key"}, "there are 2 certificates and 1 key"),
        (PAIR | {"client": "required"}, "asked for no certificate without verify"),
        (PAIR | {"verify": "ca.pem", "client": "yes"}, "write required or optional"),
        (PAIR | {"hsts": "yes"}, "no time up to 10 years"),
        (PAIR | {"hsts": "99999999999"}, "no time up to 10 years"),
        (PAIR | {"ciphers": "ALL"}, "the key 'ciphers' is unknown"),
        ({"certificate": "~/a.pem"}, "~ and variables are not filled in"),
    ],
)
def test_what_is_wrong_with_a_section_is_said(written: dict[str, str], said: str) -> None:
    assert said in problem(written)


def test_a_listener_names_a_section_that_is_there() -> None:
    said = problem(PAIR, listen="*:8443 tls=publik")
    assert "did you mean tls:public?" in said


def test_a_redirect_goes_to_the_port_of_tls_beside_it_unless_one_is_written() -> None:
    tls, plain = Listen("0.0.0.0", 8443, tls="public"), Listen("0.0.0.0", 8080)
    assert https_port(Listen("0.0.0.0", 80, redirect="https"), [plain, tls]) == 8443
    assert https_port(Listen("0.0.0.0", 80, redirect="https:443"), [plain, tls]) == 443
    assert https_port(Listen("0.0.0.0", 80, redirect="https"), [plain]) == 443


def test_entries_of_certificates_name_sections_that_ask_for_one() -> None:
    sections = TlsSettings("public", (), "ca.pem"), TlsSettings("quiet", ())
    named = ("", "public", "publik", "quiet")
    rules = [CertificateRule(f"e{tls}", (), TenantId("acme"), tls=tls) for tls in named]
    found = [f"{one.where}: {one.reason}; {one.hint}" for one in unknown_sections(rules, sections)]
    assert found == [
        "certificates.epublik.tls: there is no section [tls:publik] in gateway.conf; did you mean public?"
        " known here: public, quiet",
        "certificates.equiet.tls: [tls:quiet] in gateway.conf asks clients for no certificate;"
        " write verify = ca.pem there, or name another section",
    ]
