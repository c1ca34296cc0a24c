"""The one table error -> status."""

from __future__ import annotations

import pytest

from gateway.core import errors
from gateway.core.errors import GatewayError

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, GatewayError) and not value.__name__.startswith("_")
]
TABLE = {
    "bad_request": 400, "unauthenticated": 401, "forbidden": 403, "no_route": 404, "method_not_allowed": 405,
    "upgrade_required": 426,
    "request_timeout": 408, "body_too_large": 413, "target_too_long": 414, "headers_too_large": 431,
    "client_limit": 429, "tenant_limit": 429, "tenant_queue_full": 429, "backend_reset": 502,
    "backend_malformed": 502,
    "backend_unavailable": 503, "backend_saturated": 503, "draining": 503, "backend_timeout": 504,
    "internal": 500, "not_implemented": 501, "not_found": 404, "conflict": 409, "unique_conflict": 409,
    "patch_conflict": 409, "idempotency_running": 409, "gone": 410, "precondition_failed": 412,
    "unprocessable": 422, "schema_violation": 422, "schema_too_costly": 422,
    "idempotency_mismatch": 422, "rolled_back": 424,
    "precondition_required": 428, "not_supported_by_store": 501, "store_unavailable": 503,
    "issuer_unavailable": 503, "query_too_slow": 503, "insufficient_storage": 507,
    "quota_exceeded": 507, "loop": 508,
    "spool_saturated": 503, "saturated": 503,
}  # fmt: skip
RETRYABLE = {
    "client_limit", "tenant_limit", "tenant_queue_full", "backend_unavailable", "backend_saturated",
    "draining", "store_saturated", "store_unavailable", "issuer_unavailable", "query_too_slow",
    "spool_saturated", "saturated", "operator_limit", "config_unavailable",
}  # fmt: skip


def make(kind: type[GatewayError]) -> GatewayError:
    return kind("GET") if kind is errors.MethodNotAllowed else kind()


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in CLASSES if kind is not errors.InternalError]
    assert len(set(codes)) == len(codes)
    assert errors.InternalError.code == GatewayError.code == "internal"


@pytest.mark.parametrize("code", TABLE)
def test_each_promised_code_has_its_status(code: str) -> None:
    (status,) = {kind.status for kind in CLASSES if kind.code == code}
    assert status == TABLE[code]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_is_an_error_status_with_a_title_and_a_detail(kind: type[GatewayError]) -> None:
    error = make(kind)
    assert 400 <= error.status < 600
    assert error.title
    assert error.detail
    assert ("Retry-After" in error.headers) == (error.code in RETRYABLE)


@pytest.mark.parametrize(("seconds", "text"), [(0, "1"), (0.2, "1"), (1, "1"), (1.01, "2"), (3600, "3600")])
def test_retry_after_is_whole_seconds_and_never_too_early(seconds: float, text: str) -> None:
    assert errors.TenantLimit(retry_after=seconds).headers["Retry-After"] == text


def test_the_headers_that_a_status_needs() -> None:
    assert errors.Unauthenticated().headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert errors.Unauthenticated(error="").headers["WWW-Authenticate"] == 'Bearer realm="gateway"'
    assert errors.UpgradeRequired(headers={"Sec-WebSocket-Version": "13"}).headers == {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"
    }  # fmt: skip
    assert errors.RequestTimeout().close
    assert errors.MethodNotAllowed("GET, HEAD").headers["Allow"] == "GET, HEAD"
    assert errors.InternalError().detail == "Internal error"
