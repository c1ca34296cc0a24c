"""gateway keys rotate-signing | register: the keys that the gateway signs with, and those of the machines
that sign instead of sending a secret."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

from gateway.auth.api_keys import public_keys
from gateway.auth.keys import KeysUnusable
from gateway.auth.signer import KEYS, OVERLAP
from gateway.auth.signing_keys import Rotation, SigningKeys
from gateway.cli import console
from gateway.cli.keys import KEY_ID, AddCommand, id_of, lifetime, open_store, operator, told
from gateway.core.jwt.keys import KeySetError
from gateway.core.process.settings import ProcessConfig
from gateway.process.folders import data_folder
from gateway.runtime.files import read_text
from gateway.runtime.moments import moment
from gateway.setting_errors import named_by

# Seconds that a token may be shown after it was signed: `gateway token` gives a day, and clocks differ.
_LONGEST_TOKEN = 86_400.0 + 300.0
_MAX_FILE = 64 * 1024
_NEW = "EdDSA"  # what a new key signs with


def add_commands(add: AddCommand, load: Callable[[str | None], ProcessConfig]) -> None:
    """Add the commands below `gateway keys`. load: reads the process config."""
    about = "make new keys to sign tokens and identities with; those before go on until nobody needs them"
    example = "gateway keys rotate-signing"
    rotate = add("rotate-signing", lambda a: _rotate(a, load(a.config)), about, example)
    help_ = "how long a new key is published before it signs (default 10m); others keep the set for 5m"
    rotate.add_argument("--overlap", default=f"{OVERLAP / 60:g}m", help=help_)
    help_ = "the keys leaked: they end now, and whatever they have signed is refused"
    rotate.add_argument("--leaked", action="store_true", help=help_)
    about = "register the public keys that the owner of an API key signs client assertions with"
    example = "gateway keys register 7Kq0ZmP3xA public.jwk"
    register = add("register", lambda a: _register(a, load(a.config)), about, example)
    register.add_argument("id", help=KEY_ID)
    help_ = "a JWK or a JWK set, of public keys; it takes the place of the one before (none: remove that)"
    register.add_argument("file", nargs="?", help=help_)


def _rotate(arguments: argparse.Namespace, config: ProcessConfig) -> int:
    overlap = 0.0 if arguments.leaked else lifetime("--overlap", arguments.overlap)
    keep = 0.0 if arguments.leaked else _LONGEST_TOKEN
    if overlap < OVERLAP / 2 and not arguments.leaked:
        sentence = "others keep the key set for up to 5 minutes, and refuse what a key signs before that"
        console.err.print(f"[yellow]note:[/] {sentence}")
    tokens = SigningKeys(Path(config.keys), config.tokens.algorithms)
    with named_by("[tokens] keys", config.path, config.keys):
        tokens.ensure()
    with named_by("[gateway] data", config.path, config.data):
        identities = SigningKeys(data_folder(Path(config.data)) / KEYS, (_NEW,))
        identities.ensure()
    now = time.time()
    if not tokens.signs(now):
        told(f"{tokens.path} is left as it is: none of its keys signs here. Whoever signs with them rotates.")
    elif _NEW not in config.tokens.algorithms:
        reason = f"[tokens] algorithms in {config.path} does not have {_NEW}, which a new key signs with"
        raise KeysUnusable(f"{reason}; add it there, and restart the gateway")
    else:
        done = tokens.rotate(now, overlap, keep)
        _tell(done, "tokens", now + overlap, now + overlap + keep)
        _record(done, "tokens", config, leaked=arguments.leaked)
        if tokens.holds_secrets:
            told(f"The secrets (HS256 ...) in {tokens.path} go on: others have them. Remove them by hand.")
    done = identities.rotate(now, overlap, 0.0 if arguments.leaked else None)
    _tell(done, "identities for backends", now + overlap, now + 2 * overlap)
    _record(done, "identities for backends", config, leaked=arguments.leaked)
    return 0


def _tell(done: Rotation, what: str, begins: float, ends: float) -> None:
    before = f"what the keys before have signed is refused from {moment(ends)} on"
    place = f" It takes the place of {', '.join(done.replaced)}, not in use yet." if done.replaced else ""
    told(f"The key {done.kid} signs {what} from {moment(begins)} on; {before}.{place}")


def _record(done: Rotation, what: str, config: ProcessConfig, *, leaked: bool) -> None:
    """For the audit log. After the rotation: leaked keys are to end although the store cannot be written."""
    fate = "ended at once, as they leaked" if leaked else "before it"
    before = f"{fate}: {', '.join(done.before) or 'none'}"
    removed = f"; removed: {', '.join(done.replaced)}" if done.replaced else ""
    about = f"rotated the keys that sign {what}: {done.kid} is new; {before}{removed}"
    open_store(config).record(about, operator(), time.time())


def _register(arguments: argparse.Namespace, config: ProcessConfig) -> int:
    id_, jwks = id_of(arguments.id), "" if arguments.file is None else _read(arguments.file)
    key = open_store(config).register_keys(id_, jwks, operator(), time.time())
    names = ", ".join(known.kid or "one without `kid`" for known in public_keys(jwks)) if jwks else "none"
    told(f"The public keys of the API key {key.id} of {key.tenant}/{key.subject} are now: {names}.")
    return 0


def _read(path: str) -> str:
    """The JWK set of a file, which may hold a single key. Raises ValueError, FileUnusable."""
    try:
        document = json.loads(read_text(Path(path), _MAX_FILE))
        found = document if isinstance(document, dict) and "keys" in document else {"keys": [document]}
        text = json.dumps(found)
        keys = public_keys(text)
    except (KeySetError, ValueError, RecursionError) as error:
        reason = error if isinstance(error, KeySetError) else "it is no JSON"
        raise ValueError(f"{path}: {reason}; write a public key as JWK (RFC 7517)") from None
    if keys.private:
        raise ValueError(f"{path}: it holds a private key, which is its owner's alone; take the public half")
    for text in keys.warnings + keys.notes:
        told(f"{path}: {text}")
    return text
