"""Metrics: what is counted is what prometheus_client's strict OpenMetrics parser reads back."""

import json
import subprocess
import sys
import time

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.core.merge.metrics import Reporter
from gateway.core.openmetrics import Counter, Gauge
from gateway.telemetry.metrics import CONTENT_TYPE, LATENCY_BOUNDS, ROUTE_LIMIT, TENANT_LIMIT, Metrics
from gateway.telemetry.process_metrics import ProcessNumbers


def samples(text, name):
    """label set -> value of one sample name, as the parser reads it."""
    families = text_string_to_metric_families(text)
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


def key(**labels):
    return tuple(sorted(labels.items()))


def test_a_gateway_that_has_done_nothing_renders_what_the_parser_accepts():
    text = Metrics().render()
    assert text.endswith("\n# EOF\n")
    families = {family.name: family.type for family in text_string_to_metric_families(text)}
    assert families == {
        "gateway_request_seconds": "histogram",
        "gateway_tenant_requests": "counter",
        "gateway_config_reloads": "counter",
        "gateway_backend_errors": "counter",
        "gateway_websockets_ended": "counter",
        "gateway_child_restarts": "counter",
        "gateway_config_revision": "gauge",
        "gateway_config_loaded_timestamp_seconds": "gauge",
        "gateway_draining": "gauge",
        "gateway_build": "info",
    }
    assert CONTENT_TYPE == "application/openmetrics-text; version=1.0.0; charset=utf-8"


def test_latencies_are_a_cumulative_histogram_by_route_and_status_class():
    metrics = Metrics()
    for seconds in (0.0001, 0.0005, 0.00051, 29.0, 31.0):
        metrics.observe("list", 200, "acme", seconds)
    metrics.observe("list", 503, "acme", 0.2)
    text = metrics.render()
    buckets = samples(text, "gateway_request_seconds_bucket")
    bounds = map(str, (*LATENCY_BOUNDS, "+Inf"))
    by_bound = [buckets[key(route="list", status="2xx", le=bound)] for bound in bounds]
    assert by_bound == [2, *[3] * 13, 4, 5]
    assert samples(text, "gateway_request_seconds_count") == {
        key(route="list", status="2xx"): 5,
        key(route="list", status="5xx"): 1,
    }
    total = samples(text, "gateway_request_seconds_sum")
    assert total[key(route="list", status="2xx")] == pytest.approx(60.00111)


def test_requests_are_counted_by_tenant_and_status_class():
    metrics = Metrics()
    for status in (200, 204, 404):
        metrics.observe("list", status, "acme", 0.1)
    metrics.observe("list", 200, "umbrella", 0.1)
    assert samples(metrics.render(), "gateway_tenant_requests_total") == {
        key(tenant="acme", status="2xx"): 2,
        key(tenant="acme", status="4xx"): 1,
        key(tenant="umbrella", status="2xx"): 1,
    }


def test_what_has_no_route_no_tenant_or_no_status_counts_as_none():
    metrics = Metrics()
    metrics.observe("", 404, "", 0.1)
    metrics.observe("none", 404, "none", 0.1)
    metrics.observe("", 0, "", 0.1)
    text = metrics.render()
    assert samples(text, "gateway_request_seconds_count") == {
        key(route="none", status="4xx"): 2,
        key(route="none", status="none"): 1,
    }
    assert samples(text, "gateway_tenant_requests_total")[key(tenant="none", status="4xx")] == 2


def test_tenants_past_the_first_thousand_count_as_other():
    metrics = Metrics()
    for number in range(TENANT_LIMIT + 500):
        metrics.observe("list", 200, f"t{number}", 0.1)
    metrics.observe("list", 500, "t0", 0.1)
    metrics.observe("list", 500, f"t{TENANT_LIMIT}", 0.1)
    counts = samples(metrics.render(), "gateway_tenant_requests_total")
    assert len(counts) == TENANT_LIMIT + 3
    assert counts[key(tenant="other", status="2xx")] == 500
    assert counts[key(tenant="other", status="5xx")] == 1
    assert counts[key(tenant="t0", status="5xx")] == 1


def test_a_tenant_that_is_named_other_joins_the_others():
    metrics = Metrics()
    for number in range(TENANT_LIMIT + 1):
        metrics.observe("list", 200, f"t{number}", 0.1)
    metrics.observe("list", 200, "other", 0.1)
    counts = samples(metrics.render(), "gateway_tenant_requests_total")
    assert counts[key(tenant="other", status="2xx")] == 2


def test_routes_that_are_renamed_for_ever_stay_bounded():
    metrics = Metrics()
    for number in range(ROUTE_LIMIT + 500):
        metrics.observe(f"r{number}", 200, "acme", 0.1)
    counts = samples(metrics.render(), "gateway_request_seconds_count")
    assert len(counts) == ROUTE_LIMIT + 1
    assert counts[key(route="other", status="2xx")] == 500


def test_a_reload_frees_the_series_of_routes_that_are_gone():
    metrics = Metrics()
    for number in range(ROUTE_LIMIT):
        metrics.observe(f"r{number}", 200, "acme", 0.1)
    metrics.observe("", 404, "", 0.1)
    metrics.keep_routes({"r1", "new"})
    metrics.observe("new", 200, "acme", 0.1)
    assert set(samples(metrics.render(), "gateway_request_seconds_count")) == {
        key(route="r1", status="2xx"),
        key(route="new", status="2xx"),
        key(route="other", status="4xx"),
    }


def test_reloads_tokens_errors_and_restarts_are_counted_and_the_known_results_begin_at_zero():
    metrics = Metrics()
    metrics.config_reload("applied")
    metrics.backend_error("catalog", "backend_reset")
    metrics.child_restarted("catalog")
    text = metrics.render()
    assert samples(text, "gateway_config_reloads_total") == {
        key(result="applied"): 1,
        key(result="refused"): 0,
    }
    assert samples(text, "gateway_backend_errors_total") == {key(backend="catalog", code="backend_reset"): 1}
    assert samples(text, "gateway_child_restarts_total") == {key(backend="catalog"): 1}


def test_gauges_are_read_at_each_scrape():
    metrics = Metrics()
    in_use = {"catalog": 3}
    metrics.backend_gauges(lambda: in_use, lambda: {"catalog": 7})
    metrics.render()
    in_use["catalog"] = 4
    metrics.config_loaded(12, 1700000000.5)
    metrics.drain_begins()
    text = metrics.render()
    assert samples(text, "gateway_backend_in_use") == {key(backend="catalog"): 4}
    assert samples(text, "gateway_backend_waiting") == {key(backend="catalog"): 7}
    assert samples(text, "gateway_config_revision") == {(): 12}
    assert samples(text, "gateway_config_loaded_timestamp_seconds") == {(): 1700000000.5}
    assert samples(text, "gateway_draining") == {(): 1}


def test_hostile_label_values_come_back_as_they_were():
    metrics = Metrics()
    hostile = 'a"b\\c\nd{}="e",# EOF é\\n'
    metrics.observe(hostile, 200, hostile, 0.1)
    metrics.backend_error(hostile, "x")
    text = metrics.render()
    assert samples(text, "gateway_request_seconds_count") == {key(route=hostile, status="2xx"): 1}
    assert samples(text, "gateway_tenant_requests_total") == {key(tenant=hostile, status="2xx"): 1}
    assert samples(text, "gateway_backend_errors_total") == {key(backend=hostile, code="x"): 1}


def test_what_utf_8_cannot_hold_is_replaced():
    metrics = Metrics()
    metrics.backend_error("a\udcffb", "x")
    text = metrics.render()
    assert text.encode("utf-8")
    assert samples(text, "gateway_backend_errors_total") == {key(backend="a?b", code="x"): 1}


def test_a_counter_past_its_limit_counts_under_other():
    counter = Counter("c", "C.", ("a", "b"), limit=2)
    for number in range(5):
        counter.add(f"{number}", "x")
    counter.add("0", "x")
    text = "".join(counter.lines()) + "# EOF\n"
    assert samples(text, "c_total") == {
        key(a="0", b="x"): 2,
        key(a="1", b="x"): 1,
        key(a="other", b="other"): 3,
    }


def test_a_gauge_past_its_limit_shows_the_first_ones_only():
    gauge = Gauge("g", "G.", lambda: {(f"{number}",): number for number in range(5)}, ("a",), limit=2)
    assert samples("".join(gauge.lines()) + "# EOF\n", "g") == {key(a="0"): 0, key(a="1"): 1}


def test_a_second_metric_of_one_name_is_refused():
    with pytest.raises(ValueError, match="gateway_draining"):
        Metrics().add(Gauge("gateway_draining", "Again.", dict))


def test_other_sources_are_rendered_before_the_end():
    metrics = Metrics()
    metrics.add_source(lambda: [Gauge("more", "More.", lambda: {(): 5})])
    assert samples(metrics.render(), "more") == {(): 5}


def test_the_pieces_are_the_whole():
    metrics = Metrics()
    metrics.observe("list", 200, "acme", 0.1)
    assert "".join(metrics.parts()) == metrics.render()


ASAB_PROCESS = """
import asyncio, json, sys, time
import asab, asab.metrics
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.process_metrics import ProcessMetrics

class App(asab.Application):
    def __init__(self):
        super().__init__(args=[])
        self.add_module(asab.metrics.Module)

    async def main(self):
        service = self.get_service("asab.MetricsService")
        process = ProcessMetrics(service)
        sizes = {"size": 4, "text": "no", "flag": True}
        service.create_gauge("1 odd-name", tags={"pool.id": 'a"b'}, init_values=sizes)
        service.create_gauge("1 odd-name", tags={"pool.id": "other"}, init_values={"size": 5})
        service.create_counter("not.a.gauge", init_values={"n": 1})
        metrics = Metrics()
        metrics.add_source(process.instruments)
        before = metrics.render()
        for _ in range(200):  # until the loop was blocked when its lag was about to be measured
            await asyncio.sleep(0.05)
            time.sleep(0.4)
            await asyncio.sleep(0)
            after = metrics.render()
            if float(after.split("process_event_loop_lag_seconds ")[-1].split()[0]) > 0.1:
                break
        process.close()
        print(json.dumps([before, after]))
        self.stop()

App().run()
"""


@pytest.fixture(scope="module")
def scrapes():
    """Two scrapes of a process that runs ASAB; its loop was blocked for 0.4 s between them."""
    ran = subprocess.run(
        [sys.executable, "-c", ASAB_PROCESS], capture_output=True, text=True, timeout=30, check=True
    )
    return json.loads(ran.stdout.splitlines()[-1])


def test_the_process_s_numbers_are_kept_by_asab_and_scraped_from_it(scrapes):
    def value(text, name):
        return samples(text, name)[()]

    for text in scrapes:
        assert 5e6 < value(text, "process_resident_memory_bytes") < 1e9
        assert 3 <= value(text, "process_open_fds") < value(text, "process_max_fds")
        assert 1 <= value(text, "process_threads") < 100
        assert abs(value(text, "process_start_time_seconds") - time.time()) < 60
    before, after = scrapes
    assert value(after, "process_cpu_seconds_total") > value(before, "process_cpu_seconds_total") > 0
    assert value(before, "process_event_loop_lag_seconds") == 0
    assert value(after, "process_event_loop_lag_seconds") > 0.1


async def test_what_the_process_counts_is_told_without_a_file_of_the_system():
    class NoFiles(ProcessNumbers):
        def read(self):
            raise AssertionError("files are read")

    numbers = NoFiles()
    grown = "".join(Reporter(numbers.instruments).changed())
    numbers.close()
    assert "process_cpu_seconds" in grown


def test_other_gauges_of_asab_are_scraped_by_value_name(scrapes):
    (memory,) = (
        number for labels, number in samples(scrapes[0], "asab_memory").items() if ("name", "VmRSS") in labels
    )
    assert memory > 5e6


def test_gauges_of_one_name_are_one_family_with_valid_names_and_labels(scrapes):
    assert samples(scrapes[0], "asab_x1_odd_name") == {
        key(pool_id='a"b', name="size"): 4,
        key(pool_id="other", name="size"): 5,
    }


def test_what_is_not_a_gauge_of_asab_is_left_out(scrapes):
    assert "not_a_gauge" not in scrapes[0]
