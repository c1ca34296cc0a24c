"""The FastAPI application, served by uvicorn on a unix socket, and its arithmetic."""

import threading
import uuid
from decimal import Decimal

import pytest

from backends.pricing import simulation
from backends.pricing.models import Rule
from tests.backends.servers import FORWARDED, UVICORN, running
from tests.eventually import AT_ONCE, meanwhile

SERVE = (*UVICORN, "--uds", "{socket}", "backends.pricing.app:app")
PREFIX = {"X-Forwarded-Prefix": "/pricing", **FORWARDED}
RULE = {"unit_price": "9.50", "tiers": [{"min_quantity": 10, "discount_percent": "5"}]}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def pricing():
    with running(*SERVE) as server:
        yield server


@pytest.fixture
def sku(pricing):
    """The sku of a price of acme."""
    sku = uuid.uuid4().hex
    assert pricing.call("POST", "/prices", body={"sku": sku, **RULE}).status == 201
    return sku


@pytest.mark.parametrize("path", ["/", "/prices", "/openapi.json", "/nowhere"])
def test_a_request_without_an_identity_is_refused(pricing, path):
    assert pricing.call("GET", path, tenant=None).is_problem(401)


def test_an_early_refusal_reaches_a_caller_that_is_still_sending(pricing):
    large = b"x" * 5_000_000
    assert pricing.call("POST", "/prices", None, large).is_problem(401)
    assert pricing.call("POST", "/nowhere", body=large).is_problem(404)


def test_a_price_goes_through_every_verb(pricing):
    path = "/prices/verbs"
    created = pricing.call("PUT", path, body=RULE)
    assert (created.status, created.json["unit_price"], created.json["currency"]) == (201, "9.50", "EUR")
    assert pricing.call("GET", path).json == created.json
    assert pricing.call("POST", "/prices", body={"sku": "verbs", **RULE}).is_problem(409)
    changed = pricing.call("PATCH", path, body={"currency": "CZK"})
    assert (changed.status, changed.json["currency"], changed.json["tiers"]) == (
        200,
        "CZK",
        created.json["tiers"],
    )
    replaced = pricing.call("PUT", path, body={"unit_price": "1"})
    assert (replaced.status, replaced.json["tiers"], replaced.json["currency"]) == (200, [], "EUR")
    assert pricing.call("DELETE", path).status == 204
    assert pricing.call("GET", path).is_problem(404)
    assert pricing.call("POST", path).is_problem(405)


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_another_tenants_price_is_as_absent_as_one_that_never_was(pricing, sku, method):
    body = {"unit_price": "1"} if method == "PATCH" else None
    theirs = pricing.call(method, f"/prices/{sku}", "other", body)
    assert theirs.status == 404
    assert theirs.same_as(pricing.call(method, f"/prices/{uuid.uuid4().hex}", "other", body))
    assert pricing.call("GET", f"/prices/{sku}").json["unit_price"] == "9.50"


def test_a_tenant_that_puts_a_price_changes_only_its_own(pricing, sku):
    assert pricing.call("PUT", f"/prices/{sku}", "putter", {"unit_price": "1"}).status == 201
    assert pricing.call("POST", "/prices", "poster", {"sku": sku, "unit_price": "2"}).status == 201
    assert pricing.call("DELETE", f"/prices/{sku}", "putter").status == 204
    assert pricing.call("GET", f"/prices/{sku}").json["unit_price"] == "9.50"


def test_quotes_simulations_and_lists_use_only_the_callers_prices(pricing, sku):
    def ask(path, body_of):
        theirs = pricing.call("POST", path, "other", body_of(sku))
        assert theirs.is_problem(422)
        assert theirs.same_as(pricing.call("POST", path, "other", body_of(uuid.uuid4().hex)))

    ask("/quotes", lambda sku: {"lines": [{"sku": sku, "quantity": 1}]})
    ask("/simulations", lambda sku: {"sku": sku, "demand": 1, "deviation": 0, "elasticity": 0})
    assert pricing.call("GET", "/prices", "other").json == {"items": [], "next": None}


def test_a_quote_takes_the_highest_tier_reached(pricing, sku):
    lines = [{"sku": sku, "quantity": 9}, {"sku": sku, "quantity": 10}]
    answer = pricing.call("POST", "/quotes", body={"lines": lines})
    assert answer.status == 200
    assert [line["total"] for line in answer.json["lines"]] == ["85.50", "90.25"]
    assert (answer.json["total"], answer.json["currency"]) == ("175.75", "EUR")


def test_a_quote_over_two_currencies_is_refused(pricing, sku):
    pricing.call("PUT", "/prices/crowns", body={"unit_price": "1", "currency": "CZK"})
    lines = [{"sku": sku, "quantity": 1}, {"sku": "crowns", "quantity": 1}]
    assert pricing.call("POST", "/quotes", body={"lines": lines}).is_problem(422)


def test_a_total_is_rounded_once_and_half_up():
    tiers = [{"min_quantity": 1, "discount_percent": "12.50"}]
    assert Rule(unit_price="0.04", tiers=tiers).total(1) == Decimal("0.04")  # 0.035
    assert Rule(unit_price="0.04", tiers=tiers).total(3) == Decimal("0.11")  # 0.105, not 3 x 0.04


def test_a_simulation_is_repeatable_and_finds_the_better_discount(pricing, sku):
    wanted = {"sku": sku, "demand": 100, "deviation": 10, "elasticity": 3, "runs": 2000, "discounts": [0, 20]}
    first = pricing.call("POST", "/simulations", body=wanted)
    assert (first.status, first.json["best_discount_percent"]) == (200, 20)
    assert first.json == pricing.call("POST", "/simulations", body=wanted).json
    inelastic = pricing.call("POST", "/simulations", body={**wanted, "elasticity": 0}).json
    assert inelastic["best_discount_percent"] == 0


def test_a_certain_demand_gives_a_certain_profit():
    ascending = simulation.profits(
        price=10, cost=4, demand=100, deviation=0, elasticity=1, discount=10, runs=3, seed=0
    )
    assert simulation.summary(ascending) == pytest.approx((550, 550, 550))


def test_prices_are_served_while_simulations_run(pricing, sku):
    wanted = {"sku": sku, "demand": 1, "deviation": 1, "elasticity": 1, "runs": 50_000, "discounts": [1] * 10}
    done = []

    def simulate():  # several in a row: a fast machine is done with one before the prices are asked for
        done.extend({pricing.call("POST", "/simulations", body=wanted).status for _ in range(4)})

    thread = threading.Thread(target=simulate)
    thread.start()
    try:
        meanwhile(0.05)
        for _ in range(5):
            assert pricing.call("GET", f"/prices/{sku}").status == 200
        assert not done
    finally:
        thread.join()
    assert done == [200]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/prices", b"{", 400),
        ("/prices", b"\xff", 400),
        ("/prices", b"[]", 422),
        ("/prices", {}, 422),
        ("/prices", {"sku": "a b", "unit_price": "1"}, 422),
        ("/prices", {"sku": "a\n", "unit_price": "1"}, 422),
        ("/prices", {"sku": "a", "unit_price": "-1"}, 422),
        ("/prices", {"sku": "a", "unit_price": "1.234"}, 422),
        ("/prices", b'{"sku": "a", "unit_price": NaN}', 422),
        ("/prices", {"sku": "a", "unit_price": "1", "tenant": "other"}, 422),
        ("/prices", {"sku": "a", "unit_price": "1", "\ud800": 1}, 422),
        ("/prices", {"sku": "a", "unit_price": "1", "tiers": [{"\ud800": 1}]}, 422),
        ("/prices", {"sku": "a", "unit_price": "1", "tiers": RULE["tiers"] * 2}, 422),
        ("/quotes", {"lines": []}, 422),
        ("/quotes", {"lines": [{"sku": "a", "quantity": 0}]}, 422),
        ("/simulations", {"sku": "a", "demand": 1, "deviation": 0, "elasticity": 0, "runs": 50_001}, 422),
        (
            "/simulations",
            {"sku": "a", "demand": 1, "deviation": 0, "elasticity": 0, "discounts": [0] * 11},
            422,
        ),
    ],
)
def test_bad_input_is_a_problem(pricing, path, body, status):
    answer = pricing.call("POST", path, body=body, **JSON)
    assert answer.is_problem(status)
    assert status != 422 or answer.json["errors"]


@pytest.mark.parametrize("body", [{"unit_price": "x"}, {"sku": "b"}, [], {"unit_price": None}, {"\ud800": 1}])
def test_a_bad_patch_changes_nothing(pricing, sku, body):
    before = pricing.call("GET", f"/prices/{sku}").json
    assert pricing.call("PATCH", f"/prices/{sku}", body=body).status in (400, 422)
    assert pricing.call("GET", f"/prices/{sku}").json == before


def test_an_error_never_echoes_the_input(pricing):
    answer = pricing.call("POST", "/prices", body={"sku": "<script>", "unit_price": "canary"})
    assert b"script" not in answer.body
    assert b"canary" not in answer.body


def test_redirects_and_links_are_public(pricing):
    base = "https://api.example:8443/pricing"
    assert pricing.call("GET", "/", **PREFIX).headers["Location"] == f"{base}/prices"
    assert pricing.call("GET", "/prices/?after=a", **PREFIX).headers["Location"] == f"{base}/prices?after=a"
    created = pricing.call("POST", "/prices", body={"sku": "linked", **RULE}, **PREFIX)
    assert created.headers["Location"] == created.json["url"] == f"{base}/prices/linked"


def test_a_path_that_looks_like_the_prefix_is_still_a_path(pricing):
    # Public /prices/prices arrives as /prices with the prefix /prices.
    answer = pricing.call("GET", "/prices", **{"X-Forwarded-Prefix": "/prices"})
    assert answer.status == 200


def test_the_openapi_names_the_public_prefix(pricing):
    document = pricing.call("GET", "/openapi.json", **PREFIX).json
    assert document["servers"] == [{"url": "/pricing"}]
    assert {"/prices", "/prices/{sku}", "/quotes", "/simulations"} == set(document["paths"])
    assert "servers" not in pricing.call("GET", "/openapi.json").json


def test_a_junk_prefix_is_refused(pricing):
    assert pricing.call("GET", "/", **{"X-Forwarded-Prefix": "//evil.example"}).is_problem(400)


def test_long_lists_come_in_pages(pricing):
    for number in range(101):
        pricing.call("PUT", f"/prices/p{number:03}", "pages", {"unit_price": "1"})
    first = pricing.call("GET", "/prices", "pages", **PREFIX).json
    following = first["next"].removeprefix("https://api.example:8443/pricing")
    second = pricing.call("GET", following, "pages").json
    assert [item["sku"] for item in first["items"] + second["items"]] == [f"p{n:03}" for n in range(101)]
    assert second["next"] is None


def test_data_survives_a_restart_and_sigterm_is_quick(tmp_path):
    with running(*SERVE, data=tmp_path) as server:
        server.call("PUT", "/prices/kept", body=RULE)
        assert server.stop() < AT_ONCE
        assert server.log.read_text() == ""
    with running(*SERVE, data=tmp_path) as server:
        assert [item["sku"] for item in server.call("GET", "/prices").json["items"]] == ["kept"]
