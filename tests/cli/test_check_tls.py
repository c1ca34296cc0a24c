"""`gateway check` looks at the certificates too."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from gateway.cli import main
from tests.support.certificates import Authority

CONF = """[gateway]
listen = 127.0.0.1:8443 tls=public
[tls:public]
certificate = tls/a.pem
key = tls/a.key
"""


@pytest.fixture
def ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gateway.conf").write_text(CONF)
    (tmp_path / "routing.yaml").write_text("version: 1\n")
    return Authority(tmp_path / "tls")


def test_what_keeps_it_from_starting_is_an_error(ca: Authority, capsys: pytest.CaptureFixture[str]) -> None:
    ca.pair("a")
    (ca.folder / "a.key").write_text("nothing")
    assert main.main(["check"]) == 1
    out, err = capsys.readouterr()
    said = " ".join(err.split())
    assert said.startswith("gateway.conf:5 [tls:public].key /")
    assert "a.key: no private key is in it hint:" in said
    assert said.endswith("1 problem in gateway.conf") and out.startswith("clean")


MTLS = """version: 1
tenants: { acme: {} }
certificates:
  tills: { subjects: ["uri:spiffe://shop.example/till/*"], tenant: acme, scopes: [read] }
  ops: { subjects: ["email:*@shop.example"], tenant: acme }
routes:
  - { name: shop, path: "/shop/{rest*}", target: documents, auth: [mtls],
      scopes: { read: [read], write: [write], manage: [] } }
  - { name: open, path: "/other/{rest*}", target: documents, scopes: { read: [], write: [], manage: [] } }
"""


def test_routes_that_take_certificates_which_no_listener_asks_for_are_noted(
    ca: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ca.pair("a")
    (tmp_path / "routing.yaml").write_text(MTLS)
    assert main.main(["check"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "note: auth: [mtls] of shop: no client can show a certificate; in gateway.conf, write" in said
    (tmp_path / "gateway.conf").write_text(f"{CONF}verify = tls/ca.pem\n")
    assert main.main(["check"]) == 0
    assert "note:" not in capsys.readouterr().err
    (tmp_path / "partner.pem").write_bytes((ca.folder / "ca.pem").read_bytes())
    partner = CONF.partition("[tls:public]")[2]
    both = f"{CONF}verify = tls/ca.pem\n".replace("tls=public", "tls=public, 127.0.0.1:8444 tls=partner")
    (tmp_path / "gateway.conf").write_text(f"{both}[tls:partner]{partner}verify = partner.pem\n")
    assert main.main(["check"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "[tls:public] and [tls:partner] verify with different authorities" in said
    (tmp_path / "routing.yaml").write_text(MTLS.replace("tenant: acme", "tenant: acme, tls: partner"))
    assert main.main(["check"]) == 0
    assert "note:" not in capsys.readouterr().err


def test_an_entry_for_a_section_that_is_not_there_is_a_problem(
    ca: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ca.pair("a")
    (tmp_path / "gateway.conf").write_text(f"{CONF}verify = tls/ca.pem\n")
    (tmp_path / "routing.yaml").write_text(MTLS.replace("scopes: [read] }", "scopes: [read], tls: publik }"))
    assert main.main(["check"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("routing.yaml:4 certificates.tills.tls")
    assert "there is no section [tls:publik] in gateway.conf hint: did you mean public?" in said


def test_explain_says_whose_a_clients_certificate_is(
    ca: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "routing.yaml").write_text(MTLS)
    ca.pair("till", "uri:spiffe://shop.example/till/7")
    ca.pair("both", "uri:spiffe://shop.example/till/8", "email:ann@shop.example")
    ca.pair("stranger", "dns:x.example")
    ca.pair("late", "uri:spiffe://shop.example/till/9", days=-1, begins=30)
    by = "certificates.tills, by uri:spiffe://shop.example/till/7: tenant acme, scopes read"
    none = "none of certificates: has one of its names among its subjects"
    both = "tills and ops of certificates: both have a name of it, so it is nobody's"
    late = by.replace("till/7", "till/9")
    tries = [
        ("till", "GET", "/shop/a", by, "passed on"),
        ("till", "PUT", "/shop/a", by, "refused: 403 forbidden"),
        ("till", "GET", "/other/a", "not looked for: the route has no auth: [mtls]", "refused: 401"),
        ("stranger", "GET", "/shop/a", none, "refused: 401"),
        ("both", "GET", "/shop/a", both, "refused: 401"),
        ("late", "GET", "/shop/a", late, "refused: 401"),
    ]
    for file, method, path, entry, outcome in tries:
        code = main.main(["explain", method, path, "--certificate", f"tls/{file}.pem", "--json"])
        said = json.loads(capsys.readouterr().out)
        assert (code, said["entry"]) == (int(outcome != "passed on"), entry)
        assert said["outcome"].startswith(outcome)
        assert f"cn:{file}; valid from " in said["certificate"]
    assert main.main(["explain", "GET", "/shop/a", "--certificate", "tls/till.key"]) != 0
    assert "--certificate: tls/till.key: there is no certificate" in capsys.readouterr().err


def test_explain_is_told_where_a_certificate_is_shown(
    ca: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "routing.yaml").write_text(MTLS.replace("scopes: [read] }", "scopes: [read], tls: public }"))
    ca.pair("till", "uri:spiffe://shop.example/till/7")
    other = CONF[CONF.index("[tls:") :].replace("public", "other")
    (tmp_path / "gateway.conf").write_text(CONF + other)
    alone = "certificates.tills counts on [tls:public] alone, and it is "
    counts = "certificates.tills, by uri:spiffe://shop.example/till/7: tenant acme, scopes read"
    tries = {
        (): f"{alone}not said where it is shown (--tls NAME)",
        ("--tls", "other"): f"{alone}shown on [tls:other]",
        ("--tls", "public"): counts,
    }
    for option, said in tries.items():
        main.main(["explain", "GET", "/shop/a", "--certificate", "tls/till.pem", "--json", *option])
        assert json.loads(capsys.readouterr().out)["entry"] == said


@pytest.mark.parametrize(
    "options, said",
    [
        (["--tls", "publik", "--certificate", "x.pem"], "no section [tls:publik] (did you mean 'public'?)"),
        (["--tls", "public"], "name its file with --certificate"),
    ],
)
def test_explain_refuses_a_listener_that_is_not_there_or_where_nothing_is_shown(
    options: list[str], said: str, ca: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["explain", "GET", "/", *options]) != 0
    assert said in " ".join(capsys.readouterr().err.split())


def test_what_should_be_known_is_a_note(ca: Authority, capsys: pytest.CaptureFixture[str]) -> None:
    ca.pair("a", days=5)
    assert main.main(["check"]) == 0
    assert "it expires on" in " ".join(capsys.readouterr().err.split())
    assert main.main(["check", "--json"]) == 0
    (note,) = json.loads(capsys.readouterr().out)["tls"]
    assert "it expires on" in note


def test_a_section_that_no_listener_names_is_noted(ca: Authority, capsys: pytest.CaptureFixture[str]) -> None:
    ca.pair("a")
    Path("gateway.conf").write_text(CONF.replace(" tls=public", ""))
    assert main.main(["check"]) == 0
    assert "no listener names it" in " ".join(capsys.readouterr().err.split())


@pytest.mark.skipif(find_spec("redis") is not None, reason="the client is installed")
def test_a_client_of_redis_that_is_missing_is_a_problem(
    ca: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    ca.pair("a")
    Path("gateway.conf").write_text(f"{CONF}[shared]\nuri = redis://127.0.0.1\n")
    assert main.main(["check"]) == 1
    assert capsys.readouterr().err.startswith("gateway.conf:7  [shared].uri")
