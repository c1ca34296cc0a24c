"""config/gateway.conf."""

from __future__ import annotations

import configparser
from pathlib import Path

import asab.config
import asab.metrics
import asab.proactor
import asab.web
import pytest

from gateway.core.jwt.issuer import local_issuer
from gateway.core.process.command_line import Command
from gateway.core.process.listeners import Listen
from gateway.core.process.settings import ProcessConfig, parse_process
from gateway.core.routing.problems import Problem, Problems
from gateway.process.child import ChildSpec

CONFIG = Path(__file__).parents[3] / "config" / "gateway.conf"


def parse(text: str, folder: str = "/etc/gateway") -> ProcessConfig:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    return parse_process({name: dict(parser.items(name)) for name in parser.sections()}, folder)


def problems(text: str) -> list[Problem]:
    with pytest.raises(Problems) as caught:
        parse(text)
    assert all(problem.hint for problem in caught.value.items)
    return caught.value.items


def test_an_empty_file_gives_the_defaults() -> None:
    config = parse("")
    assert config.listen == (Listen("127.0.0.1", 8080),)
    assert config.admin == (Listen("127.0.0.1", 8081),)
    assert config.routing == "/etc/gateway/routing.yaml"
    assert config.data == "/etc/gateway/../var"
    assert config.keys == "/etc/gateway/../var/keys.jwks"
    assert config.store_uri == "sqlite:/etc/gateway/../var/documents"
    assert config.access_log == "/etc/gateway/../var/access.log"
    assert config.tokens == local_issuer(config.keys)
    assert (config.tokens.issuer, config.tokens.audiences, config.tokens.leeway) == (
        "gateway",
        ("gateway",),
        60,
    )
    assert (config.pre_stop, config.drain, config.commands, config.admin_hosts) == (0, 25, (), ())


def test_every_word_is_read() -> None:
    config = parse(
        """
        [gateway]
        listen = 0.0.0.0:80, [::]:81
            localhost:0
        routing = /r.yaml
        data = /data
        pre_stop = 5s
        drain = 1.5
        share = 1/2
        spool = 64MiB
        [admin]
        listen = 10.0.0.1:9
        hosts = A.example, b.Example.
            gäteway.example 10.0.0.9
        [store]
        uri = sqlite:docs
        body_memory = 1GiB
        [tokens]
        keys = /k.jwks
        issuer = i
        audience = a
        algorithms = RS256, EdDSA
        leeway = 0
        [log]
        access = -
        """.replace("        ", "")
    )
    assert config.listen == (Listen("0.0.0.0", 80), Listen("::", 81), Listen("localhost", 0))
    assert config.admin == (Listen("10.0.0.1", 9),)
    assert config.admin_hosts == ("a.example", "b.example", "xn--gteway-bua.example", "10.0.0.9")
    assert (config.routing, config.keys, config.store_uri) == ("/r.yaml", "/k.jwks", "sqlite:/data/docs")
    assert (config.pre_stop, config.drain, config.access_log) == (5, 1.5, "-")
    assert config.tokens.algorithms == ("RS256", "EdDSA")
    assert config.tokens.leeway == 0
    assert config.share == 0.5
    assert (config.body_memory, config.memory) == (1024**3, 256 * 1024**2)
    assert config.spool == 64 * 1024**2


def test_as_many_processes_serve_as_the_machine_allows_where_no_number_is_written() -> None:
    for text, workers in (("", 0), ("[gateway]\nworkers = AUTO", 0), ("[gateway]\nworkers = 3", 3)):
        assert parse(text).workers == workers


def test_no_access_log_is_an_empty_word() -> None:
    assert parse("[log]\naccess =").access_log == ""


@pytest.mark.parametrize(
    ("text", "where", "reason"),
    [
        ("[gateway]\nlisten =", "[gateway].listen", "empty"),
        ("[admin]\nlisten = ,", "[admin].listen", "empty"),
        ("[gateway]\nlisten = 8080", "[gateway].listen", "no address"),
        ("[gateway]\nlisten = h:x", "[gateway].listen", "no address"),
        ("[gateway]\nlisten = h:65536", "[gateway].listen", "no address"),
        ("[gateway]\nlisten = :80", "[gateway].listen", "no address"),
        ("[admin]\nhosts = ops.example:8081", "[admin].hosts", "no name of a host"),
        ("[admin]\nhosts = http://ops.example", "[admin].hosts", "no name of a host"),
        ("[admin]\nhosts = ops.example/", "[admin].hosts", "no name of a host"),
        ("[admin]\nhosts = *.example", "[admin].hosts", "no name of a host"),
        ("[admin]\nhosts = *", "[admin].hosts", "no name of a host"),
        ("[gateway]\nlitsen = h:1", "[gateway].litsen", "unknown"),
        ("[gateway]\ndrain = soon", "[gateway].drain", "no time"),
        ("[gateway]\nshare = half", "[gateway].share", "no share"),
        ("[gateway]\nshare = 1/0", "[gateway].share", "no share"),
        ("[gateway]\nshare = 0", "[gateway].share", "no share"),
        ("[gateway]\nshare = 3/2", "[gateway].share", "no share"),
        ("[gateway]\nshare = nan", "[gateway].share", "no share"),
        ("[gateway]\ndrain = -1", "[gateway].drain", "no time"),
        ("[gateway]\npre_stop = nan", "[gateway].pre_stop", "no time"),
        ("[gateway]\npre_stop = inf", "[gateway].pre_stop", "no time"),
        ("[gateway]\nspool = 1MiB", "[gateway].spool", "less than 2MiB"),
        ("[store]\nbody_memory = 1MiB", "[store].body_memory", "less than 2MiB"),
        ("[gateway]\nmemory = 1MiB", "[gateway].memory", "less than 2MiB"),
        ("[store]\nbody_memory = much", "[store].body_memory", "no size"),
        ("[store]\nuri = mysql://h", "[store].uri", "not offered"),
        ("[store]\nuri = mongodb://", "[store].uri", "no host"),
        ("[store]\nuri = mongodb://u:s3cr3t@/db", "[store].uri", "no host"),
        ("[store]\nuri = mongodb://u:s3c/r3t@h/db", "[store].uri", "percent-encoded"),
        ("[store]\nuri = mongodb://u:s3c@r3t@h/db", "[store].uri", "percent-encoded"),
        ("[store]\nuri = mongodb://u:s:3cr3t@h/db", "[store].uri", "percent-encoded"),
        ("[store]\nuri = mongodb://h:99999/db", "[store].uri", "hosts or ports"),
        ("[store]\nuri = mongodb://h:0/db", "[store].uri", "hosts or ports"),
        ("[store]\nuri = mongodb://h:/db", "[store].uri", "hosts or ports"),
        ("[store]\nuri = mongodb://h:x/db", "[store].uri", "hosts or ports"),
        ("[store]\nuri = mongodb://a:1,b:99999/db", "[store].uri", "hosts or ports"),
        ("[store]\nuri = mongodb://[::1:27017/db", "[store].uri", "hosts or ports"),
        ("[store]\nuri = mongodb://[:::1]:27017/db", "[store].uri", "hosts or ports"),
        ("[store]\nuri = mongodb://::1/db", "[store].uri", "hosts or ports"),
        ("[store]\nuri = mongodb://h/a b", "[store].uri", "no valid name"),
        ("[store]\nuri = sqlite:", "[store].uri", "not offered"),
        ("[tokens]\nalgorithms = none", "[tokens].algorithms", "not offered"),
        ("[tokens]\nalgorithms = HS1024", "[tokens].algorithms", "not offered"),
        ("[tokens]\nalgorithms =", "[tokens].algorithms", "empty"),
        ("[tokens]\nissuer =", "[tokens].issuer", "empty"),
        ("[tokens]\naudience =", "[tokens].audience", "empty"),
        ("[token]\nissuer = x", "[token]", "section is unknown"),
        ("[gatway]\n", "[gatway]", "section is unknown"),
        ("[backends:x]\ncommand = a", "[backends:x]", "section is unknown"),
        ("[backend:x]\ncommand =", "[backend:x].command", "missing"),
        ("[backend:x]", "[backend:x].command", "missing"),
        ("[backend:x]\ncommand = a 'b", "[backend:x].command", "not a command line"),
        ("[backend:x]\ncommand = a {sock}", "[backend:x].command", "{sock} is unknown"),
        ("[backend:x]\ncommand = a {}", "[backend:x].command", "{} is unknown"),
        ("[backend:x]\ncommand = a\nenv = b", "[backend:x].env", "unknown"),
        ("[backend:a/b]\ncommand = a", "[backend:a/b]", "name is not valid"),
        ("[backend:]\ncommand = a", "[backend:]", "name is not valid"),
        ("[amdin]\nlisten = h:1", "[amdin]", "section is unknown"),
        ("[sotre]\nuri = x", "[sotre]", "section is unknown"),
        ("[backend x]\ncommand = a", "[backend x]", "section is unknown"),
        ("[gateway]\nrouting = r.yaml\n  data = var", "[gateway].routing", "the line below it is indented"),
        ("[gateway]\nlisten = h:1\n  data = var", "[gateway].listen", "the line below it is indented"),
        ("[gateway]\ndata = var ; the folder", "[gateway].data", "a comment would belong"),
        ("[gateway]\ndata = var # the folder", "[gateway].data", "a comment would belong"),
        ("[log]\naccess = 'a.log'", "[log].access", "the quotes would belong"),
        ("[gateway]\nrouting = ~/r.yaml", "[gateway].routing", "not filled in"),
        ("[gateway]\ndata = ${HOME}/var", "[gateway].data", "not filled in"),
        ("[gateway]\ndata = %(here)s/var", "[gateway].data", "not filled in"),
        ("[gateway]\ndata =", "[gateway].data", "empty"),
        ("[tokens]\nkeys =", "[tokens].keys", "empty"),
        ("[gateway]\ndata = a\0b", "[gateway].data", "NUL"),
        ("[store]\nuri = sqlite:///documents", "[store].uri", "names no folder"),
        ("[store]\nuri = sqlite::memory:", "[store].uri", "names no folder"),
        ("[backend:x]\ncommand = cd /x && a", "[backend:x].command", "&& would be handed"),
        ("[backend:x]\ncommand = a > log", "[backend:x].command", "> would be handed"),
        ("[backend:x]\ncommand = a ${socket}", "[backend:x].command", "not filled in"),
        ("[backend:x]\ncommand = a\nhealth = http://h:99999/", "[backend:x].health", "host or its port"),
        ("[backend:x]\ncommand = a\nhealth = http://[::1]:99999/", "[backend:x].health", "host or its port"),
        ("[backend:x]\ncommand = a\nhealth = http://h:0/x", "[backend:x].health", "lacks the port"),
        ("[backend:x]\ncommand = a\nhealth = http://h/x", "[backend:x].health", "lacks the port"),
        ("[backend:x]\ncommand = a\nhealth = http://h:/x", "[backend:x].health", "lacks the port"),
        ("[backend:x]\ncommand = a\nhealth = http://h:x/", "[backend:x].health", "host or its port"),
        ("[backend:x]\ncommand = a\nhealth = http://::1:80/", "[backend:x].health", "host or its port"),
        ("[backend:x]\ncommand = a\nhealth = http://[::1:80/", "[backend:x].health", "host or its port"),
        ("[backend:x]\ncommand = a\nhealth = http://[:::1]:80/", "[backend:x].health", "host or its port"),
        ("[backend:x]\ncommand = a\nhealth = http://u:p@h:80/", "[backend:x].health", "host or its port"),
        ("[backend:x]\ncommand = a\nhealth = https://h:80/", "[backend:x].health", "neither a path nor"),
        ("[backend:x]\ncommand = a\nhealth = http://h:80/#x", "[backend:x].health", "neither a path nor"),
        ("[backend:x]\ncommand = a\nhealth = healthz", "[backend:x].health", "neither a path nor"),
        ("[backend:x]\ncommand = a\nhealth =", "[backend:x].health", "neither a path nor"),
    ],
)
def test_each_problem_has_its_place(text: str, where: str, reason: str) -> None:
    (problem,) = problems(text)
    assert problem.where == where
    assert reason in problem.reason


def test_all_problems_are_there_at_once() -> None:
    found = problems("[gateway]\nlisten = x\ndrain = y\n[store]\nuri = z\n[backend:x]\n[log]\naces = -")
    assert {problem.where for problem in found} == {
        "[gateway].listen", "[gateway].drain", "[store].uri", "[backend:x].command", "[log].aces",
    }  # fmt: skip


@pytest.mark.parametrize(
    "health", ["/healthz", "/", "/x?y=1", "http://127.0.0.1:9001/x", "http://[::1]:9001/x", "http://h:65535"]
)
def test_a_path_or_a_url_that_can_be_asked_is_taken(health: str) -> None:
    (command,) = parse(f"[backend:x]\ncommand = a\nhealth = {health}\n").commands
    assert command.health == health
    ChildSpec("x", ("a",), {}, "/", "" if "://" in health else "/s", command.health)


@pytest.mark.parametrize(
    "hosts",
    ["h", "h:27017", "a:1,b:65535,c", "[::1]:27017", "[::1]", "1.2.3.4", "u:p@a_b:1", "%2Ftmp%2Fm.sock"],
)
def test_the_hosts_of_a_mongodb_uri_are_taken_as_the_driver_takes_them(hosts: str) -> None:
    uri = f"mongodb://{hosts}/db"
    assert parse(f"[store]\nuri = {uri}").store_uri == uri


def test_sections_of_asab_are_left_alone() -> None:
    defaults = [*asab.config.ConfigParser._default_values, *asab.Config.sections()]
    assert {"general", "asab:proactor"} <= set(defaults)
    for name in (*defaults, "web", "sentry", "asab:metrics:influx", "zookeeper", "connection:mine"):
        parse(f"[{name}]\nany = thing\n")


@pytest.mark.parametrize(
    ("section", "hint"),
    [
        ("tls", "did you mean [tls:NAME]?"),
        ("limits", "limits belong to the routing config"),
        ("foo", "[backend:NAME]"),
        ("loging", "did you mean [logging]?"),
        ("Gateway", "did you mean [gateway]?"),
        ("backends:x", "did you mean [backend:x]?"),
        ("webb:x", "known here"),
    ],
)
def test_a_section_that_nobody_reads_is_refused_with_the_nearest_that_is_read(
    section: str, hint: str
) -> None:
    (problem,) = problems(f"[{section}]\nkey = value\n")
    assert (problem.where, problem.reason) == (f"[{section}]", "the section is unknown")
    assert hint in problem.hint


def test_a_command_is_split_as_a_shell_would_and_filled_in() -> None:
    (command,) = parse(
        "[backend:x]\ntry = /x/y\ncwd = /c\n"
        "command = {python} -m a --bind unix:{socket} 'one word' {data}/{socket}"
    ).commands
    assert (command.name, command.sample, command.cwd) == ("x", "/x/y", "/c")
    assert command.expand(python="/py {socket}", socket="/s s", data="/d") == (
        "/py {socket}", "-m", "a", "--bind", "unix:/s s", "one word", "/d//s s",
    )  # fmt: skip


def test_a_commands_folder_is_beside_the_config_by_default() -> None:
    (command,) = parse("[backend:x]\ncommand = a").commands
    assert command == Command("x", ("a",), "/etc/gateway/..")


def test_the_config_of_the_repository_is_good() -> None:
    assert {command.name for command in parse(CONFIG.read_text()).commands} == {
        "catalog", "reports", "pricing", "events",
    }  # fmt: skip


def test_the_live_config_is_in_a_file_unless_another_place_is_said() -> None:
    assert (parse("").live.source, parse("").live.audit_copy) == ("file", "")
    kept = parse("[config]\nsource = store\naudit_copy = second.log")
    assert (kept.live.source, kept.live.audit_copy) == ("store", "/etc/gateway/../var/second.log")
    text = "[config]\nsource = zookeeper\nservers = zk1:2181, zk2:2181\n  zk3:2181\ncredentials = me:a;b"
    there = parse(text).live
    assert (there.servers, there.path) == (("zk1:2181", "zk2:2181", "zk3:2181"), "/gateway/config")
    assert there.credentials == "me:a;b" and "a;b" not in repr(there)
    uri = "mongodb://me:secret@db:27017/x"
    named = f"[config]\nsource = mongodb\nuri = {uri}"
    for text in (f"[store]\nuri = {uri}\n[config]\nsource = mongodb", named):
        assert parse(text).live.uri == uri and "secret" not in repr(parse(text).live)


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("source = etcd", "source", "is not offered"),
        ("source = zookeeper", "servers", "no server"),
        ("source = zookeeper\nservers = zk1", "servers", "zk1"),
        ("source = zookeeper\nservers = zk1:2181\npath = config", "path", "no path of a znode"),
        ("source = zookeeper\nservers = zk1:2181\ncredentials = me", "credentials", "no user with"),
        ("source = mongodb", "uri", "no server of MongoDB"),
        ("source = mongodb\nuri = mongodb://", "uri", "names no host"),
        ("source = file\nservers = zk1:2181", "servers", "it is for source = zookeeper"),
        ("source = store\nuri = mongodb://db/x", "uri", "it is for source = mongodb"),
    ],
)
def test_a_place_of_the_live_config_that_cannot_be_is_refused(text: str, key: str, reason: str) -> None:
    (problem,) = problems(f"[config]\n{text}")
    assert problem.path == ("[config]", key) and reason in problem.reason
