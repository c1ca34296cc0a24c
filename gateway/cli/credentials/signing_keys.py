"""gateway token | keys rotate-signing | register: a token that the gateway signs, the keys that sign it, and
those of the machines that sign instead of sending a secret."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from gateway.auth.api_keys import public_keys
from gateway.auth.keys import KeysUnusable, ensure_signing_key, issue
from gateway.auth.signer import KEYS, OVERLAP
from gateway.auth.signing_keys import Rotation, SigningKeys
from gateway.cli import console, process_config
from gateway.cli.credentials.given import id_of, lifetime
from gateway.cli.credentials.notes import print_notes
from gateway.cli.credentials.store import open_store, operator, told
from gateway.core.jwt.keys import KeySetError
from gateway.core.process.settings import ProcessConfig
from gateway.core.routing.amounts import parse_duration
from gateway.process.folders import data_folder
from gateway.runtime.files import read_text
from gateway.runtime.moments import moment
from gateway.setting_errors import named_by

# Seconds that a token may be shown after it was signed: `gateway token` gives a day, and clocks differ.
_LONGEST_TOKEN = 86_400.0 + 300.0
_MAX_FILE = 64 * 1024
_NEW = "EdDSA"  # what a new key signs with


def token(arguments: argparse.Namespace) -> int:
    """Print a token for a tenant, alone on standard output."""
    config = process_config.load(arguments.config)
    path = Path(config.keys)
    with named_by("[tokens] keys", config.path, config.keys):
        ensure_signing_key(path)
    try:
        ttl = parse_duration(arguments.ttl)
    except ValueError as error:
        raise ValueError(f"--ttl {arguments.ttl!r} {error}; write 90s, 15m or 1h") from None
    if ttl < 1:
        raise ValueError(f"--ttl {arguments.ttl!r}: such a token has expired when it is printed; write 90s")
    signed = issue(
        path, config.tokens, arguments.tenant, arguments.scope, arguments.subject, ttl, arguments.kid
    )
    print_notes(config, arguments.tenant, arguments.scope)
    print(signed)
    return 0


def rotate(arguments: argparse.Namespace) -> int:
    """Make new keys for tokens and identities, and say when those before end."""
    config = process_config.load(arguments.config)
    overlap = 0.0 if arguments.leaked else _overlap(arguments.overlap)
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


def _overlap(given: str | None) -> float:
    """Seconds of --overlap."""
    return OVERLAP if given is None else lifetime("--overlap", given)


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


def register(arguments: argparse.Namespace) -> int:
    """Put a file of public keys in place of those that an API key has."""
    config = process_config.load(arguments.config)
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
