"""gunicorn ... backends.reports.app:app"""

from __future__ import annotations

import json
import logging
import logging.config
import os
from dataclasses import asdict
from typing import Any

from flask import Flask, Response, redirect, render_template, request, url_for
from werkzeug.exceptions import HTTPException, NotFound, UnprocessableEntity

from backends import data
from backends.identity import log, problem
from backends.identity.flask import identity, init_app
from backends.reports import render, rows
from backends.reports.store import Report, Reports

logging.config.dictConfig(log.config())
logger = logging.getLogger("reports")

FIELDS = {"title": 200, "collection": 64, "group_by": 64, "value": 64}  # longest text of each
OPTIONAL = {"value"}
PAGE = 100

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 64 * 1024
init_app(app)
reports = Reports(data.folder("reports") / "reports.sqlite3")


@app.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/")
def index() -> Any:
    return redirect(url_for("list_reports"))


@app.get("/reports")
def list_reports() -> dict[str, Any]:
    page = reports.list(identity().tenant, request.args.get("after", ""), PAGE + 1)
    more = len(page) > PAGE
    following = url_for("list_reports", after=page[PAGE - 1].id, _external=True) if more else None
    return {"items": [represent(report) for report in page[:PAGE]], "next": following}


@app.post("/reports")
def create_report() -> tuple[dict[str, Any], int, dict[str, str]]:
    report = reports.add(identity().tenant, **read_definition())
    answer = represent(report)
    return answer, 201, {"Location": answer["url"]}


@app.get("/reports/<uuid:id>")
def read_report(id: Any) -> dict[str, Any]:
    return represent(find(id))


@app.delete("/reports/<uuid:id>")
def delete_report(id: Any) -> tuple[str, int]:
    if not reports.delete(identity().tenant, str(id)):
        raise NotFound("There is no such report.")
    return "", 204


@app.get("/reports/<uuid:id>.csv")
def table(id: Any) -> Response:
    report = find(id)
    text = render.as_csv(summarise(report), report.group_by, report.value)
    headers = {"Content-Disposition": f'attachment; filename="report-{report.id}.csv"'}
    return Response(text, mimetype="text/csv", headers=headers)


@app.get("/reports/<uuid:id>.svg")
def chart(id: Any) -> Response:
    report = find(id)
    groups = summarise(report)
    measure = f"sum of {report.value}" if report.value else "number of documents"
    drawn = render.bars(groups, width=400, step=32)
    text = render_template(
        "chart.svg",
        title=report.title,
        caption=f"{measure} in {report.collection} by {report.group_by}",
        bars=drawn,
        height=112 + 32 * max(len(drawn), 1),
    )
    # An SVG opened by itself is a document: let it run nothing.
    return Response(text, mimetype="image/svg+xml", headers={"Content-Security-Policy": "default-src 'none'"})


@app.errorhandler(HTTPException)
def http_problem(error: HTTPException) -> Response:
    # Flask makes this of a bug too (500), after logging it; its description then tells nothing of the cause.
    answer = error.get_response()
    answer.data = json.dumps(problem(error.code or 500, error.description or ""))
    answer.content_type = "application/problem+json"
    return answer


@app.errorhandler(rows.FetchFailed)
def fetch_problem(error: rows.FetchFailed) -> tuple[dict[str, object], int, dict[str, str]]:
    logger.warning("A report was not made: %s", error)
    return problem(error.status, str(error)), error.status, {"Content-Type": "application/problem+json"}


def find(id: Any) -> Report:
    """The caller's report, or 404: what another tenant has is as absent as what nobody has."""
    report = reports.get(identity().tenant, str(id))
    if report is None:
        raise NotFound("There is no such report.")
    return report


def represent(report: Report) -> dict[str, Any]:
    url = url_for("read_report", id=report.id, _external=True)
    return {**asdict(report), "url": url, "csv": url + ".csv", "svg": url + ".svg"}


def summarise(report: Report) -> list[render.Group]:
    """Blocks until the rows are here: this thread is one of the seats that the gateway gives out."""
    authorization = request.headers.get("Authorization")
    gateway_url = os.environ.get("GATEWAY_URL")
    if not authorization or not gateway_url:
        missing = "Authorization header" if gateway_url else "GATEWAY_URL in the environment"
        raise rows.FetchFailed(
            502,
            f"The rows cannot be fetched: there is no {missing}. The route to this application must say "
            "`forward_authorization: true`, and its environment must name the gateway.",
        )
    fetched = rows.fetch(gateway_url, report.collection, authorization)
    return render.summarise(fetched, report.group_by, report.value)


def read_definition() -> dict[str, str]:
    """The fields of a report from the body; 400, 415 or 422 if they are not there."""
    body = request.get_json()
    if not isinstance(body, dict):
        raise UnprocessableEntity("The body must be a JSON object.")
    unknown = sorted(set(body) - set(FIELDS))
    if unknown:
        raise UnprocessableEntity(f"Only {', '.join(FIELDS)} may be given; there are {len(unknown)} more.")
    for name, longest in FIELDS.items():
        value = body.setdefault(name, "") if name in OPTIONAL else body.get(name)
        usable = isinstance(value, str) and len(value) <= longest and render.printable(value) == value
        if not usable or not (value or name in OPTIONAL):
            raise UnprocessableEntity(f"{name} must be a text of 1 to {longest} printable characters.")
    return body
