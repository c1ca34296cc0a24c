"""What lies where in MongoDB. Whatever belongs to a tenant has `t`, its name, and is only asked for with it.

documents    _id tenant US collection US id   t c id, v version, i incarnation, cr created,
             mo modified, s size, d the client's members, ix entries of declared indexes, o where it
             stands in their orders, x when it ends, g the settings' version that made ix, o and x
collections  _id tenant US collection         t c, i incarnation, v version, declared, settings, slots,
             tokens, building, documents and bytes that it holds, sweep whether they may end
claims       _id tenant US collection US token US values   t c, n token, o the id that has the values, at
tenants      _id tenant                       t, epoch, q the last change's number, documents, bytes of all
             that counts, beside those of them that are not of documents, bulks; moved, the store where the
             tenant is now, held, until when its writes wait for that
changes      _id tenant US number             t c q kind id etag at, x when it is forgotten
meta         _id cursor_key                   key
meta         _id moved                        to
meta         _id sweep                        until when nobody begins another one
idempotency  _id tenant US key                t, f fingerprint, lease, until, result, n the bytes that it
             counts for; x when the server removes what never got a result, and so counts for nothing

US is U+001F, which no name and no id can hold. `ix` is [{n: token, v: key}] and `o` {slot: key}, with slots
s0 to s15: the server's indexes are made over slots, so that tenants can declare as many as they like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gateway.store.filter.nodes import Path
from gateway.store.json.strict import dumps
from gateway.store.model.collection import MAX_INDEXES, TTL
from gateway.store.model.document import Document, new_incarnation
from gateway.store.model.indexing import EntryBudget, main_entry, other_entries
from gateway.store.mongo.read.keys import key

DOCUMENTS, COLLECTIONS, CLAIMS = "documents", "collections", "claims"
TENANTS, CHANGES, IDEMPOTENCY, META = "tenants", "changes", "idempotency", "meta"
MOVED = "moved"  # the _id in META: new tenants belong to the store `to`
SLOTS = tuple(f"s{number}" for number in range(MAX_INDEXES))
BATCH = 500  # rows that are handled in one go: some milliseconds of the event loop

Row = dict[str, Any]

_US = "\x1f"
_AFTER_US = "\x20"


@dataclass(frozen=True, slots=True)
class Index:
    """name: another one when anything else is. keys: names of fields, with - before a descending one.
    present: only rows that have this field. expires: the field is a date; then the server removes the row.
    unique: no two rows have the same."""

    name: str
    keys: tuple[str, ...]
    present: str | None = None
    expires: bool = False
    unique: bool = False


INDEXES: Mapping[str, tuple[Index, ...]] = {
    DOCUMENTS: (
        Index("entries", ("t", "c", "ix.n", "ix.v")),
        Index("expiry", ("t", "c", "x"), present="x"),
        # Descending ones too: what is equal is by ascending id in both directions.
        *(Index(f"{n}_up", ("t", "c", n, "id")) for n in ("cr", "mo")),
        *(Index(f"{n}_down", ("t", "c", f"-{n}", "id")) for n in ("cr", "mo")),
        *(Index(f"{s}_up", ("t", "c", f"o.{s}", "id"), present=f"o.{s}") for s in SLOTS),
        *(Index(f"{s}_down", ("t", "c", f"-o.{s}", "id"), present=f"o.{s}") for s in SLOTS),
    ),
    COLLECTIONS: (Index("names", ("t", "c")), Index("sweep", ("sweep",), present="sweep")),
    CLAIMS: (Index("slots", ("t", "c", "n", "o")),),
    TENANTS: (Index("moved", ("moved",), present="moved"),),
    META: (),
    CHANGES: (Index("feed", ("t", "c", "q")), Index("expiry", ("x",), expires=True)),
    IDEMPOTENCY: (Index("expiry", ("x",), expires=True), Index("ended", ("until",))),
}


def joined(*parts: str) -> str:
    """An _id."""
    return _US.join(parts)


def scope(tenant: str, collection: str, *conditions: Mapping[str, Any]) -> dict[str, Any]:
    """A query in one collection of one tenant. The conditions are and-ed to the scope and cannot widen it."""
    return {"$and": [{"t": tenant}, {"c": collection}, *conditions]}


def own_row(tenant: str, *conditions: Mapping[str, Any]) -> dict[str, Any]:
    """A query for the row of a tenant itself, if all the conditions hold."""
    return {"$and": [{"_id": tenant}, {"t": tenant}, *conditions]}


def one(tenant: str, collection: str, identifier: str, *conditions: Mapping[str, Any]) -> dict[str, Any]:
    """A query for one document."""
    return scope(tenant, collection, {"_id": joined(tenant, collection, identifier)}, *conditions)


def ids(
    tenant: str, collection: str, *, after: str | None = None, before: str | None = None
) -> dict[str, str]:
    """The bounds of _id for the documents of a collection in their order; after, before: ids, excluded."""
    first, end = joined(tenant, collection, ""), joined(tenant, collection) + _AFTER_US
    return {
        "$gt": first if after is None else first + after,
        "$lt": end if before is None else first + before,
    }


def new_tenant(tenant: str) -> Row:
    """The row of a tenant that has none yet."""
    return {"_id": tenant, "t": tenant, "epoch": new_incarnation(), "q": 0, "documents": 0, "bytes": 0}


def heading(row: Row) -> Document:
    """A document without its members."""
    return Document(row["id"], row["v"], row["i"], row["cr"], row["mo"], "")


def document(row: Row) -> Document:
    """A document of a light row."""
    return Document(row["id"], row["v"], row["i"], row["cr"], row["mo"], dumps(row["d"]))


def date(seconds: float) -> datetime:
    """An instant, in seconds since the epoch, as a BSON date."""
    return datetime.fromtimestamp(seconds, UTC)


@dataclass(frozen=True, slots=True)
class Ordered:
    """A declared index of one field: its entries lie in ix under the token, its order in o under the slot."""

    slot: str
    token: str
    path: Path


def derived(
    indexes: Sequence[Ordered],
    ttl: TTL | None,
    modified: float,
    data: Mapping[str, Any],
    budget: EntryBudget | None = None,
) -> Row:
    """What the settings make of a document: ix, o and x. budget: for its entries; without one there may be
    any number. Raises Unprocessable where they do not fit."""
    orders: Row = {}
    entries = []
    for index in indexes:
        here = orders[index.slot] = key(main_entry(index.path, data))
        others = sorted(key(entry) for entry in other_entries(index.path, data, budget))
        entries += [{"n": index.token, "v": value} for value in (here, *others)]
    made: Row = {"ix": entries, "o": orders}
    expires = None if ttl is None else ttl.expires(modified, data)
    if expires is not None:
        made["x"] = expires
    return made


def not_ended(now: float) -> dict[str, Any]:
    """The condition that a document has not expired."""
    return {"$or": [{"x": {"$exists": False}}, {"x": {"$gt": now}}]}


def is_live(row: Row, now: float) -> bool:
    """Whether a document's row has not expired."""
    expires = row.get("x")
    return expires is None or expires > now
