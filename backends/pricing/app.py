"""uvicorn ... backends.pricing.app:app"""

from __future__ import annotations

import json
import logging
import logging.config
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Annotated, Any

import anyio
import anyio.to_thread
from fastapi import (
    Body,
    Depends,
    FastAPI,
    HTTPException,
    Path,
    Request,
    Response,
    WebSocket,
    WebSocketDisconnect,
)
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import HTTPConnection

from backends import data
from backends.identity import log, problem
from backends.identity.fastapi import Caller, GatewayMiddleware
from backends.pricing import simulation
from backends.pricing.models import (
    Line,
    LineQuote,
    NewPrice,
    Outcome,
    Price,
    PricePage,
    Quote,
    QuoteLine,
    QuoteRequest,
    Rule,
    Simulation,
    SimulationRequest,
    Sku,
)
from backends.pricing.store import PriceStore

logging.config.dictConfig(log.config())
logger = logging.getLogger("pricing")

PAGE = 100
# Simulations have threads of their own, or a burst of them would take all that the prices need.
SIMULATION_THREADS = 2


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Opens the store before the first request; what is yielded becomes the state of every request."""
    store = PriceStore(data.folder("pricing") / "pricing.sqlite3")
    yield {"store": store, "simulations": anyio.CapacityLimiter(SIMULATION_THREADS)}
    await store.close()


# No pages of documentation: they load scripts from elsewhere, and a browser sends no bearer token to them.
app = FastAPI(title="Pricing", version="1", lifespan=lifespan, docs_url=None, redoc_url=None)
app.add_middleware(GatewayMiddleware)


def _store(connection: HTTPConnection) -> PriceStore:
    store: PriceStore = connection.state.store
    return store


Store = Annotated[PriceStore, Depends(_store)]
SkuPath = Annotated[Sku, Path()]


@app.get("/healthz", include_in_schema=False)
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/", include_in_schema=False)
async def index(request: Request) -> RedirectResponse:
    return RedirectResponse(request.url_for("list_prices"))


@app.get("/prices")
async def list_prices(request: Request, store: Store, caller: Caller, after: str = "") -> PricePage:
    found = await store.list(caller.tenant, after, PAGE + 1)
    following = None
    if len(found) > PAGE:
        following = str(request.url_for("list_prices").include_query_params(after=found[PAGE - 1][0]))
    return PricePage(items=[_price(request, sku, rule) for sku, rule in found[:PAGE]], next=following)


@app.post("/prices", status_code=201)
async def add_price(
    new: NewPrice, request: Request, response: Response, store: Store, caller: Caller
) -> Price:
    rule = Rule.model_validate(new.model_dump(exclude={"sku"}))
    if not await store.add(caller.tenant, new.sku, rule):
        raise HTTPException(409, "There is a price for this sku already.")
    price = _price(request, new.sku, rule)
    response.headers["Location"] = price.url
    return price


@app.get("/prices/{sku}")
async def read_price(sku: SkuPath, request: Request, store: Store, caller: Caller) -> Price:
    found = await store.get(caller.tenant, [sku])
    if sku not in found:
        raise _absent()
    return _price(request, sku, found[sku])


@app.put("/prices/{sku}")
async def replace_price(
    sku: SkuPath, rule: Rule, request: Request, response: Response, store: Store, caller: Caller
) -> Price:
    _, new = await store.change(caller.tenant, sku, lambda old: rule)
    response.status_code = 201 if new else 200
    return _price(request, sku, rule)


@app.patch("/prices/{sku}")
async def change_price(
    sku: SkuPath, changes: Annotated[dict[str, Any], Body()], request: Request, store: Store, caller: Caller
) -> Price:
    """The members that are given replace those of the rule; the result must be a valid rule."""

    def edit(old: Rule | None) -> Rule:
        if old is None:
            raise _absent()
        return Rule.model_validate_json(json.dumps({**old.model_dump(mode="json"), **changes}))

    try:
        rule, _ = await store.change(caller.tenant, sku, edit)
    except ValidationError as error:
        raise RequestValidationError([{**e, "loc": ("body", *e["loc"])} for e in error.errors()]) from None
    return _price(request, sku, rule)


@app.delete("/prices/{sku}", status_code=204)
async def delete_price(sku: SkuPath, store: Store, caller: Caller) -> None:
    if not await store.delete(caller.tenant, sku):
        raise _absent()


@app.post("/quotes")
async def quote(wanted: QuoteRequest, store: Store, caller: Caller) -> Quote:
    rules = await store.get(caller.tenant, {line.sku for line in wanted.lines})
    if any(line.sku not in rules for line in wanted.lines):
        raise HTTPException(422, "There is no price for some of the lines.")
    currencies = {rule.currency for rule in rules.values()}
    if len(currencies) > 1:
        raise HTTPException(422, "The prices of the lines are in several currencies.")
    lines = [
        QuoteLine(
            sku=line.sku,
            quantity=line.quantity,
            unit_price=rules[line.sku].unit_price,
            discount_percent=rules[line.sku].discount(line.quantity),
            total=rules[line.sku].total(line.quantity),
        )
        for line in wanted.lines
    ]
    return Quote(
        currency=currencies.pop(), lines=lines, total=sum((line.total for line in lines), Decimal(0))
    )


@app.websocket("/prices/socket")
async def quote_line_by_line(socket: WebSocket, store: Store, caller: Caller) -> None:
    """Each message is a line, {"sku", "quantity"}; its quote comes back at today's price, or {"error"}."""
    await socket.accept()
    try:
        while True:
            await socket.send_text(await _quote_line(await socket.receive_text(), store, caller.tenant))
    except KeyError:
        await socket.close(1003, "Send JSON as text.")
    except WebSocketDisconnect:
        pass


async def _quote_line(text: str, store: PriceStore, tenant: str) -> str:
    try:
        line = Line.model_validate_json(text)
    except ValidationError:
        return json.dumps({"error": "Send a sku and a quantity."})
    rule = (await store.get(tenant, [line.sku])).get(line.sku)
    if rule is None:
        return json.dumps({"error": "There is no price for this sku."})
    found = LineQuote(
        sku=line.sku,
        quantity=line.quantity,
        currency=rule.currency,
        unit_price=rule.unit_price,
        discount_percent=rule.discount(line.quantity),
        total=rule.total(line.quantity),
    )
    return found.model_dump_json()


@app.post("/simulations")
async def simulate(wanted: SimulationRequest, request: Request, store: Store, caller: Caller) -> Simulation:
    """Busy for a second or more, so it runs in a worker thread: other requests are served meanwhile."""
    found = await store.get(caller.tenant, [wanted.sku])
    if wanted.sku not in found:
        raise HTTPException(422, "There is no price for this sku.")
    price = float(found[wanted.sku].unit_price)
    outcomes = []
    for discount in wanted.discounts:
        # A thread for each discount in turn: simulations that run at once take turns too.
        mean, low, high = await anyio.to_thread.run_sync(
            _simulate, price, discount, wanted, limiter=request.state.simulations
        )
        outcomes.append(Outcome(discount_percent=discount, mean_profit=mean, p5_profit=low, p95_profit=high))
    best = max(outcomes, key=lambda outcome: outcome.mean_profit)
    return Simulation(
        sku=wanted.sku, runs=wanted.runs, best_discount_percent=best.discount_percent, outcomes=outcomes
    )


@app.exception_handler(StarletteHTTPException)
async def http_problem(request: Request, error: StarletteHTTPException) -> Response:
    return _problem(error.status_code, str(error.detail), dict(error.headers or {}))


@app.exception_handler(RequestValidationError)
async def invalid_problem(request: Request, error: RequestValidationError) -> Response:
    """400 for a body that is no JSON, else 422. Names the places; the values are not echoed."""
    unreadable = any(found["type"] == "json_invalid" for found in error.errors())
    errors = [{"pointer": _pointer(found["loc"]), "detail": found["msg"]} for found in error.errors()]
    if unreadable:
        return _problem(400, "The body is not valid JSON.")
    return _problem(422, "Some values do not fit; `errors` names them.", errors=errors)


@app.exception_handler(Exception)
async def bug_problem(request: Request, error: Exception) -> Response:
    # uvicorn logs the traceback after this; the caller learns nothing of it.
    logger.error("%s %s failed: %s", request.method, request.url.path, type(error).__name__)
    return _problem(500, "Pricing failed; its log says why, under this request's id.")


def _pointer(location: tuple[str | int, ...]) -> str:
    """RFC 6901, with the part of the request (body, path, query) in front."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def _simulate(price: float, discount: int, wanted: SimulationRequest) -> tuple[float, float, float]:
    ascending = simulation.profits(
        price,
        float(wanted.unit_cost),
        wanted.demand,
        wanted.deviation,
        wanted.elasticity,
        discount,
        wanted.runs,
        wanted.seed,
    )
    return simulation.summary(ascending)


def _price(request: Request, sku: str, rule: Rule) -> Price:
    return Price(sku=sku, url=str(request.url_for("read_price", sku=sku)), **rule.model_dump())


def _absent() -> HTTPException:
    """The same for another tenant's price and for one that never was."""
    return HTTPException(404, "There is no price for this sku.")


def _problem(status: int, detail: str, headers: dict[str, str] | None = None, **members: Any) -> Response:
    body = problem(status, detail, **members)
    return JSONResponse(body, status, headers, media_type="application/problem+json")
