"""The parts that the description of the admin API refers to: schemas, parameters, and responses."""

from __future__ import annotations

from typing import Any

from gateway.core.routing import settings

_PREFIX = "#/components/schemas/"
_TEXT: dict[str, Any] = {"type": "string"}
_NUMBER: dict[str, Any] = {"type": "integer"}
_TIME: dict[str, Any] = {"type": "number", "description": "seconds since the epoch"}


def ref(name: str) -> dict[str, Any]:
    """A reference to a schema."""
    return {"$ref": f"{_PREFIX}{name}"}


def _object(required: str = "", /, **properties: Any) -> dict[str, Any]:
    """required: names, with spaces between them."""
    found = {"type": "object", "properties": properties}
    return {**found, "required": required.split()} if required else found


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _or_list() -> dict[str, Any]:
    return {"anyOf": [_TEXT, _list(_TEXT)]}


def _revision() -> dict[str, Any]:
    return _object(
        "number parent digest size at author reason source address restores pinned confirm_by",
        number=_NUMBER,
        parent=_or_null(_NUMBER),
        digest={"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "SHA-256 of the text"},
        size=_NUMBER,
        at=_TIME,
        author=_TEXT,
        reason=_TEXT,
        source=_TEXT,
        address=_or_null(_TEXT),
        restores=_or_null(_NUMBER),
        pinned={"type": "boolean"},
        confirm_by=_or_null(_TIME),
        text=_TEXT,
    )


def _rehearsal() -> dict[str, Any]:
    words = {name: _or_null(_TEXT) for name in ("route", "target", "code", "detail")}
    limits = {"type": "object", "additionalProperties": _TEXT}
    side = _object("route target limits status code detail", **words, limits=limits, status=_or_null(_NUMBER))
    example = _object(
        "method host path tenant before after count",
        **dict.fromkeys(("method", "host", "path"), _TEXT),
        tenant=_or_null(_TEXT),
        before=side,
        after=side,
        count=_NUMBER,
    )
    kind = _object("count examples", count=_NUMBER, examples=_list(example))
    kinds = ("refused", "allowed", "rerouted", "limited")
    return _object(
        "requests since unchanged unknown kinds took",
        requests=_NUMBER,
        since=_or_null(_TIME),
        unchanged=_NUMBER,
        unknown=_list(_object("reason count", reason=_TEXT, count=_NUMBER)),
        kinds=_object(" ".join(kinds), **dict.fromkeys(kinds, kind)),
        took={"type": "number", "description": "seconds"},
    )


def _problem() -> dict[str, Any]:
    found = _object(
        "type title status detail instance code",
        type=_TEXT,
        title=_TEXT,
        status=_NUMBER,
        detail=_TEXT,
        instance=_TEXT,
        code=_TEXT,
        errors={"type": "array", "description": "all that is wrong with what was sent"},
        since=_list(ref("Revision")),
        changes=_or_null(_list(ref("Change"))),
        more=_NUMBER,
        objects=_list({"type": "object"}),
    )
    return {**found, "description": "RFC 9457, with the members of this API"}


_CHANGED: dict[str, Any] = {
    "revision": ref("Revision"),
    "changes": _list(ref("Change")),
    "pending": _or_null(ref("Pending")),
}
_OWN: dict[str, Any] = {
    "Object": {"type": "object"},
    "Config": _object("text", text=_TEXT, reason=_TEXT, confirm_within=_TEXT),
    "LiveConfig": _object(
        "revision text data pending refused source available",
        revision=ref("Revision"),
        text=_TEXT,
        data=ref("RoutingConfig"),
        pending=_or_null(ref("Pending")),
        refused=_or_null(_object(at=_TIME, digest=_TEXT, problems=_list(ref("ConfigProblem")))),
        source={"enum": ["file", "store", "zookeeper", "mongodb"]},
        name=_TEXT,
        available={"type": "boolean"},
    ),
    "Outcome": _object("revision changes pending", **_CHANGED, etag=_TEXT, kept=_TEXT, behind=_list(_TEXT)),
    "Confirmation": _object("revision", revision=_NUMBER, reason=_TEXT),
    "Confirmed": _object("revision pending", revision=ref("Revision"), pending=_or_null(ref("Pending"))),
    "Checked": _object(
        "ok problems changes",
        ok={"type": "boolean"},
        problems=_list(ref("ConfigProblem")),
        changes=_list(ref("Change")),
    ),
    "Rehearsal": _rehearsal(),
    "RecentRequests": _object(
        "requests since codes last",
        requests=_NUMBER,
        since=_or_null(_TIME),
        codes=_list(_object("status code count", status=_NUMBER, code=_or_null(_TEXT), count=_NUMBER)),
        last=_list(_object("at method path tenant status code", at=_TIME, method=_TEXT, status=_NUMBER)),
    ),
    "Objects": _object("revision", revision=_NUMBER),
    "Pending": _object("number back_to due", number=_NUMBER, back_to=_NUMBER, due=_TIME),
    "Revision": _revision(),
    "Revisions": _object(
        "revisions live pending",
        revisions=_list(ref("Revision")),
        live=_NUMBER,
        pending=_or_null(ref("Pending")),
    ),
    "Rollback": _object(reason=_TEXT, confirm_within=_TEXT, expected=_NUMBER),
    "Difference": _object(
        "changes text_diff",
        **{"from": _NUMBER, "to": _NUMBER},
        changes=_list(ref("Change")),
        text_diff=_or_null(_TEXT),
    ),
    "Change": _object(
        "kind name action fields",
        kind={"enum": ["routes", "backends", "tenants", "issuers", "settings"]},
        name=_TEXT,
        action={"enum": ["added", "removed", "changed"]},
        fields=_list(_object("path before after", path=_TEXT, before={}, after={})),
        renamed=_TEXT,
    ),
    "Audit": _object("lines next", lines=_list({"type": "object"}), next=_or_null(_NUMBER)),
    "Verified": _object("ok problems", ok={"type": "boolean"}, problems=_list(_TEXT)),
    "NewKey": _object(
        "tenant subject", tenant=_TEXT, subject=_TEXT, scopes=_or_list(), name=_TEXT, expires=_TEXT
    ),
    "Rotation": _object(overlap=_TEXT, expires=_TEXT),
    "NewRevocation": _object(
        jti=_TEXT, tenant=_TEXT, subject=_TEXT, api_key=_TEXT, issuer=_TEXT,
        before={"anyOf": [{"const": "now"}, _TIME]}, reason=_TEXT, **{"for": _TEXT},
    ),
    "Explained": _object(
        "path",
        method=_TEXT,
        path=_TEXT,
        host=_TEXT,
        token=_TEXT,
        certificate=_TEXT,
        tls=_TEXT,
        headers={"type": "object", "additionalProperties": _TEXT},
    ),
    "Ticket": _object("ticket", ticket=_TEXT),
    "ConfigProblem": _object(
        "path line reason hint",
        path=_TEXT,
        line={"type": "integer", "minimum": 0, "description": "1-based; 0 when it is not known"},
        reason=_TEXT,
        hint=_TEXT,
    ),
    "Problem": _problem(),
}  # fmt: skip


def schemas() -> dict[str, Any]:
    """All schemas by name. Those of the config are what `gateway schema` prints."""
    config = _moved(settings.json_schema())
    config.pop("$schema")
    parts: dict[str, Any] = config.pop("$defs")
    return {**{name: parts[name] for name in sorted(parts)}, "RoutingConfig": config, **_OWN}


def _moved(value: Any) -> Any:
    """A schema whose references lead to this description's schemas."""
    if isinstance(value, dict):
        if value.get("default") == [] and "minItems" in value:
            value = {key: one for key, one in value.items() if key != "default"}  # not to be written
        return {key: _moved(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_moved(one) for one in value]
    return value.replace("#/$defs/", _PREFIX) if isinstance(value, str) else value


def _parameter(name: str, where: str, description: str, schema: dict[str, Any] = _TEXT) -> dict[str, Any]:
    return {"name": name, "in": where, "description": description, "schema": schema}


_PAGE: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": 1000}
PARAMETERS: dict[str, dict[str, Any]] = {
    "If-Match": _parameter("If-Match", "header", "the ETag of what is to be changed, or * for any"),
    "If-None-Match": _parameter("If-None-Match", "header", "the ETag that the client has; * for a new one"),
    "reason": _parameter("reason", "query", "why, for the history", {**_TEXT, "maxLength": 500}),
    "X-Reason": _parameter("X-Reason", "header", "as reason, in UTF-8 with % and two digits"),
    "confirm_within": _parameter("confirm_within", "query", "it goes back unless it is confirmed: 60s, 5m"),
    "within": _parameter("within", "query", "503 where it takes longer than this: 5s"),
    "before": _parameter("before", "query", "only what has smaller numbers", {**_NUMBER, "minimum": 0}),
    "limit": _parameter("limit", "query", "how many at most", _PAGE),
    "text": _parameter("text", "query", "its very text, too"),
    "verbose": _parameter("verbose", "query", "each worker, the store, what is shared, the config"),
    "author": _parameter("author", "query", "only what this operator did or tried"),
    "action": _parameter("action", "query", "only this action"),
}  # fmt: skip
