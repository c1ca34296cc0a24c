"""What data planes show is one page: sums of what they hold, and the worst of what they find."""

from __future__ import annotations

from typing import Any

from gateway.core.merge import views


def queue(**more: Any) -> dict[str, Any]:
    return {
        "seats": 2,
        "in_use": 1,
        "reserve": 0,
        "streams": {"seats": None, "in_use": 1},
        "addresses": {"http://a": {"in_use": 1, "streams": 1, "usable": True}},
        "waiting": 3,
        "waiting_by_tenant": {"acme": 3},
        "in_use_by_tenant": {"acme": 1},
        "waits": {"p50": None, "p99": 0.5},
        "refused": {"backend_saturated": 2},
        "virtual_time": 1.5,
        "service_time": None,
        "active_tenants": 1,
        **more,
    }


def test_of_one_plane_all_is_shown_as_it_is() -> None:
    assert views.admission([[("shop", queue())]]) == {"shop": queue()}
    health = [{"name": "shop", "healthy": True, "addresses": []}]
    assert views.health([health]) == health


def test_those_inside_and_those_who_wait_are_summed_and_seats_are_known_to_all() -> None:
    other = queue(
        seats=3,
        waiting_by_tenant={"globex": 3},
        waits={"p50": 0.1, "p99": 0.2},
        addresses={"http://a": {"in_use": 1, "streams": 0, "usable": False}},
        service_time=0.2,
    )
    found = views.admission([[("shop", queue())], [["shop", other], ["new", queue()]]])
    assert found["new"] == queue()
    assert found["shop"] == queue(
        seats=3,
        in_use=2,
        streams={"seats": None, "in_use": 2},
        addresses={"http://a": {"in_use": 2, "streams": 1, "usable": False}},
        waiting=6,
        waiting_by_tenant={"acme": 3, "globex": 3},
        in_use_by_tenant={"acme": 2},
        waits={"p50": 0.1, "p99": 0.5},
        refused={"backend_saturated": 4},
        service_time=0.2,
    )


def test_what_has_no_limit_in_one_plane_has_none() -> None:
    assert views.admission([[("shop", queue(seats=None))], [("shop", queue())]])["shop"]["seats"] is None


def test_of_an_address_the_worst_circuit_is_shown() -> None:
    def backend(state: str, failures: int = 0) -> list[dict[str, Any]]:
        circuit = {"address": "http://a", "state": state, "failures": failures}
        return [{"name": "shop", "healthy": state == "closed", "addresses": [circuit]}]

    (found,) = views.health([backend("closed"), backend("open", 3), backend("half-open")])
    assert not found["healthy"]
    assert found["addresses"] == [{"address": "http://a", "state": "open", "failures": 3}]


def issuer(**more: Any) -> dict[str, Any]:
    return {
        "name": "idp",
        "age_seconds": 5.0,
        "next_fetch_seconds": 60.0,
        "last_failure": None,
        "fetches": 1,
        "failures": 0,
        "tokens": {"cached": 1, "hits": 10, "verified": 1, "refused": 0, "unavailable": 0},
        **more,
    }


def test_issuers_show_the_oldest_keys_the_failure_that_is_not_over_and_all_tokens() -> None:
    failure = {"reason": "refused", "at": 5.0, "over": False}
    other = issuer(age_seconds=9.0, next_fetch_seconds=None, last_failure=failure, failures=2)
    keys = {"cached": 0, "hits": 1, "verified": 2, "refused": 3, "unavailable": 0}
    planes = [{"issuers": [one], "api_keys": keys, "cached": 4} for one in (issuer(), other)]
    found = views.credentials(planes)
    assert found["cached"] == 8 and found["api_keys"]["refused"] == 6
    (shown,) = found["issuers"]
    assert (shown["age_seconds"], shown["next_fetch_seconds"], shown["failures"]) == (9.0, 60.0, 2)
    assert shown["last_failure"] == failure and shown["tokens"]["hits"] == 20


def test_a_tenants_places_are_summed_and_its_quota_is_what_was_seen_most() -> None:
    planes = [
        {"backends": {"shop": {"in_use": 1, "waiting": 0}}, "used": 7, "left": 10},
        {"backends": {"shop": {"in_use": 2, "waiting": 1}, "pay": {"in_use": 1}}, "used": 9, "left": 9},
    ]
    found = views.tenant(planes)
    assert found["backends"] == {"shop": {"in_use": 3, "waiting": 1}, "pay": {"in_use": 1}}
    assert (found["used"], found["left"]) == (9, 10)


def test_the_last_requests_of_a_route_are_the_newest_of_all() -> None:
    def plane(*at: float) -> dict[str, Any]:
        codes = [{"status": 200, "code": None, "count": len(at)}] if at else []
        last = [{"at": one} for one in sorted(at, reverse=True)]
        return {"requests": len(at), "since": min(at, default=None), "codes": codes, "last": last}

    found = views.recent([plane(*range(0, 40, 2)), plane(*range(1, 41, 2)), plane()])
    assert found["requests"] == 40 and found["since"] == 0
    assert found["codes"] == [{"status": 200, "code": None, "count": 40}]
    assert [one["at"] for one in found["last"]] == list(range(39, 19, -1))
