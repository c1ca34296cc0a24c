"""The Django application, served by gunicorn with threads on a unix socket."""

import os
import re
import subprocess
import sys
import threading
import uuid
from urllib.parse import urlencode

import pytest

from tests.backends.servers import FORWARDED, GUNICORN, ROOT, running
from tests.eventually import AT_ONCE

SERVE = (*GUNICORN, "--bind", "unix:{socket}", "backends.catalog.wsgi:application")
SERVE_ADMIN = (*GUNICORN, "--bind", "unix:{socket}", "backends.catalog.admin_wsgi:application")
PREFIX = {"X-Forwarded-Prefix": "/catalog", **FORWARDED}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("catalog")


@pytest.fixture(scope="module")
def catalog(data):
    with running(*SERVE, data=data) as server:
        yield server


@pytest.fixture
def product(catalog):
    """A product of acme."""
    answer = catalog.call(
        "POST", "/products", body={"sku": uuid.uuid4().hex, "name": "Canary", "price": "9.5"}
    )
    assert answer.status == 201
    return answer.json


def test_a_new_catalogue_is_an_empty_list(catalog):
    assert catalog.call("GET", "/products", tenant="fresh").json == {"items": [], "next": None}
    assert catalog.call("GET", "/stock", tenant="fresh").json == {"items": [], "next": None}


@pytest.mark.parametrize("path", ["/products", "/stock", "/shop", "/", "/nowhere"])
def test_a_request_without_an_identity_is_refused(catalog, path):
    assert catalog.call("GET", path, tenant=None).is_problem(401)
    assert catalog.call("GET", path, tenant="Not-A-Tenant").is_problem(401)


def test_a_repeated_tenant_header_is_refused(catalog):
    # gunicorn joins repeated headers with a comma.
    assert catalog.call("GET", "/products", tenant="acme,acme").is_problem(401)


def test_a_product_goes_through_every_verb(catalog, product):
    path = f"/products/{product['id']}"
    assert (product["price"], product["currency"]) == ("9.50", "EUR")
    assert catalog.call("GET", path).json == product
    assert catalog.call("HEAD", path).body == b""
    changed = catalog.call("PATCH", path, body={"price": 12, "currency": "CZK"})
    assert (changed.status, changed.json["price"], changed.json["name"]) == (200, "12.00", "Canary")
    replaced = catalog.call("PUT", path, body={"sku": product["sku"], "name": "New", "price": "1"})
    assert (replaced.status, replaced.json["name"], replaced.json["currency"]) == (200, "New", "EUR")
    assert catalog.call("DELETE", path).status == 204
    assert catalog.call("GET", path).is_problem(404)


def test_stock_goes_through_every_verb_and_goes_with_its_product(catalog, product):
    level = {"product": product["id"], "warehouse": "Brno", "quantity": 3}
    created = catalog.call("POST", "/stock", body=level)
    assert created.status == 201
    path = f"/stock/{created.json['id']}"
    assert catalog.call("GET", path).json == created.json
    assert catalog.call("POST", "/stock", body=level).is_problem(409)
    assert catalog.call("PATCH", path, body={"quantity": 5}).json["quantity"] == 5
    assert catalog.call("PUT", path, body={**level, "warehouse": "Praha"}).json["warehouse"] == "Praha"
    assert "3 in stock" in catalog.call("GET", f"/shop/{product['id']}").body.decode()
    catalog.call("DELETE", f"/products/{product['id']}")
    assert catalog.call("GET", path).is_problem(404)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE"])
def test_another_tenants_product_is_as_absent_as_one_that_never_was(catalog, product, method):
    body = {"sku": "x", "name": "x", "price": 1} if method in ("PUT", "PATCH") else None
    theirs = catalog.call(method, f"/products/{product['id']}", "other", body)
    nobodys = catalog.call(method, f"/products/{uuid.uuid4()}", "other", body)
    assert theirs.status == 404
    assert theirs.same_as(nobodys)
    assert catalog.call("GET", f"/products/{product['id']}").json == product


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_another_tenants_stock_is_as_absent_as_one_that_never_was(catalog, product, method):
    level = {"product": product["id"], "warehouse": "Brno", "quantity": 3}
    created = catalog.call("POST", "/stock", body=level).json
    theirs = catalog.call(method, f"/stock/{created['id']}", "other", level)
    assert theirs.status == 404
    assert theirs.same_as(catalog.call(method, f"/stock/{uuid.uuid4()}", "other", level))
    assert catalog.call("GET", f"/stock/{created['id']}").json == created


def test_lists_and_pages_show_only_the_callers_products(catalog, product):
    for path in ("/products", "/shop", "/stock"):
        assert b"Canary" not in catalog.call("GET", path, "other").body
    assert b"Canary" in catalog.call("GET", "/shop").body
    assert catalog.call("GET", f"/shop/{product['id']}", "other").is_problem(404)


def test_stock_cannot_name_another_tenants_product(catalog, product):
    def level(product_id):
        body = {"product": product_id, "warehouse": "Brno", "quantity": 3}
        return catalog.call("POST", "/stock", "other", body)

    theirs = level(product["id"])
    assert theirs.is_problem(422)
    assert theirs.same_as(level(str(uuid.uuid4())))


def test_two_tenants_may_use_the_same_sku_and_one_may_not_use_it_twice(catalog, product):
    body = {"sku": product["sku"], "name": "Mine", "price": 1}
    assert catalog.call("POST", "/products", "third", body).status == 201
    assert catalog.call("POST", "/products", "third", body).is_problem(409)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b"[]", 400),
        (b'{"price": NaN}', 400),
        (b"[" * 100_000, 400),
        (b'{"a": "' + b"x" * 1_100_000 + b'"}', 413),
        ({}, 422),
        ({"sku": "a b", "name": "x", "price": 1}, 422),
        ({"sku": "a", "name": "x", "price": -1}, 422),
        ({"sku": "a", "name": "x", "price": "1.234"}, 422),
        ({"sku": "a", "name": "x", "price": "1e999999"}, 422),
        ({"sku": "a", "name": "x", "price": 1, "currency": "euro"}, 422),
        ({"sku": "a", "name": ["x"], "price": 1}, 422),
        ({"sku": "a", "name": "\ud800", "price": 1}, 422),
        ({"sku": "a", "name": "x\x00", "price": 1}, 422),
        ({"sku": "a", "name": "x", "price": 1, "tenant": "other"}, 422),
    ],
)
def test_bad_input_is_a_problem_that_names_it(catalog, body, status):
    answer = catalog.call("POST", "/products", body=body)
    assert answer.is_problem(status)
    assert status != 422 or answer.json["errors"]


def test_an_early_refusal_reaches_a_caller_that_is_still_sending(catalog):
    large = b"x" * 5_000_000
    assert catalog.call("POST", "/products", None, large).is_problem(401)
    assert catalog.call("POST", "/nowhere", body=large).is_problem(404)
    assert catalog.call("DELETE", "/products", body=large).is_problem(405)


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "limit=", "limit=-1", "limit=%C2%B2"])
def test_a_bad_page_size_is_a_problem(catalog, query):
    assert catalog.call("GET", f"/products?{query}").is_problem(400)


def test_a_wrong_method_names_the_right_ones(catalog):
    answer = catalog.call("DELETE", "/products")
    assert answer.is_problem(405)
    assert answer.headers["Allow"] == "GET, POST, HEAD, OPTIONS"


def test_pages_follow_each_other_by_public_links(catalog):
    for sku in "abc":
        catalog.call("POST", "/products", "paging", {"sku": sku, "name": sku, "price": 1})
    seen, path = [], "/products?limit=2"
    while path:
        page = catalog.call("GET", path, "paging", **PREFIX).json
        seen += [item["sku"] for item in page["items"]]
        path = page["next"] and page["next"].removeprefix("https://api.example:8443/catalog")
        assert path is None or path.startswith("/products?")
    assert seen == ["a", "b", "c"]


def test_redirects_keep_the_public_prefix(catalog):
    assert catalog.call("GET", "/", **PREFIX).headers["Location"] == "/catalog/shop"
    assert catalog.call("GET", "/").headers["Location"] == "/shop"


def test_links_are_public(catalog):
    body = {"sku": uuid.uuid4().hex, "name": "x", "price": 1}
    created = catalog.call("POST", "/products", body=body, **PREFIX)
    expected = f"https://api.example:8443/catalog/products/{created.json['id']}"
    assert created.headers["Location"] == created.json["url"] == expected
    assert (
        f'href="/catalog/shop/{created.json["id"]}"' in catalog.call("GET", "/shop", **PREFIX).body.decode()
    )


@pytest.mark.parametrize("prefix", ["//evil.example", "catalog", "/a/../b", '/"'])
def test_a_junk_prefix_is_refused(catalog, prefix):
    assert catalog.call("GET", "/", **{"X-Forwarded-Prefix": prefix}).is_problem(400)


def test_markup_in_a_name_is_text_on_the_page(catalog):
    catalog.call("POST", "/products", "markup", {"sku": "a", "name": "<script>alert(1)</script>", "price": 1})
    page = catalog.call("GET", "/shop", "markup")
    assert b"<script>" not in page.body
    assert b"&lt;script&gt;" in page.body
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_concurrent_writers_wait_for_each_other(catalog):
    answers = []

    def write(number):
        body = {"sku": f"w{number}", "name": "x", "price": 1}
        answers.append(catalog.call("POST", "/products", "crowd", body).status)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [201] * 16


def test_the_gateway_side_never_reaches_the_admin_site(catalog):
    for path in ("/admin/", "/login/", "/auth/user/", "/static/admin/css/base.css"):
        assert catalog.call("GET", path).is_problem(404)


def test_the_secret_key_and_the_socket_are_the_owners_alone(catalog, data):
    assert (data / "secret_key").stat().st_mode & 0o777 == 0o600
    assert os.stat(catalog.socket_path).st_mode & 0o077 == 0


class Staff:
    """A browser with cookies on the admin site."""

    def __init__(self, server):
        self.server = server
        self.cookies = {}

    def call(self, method, path, form=None):
        headers = {
            "Host": "127.0.0.1",
            "Cookie": "; ".join(f"{key}={value}" for key, value in self.cookies.items()),
        }
        body = None
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode({**form, "csrfmiddlewaretoken": self.cookies["catalog_admin_csrf"]}).encode()
        answer = self.server.call(method, path, None, body, **headers)
        for line in answer.headers.get_all("Set-Cookie", []):
            self.cookies.update([line.partition(";")[0].split("=", 1)])
        return answer


@pytest.fixture(scope="module")
def staff(catalog, data):
    environment = {**os.environ, "DATA": str(data), "DJANGO_SUPERUSER_PASSWORD": "correct horse battery"}
    create = ["createsuperuser", "--noinput", "--username", "root", "--email", "root@example.org"]
    command = [sys.executable, "-m", "backends.catalog", *create]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=120)
    with running(*SERVE_ADMIN, data=data) as server:
        yield Staff(server)


def test_staff_log_in_and_keep_every_tenants_products(catalog, staff, product):
    assert staff.call("GET", "/").headers["Location"] == "/login/?next=/"
    assert staff.call("GET", "/login/").status == 200
    assert staff.call("GET", "/static/admin/css/base.css").status == 200
    entered = staff.call("POST", "/login/", {"username": "root", "password": "correct horse battery"})
    assert entered.status == 302
    assert product["sku"] in staff.call("GET", "/products/product/").body.decode()

    form = {"new_tenant": "by-staff", "sku": "s-1", "name": "Made by staff", "price": "5", "currency": "EUR"}
    assert staff.call("POST", "/products/product/add/", form).status == 302
    made = catalog.call("GET", "/products", "by-staff").json["items"]
    assert [item["name"] for item in made] == ["Made by staff"]
    again = staff.call("POST", "/products/product/add/", form)
    assert "Another entry of this tenant has the same key" in again.body.decode()

    level = {"new_tenant": "by-staff", "product": made[0]["id"], "warehouse": "Brno", "quantity": "2"}
    assert made[0]["id"] in staff.call("GET", "/stock/level/add/").body.decode()
    crossed = staff.call("POST", "/stock/level/add/", {**level, "new_tenant": "other"})
    assert "There is no such product" in crossed.body.decode()
    assert staff.call("POST", "/stock/level/add/", level).status == 302
    listed = catalog.call("GET", "/stock", "by-staff").json["items"]
    change = f"/stock/level/{listed[0]['id']}/change/"
    assert staff.call("GET", change).status == 200
    assert staff.call("POST", change, {**level, "quantity": "7"}).status == 302
    assert catalog.call("GET", "/stock", "by-staff").json["items"][0]["quantity"] == 7
    assert staff.call("POST", f"/products/product/{made[0]['id']}/delete/", {"post": "yes"}).status == 302
    assert catalog.call("GET", "/stock", "by-staff").json["items"] == []


def test_the_admin_site_takes_no_identity_for_a_login_and_no_foreign_host(staff):
    answer = staff.server.call("GET", "/products/product/", Host="127.0.0.1")
    assert re.match("/login/", answer.headers["Location"])
    assert staff.server.call("GET", "/login/", Host="evil.example").status == 400


def test_a_query_without_a_tenant_raises(tmp_path):
    code = """
import os, django
os.environ["DJANGO_SETTINGS_MODULE"] = "backends.catalog.settings"
django.setup()
from backends.catalog.products.models import Product
from backends.catalog.tenancy import UnscopedQuery
from django.shortcuts import get_object_or_404
products = Product.objects
for ask in (products.all, products.count, products.first, lambda: products.filter(sku="a"),
            lambda: get_object_or_404(Product, sku="a"), Product(sku="a", name="a", price=1).save):
    try:
        ask()
    except UnscopedQuery:
        continue
    raise SystemExit(f"{ask} was answered")
"""
    environment = {**os.environ, "DATA": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, timeout=120)


def test_models_and_migrations_agree(tmp_path):
    command = [sys.executable, "-m", "backends.catalog", "makemigrations", "--check", "--dry-run"]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "DATA": str(tmp_path)}, check=True, timeout=120)


def test_data_survives_a_restart_and_sigterm_is_quick(tmp_path):
    with running(*SERVE, data=tmp_path) as server:
        server.call("POST", "/products", body={"sku": "kept", "name": "x", "price": 1})
        assert server.stop() < AT_ONCE
        assert server.log.read_text() == ""
    with running(*SERVE, data=tmp_path) as server:
        assert [item["sku"] for item in server.call("GET", "/products").json["items"]] == ["kept"]
