"""The reference of gateway.conf: every key with its default and an example. A test holds it against what is
read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Key(NamedTuple):
    """default: as one would write it, "" for none. example: a value that is taken. about: what it is."""

    default: str
    example: str
    about: str


SECTIONS: Mapping[str, Mapping[str, Key]] = {
    "gateway": {
        "listen": Key(
            "127.0.0.1:8080",
            "*:8080 proxy",
            "where clients are served: host:port or unix:/path, and options behind it; a line for each",
        ),
        "workers": Key("auto", "4", "processes that serve; auto: half of the processors, at least 1"),
        "routing": Key(
            "routing.yaml", "/srv/shop/routing.yaml", "the live config, while [config] source is file"
        ),
        "data": Key("../var", "/var/lib/gateway", "the folder of all that is kept; for its owner alone"),
        "pre_stop": Key(
            "0", "5", "seconds between `/readyz` 503 and the end of listening, for load balancers to learn"
        ),
        "drain": Key("25", "60", "seconds that calls in flight may take at the end"),
        "stream_grace": Key("2", "30", "of those, seconds for event streams and WebSockets"),
        "share": Key(
            "1",
            "1/2",
            "of each backend's seats, for one of several gateways that do not share them",
        ),
        "via": Key("", "edge-1", "this installation's name in Via; default: one made for the data folder"),
        "via_responses": Key("yes", "no", "whether responses carry Via too"),
        "via_loops": Key("0", "1", "how often a request may come back here; more are 508"),
        "connections": Key("0", "20000", "of clients, in each process; 0: as many as files may be open"),
        "client_connections": Key("0", "200", "of one client (IPv6: a /64), but for trusted proxies; 0: all"),
        "spool": Key("1GiB", "10GiB", "disk in TMPDIR for bodies and responses that wait"),
        "memory": Key("256MiB", "1GiB", "memory for heads and bodies that are not whole yet"),
    },
    "config": {
        "source": Key("file", "store", "where the live config is: file, store, zookeeper or mongodb"),
        "servers": Key("", "zk1:2181 zk2:2181 zk3:2181", "of ZooKeeper"),
        "path": Key("/gateway/config", "/shop/gateway", "the znode"),
        "credentials": Key("", "gateway:secret", "user:password of ZooKeeper; nobody else may use the nodes"),
        "uri": Key("", "mongodb://db.example:27017/gateway", "of MongoDB; default: that of [store]"),
        "audit_copy": Key("", "/var/log/gateway/audit.log", "a second file for the audit, from data"),
    },
    "shared": {
        "uri": Key(
            "", "rediss://gateway:secret@redis.example:6379/0", "Redis or Valkey, for several machines"
        ),
        "prefix": Key("gateway", "shop", "of its keys; the same on all machines that share"),
        "cluster": Key("no", "yes", "whether it is a Redis Cluster"),
        "lease_time": Key(
            "300", "60", "seconds for which the part of a machine that is silent is kept for it"
        ),
    },
    "admin": {
        "listen": Key(
            "127.0.0.1:8081", "10.0.0.5:8081", "beyond loopback every page but the probes needs a token"
        ),
        "hosts": Key("", "ops.example", "names that it may be called by, beside addresses and localhost"),
    },
    "operators": {
        "NAME": Key(
            "", "editor routes=shop-* tenants=acme", "owner, viewer or editor, by the `sub` of a token"
        ),
    },
    "operators:issuer": {
        "issuer": Key("", "https://sso.example.com", "the `iss` of operators' tokens"),
        "audience": Key("", "gateway-admin", "their `aud`"),
        "discovery": Key("", "yes", "its metadata name its keys; or jwks_uri, or keys"),
        "jwks_uri": Key("", "https://sso.example.com/jwks", "the URL of its key set"),
        "keys": Key("", "sso.jwks", "a file of its key set"),
        "algorithms": Key("RS256 ES256 EdDSA", "ES256", "what may sign"),
        "claim": Key("", "groups", "where a token says the operator's groups or roles"),
        "name": Key("sub", "email", "the claim that names the operator in the audit"),
        "owner": Key("", "gateway-owners", "whose group is an owner"),
        "editor": Key("", "shop-team routes=shop-*", "and an editor of what; several on lines of their own"),
        "viewer": Key("", "staff", "and a viewer"),
    },
    "store": {
        "uri": Key(
            "sqlite:documents", "mongodb://db.example:27017/shop?replicaSet=rs0", "where documents are"
        ),
        "next": Key("", "mongodb://db.example:27017/shop", "where tenants are moved to; see documents copy"),
        "body_memory": Key("256MiB", "1GiB", "memory for the bodies of requests to documents"),
    },
    "tokens": {
        "keys": Key("keys.jwks", "/etc/gateway/keys.jwks", "a JWK set, from data; made at the first start"),
        "issuer": Key("gateway", "https://api.example.com", "the `iss` of the gateway's own tokens"),
        "audience": Key("gateway", "shop", "their `aud`"),
        "algorithms": Key("HS256 RS256 ES256 EdDSA", "EdDSA", "what they may be signed with"),
        "leeway": Key("60", "5", "seconds for clocks that differ"),
    },
    "log": {
        "access": Key("access.log", "-", "a file, from data; - for standard output; empty for none"),
        "query": Key("no", "yes", "the query of each request: no, yes (with *** for secrets) or all"),
        "recent": Key("yes", "no", "keep the heads of the last 10,000 requests in memory, for rehearsals"),
    },
    "backend:NAME": {
        "command": Key(
            "", "{python} app.py --socket {socket}", "what `gateway up` runs; {data} is its own folder"
        ),
        "cwd": Key("..", "/srv/shop", "the folder that it runs in"),
        "health": Key("/healthz", "http://127.0.0.1:9001/healthz", "a path on its socket, or a URL"),
        "start_timeout": Key("10", "60", "seconds until health is to be 200"),
        "try": Key("", "/catalog/products", "a path that the banner of `gateway up` shows"),
    },
    "tls:NAME": {
        "certificate": Key(
            "", "shop.pem", "PEM with its chain, the first for clients that name no server; one on each line"
        ),
        "key": Key("", "shop.key", "private keys, in the same order; none where certificate holds them too"),
        "verify": Key("", "clients-ca.pem", "CA certificates that clients' certificates are verified with"),
        "client": Key("required", "optional", "whether a client has to show one, with verify"),
        "crl": Key("", "clients-crl.pem", "clients' certificates that were revoked, with verify"),
        "hsts": Key("0", "365d", "how long browsers are told to come by HTTPS only (RFC 6797)"),
    },
    "demo": {
        "seed": Key("", "demo.yaml", "documents that `gateway up` puts where nothing is yet"),
    },
}


def markdown() -> str:
    """Tables of all keys, as Markdown."""
    parts = []
    for section, keys in SECTIONS.items():
        rows = [
            f"| `{name}` | {_code(key.default)} | {_code(key.example)} | {key.about} |"
            for name, key in keys.items()
        ]
        parts.append(
            "\n".join(
                [f"### [{section}]", "", "| key | default | example | |", "|---|---|---|---|", *rows, ""]
            )
        )
    return "\n".join(parts)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""
