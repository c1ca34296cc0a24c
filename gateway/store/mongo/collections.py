"""Collections and their settings. New settings count at once for writes; the entries of documents that are
there already are made by whoever declared them, and no list uses an index before that is done."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from gateway.core.errors import Conflict, GatewayError, NotFound, StoreUnavailable, Unprocessable
from gateway.store.json.strict import dumps
from gateway.store.model import collection as collections
from gateway.store.model import instants
from gateway.store.model.collection import Collection, CollectionSettings
from gateway.store.model.document import Precondition, merge_patch
from gateway.store.model.patch import MergePatch
from gateway.store.mongo import state as mongo_state
from gateway.store.mongo.driver import DuplicateKey, WriteConflict
from gateway.store.mongo.rows import (
    CLAIMS,
    COLLECTIONS,
    DOCUMENTS,
    Row,
    ids,
    is_live,
    joined,
    not_ended,
    scope,
)
from gateway.store.mongo.state import State
from gateway.store.mongo.write.writes import Undo, Writes

_ATTEMPTS = 20
_STEP = 500  # documents of one query


async def put(
    writes: Writes, name: str, settings: CollectionSettings, precondition: Precondition
) -> tuple[Collection, bool]:
    """See port.TenantStore.put_collection."""
    for _ in range(_ATTEMPTS):
        old = await writes.state(name)
        precondition.require(old.collection.etag if old.stored else None)
        stored = await _store(writes, old, settings)
        if stored is not None:
            return stored.collection, old.settings_text is None
    raise _busy()


async def patch(writes: Writes, name: str, change: MergePatch, precondition: Precondition) -> Collection:
    """See port.TenantStore.patch_collection."""
    for _ in range(_ATTEMPTS):
        old = await writes.state(name)
        if not old.stored:
            raise NotFound()
        precondition.require(old.collection.etag)
        settings = collections.from_data(merge_patch(old.settings.data, change.members), apart=True)
        stored = await _store(writes, old, settings)
        if stored is not None:
            return stored.collection
    raise _busy()


async def delete(writes: Writes, name: str, precondition: Precondition, *, documents: bool) -> None:
    """See port.TenantStore.delete_collection."""
    old = await writes.state(name)
    _check_deletion(old, precondition)
    if documents:
        await _empty(writes, name)

    async def work(session: Any, undo: Undo) -> None:
        state = await writes.state(name, session)
        _check_deletion(state, precondition)
        if not documents and await _holds_any(writes, name, session):
            raise Conflict("The collection holds documents. Delete them first, or add ?documents=delete.")
        number = await writes.reserve(session, -state.documents, -state.bytes)
        if not await writes.driver.delete(COLLECTIONS, _as_read(writes.tenant, state), session):
            raise WriteConflict()
        await writes.hold(session, -_size(state.settings_text))
        await writes.driver.delete(DOCUMENTS, scope(writes.tenant, name), session)
        await writes.driver.delete(CLAIMS, scope(writes.tenant, name), session)
        await writes.record(session, number, name, "collection_deleted")

    await writes.run(work)


async def read_page(writes: Writes, after: str, limit: int) -> tuple[tuple[Collection, ...], str | None]:
    """Collections after `after`, at most `limit` and as many as a page holds; and the last one's name when
    there are more."""
    query = {"$and": [{"t": writes.tenant}, {"c": {"$gt": after}}]}
    found: list[Collection] = []
    held = 0
    async with aclosing(writes.driver.find(COLLECTIONS, query, sort=[("c", 1)])) as rows:
        async for row in rows:
            one = mongo_state.listed(row)
            if one is None:
                continue
            if len(found) == limit or held > collections.PAGE_BYTES:
                return tuple(found), found[-1].name
            found.append(one)
            held += len(one.text)
    return tuple(found), None


async def _empty(writes: Writes, name: str) -> None:
    """Delete the documents of a collection, in steps: a transaction has a minute for all of them."""
    while True:
        rows = writes.driver.find(DOCUMENTS, scope(writes.tenant, name), fields=["id"], limit=_STEP)
        found = [row["_id"] async for row in rows]
        if not found:
            return
        await writes.driver.delete(DOCUMENTS, scope(writes.tenant, name, {"_id": {"$in": found}}))


async def _store(writes: Writes, old: State, settings: CollectionSettings) -> State | None:
    """Store settings over those of `old`, and make the entries; None when another write was faster.
    Raises UniqueConflict, and then the old settings are there again."""
    slots, tokens = mongo_state.assign(old, settings)
    new_tokens = set(tokens.values()) - set(old.tokens.values())
    build = old.building or bool(new_tokens) or settings.ttl != old.settings.ttl
    change: Row = {"settings": dumps(settings.data), "slots": slots, "tokens": tokens, "building": build}
    change |= {"v": old.version + 1, "declared": old.version + 1, "sweep": settings.ttl is not None}
    larger = _size(change["settings"]) - _size(old.settings_text)
    if not old.stored:
        await writes.require_collection()
    if larger > 0:
        await writes.require_bytes(larger)
    if not await _compare_and_set(writes, old, change):
        return None
    await writes.hold(None, larger)
    state = await writes.state(old.name)
    if build and state.version == old.version + 1:
        try:
            await _build(writes, state, frozenset(new_tokens))
        except GatewayError:
            await _take_back(writes, old, state)
            raise
    gone = sorted(set(old.tokens.values()) - set(tokens.values()))
    if gone:
        await writes.driver.delete(CLAIMS, scope(writes.tenant, old.name, {"n": {"$in": gone}}))
    return await writes.state(old.name)


def _size(text: str | None) -> int:
    """The bytes that settings count for."""
    return len((text or "").encode())


async def _compare_and_set(writes: Writes, old: State, change: Row) -> bool:
    query = _as_read(writes.tenant, old)
    if await writes.driver.update(COLLECTIONS, query, {"$set": change}):
        return True
    try:
        await writes.driver.insert(COLLECTIONS, {**mongo_state.new_row(writes.tenant, old), **change})
    except DuplicateKey:
        return False
    return True


async def _build(writes: Writes, state: State, new: frozenset[str]) -> None:
    """Make the entries of every document that was written by older settings. Raises UniqueConflict."""
    step = state.batch
    after: str | None = None
    while True:
        where = scope(writes.tenant, state.name, {"_id": ids(writes.tenant, state.name, after=after)})
        more: Any = {"limit": step, "raw": True, "batch": step}
        rows = writes.driver.find(DOCUMENTS, where, sort=[("_id", 1)], **more)
        read = 0
        async with aclosing(rows):
            async for row in rows:
                read, after = read + 1, row["id"]
                await _check_fits(writes, state, row, new)
                if new & set(state.unique):
                    await _claim(writes, state, row["id"], new)
                await writes.derive(state, row)
        if read < step:
            break
    query = _as_read(writes.tenant, state)
    await writes.driver.update(COLLECTIONS, query, {"$set": {"building": False}})


async def _check_fits(writes: Writes, state: State, row: Row, new: frozenset[str]) -> None:
    """Whether the new indexes can hold a document. Raises Unprocessable."""
    try:
        await writes.rows.check_fits(state, row, new)
    except Unprocessable as error:
        error.about(f"The indexes cannot be made: document {row['id']}")
        raise


async def _claim(writes: Writes, state: State, identifier: str, new: frozenset[str]) -> None:
    """Take the values that a document has in new unique indexes."""

    async def work(session: Any, undo: Undo) -> None:
        row = await writes.row(state.name, identifier, session)
        if row is None or not is_live(row, instants.now()):
            return
        has = await writes.rows.claims(state, row)
        wanted = {claim: token for claim, token in has.items() if token in new}
        await writes.claim(session, [], state, identifier, wanted)

    await writes.run(work)


async def _take_back(writes: Writes, old: State, state: State) -> None:
    """The old settings again, with their tag, as a new version: writes may have used the new ones."""
    change: Row = {"slots": dict(old.slots), "tokens": dict(old.tokens), "v": state.version + 1}
    change["declared"] = old.declared_at
    change |= {"building": True, "sweep": old.settings.ttl is not None, "settings": old.settings_text}
    if not await writes.driver.update(COLLECTIONS, _as_read(writes.tenant, state), {"$set": change}):
        return  # somebody else has declared others meanwhile
    await writes.hold(None, _size(old.settings_text) - _size(state.settings_text))
    gone = sorted(set(state.tokens.values()) - set(old.tokens.values()))
    await writes.driver.delete(CLAIMS, scope(writes.tenant, old.name, {"n": {"$in": gone}}))
    await _build(writes, await writes.state(old.name), frozenset())


async def _holds_any(writes: Writes, name: str, session: Any) -> bool:
    query = scope(writes.tenant, name, not_ended(instants.now()))
    rows = writes.driver.find(DOCUMENTS, query, fields=["id"], limit=1, session=session)
    async with aclosing(rows):
        return [row async for row in rows] != []


def _check_deletion(state: State, precondition: Precondition) -> None:
    if not state.stored:
        raise NotFound()
    precondition.require(state.collection.etag)


def _as_read(tenant: str, state: State) -> Row:
    own = {"_id": joined(tenant, state.name)}
    return scope(tenant, state.name, own, {"v": state.version}, {"i": state.incarnation})


def _busy() -> GatewayError:
    return StoreUnavailable("The collection's settings are being changed by others. Nothing was changed.")
