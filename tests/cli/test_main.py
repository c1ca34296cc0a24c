"""The command line: what it prints, and its exit codes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from gateway.auth.keys import read_keys
from gateway.cli import console
from gateway.cli.config import LIGHT
from gateway.cli.main import main
from gateway.core.jwt.issuer import local_issuer
from gateway.core.jwt.verify import verify
from gateway.core.routing.settings import json_schema
from tests.conf import write_conf
from tests.eventually import poll

ROUTING = """\
version: 1
backends:
  fast: { kind: uvicorn, addresses: ["http://127.0.0.1:1"] }
tenants:
  acme: {}
  old: { disabled: true }
routes:
  - name: fast
    path: /fast/{id}
    target: fast
    methods: [GET, DELETE]
    scopes: { read: [fast:read], DELETE: [fast:drop] }
  - { name: own, path: "/t/{tenant}/{rest*}", target: fast, strip: /t, websocket: true }
  - { name: open, path: /open, target: fast, public: true, host: open.example }
"""
COMMANDS = ["up", "serve", "check", "routes", "explain", "token", "schema", "keys", "revoke", *LIGHT]


@pytest.fixture
def conf(tmp_path: Path) -> str:
    return str(write_conf(tmp_path, ROUTING))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def token(capsys: pytest.CaptureFixture[str], conf: str, *arguments: str) -> str:
    code, out, _ = run(capsys, "token", "-c", conf, *arguments)
    assert code == 0
    return out.strip()


# --- help ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_each_commands_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"example:\n  gateway {command}" in capsys.readouterr().out


def test_the_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    assert all(f"\n    {command}" in out for command in COMMANDS)


@pytest.mark.parametrize("arguments", [[], ["fly"], ["token"], ["explain", "GET"], ["check", "a", "b"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "gateway" in capsys.readouterr().err


def test_the_help_says_what_the_exit_codes_mean(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    assert all(f"\n  {code} " in out for code in (0, 1, 2, 78, 130, 141))


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"gateway {metadata.version('gateway')}\n"


# --- where the process config is ---------------------------------------------------------------------


EVERY = ["check", "routes", "explain GET /open", "token --tenant acme"]


@pytest.mark.parametrize("place", ["config", "."])
@pytest.mark.parametrize("command", EVERY)
def test_every_command_finds_the_config_in_the_usual_places(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    place: str,
) -> None:
    write_conf(tmp_path / place, ROUTING)
    monkeypatch.chdir(tmp_path)
    _, out, err = run(capsys, *command.split())
    assert out
    assert "no process config" not in err


@pytest.mark.parametrize("command", [*EVERY, "serve", "up", "documents tenants"])
def test_without_a_config_every_command_says_where_it_looked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    places = ("config/gateway.conf", "gateway.conf", "/nowhere/gateway.conf")
    monkeypatch.setattr("gateway.cli.process_config.PLACES", places)
    code, out, err = run(capsys, *command.split())
    assert (code, out) == (1, "")
    for text in ("config/gateway.conf", "gateway.conf", str(tmp_path), "/nowhere/gateway.conf", "-c"):
        assert text in err


def test_what_needs_no_config_asks_for_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text("version: 1")
    assert run(capsys, "check", "r.yaml")[0] == 0
    assert run(capsys, "schema")[0] == 0


# --- pipes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["routes", "schema", "check --help"])  # a table, lines, argparse's
def test_a_closed_pipe_is_silent_and_its_exit_code_that_of_a_shell(conf: str, command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with contextlib.closing(os.fdopen(writer, "wb")) as pipe:
        ended = subprocess.run(
            [sys.executable, "-m", "gateway", *command.split(), "-c", conf],
            stdout=pipe, stderr=subprocess.PIPE, timeout=60, check=False,
        )  # fmt: skip
    assert ended.stderr == b""
    assert ended.returncode == 141 or ("--help" in command and not ended.returncode)  # argparse hides it


def test_ctrl_c_is_silent_and_its_exit_code_that_of_a_shell() -> None:
    started = subprocess.Popen(
        [sys.executable, "-m", "gateway", "check", "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        # A shell's job in the background ignores it, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    with started:
        poll(lambda: "pipe" in Path(f"/proc/{started.pid}/wchan").read_text())  # it waits for its input
        started.send_signal(signal.SIGINT)
        assert started.wait(30) == 130
        assert (started.stdout.read(), started.stderr.read()) == (b"", b"")  # type: ignore[union-attr]


def test_check_reads_standard_input_and_a_pipe_that_is_open(tmp_path: Path) -> None:
    for name, good in (("/dev/fd/0", True), ("-", False)):
        ended = subprocess.run(
            [sys.executable, "-m", "gateway", "check", name],
            input=b"version: 1\n" if good else b"version: 7\n",
            capture_output=True, cwd=tmp_path, timeout=60, check=False,
        )  # fmt: skip
        assert ended.returncode == (0 if good else 1), ended.stderr
        assert good or b"(standard input):1  version" in ended.stderr


# --- check -----------------------------------------------------------------------------------------


def test_check_of_a_clean_config_is_exit_code_0(conf: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "check", "-c", conf)
    assert (code, err) == (0, "")
    assert "clean" in out
    assert "3 routes, 1 backend, 2 tenants" in out


def test_tls_to_a_backend_that_is_not_verified_or_lacks_a_file_is_noted_and_explained(
    conf: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(conf).parent
    text = "version: 1\nbackends:\n  a: {{ kind: http, addresses: ['https://a:1'], tls: {{ {} }} }}\n"
    text += "routes: [{{ name: a, path: /a, target: a, public: true }}]\n"
    for tls, note, explained in (
        ("verify: false", "tls.verify: false: whoever is between", "NOT VERIFIED"),
        ("ca: nowhere.pem", "nowhere.pem: No such file", "checked by"),
    ):
        (folder / "routing.yaml").write_text(text.format(tls))
        code, _, err = run(capsys, "check", "-c", conf)
        assert code == 0 and note in " ".join(err.split())
        assert explained in run(capsys, "explain", "-c", conf, "GET", "/a")[1]


BAD = """\
version: 1
tenants:
  Acme: {}
routes:
  - name: a
    path: /x
    target: nobody
    timeouts: { conect: 2s }
  - name: b
    path: /y
    target: documents
  - name: c
    path: /y
    target: documents
"""
EXPECTED = [
    (3, "tenants.Acme", "'Acme' is not a tenant's name"),
    (7, "routes[0].target", "there is no backend 'nobody'"),
    (8, "routes[0].timeouts.conect", "the key 'conect' is unknown"),
    (12, "routes[2]", "the route 'c' never matches: b took its requests before"),
]


def test_check_prints_every_problem_with_file_line_path_reason_and_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "some[b]thing.yaml"
    path.write_text(BAD)
    code, _, err = run(capsys, "check", str(path))
    assert code == 1
    lines = err.splitlines()
    for index, (line, where, reason) in enumerate(EXPECTED):
        first, second, third = lines[3 * index : 3 * index + 3]
        assert first == f"{path}:{line}  {where}"
        assert reason in second
        assert third.startswith("    hint: ")
    assert "did you mean 'connect'?" in err
    assert lines[-1] == f"4 problems in {path}"


def test_check_as_json_is_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "routing.yaml"
    path.write_text(BAD)
    code, out, err = run(capsys, "check", "--json", str(path))
    assert (code, err) == (1, "")
    shown = json.loads(out)
    assert shown["file"] == str(path)
    assert [(p["line"], p["path"]) for p in shown["problems"]] == [item[:2] for item in EXPECTED]
    path.write_text("version: 1")
    assert run(capsys, "check", "--json", str(path))[0] == 0


@pytest.mark.parametrize(
    ("content", "reason"), [("a: [", "not YAML"), (None, "cannot be read"), ("[" * 100_000, "too deep")]
)
def test_check_of_what_is_no_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, reason: str
) -> None:
    path = tmp_path / "routing.yaml"
    if content is not None:
        path.write_text(content)
    code, _, err = run(capsys, "check", str(path))
    assert code == 1
    assert reason in err
    assert "1 problem in" in err


def test_a_path_is_shown_as_a_person_would_write_it_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    here = Path.cwd()
    assert console.short(here / "config" / "a.yaml") == "config/a.yaml"
    assert console.short("../here/./a.yaml") == "a.yaml"
    assert console.short("../a.yaml") == str(here.parent / "a.yaml")


# --- routes, schema --------------------------------------------------------------------------------


def test_routes_shows_the_compiled_table(conf: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "routes", "-c", conf)
    assert code == 0
    lines = {line.split()[0]: line.split() for line in out.splitlines()}
    assert lines["fast"][1:6] == ["DELETE", "GET", "any", "/fast/{id}", "fast"]
    assert lines["open"][1:] == ["any", "open.example", "/open", "fast", "public", "public", "300", "s"]
    code, out, _ = run(capsys, "routes", "-c", conf, "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert rows["fast"]["method_scopes"] == {"DELETE": ["fast:drop"]}
    assert (rows["own"]["strip"], rows["open"]["public"]) == ("/t", True)


def test_routes_shows_which_callers_each_one_takes_and_check_counts_their_issuers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    issuers = "issuers: { idp: { issuer: i, audiences: a, keys: k.jwks, tenants: [acme] } }\n"
    takes = "  - { name: own, auth: [jwt], issuers: [idp], require: { plan: [pro, max] },"
    conf = str(write_conf(tmp_path, issuers + ROUTING.replace("  - { name: own,", takes)))
    _, out, _ = run(capsys, "routes", "-c", conf)
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert lines["NAME"].rstrip().endswith("TAKES")
    assert lines["own"].rstrip().endswith("jwt of idp; plan: max|pro")
    rows = {row["name"]: row for row in json.loads(run(capsys, "routes", "-c", conf, "--json")[1])}
    assert rows["own"]["issuers"] == ["idp"]
    assert (rows["own"]["auth"], rows["own"]["require"]) == (["jwt"], {"plan": ["max", "pro"]})
    assert (rows["fast"]["auth"], rows["fast"]["issuers"], rows["fast"]["require"]) == ([], [], {})
    code, out, err = run(capsys, "check", "-c", conf)
    assert (code, "1 issuer" in out) == (0, True)
    assert err.startswith("note: issuers.idp.keys: ") and "k.jwks is not there" in err


def test_an_issuer_that_speaks_as_that_of_the_process_is_refused_by_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    issuers = "issuers: { idp: { issuer: gateway, audiences: a, keys: k.jwks, tenants: [acme] } }\n"
    code, _, err = run(capsys, "check", "-c", str(write_conf(tmp_path, issuers + ROUTING)))
    assert (code, "issuers.idp.issuer" in err) == (1, True)
    off = "issuers: { local: false }\n"
    _, _, err = run(capsys, "token", "-c", str(write_conf(tmp_path, off + ROUTING)), "--tenant", "acme")
    assert "switches this issuer off" in err


def test_routes_of_a_bad_config_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "routes", "-c", str(write_conf(tmp_path, BAD)))
    assert (code, out) == (1, "")
    assert "routes[0].target" in err


def test_schema_prints_the_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "schema")
    assert code == 0
    assert json.loads(out) == json_schema()


# --- explain ---------------------------------------------------------------------------------------


def test_explain_says_which_route_why_and_who(conf: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = token(capsys, conf, "--tenant", "acme", "--scope", "fast:read x", "--subject", "ann")
    code, out, _ = run(capsys, "explain", "-c", conf, "get", "/fast/7?q=1", "--token", made)
    assert code == 0
    shown = {line.split()[0]: " ".join(line.split()[1:]) for line in out.splitlines()}
    assert shown["route"] == "fast /fast/{id}"
    assert shown["why"] == "any host; DELETE GET; the most specific path that takes /fast/7"
    assert shown["parameters"] == "id = '7'"
    assert shown["target"] == "fast, which sees /fast/7"
    assert shown["addresses"] == "http://127.0.0.1:1"
    assert shown["needs"] == "fast:read"
    assert shown["token"] == "subject ann, scopes fast:read x"
    assert shown["tenant"] == "acme"
    assert shown["outcome"] == "passed on"
    assert made not in out


@pytest.mark.parametrize(
    ("tenant", "request_line", "outcome"),
    [
        ("", "GET /fast/7", "refused: 401 unauthenticated"),
        ("acme", "DELETE /fast/7", "refused: 403 forbidden: The credential lacks the scope fast:drop."),
        (
            "acme",
            "GET /fast/7 -H X-Tenant:globex",
            "refused: 403 forbidden: The request names another tenant",
        ),
        ("acme", "GET /t/globex/x", "refused: 403 forbidden: The request names another tenant"),
        ("acme", "GET /t/acme/x", "passed on"),
        ("old", "GET /fast/7", "refused: 403 forbidden: The credential's tenant is not served here."),
        ("ghost", "GET /fast/7", "refused: 403 forbidden: The credential's tenant is not served here."),
        ("acme", "GET /nowhere", "refused: 404 no_route"),
        ("acme", "GET /open", "refused: 404 no_route"),
        ("", "GET /open -H Host:open.example", "passed on"),
        ("acme", "PUT /fast/7", "refused: 405 method_not_allowed: This path allows DELETE, GET, HEAD."),
        ("acme", "GET /fast/../x", "refused: 400 bad_request"),
        ("acme", "CONNECT h:1", "refused: 501 not_implemented"),
    ],
)
def test_explain_says_what_would_be_refused(
    conf: str, capsys: pytest.CaptureFixture[str], tenant: str, request_line: str, outcome: str
) -> None:
    arguments = request_line.split()
    if tenant:
        arguments += ["--token", token(capsys, conf, "--tenant", tenant, "--scope", "fast:read")]
    code, out, _ = run(capsys, "explain", "-c", conf, *arguments)
    assert code == (0 if outcome == "passed on" else 1)
    assert (
        next(line for line in out.splitlines() if line.startswith("outcome"))
        .split(None, 1)[1]
        .startswith(outcome)
    )


def test_explain_takes_a_token_in_a_header_too(conf: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = token(capsys, conf, "--tenant", "acme", "--scope", "fast:read")
    header = f"Authorization: Bearer {made}"
    assert run(capsys, "explain", "-c", conf, "GET", "/fast/7", "-H", header)[0] == 0
    handshake = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    handshake += ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
    handshake += [f"Sec-WebSocket-Protocol: gateway.bearer, {made}"]
    more = [word for line in handshake for word in ("-H", line)]
    code, out, _ = run(capsys, "explain", "-c", conf, "GET", "/t/acme/chat", *more)
    assert code == 0 and "issuer" in out and made not in out


@pytest.mark.parametrize(
    "write",
    ["{}", "Bearer {}", "bearer {}\n", "Authorization: Bearer {}\n", "X-A: 1\nauthorization: Bearer {}\n"],
)
@pytest.mark.parametrize("way", ["argument", "@file", "-"])
def test_explain_takes_a_token_as_people_have_it(
    tmp_path: Path,
    conf: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    write: str,
    way: str,
) -> None:
    text = write.format(token(capsys, conf, "--tenant", "acme", "--scope", "fast:read"))
    (tmp_path / "token").write_text(text)
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    given = {"argument": text, "@file": f"@{tmp_path / 'token'}", "-": "-"}[way]
    assert run(capsys, "explain", "-c", conf, "GET", "/fast/7", "--token", given)[0] == 0


@pytest.mark.parametrize("given", ["", " ", "Bearer", "a b c", "@", "@/nowhere", "@/dev/null", "s3cret word"])
def test_explain_names_a_token_that_is_none_and_does_not_repeat_it(
    conf: str, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    code, out, err = run(capsys, "explain", "-c", conf, "GET", "/fast/7", "--token", given)
    assert (code, out) == (1, "") or "401" in out
    assert "s3cret" not in out + err


def test_explain_takes_what_curl_takes(tmp_path: Path, conf: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = token(capsys, conf, "--tenant", "acme", "--scope", "fast:read")
    (tmp_path / "demo-token.header").write_text(f"Authorization: Bearer {made}\n")
    header = f"@{tmp_path / 'demo-token.header'}"
    assert run(capsys, "explain", "-c", conf, "GET", "/fast/7", "-H", header)[0] == 0
    url = "http://open.example:8080/open?x=1"
    code, out, _ = run(capsys, "explain", "-c", conf, "GET", url)
    assert (code, "host open.example has its own" in out) == (0, True)


def test_routes_and_explain_show_that_an_identity_is_bound_to_its_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signed = ROUTING.replace("kind: uvicorn,", "kind: uvicorn, identity: signed,")
    conf = str(write_conf(tmp_path, signed.replace("  - { name: own,", "  - { name: own, bind: request,")))
    lines = {line.split()[0]: line for line in run(capsys, "routes", "-c", conf)[1].splitlines()}
    assert lines["NAME"].rstrip().endswith("BIND") and lines["own"].rstrip().endswith("request")
    assert not lines["fast"].rstrip().endswith("request")
    _, out, _ = run(capsys, "explain", "-c", conf, "GET", "/t/acme/x", "--json")
    assert json.loads(out)["bind"].startswith("request: ")
    _, out, _ = run(capsys, "explain", "-c", conf, "GET", "/fast/7", "--json")
    assert "bind" not in json.loads(out)


def test_explain_says_the_same_to_a_machine(conf: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = token(capsys, conf, "--tenant", "acme", "--scope", "fast:read")
    code, out, _ = run(capsys, "explain", "-c", conf, "GET", "/fast/7", "--token", made, "--json")
    told = json.loads(out)
    assert (code, told["outcome"], told["issuer"]) == (0, "passed on", "local, gateway")
    assert told["key"].startswith("kid '") and made not in out


def test_explain_of_a_header_that_is_none(conf: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "explain", "-c", conf, "GET", "/", "-H", "nonsense")
    assert code == 1
    assert "'Name: value'" in err


def test_explain_of_a_preflight_points_to_the_request_it_asks_about(
    conf: str, capsys: pytest.CaptureFixture[str]
) -> None:
    headers = ["-H", "Origin: http://a", "-H", "Access-Control-Request-Method: DELETE"]
    code, out, err = run(capsys, "explain", "-c", conf, "OPTIONS", "/fast/7", *headers)
    assert (code, out) == (1, "")
    assert "explain the DELETE" in err


# --- token -----------------------------------------------------------------------------------------


def test_token_prints_one_that_verifies_and_makes_the_key_on_the_first_use(
    conf: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys_path = tmp_path / "var" / "keys.jwks"
    assert not keys_path.exists()
    arguments = ["--tenant", "acme", "--scope", "fast:read fast:drop", "--ttl", "90s"]
    code, out, err = run(capsys, "token", "-c", conf, *arguments)
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert keys_path.stat().st_mode & 0o777 == 0o600
    issuer = local_issuer("")
    who = verify(out.strip(), read_keys(keys_path, issuer.algorithms), issuer, time.time())
    assert (who.tenant.value, who.subject, who.scope_text) == ("acme", "operator", "fast:read fast:drop")
    assert 85 < who.expires - time.time() <= 90


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--ttl", "soon"], "--ttl 'soon' is not a duration; write 90s, 15m or 1h"),
        (["--ttl", "0"], "expired when it is printed"),
        (["--ttl", "99h"], "between 0 and 24 hours"),
        (["--scope", "a  b"], "`scope`"),
        (["--subject", ""], "`sub`"),
        (["--kid", "other"], "no key 'other'"),
        (["--tenant", "Acme"], "`tenant`"),
    ],
)
def test_token_refuses_what_would_not_work(
    conf: str, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    code, out, err = run(capsys, "token", "-c", conf, "--tenant", "acme", *arguments)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert reason in err


def test_token_notes_a_tenant_that_the_config_does_not_have(
    conf: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "token", "-c", conf, "--tenant", "ghost")
    assert code == 0
    assert out
    assert "no tenant 'ghost'" in err


@pytest.mark.parametrize(
    ("arguments", "notes"),
    [
        ("--tenant acme --scope fast:read", []),
        ("--tenant acme --scope gateway:admin", []),
        ("--tenant acme --scope docs:read:orders", []),
        ("--tenant acme --scope docs:read", []),
        ("--tenant acme --scope fast:raed", ["'fast:raed'; a backend may (did you mean 'fast:read'?)"]),
        ("--tenant acme --scope fast:read:orders", ["no route asks for the scope 'fast:read:orders'"]),
        ("--tenant acmee", ["no tenant 'acmee' (did you mean 'acme'?)"]),
        ("--tenant old", ["'old' is disabled: its tokens are refused"]),
    ],
)
def test_token_notes_what_nobody_asks_for_or_serves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: str, notes: list[str]
) -> None:
    more = "  - { name: d, path: '/d/{r*}', target: documents, scopes: { read: ['docs:read'], "
    more += "write: ['docs:read'], manage: [] } }\n"
    conf = str(write_conf(tmp_path, ROUTING + more))
    code, out, err = run(capsys, "token", "-c", conf, *arguments.split())
    lines = err.splitlines()
    assert (code, out.count("\n"), len(lines)) == (0, 1, len(notes))
    for line, note in zip(lines, notes, strict=True):
        assert line.startswith("note: ") and note in line


def test_keys_that_cannot_be_used_are_named_and_not_shown(
    conf: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token(capsys, conf, "--tenant", "acme")
    path = tmp_path / "var" / "keys.jwks"
    path.chmod(0o644)
    code, out, err = run(capsys, "token", "-c", conf, "--tenant", "acme")
    assert (code, out) == (1, "")
    assert f"chmod 600 {path}" in err
    assert json.loads(path.read_text())["keys"][0]["d"] not in err


# --- gateway.conf ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "name the process config with -c"),
        (b"listen = 1", "no ini file"),
        (b"\xff\xfe", "not UTF-8"),
        (b"\xef\xbb\xbf[gateway]\n", "byte order mark"),
        (b"[gateway]\nlisten = 80", "[gateway].listen"),
        (b"[gateway]\nlitsen = a:80", "the key 'litsen' is unknown"),
        (b"[log]\n[tls]\ncert = a", "gateway.conf:2  [tls]"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "check", "routes", "token --tenant acme"])
def test_a_bad_process_config_is_exit_code_1_in_every_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "gateway.conf"
    if content is not None:
        path.write_bytes(content)
    code, out, err = run(capsys, *command.split(), "-c", str(path))
    assert (code, out) == (1, "")
    assert reason in err
    assert str(path) in err


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["FIFO", "directory"])
def test_a_process_config_that_is_no_file_is_named_by_its_kind(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], None],
    request: pytest.FixtureRequest,
) -> None:
    make(tmp_path / "gateway.conf")
    code, _, err = run(capsys, "serve", "-c", str(tmp_path / "gateway.conf"))
    assert code == 1
    assert f"it is a {request.node.callspec.id}" in err


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_standard_streams_that_are_closed_end_nothing_and_no_file_gets_their_number(
    closed: tuple[int, ...],
) -> None:
    script = "import os, sys; [os.close(n) for n in map(int, sys.argv[1].split())]; "
    script += "os.execv(sys.executable, [sys.executable, '-m', 'gateway', 'schema'])"
    done = subprocess.run(
        [sys.executable, "-c", script, " ".join(map(str, closed))],
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert (1 in closed) == (done.stdout == b"")
