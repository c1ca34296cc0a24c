"""The first verification of a token, beside PyJWT alone, in this process."""

from __future__ import annotations

import base64
import json
import secrets
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from gateway.auth.credentials import Credentials
from gateway.auth.issuers import ByKeys
from gateway.auth.key_source import FileKeys
from gateway.core.jwt.issuer import local_issuer
from gateway.core.jwt.keys import parse_keys, sign
from gateway.core.jwt.verify import parse
from tests.bench.reports.bars import bar

BAR = 1.3  # times what PyJWT alone takes
_RULE = local_issuer("", algorithms=("EdDSA", "HS256"))


def run(folder: Path, tokens: int) -> dict[str, Any]:
    """Time so many tokens of each algorithm, each seen once by each side. Gives what goes into the result."""
    rows = [_row(folder, algorithm, tokens) for algorithm in _RULE.algorithms]
    text = "verification of an unseen token / PyJWT alone"
    return {
        "tokens": tokens,
        "rows": rows,
        "bars": [bar(f"{row['algorithm']}: {text}", row["ratio"], BAR) for row in rows],
    }


def _row(folder: Path, algorithm: str, tokens: int) -> dict[str, Any]:
    path = folder / f"{algorithm}.jwks"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"keys": [_jwk(algorithm)]}))
    source, credentials = FileKeys(_RULE, path, lambda: None), Credentials()
    source.load()
    verifier = ByKeys(_RULE, source)
    (key,) = parse_keys(path.read_text(), _RULE.algorithms)
    now = int(time.time())
    claims = {"iss": "gateway", "aud": "gateway", "tenant": "acme", "scope": "bench:read", "iat": now}
    made = [sign({**claims, "sub": f"user-{n}", "exp": now + 3600}, key) for n in range(tokens)]

    def gateway(token: str) -> None:
        identity = verifier.try_verify(token, parse(token))
        assert identity is not None
        credentials.remember(token, identity)

    def alone(token: str) -> object:
        return jwt.decode(token, key.material, [algorithm], audience="gateway", issuer="gateway")

    ours, theirs = [], []
    for number, token in enumerate(made):  # by turns, and by turns first: whoever is second finds warm caches
        first, second = ((gateway, ours), (alone, theirs))[:: 1 if number % 2 else -1]
        first[1].append(_time(first[0], token))
        second[1].append(_time(second[0], token))
    us, jwt_us = statistics.median(ours) / 1e3, statistics.median(theirs) / 1e3
    return {"algorithm": algorithm, "gateway_us": us, "pyjwt_us": jwt_us, "ratio": us / jwt_us}


def _jwk(algorithm: str) -> dict[str, str]:
    if algorithm == "EdDSA":
        made = OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate(), as_dict=True)
        return {**made, "kid": "bench", "alg": algorithm}
    value = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    return {"kid": "bench", "kty": "oct", "alg": algorithm, "k": value}


def _time(verify: Callable[[str], object], token: str) -> int:
    began = time.perf_counter_ns()
    verify(token)
    return time.perf_counter_ns() - began
