"""What a backend reads of X-Gateway-Identity, with the public keys that it is given."""

from __future__ import annotations

from typing import Any

import jwt

from gateway.app import Gateway


def claims(gateway: Gateway, assertion: str | None, backend: str) -> dict[str, Any]:
    """Its claims but for the times. Raises jwt.PyJWTError unless it is the gateway's, for this backend."""
    assert assertion is not None
    header = jwt.get_unverified_header(assertion)
    assert (header["alg"], header["typ"]) == ("EdDSA", "gateway-identity+jwt")
    keys = jwt.PyJWKSet.from_json(gateway.signer.public_path.read_text())
    told = jwt.decode(assertion, keys[header["kid"]], ["EdDSA"], audience=backend, issuer="gateway")
    assert 0 < told["exp"] - told["iat"] <= 60
    return {name: value for name, value in told.items() if name not in ("iss", "aud", "iat", "exp")}
