"""The Flask application, served by gunicorn with threads on a unix socket; it fetches over real HTTP."""

import csv
import io
import json
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest

from tests.backends.servers import FORWARDED, GUNICORN, running
from tests.eventually import AT_ONCE

PREFIX = {"X-Forwarded-Prefix": "/reports", **FORWARDED}
TOKEN = "Bearer the-callers-token"
DEFINITION = {"title": "Sales", "collection": "orders", "group_by": "city", "value": "amount"}
ORDERS = [
    {"id": "1", "city": "Brno", "amount": 5},
    {"id": "2", "city": "Praha", "amount": 7.5},
    {"id": "3", "city": "Brno", "amount": 10},
    {"id": "4", "amount": "not a number"},
    {"id": "5", "city": '=HYPERLINK("http://evil")', "amount": -1},
    {"id": "6", "city": "<script>&\x01", "amount": 2},
]


class Documents(BaseHTTPRequestHandler):
    """The gateway's documents as far as reports see them: two to a page."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        url = urlsplit(self.path)
        collection = url.path.split("/")[2]
        status, body = self.answer(collection, parse_qs(url.query))
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/documents/empty/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self, collection, query):
        if collection == "orders":
            start = int(query.get("cursor", ["0"])[0])
            page = {"items": ORDERS[start : start + 2]}
            if start + 2 < len(ORDERS):
                page["next"] = str(start + 2)
            return 200, json.dumps(page).encode()
        if collection == "endless":
            return 200, json.dumps({"items": [{"id": "1"}] * 200, "next": "more"}).encode()
        if collection == "empty":
            return 200, b'{"items": []}'
        if collection.isdigit():
            return int(collection), b"{}"
        return 200, {"junk": b"<html>", "list": b"[]", "items": b'{"items": [1]}'}[collection]

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def documents():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Documents)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def reports(documents):
    url = f"http://127.0.0.1:{documents.server_port}"
    # A proxy in the environment must not see the token.
    environment = {"GATEWAY_URL": url, "http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    with running(*GUNICORN, "--bind", "unix:{socket}", "backends.reports.app:app", **environment) as server:
        yield server


def create(reports, tenant="acme", **changes):
    answer = reports.call("POST", "/reports", tenant, {**DEFINITION, **changes})
    assert answer.status == 201, answer.body
    return answer.json


def fetch(reports, report, kind):
    return reports.call("GET", f"/reports/{report['id']}.{kind}", Authorization=TOKEN)


@pytest.mark.parametrize("path", ["/", "/reports", "/nowhere"])
def test_a_request_without_an_identity_is_refused(reports, path):
    assert reports.call("GET", path, tenant=None).is_problem(401)


def test_an_early_refusal_reaches_a_caller_that_is_still_sending(reports):
    large = b"x" * 5_000_000
    assert reports.call("POST", "/reports", None, large).is_problem(401)
    assert reports.call("POST", "/nowhere", body=large).is_problem(404)
    assert reports.call("POST", "/reports", body=large, **{"Content-Type": "application/json"}).is_problem(
        413
    )


def test_a_report_goes_through_every_verb(reports):
    report = create(reports, "verbs")
    path = f"/reports/{report['id']}"
    assert reports.call("GET", path, "verbs").json == report
    assert reports.call("GET", "/reports", "verbs").json == {"items": [report], "next": None}
    assert reports.call("DELETE", path, "verbs").status == 204
    assert reports.call("GET", path, "verbs").is_problem(404)
    assert reports.call("DELETE", path, "verbs").is_problem(404)
    answer = reports.call("PATCH", path, "verbs")
    assert answer.is_problem(405)
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "DELETE"}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("suffix", ["", ".csv", ".svg"])
def test_another_tenants_report_is_as_absent_as_one_that_never_was(reports, method, suffix):
    report = create(reports)
    headers = {"Authorization": TOKEN}
    theirs = reports.call(method, f"/reports/{report['id']}{suffix}", "other", **headers)
    nobodys = reports.call(method, f"/reports/{uuid.uuid4()}{suffix}", "other", **headers)
    assert theirs.status == (405 if method == "DELETE" and suffix else 404)
    assert theirs.same_as(nobodys)
    assert reports.call("GET", f"/reports/{report['id']}").json == report
    assert reports.call("GET", "/reports", "other").json["items"] == []


def test_a_table_sums_the_rows_of_all_pages(reports, documents):
    documents.asked.clear()
    answer = fetch(reports, create(reports), "csv")
    assert answer.headers.get_content_type() == "text/csv"
    assert list(csv.reader(io.StringIO(answer.body.decode()))) == [
        ["city", "documents", "sum of amount"],
        ["Brno", "2", "15"],
        ["Praha", "1", "7.5"],
        ["<script>&", "1", "2"],
        ["(none)", "1", "0"],
        ['\'=HYPERLINK("http://evil")', "1", "-1"],
    ]
    assert documents.asked == [
        ("/documents/orders/?limit=200", TOKEN),
        ("/documents/orders/?limit=200&cursor=2", TOKEN),
        ("/documents/orders/?limit=200&cursor=4", TOKEN),
    ]


def test_without_a_value_documents_are_counted(reports):
    table = fetch(reports, create(reports, value=""), "csv").body.decode()
    assert table.splitlines()[:2] == ["city,documents,count", "Brno,2,2"]


def test_a_chart_is_wellformed_and_its_texts_are_only_text(reports):
    answer = fetch(reports, create(reports, title="</title><script>"), "svg")
    assert answer.headers.get_content_type() == "image/svg+xml"
    root = ElementTree.fromstring(answer.body)
    space = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{space}title").text == "</title><script>"
    assert not list(root.iter(f"{space}script"))
    texts = [element.text for element in root.iter(f"{space}text")]
    assert "Brno" in texts
    assert "15" in texts
    assert len(list(root.iter(f"{space}rect"))) == 1 + 5


def test_a_chart_of_nothing_says_so(reports):
    assert b"no documents" in fetch(reports, create(reports, collection="empty"), "svg").body


@pytest.mark.parametrize(
    ("collection", "status"),
    [
        ("junk", 502),
        ("list", 502),
        ("items", 502),
        ("500", 502),
        ("302", 502),
        ("401", 403),
        ("403", 403),
        ("404", 422),
        ("429", 503),
        ("endless", 422),
    ],
)
def test_a_fetch_that_fails_is_a_clear_problem(reports, collection, status):
    assert fetch(reports, create(reports, collection=collection), "csv").is_problem(status)


def test_a_report_without_the_callers_token_tells_how_to_mend_the_route(reports):
    answer = reports.call("GET", f"/reports/{create(reports)['id']}.csv")
    assert answer.is_problem(502)
    assert "forward_authorization" in answer.json["detail"]


def test_a_gateway_that_is_away_is_502():
    environment = {"GATEWAY_URL": "http://127.0.0.1:9"}
    with running(*GUNICORN, "--bind", "unix:{socket}", "backends.reports.app:app", **environment) as server:
        answer = fetch(server, create(server), "csv")
        assert answer.is_problem(502)
        begun = time.monotonic()
        assert server.stop() < AT_ONCE, time.monotonic() - begun
        assert "A report was not made" in server.log.read_text()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"\xff", 400),
        ([], 422),
        ({}, 422),
        ({**DEFINITION, "title": ""}, 422),
        ({**DEFINITION, "title": "x" * 201}, 422),
        ({**DEFINITION, "title": 5}, 422),
        ({**DEFINITION, "title": "a\x00"}, 422),
        ({**DEFINITION, "title": "\ud800"}, 422),
        ({**DEFINITION, "value": None}, 422),
        ({**DEFINITION, "tenant": "other"}, 422),
    ],
)
def test_bad_input_is_a_problem(reports, body, status):
    headers = {"Content-Type": "application/json"}
    assert reports.call("POST", "/reports", body=body, **headers).is_problem(status)


def test_a_body_that_is_not_json_is_415(reports):
    assert reports.call("POST", "/reports", body=b"title=x").is_problem(415)


def test_redirects_and_links_are_public(reports):
    answer = reports.call("GET", "/", **PREFIX)
    assert (answer.status, answer.headers["Location"]) == (302, "/reports/reports")
    created = reports.call("POST", "/reports", body=DEFINITION, **PREFIX)
    expected = f"https://api.example:8443/reports/reports/{created.json['id']}"
    assert created.headers["Location"] == created.json["url"] == expected
    assert created.json["csv"] == expected + ".csv"


def test_a_junk_prefix_is_refused(reports):
    assert reports.call("GET", "/", **{"X-Forwarded-Prefix": "//evil.example"}).is_problem(400)


def test_long_lists_come_in_pages(reports):
    made = {create(reports, "pages")["id"] for _ in range(101)}
    first = reports.call("GET", "/reports", "pages", **PREFIX).json
    following = first["next"].removeprefix("https://api.example:8443/reports")
    second = reports.call("GET", following, "pages").json
    assert {item["id"] for item in first["items"] + second["items"]} == made
    assert second["next"] is None


def test_the_log_of_a_failure_carries_the_gateways_request_id(reports):
    headers = {"Authorization": TOKEN, "X-Request-ID": "0123abcd"}
    reports.call("GET", f"/reports/{create(reports, collection='500')['id']}.csv", **headers)
    assert "WARNING reports [0123abcd] A report was not made" in reports.log.read_text()
