"""The one client of the admin API: where that is, with which token, and what its errors mean."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

from gateway.cli import console
from gateway.cli.config import TOKEN_VARIABLE
from gateway.cli.config.given import read_given
from gateway.core.config.operator import TOKEN_FILE
from gateway.core.process import listeners
from gateway.core.process.listeners import UNIX
from gateway.core.process.settings import ProcessConfig
from gateway.core.redact import escape_controls
from gateway.core.routing.problems import Problem
from gateway.runtime.files import FileUnusable, read_text

V1 = "/admin/v1"
YAML, JSON = "application/yaml", "application/json"
_READ, _CHANGE = 15.0, 120.0  # seconds to wait for a response
_MAX_BODY = 64 * 1024 * 1024  # bytes
_MAX_TOKEN = 64 * 1024
_SAFE = ("GET", "HEAD")


class Unreachable(OSError):
    """There is no response of an admin listener. Its text says where, why and what to look at."""


class Refused(ValueError):
    """The admin API refused a request, or nobody agreed to it. status: of HTTP, 0 without one. problem: the
    members of its problem+json (RFC 9457), {} where it has none."""

    def __init__(self, text: str, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(text)
        self.status = status
        self.problem = problem

    @property
    def problems(self) -> list[Problem]:
        """What is wrong with the config that was sent."""
        return problems_of(self.problem.get("errors") or ())


def problems_of(errors: Any) -> list[Problem]:
    """Problems as the admin API gives them."""
    return [
        Problem(
            (escape_controls(one["path"]),) if one.get("path") else (),
            escape_controls(one["reason"]),
            escape_controls(one["hint"]),
            one.get("line") or 0,
        )
        for one in errors
    ]


@dataclass(frozen=True, slots=True)
class Reply:
    """A response of status 2xx."""

    where: str
    headers: Message
    body: bytes

    @property
    def text(self) -> str:
        """The body, which is in UTF-8."""
        return self.body.decode("utf-8", "replace")

    @property
    def etag(self) -> str:
        """Without its quotes; "" when there is none."""
        return str(self.headers.get("ETag", "")).strip('"')

    @property
    def at(self) -> float:
        """When the gateway sent it, by its clock: seconds since the epoch; 0 where it says nothing."""
        try:
            return parsedate_to_datetime(str(self.headers["Date"])).timestamp()
        except ValueError:
            return 0.0

    def json(self) -> Any:
        """The body's value. Raises Unreachable: what answers is something else."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise Unreachable(
                f"{self.where} gave no JSON; is it the admin listener of this version?"
            ) from None


class AdminClient:
    """The admin API at one URL. Each request has a connection of its own: there may be an hour of editing
    between two of them. Neither a redirect nor a proxy is followed: the token goes to that URL only.

    url: of the admin listener; `unix:` and a path, too. token: "" for none. named: who says that it is there;
    no_token: why there is no token; both for messages. certificates: files of those that it may show,
    whatever its name is; without them one of a CA that is known here (SSL_CERT_FILE names others). Raises
    ValueError for a URL that cannot be used, and for one that would carry the token in the clear, unless
    `insecure`.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        named: str,
        no_token: str = "",
        insecure: bool = False,
        certificates: Iterable[str] = (),
    ) -> None:
        self._parts, self._path = _parse(url)
        self._token = token
        self._named = named
        self._certificates = tuple(certificates)
        self._no_token = no_token
        self.url = UNIX + self._path if self._path else self._parts.geturl().rstrip("/")
        far = self._parts.scheme == "http" and not self._path
        if token and far and not insecure and not _is_loopback(self._parts.hostname):
            raise ValueError(
                f"{self.url} is plain http to another machine, and would carry the operator's token in the"
                " clear; name an https URL, or a tunnel's end (ssh -L 8081:127.0.0.1:8081 HOST), or say"
                " --insecure-http"
            )

    def get(self, path: str, query: Mapping[str, Any] | None = None, accept: str = JSON) -> Reply:
        """Read a page. query: values that are None are left out. Raises Refused, Unreachable."""
        return self.call("GET", path, query=query, headers={"Accept": accept})

    def post(self, path: str, value: Any) -> Reply:
        """Send JSON. Raises Refused, Unreachable."""
        return self.call("POST", path, body=json.dumps(value).encode(), headers={"Content-Type": JSON})

    def send_text(
        self,
        method: str,
        path: str,
        text: str,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a config. Raises Refused, Unreachable."""
        return self.call(
            method, path, query=query, body=text.encode(), headers={"Content-Type": YAML, **(headers or {})}
        )

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str],
    ) -> Reply:
        """One request and its response. path: from the listener's root. Raises Refused, Unreachable."""
        where = f"{self.url}{path}"
        given = urlencode({name: value for name, value in (query or {}).items() if value is not None})
        target = f"{self._parts.path.rstrip('/')}{path}" + (f"?{given}" if given else "")
        connection = self._connection(_READ if method in _SAFE else _CHANGE)
        own = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        sent = False  # whether it may have been done
        try:
            connection.connect()
            sent = method not in _SAFE and not path.endswith((":check", ":rehearse"))
            connection.request(method, target, body, {**own, **headers})
            response = connection.getresponse()
            content = response.read(_MAX_BODY + 1)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(self._why(error, unknown=sent)) from None
        finally:
            connection.close()
        if len(content) > _MAX_BODY:
            raise Unreachable(f"{where} gave more than {_MAX_BODY} bytes; is it the admin listener?")
        if not 200 <= response.status < 300:
            raise self._refused(where, response.status, response.headers, content)
        return Reply(where, response.headers, content)

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        host = self._parts.hostname or ""
        if self._path:
            return _UnixConnection(self._path, seconds)
        if self._parts.scheme == "https":
            context = self._context()
            return http.client.HTTPSConnection(host, self._parts.port, timeout=seconds, context=context)
        return http.client.HTTPConnection(host, self._parts.port, timeout=seconds)

    def _context(self) -> ssl.SSLContext:
        if self._certificates:
            return _Trusting.of(self._certificates)
        return ssl.create_default_context()

    def _why(self, error: Exception, *, unknown: bool) -> str:
        """unknown: whether what was asked for may have been done."""
        hint = f"does the gateway run? {self._named}"
        if isinstance(error, ConnectionRefusedError):
            reason = "connection refused"
        elif isinstance(error, ssl.SSLCertVerificationError):
            reason = f"its certificate is not trusted: {error.verify_message}"
            hint = "name the file of its CA in the environment: SSL_CERT_FILE=ca.pem"
        elif isinstance(error, ssl.SSLError):
            reason, hint = f"no TLS: {error.reason}", "is it plain http?"
        elif isinstance(error, TimeoutError):
            reason = "no response in time"
        elif isinstance(error, socket.gaierror):
            reason, hint = "its host has no address", f"look at the name; {self._named}"
        else:
            reason = getattr(error, "strerror", None) or "no readable response"
            hint = f"is it an admin listener, and http? {self._named}"
        text = f"{self.url}: {reason}; {hint}"
        look = f"whether it was done is not known; look at: {console.program()} revisions"
        return f"{text}\n{look}" if unknown else text

    def _refused(self, where: str, status: int, headers: Message, content: bytes) -> Refused:
        problem: Any = {}
        if "json" in str(headers.get("Content-Type", "")):
            try:
                problem = json.loads(content)
            except ValueError:
                problem = {}
        problem = problem if isinstance(problem, dict) else {}
        if problem.get("code") in (None, "no_route"):
            text = f"{where} answered {status}; is it the admin listener of this version? {self._named}"
            return Refused(text, status, {})
        text = escape_controls(str(problem.get("detail") or problem.get("title") or status))
        if status == 401:
            shown = "the token that was shown is not accepted" if self._token else self._no_token
            text = f"{text} {shown[:1].upper()}{shown[1:]}."
        elif status == 429 and headers.get("Retry-After"):
            text = f"{text} Try again in {headers['Retry-After']} s."
        return Refused(text, status, problem)


class _Trusting(ssl.SSLContext):
    """Trusts some certificates alone: those of a listener on this machine, whose names are not its address
    here."""

    @classmethod
    def of(cls, files: Iterable[str]) -> _Trusting:
        """The first one of each file. Raises OSError."""
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context._trust(files)
        return context

    def _trust(self, files: Iterable[str]) -> None:
        self.check_hostname = False
        self.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        for file in files:
            begin, end, _ = Path(file).read_text("ascii", "replace").partition("-----END CERTIFICATE-----")
            self.load_verify_locations(cadata=begin[max(0, begin.find("-----BEGIN CERT")) :] + end)


class _UnixConnection(http.client.HTTPConnection):
    """To a unix socket."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _parse(url: str) -> tuple[SplitResult, str]:
    """The parts of a URL, and the path where it is `unix:` and a path. Raises ValueError, which does not
    repeat what may be a password."""
    if url.startswith(f"{UNIX}/"):
        return SplitResult("http", "localhost", "", "", ""), url.removeprefix(UNIX)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = SplitResult("", "", "", "", ""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError("--admin is no URL of an admin listener; write it as http://127.0.0.1:8081")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("--admin: write the URL alone, as http://127.0.0.1:8081; the token is apart from it")
    return parts, ""


def _is_loopback(host: str | None) -> bool:
    plain = listeners.plain(host or "")
    try:
        return plain == "localhost" or ip_address(plain).is_loopback
    except ValueError:
        return False


# --- which one, and with which token ---------------------------------------------------------------


def url_of(config: ProcessConfig) -> str:
    """The URL, or `unix:` and the path, at which this machine reaches the admin listener of a gateway. Raises
    ValueError."""
    paths = (str(one) for one in config.admin if one.path and not (one.proxy or one.redirect))
    found = listeners.url_of(config.admin) or next(paths, "")
    if not found:
        raise ValueError(
            f"{console.short(config.path)}: each of [admin] listen is for a proxy; add one for this machine,"
            " such as 127.0.0.1:8081"
        )
    return found


def client_of(config: ProcessConfig, token: str | None = None) -> AdminClient:
    """The client of the gateway on this machine with this process config. token: None for the local one,
    which only the gateway's user can read."""
    no_token = ""
    if token is None:
        token, no_token = local_token(config)
    named = f"{console.short(config.path)} has it at {config.admin[0]}"
    # Where it listens is this machine, whatever its address is.
    url = url_of(config)
    shown = {one.tls for one in config.admin if one.url == url}
    certificates = [pair.certificate for one in config.tls if one.name in shown for pair in one.pairs]
    more = {"named": named, "no_token": no_token}
    return AdminClient(url, token, insecure=True, certificates=certificates, **more)


def local_token(config: ProcessConfig) -> tuple[str, str]:
    """The token of the gateway's own for this machine, or "" and why there is none."""
    path = Path(config.data) / TOKEN_FILE
    try:
        return clean(read_text(path, _MAX_TOKEN), console.short(path)), ""
    except FileUnusable as error:
        return (
            "",
            f"no token was shown: {console.short(path)}: {error.reason}; name another with --token-file",
        )


def given_token(file: str | None) -> str:
    """The token of --token-file, or of the environment; "" when there is none. Raises ValueError, OSError."""
    if file is not None:
        return clean(read_given(file, _MAX_TOKEN).decode("utf-8", "replace"), file)
    text = os.environ.get(TOKEN_VARIABLE, "")
    return clean(text, TOKEN_VARIABLE) if text.strip() else ""


def clean(text: str, where: str) -> str:
    """The token in a text, which may also be `Authorization: Bearer ...`. Raises ValueError, which does not
    repeat it."""
    lines = [line for line in text.splitlines() if line.strip()]
    token = lines[0].split()[-1] if lines else ""
    if not token or len(lines) > 1 or not (token.isascii() and token.isprintable()):
        raise ValueError(f"{where}: it holds no token; it is to hold one, and nothing else")
    return token
