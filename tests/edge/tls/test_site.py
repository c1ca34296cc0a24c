"""The certificates of a listener: which one a client gets, what is refused, and what becomes of files that
change."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.core.process.tls import KeyPair, TlsSettings
from gateway.edge.tls.certificates import CertificateUnusable
from gateway.edge.tls.site import Contexts, TlsSite
from gateway.edge.tls.sites import SiteUnusable, TlsSites
from tests.support.certificates import Authority, pem_of


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


def settings(*pairs: KeyPair, **more: str) -> TlsSettings:
    return TlsSettings("public", pairs, **more)  # type: ignore[arg-type]


def site(*pairs: KeyPair, wall: Callable[[], float] = time.time, **more: str) -> TlsSite:
    return TlsSite(settings(*pairs, **more), "[tls:public]", wall=wall)


def handshake(contexts: Contexts, client: ssl.SSLContext, name: str | None = None) -> ssl.SSLObject:
    """The client's side of a handshake in memory. Raises SSLError."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = contexts.wrap(to_server, to_client)
    theirs = client.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(3):
        for side in (theirs, ours):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
    return theirs


def client(**more: int) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name, value in more.items():
        setattr(context, name, value)
    return context


def shown(contexts: Contexts, name: str | None = None) -> str:
    """The file of the certificate that a client gets which asks for this name."""
    der = handshake(contexts, client(), name).getpeercert(binary_form=True)
    assert der is not None
    paths = [one.path for one in contexts.certificates]
    (found,) = [path for path in paths if ssl.PEM_cert_to_DER_cert(Path(path).read_text()) == der]
    return Path(found).stem


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, "first"),
        ("unknown.example", "first"),
        ("shop.example", "shop"),
        ("SHOP.example", "shop"),
        ("a.shop.example", "wild"),
        ("exact.shop.example", "shop"),
        ("a.b.shop.example", "first"),
    ],
)
def test_a_client_gets_the_certificate_of_the_name_it_asks_for(
    ca: Authority, name: str, expected: str
) -> None:
    pairs = (
        ca.pair("first", "dns:first.example"),
        ca.pair("wild", "dns:*.shop.example"),
        ca.pair("shop", "dns:shop.example", "dns:exact.shop.example"),
    )
    assert shown(Contexts.read(settings(*pairs)), name) == expected


def test_tls_before_1_2_and_weak_ciphers_are_refused_and_http_is_agreed_on(ca: Authority) -> None:
    contexts = Contexts.read(settings(ca.pair("a")))
    for weak in ("AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES128-CCM"):
        old = client(maximum_version=ssl.TLSVersion.TLSv1_2)
        old.set_ciphers(weak)
        with pytest.raises(ssl.SSLError, match=r"(?i)no.shared.cipher"):
            handshake(contexts, old)
    assert contexts.default.minimum_version == ssl.TLSVersion.TLSv1_2
    both = client()
    both.set_alpn_protocols(["h2", "http/1.1"])
    done = handshake(contexts, both)
    assert (done.version(), done.selected_alpn_protocol()) == ("TLSv1.3", "http/1.1")


def broken(ca: Authority, pair: KeyPair, how: str) -> None:
    key, certificate = Path(pair.key), Path(pair.certificate)
    match how:
        case "missing":
            key.unlink()
        case "empty":
            certificate.write_bytes(b"")
        case "half":
            certificate.write_bytes(certificate.read_bytes()[:-100])
        case "other key":
            key.write_bytes(pem_of(Authority(ca.folder / "other").key))
        case "encrypted":
            key.write_bytes(pem_of(ca.key, "secret"))
        case "swapped":
            certificate.write_bytes(key.read_bytes())
        case "no key":
            key.write_bytes(certificate.read_bytes())


BROKEN = {
    "missing": "a.key: no such file",
    "empty": "a.pem: it is empty",
    "half": "a.pem: its certificate cannot be read",
    "other key": "a.key: its key is not that of",
    "encrypted": "a.key: its key is encrypted; there is nobody to ask for its passphrase",
    "swapped": "a.pem: no certificate is in it",
    "no key": "a.key: no private key is in it",
}


@pytest.mark.parametrize(("how", "said"), BROKEN.items())
def test_files_that_cannot_be_used_are_named_with_the_reason(ca: Authority, how: str, said: str) -> None:
    pair = ca.pair("a")
    broken(ca, pair, how)
    with pytest.raises(SiteUnusable) as raised:
        TlsSites([settings(pair)], "gateway.conf")
    assert said in str(raised.value)
    assert str(raised.value).startswith("[tls:public] in gateway.conf: ")
    assert "secret" not in str(raised.value)
    assert "BEGIN" not in str(raised.value)


@pytest.mark.parametrize("how", BROKEN)
async def test_a_reload_of_what_cannot_be_used_keeps_what_was_in_use(
    ca: Authority, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    pair = ca.pair("a", "dns:a.example")
    live = site(pair)
    before = live.current
    broken(ca, pair, how)
    await live.reload()
    await live.reload()
    assert live.current is before
    assert BROKEN[how] in str(live.failure)
    (record,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert "What was loaded before stays in use" in record.getMessage()
    ca.pair("a", "dns:a.example")
    await live.reload()
    assert live.failure is None
    assert live.current is not before


async def test_files_are_loaded_when_they_have_changed_and_not_while_they_are_written(ca: Authority) -> None:
    pair = ca.pair("a", "dns:a.example")
    live = site(pair)
    first = live.current
    await live.follow()
    assert live.current is first
    key = ca.sign("b", "dns:b.example")[0].key
    Path(pair.certificate).write_bytes((ca.folder / "b.pem").read_bytes())
    await live.follow()  # of the two files one has changed, and that only now
    Path(pair.key).write_bytes(Path(key).read_bytes())
    await live.follow()
    assert (live.current, live.failure) == (first, None)
    await live.follow()
    assert live.current.certificates[0].names == ("b.example",)


async def test_a_link_that_leads_elsewhere_is_a_change(ca: Authority) -> None:
    for name in ("one", "two"):
        ca.pair(name, f"dns:{name}.example")
    link = ca.folder / "live"
    for end in ("pem", "key"):
        (ca.folder / f"live.{end}").symlink_to(ca.folder / f"one.{end}")
    live = site(KeyPair(f"{link}.pem", f"{link}.key"))
    for end in ("pem", "key"):
        (ca.folder / f"live.{end}").unlink()
        (ca.folder / f"live.{end}").symlink_to(ca.folder / f"two.{end}")
    await live.follow()
    await live.follow()
    assert live.current.certificates[0].names == ("two.example",)


async def test_an_expired_certificate_takes_the_place_of_none_that_is_good(ca: Authority) -> None:
    pair = ca.pair("a", days=90)
    live = site(pair)
    before = live.current
    ca.pair("a", days=-1, begins=30)
    await live.reload()
    assert live.current is before
    assert "it has expired on" in str(live.failure)
    ca.pair("a", days=90, begins=-2)
    await live.reload()
    assert "it is valid from" in str(live.failure)


async def test_one_that_expires_is_warned_of_once_a_day_from_three_weeks_before(
    ca: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    now = [time.time()]
    live = site(ca.pair("a", days=30), wall=lambda: now[0])

    async def warned(days: float) -> int:
        caplog.clear()
        now[0] += days * 86_400
        await live.follow()
        await live.follow()
        return sum("it expires on" in one.getMessage() for one in caplog.records)

    assert [await warned(days) for days in (0, 8, 1.5, 0.4, 0.7)] == [0, 0, 1, 0, 1]
    now[0] += 30 * 86_400
    assert "it has expired" in live.warnings()[0]
    assert "clients refuse it" in live.warnings()[0]


def test_a_key_that_everybody_can_read_is_warned_of(ca: Authority) -> None:
    pair = ca.pair("a")
    assert site(pair).warnings() == []
    Path(pair.key).chmod(0o644)
    assert "every user of this machine can read the key" in site(pair).warnings()[0]


async def test_what_clients_are_verified_with_is_another_after_a_change(ca: Authority) -> None:
    pair = ca.pair("a")
    crl = ca.revoke()
    live = site(pair, verify=str(ca.path), crl=str(crl))
    ca.pair("a")
    await live.reload()
    assert live.verified == 0
    ca.revoke(ca.sign("b")[1])
    await live.reload()
    assert live.verified == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"verify": "a.key"}, "no certificate is in it"),
        ({"crl": "ca.pem"}, "its revoked certificates cannot"),
    ],
)
def test_what_clients_are_verified_with_is_checked(ca: Authority, more: dict[str, str], said: str) -> None:
    one = settings(ca.pair("a"), verify=str(ca.path))
    with pytest.raises(CertificateUnusable, match=said):
        Contexts.read(replace(one, **{name: str(ca.folder / file) for name, file in more.items()}))


def test_a_session_of_a_client_that_shows_a_certificate_is_not_resumed(ca: Authority) -> None:
    pair = ca.pair("a")
    assert Contexts.read(settings(pair, verify=str(ca.path))).default.num_tickets == 0
    assert Contexts.read(settings(pair)).default.num_tickets == 1


async def test_what_everybody_may_see_of_the_files_has_no_folders_and_the_log_is_one_processes(
    ca: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    pair = ca.pair("a", days=5)
    sites = TlsSites([settings(pair)], "gateway.conf", quiet=True)
    broken(ca, pair, "half")
    await sites.reload()
    refused, expires = sites.notes()
    assert refused == "public: what its files hold now is refused: a.pem: its certificate cannot be read"
    assert expires.startswith("public: it expires on ")
    assert caplog.records == []


def test_a_list_of_revoked_ones_whose_next_update_was_due_is_warned_of(ca: Authority) -> None:
    crl = ca.revoke(days=-1)
    found = site(ca.pair("a"), verify=str(ca.path), crl=str(crl)).warnings()
    assert "every client is refused" in found[0]


@pytest.mark.parametrize("how", ["half", "expired"])
async def test_a_process_that_starts_uses_what_the_others_do_where_the_files_are_refused_now(
    ca: Authority, how: str
) -> None:
    pair = ca.pair("a")
    one = settings(pair, verify=str(ca.path), client="optional", crl=str(ca.revoke()))
    first = TlsSites([one], "gateway.conf")
    kept = {name: dict(files) for name, files in first.kept().items()}
    if how == "half":
        broken(ca, pair, "half")
        with pytest.raises(SiteUnusable):
            TlsSites([one], "gateway.conf")
    else:
        ca.pair("a", days=-1)
    begun = TlsSites([one], "gateway.conf", quiet=True, kept=kept)["public"]
    assert begun.failure is not None
    assert begun.failure.path == pair.certificate
    assert begun.current.certificates == first["public"].current.certificates
    assert begun.warnings() == []
    handshake(begun.current, client())
    ca.pair("a", days=30)
    await begun.reload()
    assert begun.failure is None
    assert begun.current.certificates != first["public"].current.certificates


def test_a_process_that_starts_reads_files_that_the_others_do_not_have(ca: Authority) -> None:
    kept = TlsSites([settings(ca.pair("a"))], "gateway.conf").kept()
    pair = ca.pair("b")
    begun = TlsSites([settings(pair)], "gateway.conf", kept=kept)["public"]
    assert [one.path for one in begun.current.certificates] == [pair.certificate]
    assert begun.failure is None
