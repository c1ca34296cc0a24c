"""The lines of `listen` in gateway.conf: an address on each, and behind it what is spoken there."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from gateway.core.process import ini, listeners
from gateway.core.process.listeners import UNIX, Listen
from gateway.core.process.operators import Reader
from gateway.core.routing.problems import Wrong, did_you_mean

OPTIONS = ("proxy", "tls=NAME", "redirect=https", "mode=0660")
_MAX_PATH = 99  # bytes: the system takes 107 (unix(7)), also while a process id stands behind it
_NAMES = [option.partition("=")[0] for option in OPTIONS]
_option = re.compile(r"([A-Za-z_-]+)(?:=(.*))?").fullmatch
_mode = re.compile("0?[0-7]{3}").fullmatch
_https = re.compile(r"https(?::[0-9]{1,5})?", re.ASCII).fullmatch


def parse(read: Reader, section: str, default: str) -> tuple[Listen, ...]:
    """`listen` of a section. One listener has a line of its own, or stands between commas; addresses without
    options may also stand beside each other. default: the address where none is written. Problems go to
    `read`."""
    found: list[Listen] = []
    text = read.text(section, "listen", default)
    lines = [line.split() for line in re.split("[,\n]", text)]
    if not any(lines):
        read.wrong(section, "listen", "it is empty", f"write host:port, as {default}")
    for words in lines:
        for entry, options in _grouped(words):
            try:
                one = _listener(entry, options, default)
            except Wrong as wrong:
                read.wrong(section, "listen", wrong.reason, wrong.hint)
                continue
            if one.tls and f"tls:{one.tls}" not in read.sections:
                near = did_you_mean(f"tls:{one.tls}", read.sections)
                hint = f"{near}add [tls:{one.tls}] with its certificate and key"
                read.wrong(section, "listen", f"there is no section [tls:{one.tls}], which {one} names", hint)
            if twice := listeners.first_clash([one], found):
                same = str(one) == str(twice[1])
                reason = f"{one} stands there twice" if same else f"{one} is taken by {twice[1]} beside it"
                read.wrong(section, "listen", reason, "leave one of them out")
            found.append(one)
    return tuple(found)


def _grouped(words: Iterable[str]) -> Iterable[tuple[str, list[str]]]:
    """The addresses of a line ("" for none), each with the options behind it."""
    entry, options = "", list[str]()
    for word in words:
        named = _option(word)
        if named is not None and (named[2] is not None or _is_near(named[1])):
            options.append(word)
            continue
        if entry or options:
            yield entry, options
        entry, options = word, []
    if entry or options:
        yield entry, options


def _is_near(word: str) -> bool:
    """Whether a word without `=` means an option: no address lacks its port."""
    return word != "localhost" and bool(difflib.get_close_matches(word.lower(), _NAMES, 1, 0.7))


def _listener(entry: str, options: Iterable[str], default: str) -> Listen:
    """Raises Wrong."""
    if not entry:
        hint = f"write the address before its options, on one line: {default} {' '.join(options)}"
        raise Wrong("options stand there without an address", hint)
    if entry.startswith((UNIX, "/", "./")):
        one = Listen(path=_path(entry))
    else:
        try:
            one = Listen(*listeners.parse(entry))
        except Wrong as wrong:
            shown = repr(entry) if "@" not in entry else "what stands here"  # it may be a password
            raise Wrong(
                f"{shown} {wrong.reason}", f"write {wrong.example() or f'host:port, as {default}'}"
            ) from None
    given = set[str]()
    for option in options:
        name, _, value = option.partition("=")
        take = _TAKES.get(name)
        if take is None:
            near = difflib.get_close_matches(name.lower(), _NAMES, 1)
            known = [option for option in OPTIONS if not near or option.startswith(near[0])]
            hint = f"did you mean {known[0]}?" if near else f"known here: {', '.join(known)}"
            raise Wrong(f"the option {name!r} of {one} is unknown", hint)
        if name in given:
            raise Wrong(f"the option {name!r} of {one} is there twice", "keep one")
        given.add(name)
        one = take(one, option, value)
    if one.redirect and one.tls:
        hint = f"give plain HTTP a listener of its own, such as *:80 redirect={one.redirect}"
        raise Wrong(f"{one} has tls, so its clients are there already", hint)
    return one


def _path(entry: str) -> str:
    """Of a unix socket. Raises Wrong."""
    path = entry.removeprefix(UNIX)
    if path.startswith("//"):  # unix:///run/gateway.sock
        path = "/" + path.lstrip("/")
    if not path.startswith("/") or path.endswith("/"):
        reason = f"{entry!r} is no path of a unix socket from the root on"
        raise Wrong(reason, "write it whole, as unix:/run/gateway/gateway.sock")
    if not entry.startswith(UNIX):
        raise Wrong(f"{entry!r} is no address: it lacks what it is", f"write {UNIX}{path}")
    if len(path.encode()) > _MAX_PATH:
        size = len(path.encode())
        raise Wrong(f"the path {path} has {size} bytes", f"choose a shorter one: {_MAX_PATH} at most")
    return path


def _proxy(one: Listen, option: str, value: str) -> Listen:
    if option != "proxy":
        raise Wrong(f"{option!r} of {one} has a value", "write proxy alone: both versions are taken")
    return replace(one, proxy=True)


def _tls(one: Listen, option: str, value: str) -> Listen:
    if not ini.is_name(value):
        hint = "write tls=NAME, and its certificate in a section [tls:NAME]"
        raise Wrong(f"{option!r} of {one} names no section", hint)
    return replace(one, tls=value)


def _redirect(one: Listen, option: str, value: str) -> Listen:
    if not _https(value) or int(value[6:] or 443) > 65535:
        hint = "write redirect=https, or with the port that clients see: redirect=https:443"
        raise Wrong(f"{option!r} of {one} is not offered", hint)
    return replace(one, redirect=value)


def _file_mode(one: Listen, option: str, value: str) -> Listen:
    if not one.path:
        raise Wrong(f"{one} has a mode, and no file", "leave it out, or listen on unix:/path")
    if not _mode(value) or int(value, 8) & 0o600 != 0o600:
        hint = "write four digits as chmod takes them, such as mode=0660; its owner needs to read and write"
        raise Wrong(f"{option!r} of {one} is no mode of a socket", hint)
    return replace(one, mode=int(value, 8))


_TAKES: dict[str, Callable[[Listen, str, str], Listen]] = {
    "proxy": _proxy,
    "tls": _tls,
    "redirect": _redirect,
    "mode": _file_mode,
}
