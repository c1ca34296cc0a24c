"""The only file that names Motor and ASAB's storage: the connection, the few operations that the engine asks
of it, and what each of the driver's errors means.

Motor is past its end of life but is what ASAB binds (critical fixes until 2027-05-14): whoever replaces it by
pymongo.AsyncMongoClient changes this file alone.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

# Before Motor is imported: it makes its threads' pool then, of 5 for each core. 40 finds of half a second
# each took 2.02 s with 10 threads and 0.55 s with 64 (measured).
os.environ.setdefault("MOTOR_MAX_WORKERS", "64")

import asab
import asab.storage.mongodb
import bson
import pymongo
from bson.codec_options import CodecOptions
from bson.errors import BSONError, InvalidDocument, InvalidStringData
from bson.raw_bson import RawBSONDocument
from pymongo import errors, uri_parser
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from gateway.core.errors import (
    GatewayError,
    InsufficientStorage,
    StoreUnavailable,
)
from gateway.core.process import mongo_uri
from gateway.store.mongo import raw as mongo_raw
from gateway.store.mongo import server_errors
from gateway.store.mongo.rows import BATCH, Index, Row
from gateway.store.port import UNREACHABLE

T = TypeVar("T")
Query = Mapping[str, Any]

_SECTION = "gateway:store"  # of asab.Config, only while the service is made: the URI may hold a password
_AWAY_SECONDS = 1.0  # how long nobody else tries after one found the server away
_COMMITS = 3
_MAYBE_TOO_LARGE = mongo_raw.MAX_BYTES // 10  # bytes of JSON: an array's element of 2 takes up to 13
_RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)


class DuplicateKey(Exception):
    """A unique key is there already. In a transaction, it is aborted."""


class Unusable(StoreUnavailable):
    """The server, or its URI, will not do however long one waits: somebody has to change something."""


class WriteConflict(Exception):
    """Another transaction was faster. Nothing of this one was done; try again."""


@dataclass(frozen=True, slots=True)
class Server:
    """What was found. replica_set: whether it has transactions (a replica set, or mongos before some)."""

    version: tuple[int, ...]
    replica_set: bool


class _NoApplication:
    """What ASAB's service registers with where there is no application: tests, the operator's commands."""

    def _register_service(self, service: Any) -> None:
        return None


class Driver:
    """One connection pool. connect() first, from the event loop that uses it; close() at the end.

    uri: mongodb:// or mongodb+srv://; it is in no text that leaves this object. what: is there, for the log.
    unreachable: what StoreUnavailable says where it cannot be reached.
    Unless said otherwise, a method raises StoreUnavailable, and in a transaction WriteConflict.
    """

    def __init__(
        self,
        uri: str,
        application: Any = None,
        what: str = server_errors.DOCUMENTS,
        unreachable: str = UNREACHABLE,
    ) -> None:
        self._unreachable = unreachable
        self._uri = mongo_uri.with_defaults(uri)
        self._database_name = mongo_uri.database(uri)
        self.name = mongo_uri.without_secrets(uri)
        self._application = application or _NoApplication()
        self._service: Any = None
        self._log = server_errors.ServerLog(self.name, what)
        self._away_until = 0.0

    @property
    def available(self) -> bool:
        """Whether the server did what it was last asked for."""
        return not self._log.away

    async def connect(self) -> Server:
        """Look whether the server is there; again, as long as that raises StoreUnavailable. Raises Unusable
        where waiting does not help. Both say what is wrong, with a hint."""
        try:
            if self._service is None:
                await self._resolve()
                self._service = self._make_service()
        except (errors.PyMongoError, ValueError) as error:
            if _is_of_names(error):
                raise StoreUnavailable(_why_not(error, self.name)) from None
            raise Unusable(_NO_URI) from None
        try:
            info = await self._service.Client.admin.command("buildInfo")
            # Not `hello`: servers before 4.4.2 do not know it.
            hello = await self._service.Client.admin.command("isMaster")
        except (errors.PyMongoError, ValueError) as error:
            self._log.went_away()
            hopeless = isinstance(error, errors.ConfigurationError | ValueError) or _is_refusal(error)
            kind = Unusable if hopeless else StoreUnavailable
            raise kind(_why_not(error, self.name)) from None
        version = tuple(int(part) for part in str(info["version"]).split("-")[0].split("."))
        return Server(version, "setName" in hello or hello.get("msg") == "isdbgrid")

    def close(self) -> None:
        """ASAB never closes the client."""
        if self._service is not None:
            self._service.Client.close()

    async def _resolve(self) -> None:
        """Ask for the hosts of a mongodb+srv name apart: the driver would hold the event loop meanwhile."""
        if self._uri.startswith(mongo_uri.SRV):
            await asyncio.to_thread(uri_parser.parse_uri, self._uri)

    def _make_service(self) -> Any:
        values = {"mongodb_uri": self._uri, "mongodb_database": self._database_name}
        asab.Config.read_dict({_SECTION: values})
        try:
            return asab.storage.mongodb.StorageService(self._application, "asab.StorageService", _SECTION)
        finally:
            asab.Config.remove_section(_SECTION)

    # --- rows ---

    async def find_one(
        self, name: str, query: Query, session: Any = None, *, raw: bool = False
    ) -> Row | None:
        """raw: the row may be large, and is given as mongo_raw.read does."""
        with self._translated():
            row = await self._rows(name, raw).find_one(query, session=session)
            return mongo_raw.read(row.raw) if raw and row is not None else row

    async def find(
        self,
        name: str,
        query: Query,
        *,
        sort: Sequence[tuple[str, int]] = (),
        skip: int = 0,
        limit: int = 0,
        fields: Sequence[str] = (),
        seconds: float | None = None,
        session: Any = None,
        raw: bool = False,
        batch: int = BATCH,
    ) -> AsyncGenerator[Row, None]:
        """The rows, read ahead by at most one batch: so many, or 16 MiB. fields: only these, all if empty.
        seconds: the server's deadline; raises QueryTooSlow past it. raw: as of find_one. Close it (aclose).
        """
        with self._translated():
            projection = dict.fromkeys(fields, 1) or None
            rows = self._rows(name, raw)
            cursor = rows.find(query, projection, skip=skip, limit=limit, session=session)
            cursor = cursor.batch_size(batch)
            if sort:
                cursor = cursor.sort(list(sort)).allow_disk_use(True)
            if seconds is not None:
                cursor = cursor.max_time_ms(max(1, int(seconds * 1000)))
            try:
                async for row in cursor:
                    yield mongo_raw.read(row.raw) if raw else row
            finally:
                await cursor.close()

    def stored_size(self, row: Row) -> int:
        """Bytes of a row in the server, before it compresses them."""
        return len(bson.encode(row))

    def check_size(self, row: Row | bytes) -> None:
        """Raises BodyTooLarge for a row that MongoDB refuses. Bytes were checked when they were made."""
        if not isinstance(row, bytes) and row["s"] > _MAYBE_TOO_LARGE:
            mongo_raw.encode(row)

    async def count(self, name: str, query: Query, seconds: float) -> int:
        """How many there are. Raises QueryTooSlow."""
        with self._translated():
            milliseconds = max(1, int(seconds * 1000))
            return int(await self._rows(name).count_documents(query, maxTimeMS=milliseconds))

    async def insert(self, name: str, row: Row | bytes, session: Any = None) -> None:
        """row: or its bytes. Raises DuplicateKey when its _id is there already, and BodyTooLarge."""
        with self._translated():
            await self._rows(name).insert_one(_sent(row), session=session)

    async def insert_all(self, name: str, rows: Sequence[Row], session: Any = None) -> None:
        """Raises DuplicateKey when an _id is there already."""
        with self._translated():
            await self._rows(name).insert_many(rows, session=session)

    async def replace(self, name: str, query: Query, row: Row | bytes, session: Any = None) -> bool:
        """Whether there was one. row: or its bytes. Raises BodyTooLarge."""
        with self._translated():
            result = await self._rows(name).replace_one(query, _sent(row), session=session)
            return bool(result.matched_count)

    async def update(self, name: str, query: Query, change: Query, session: Any = None) -> bool:
        """Whether there was one. change: of which the parts may be bytes."""
        with self._translated():
            sent = {name: _sent(part) for name, part in change.items()}
            result = await self._rows(name).update_one(query, sent, session=session)
            return bool(result.matched_count)

    async def modify(
        self, name: str, query: Query, change: Query, session: Any = None, *, upsert: bool = False
    ) -> Row | None:
        """findAndModify: the row after the change; None: there was none, and it was not to be made."""
        with self._translated():
            after = pymongo.ReturnDocument.AFTER
            row: Row | None = await self._rows(name).find_one_and_update(
                query, change, return_document=after, session=session, upsert=upsert
            )
            return row

    async def delete(self, name: str, query: Query, session: Any = None) -> int:
        """All of them; how many there were."""
        with self._translated():
            result = await self._rows(name).delete_many(query, session=session)
            return int(result.deleted_count)

    async def transaction(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """Run `work(session)` and commit what it did with the session; abort when it raises.

        Raises what work raises, and WriteConflict. After StoreUnavailable from a commit, it may have been
        done."""
        with self._translated():
            async with await self._service.Client.start_session() as session:
                session.start_transaction(
                    ReadConcern("snapshot"), WriteConcern("majority"), ReadPreference.PRIMARY
                )
                try:
                    result = await work(session)
                except BaseException:
                    if session.in_transaction:
                        await self._abort(session)
                    raise
                await self._commit(session)
                return result

    async def _abort(self, session: Any) -> None:
        try:
            await session.abort_transaction()
        except errors.PyMongoError:
            return  # the server ends it by itself

    async def _commit(self, session: Any) -> None:
        for attempt in range(1, _COMMITS + 1):
            try:
                await session.commit_transaction()
                return
            except errors.PyMongoError as error:
                if attempt == _COMMITS or not error.has_error_label("UnknownTransactionCommitResult"):
                    raise

    async def create(self, name: str, indexes: Sequence[Index]) -> None:
        """Make a collection of the server, and its indexes, where they are not there yet."""
        with self._translated():
            rows = self._rows(name)
            database = self._service.Database
            if name not in await database.list_collection_names():
                try:
                    await database.create_collection(name)
                except errors.CollectionInvalid:
                    pass  # another gateway was first
            known = await rows.index_information()
            missing = [_model(index) for index in indexes if index.name not in known]
            if missing:
                await rows.create_indexes(missing)

    def _rows(self, name: str, raw: bool = False) -> Any:
        if self._service is None:
            raise StoreUnavailable("The document store has not started.")
        options = _RAW if raw else None
        # Whatever the URI says: a secondary may not know yet what was just written.
        return self._service.Database.get_collection(name, options, ReadPreference.PRIMARY)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        if time.monotonic() < self._away_until:
            raise self._away()
        try:
            yield
        except errors.PyMongoError as error:
            raise self._translate(error) from None
        except errors.DocumentTooLarge:
            raise server_errors.too_large() from None
        except (InvalidDocument, InvalidStringData, OverflowError, UnicodeEncodeError):
            raise server_errors.not_accepted() from None
        except BSONError as error:
            self._log.report(type(error).__name__, "a row cannot be encoded or decoded; report this")
            raise self._away() from None
        if self._log.away:
            self._log.back()

    def _translate(self, error: errors.PyMongoError) -> Exception:
        code = _code(error)
        if code in server_errors.DUPLICATE:
            return DuplicateKey()
        if error.has_error_label("TransientTransactionError") or code in server_errors.CONFLICT:
            return WriteConflict()
        refusal = server_errors.refusal(code)
        if refusal is not None:
            return refusal
        if code in server_errors.NO_SPACE:
            self._log.report("OutOfDiskSpace", "the server's disk is full; make room")
            return InsufficientStorage("There is no room for this write. Nothing was changed.")
        self._log.report(*_reason(error))
        if isinstance(error, errors.ConnectionFailure) or _is_refusal(error):
            self._log.went_away()
        if isinstance(error, errors.ServerSelectionTimeoutError):
            self._away_until = time.monotonic() + _AWAY_SECONDS
        away = self._away(Unusable if _is_refusal(error) else StoreUnavailable)
        away.add_note(_why_not(error, self.name))  # for the operator; clients never see it
        return away

    def _away(self, kind: type[StoreUnavailable] = StoreUnavailable) -> GatewayError:
        return kind(self._unreachable, retry_after=2)


def _sent(row: Any) -> Any:
    """Bytes of BSON as what the driver sends as it is."""
    return RawBSONDocument(row) if isinstance(row, bytes) else row


def _code(error: Exception) -> int | None:
    """The server's code; of many writes at once, that of the first that failed."""
    if isinstance(error, errors.BulkWriteError):
        failed = (error.details or {}).get("writeErrors") or [{}]
        code: int | None = failed[0].get("code")
        return code
    return error.code if isinstance(error, errors.OperationFailure) else None


def _model(index: Index) -> pymongo.IndexModel:
    options: Row = {"name": index.name}
    if index.present is not None:
        options["partialFilterExpression"] = {index.present: {"$exists": True}}
    if index.expires:
        options["expireAfterSeconds"] = 0
    if index.unique:
        options["unique"] = True
    keys = [(key.removeprefix("-"), -1 if key.startswith("-") else 1) for key in index.keys]
    return pymongo.IndexModel(keys, **options)


def _is_refusal(error: Exception) -> bool:
    """Whether the server refuses the user, and not what is asked."""
    return _code(error) in server_errors.REFUSED_USER


def _is_of_names(error: Exception) -> bool:
    """Whether the hosts of a mongodb+srv name could not be resolved: the name service, or the name, may
    come."""
    cause = error.__cause__ or error.__context__
    return cause is not None and type(cause).__module__.partition(".")[0] == "dns"


def _reason(error: Exception) -> tuple[str, str]:
    """An error's name, and a hint. Never its text: that may repeat values."""
    code = _code(error)
    name = type(error).__name__ + (f" {code}" if code is not None else "")
    if isinstance(error, errors.ServerSelectionTimeoutError):
        return name, "no server answers; look whether it runs, at the hosts of [store] uri, and at TLS"
    if _is_refusal(error):
        return name, "the server refuses the user; it needs the role readWrite on the database (authSource?)"
    if isinstance(error, errors.ConnectionFailure):
        return name, "the connection was lost; look at the server's log"
    return name, "look at the server's log"


_NO_URI = (
    "[store] uri is not one that MongoDB's driver accepts. Write mongodb://user:password@host:27017/database"
    "?options, name and password percent-encoded."
)


def _why_not(error: Exception, name: str) -> str:
    """Why there is no connection at the start, with a URI that the driver took."""
    if _is_of_names(error):
        return f"The hosts of {name} are not known: the name service has none, or does not answer."
    if isinstance(error, errors.ConfigurationError | ValueError):
        why = "it is too old (MongoDB 4.4 or newer is needed), or a mongodb+srv name does not lead to it"
        return f"The MongoDB server {name} cannot be used by this driver: {why}."
    reason, hint = _reason(error)
    return f"The MongoDB server {name} cannot be used ({reason}): {hint}."
