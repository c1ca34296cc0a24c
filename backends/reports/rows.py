"""Fetch the rows of a report from the gateway's documents, as the caller and with the caller's token."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import requests

PAGE = 200
MOST_ROWS = 10_000
CONNECT_TIMEOUT, READ_TIMEOUT, TOTAL_TIMEOUT = 2.0, 10.0, 25.0  # seconds; the last for all pages together


class FetchFailed(Exception):
    """The rows did not come. `status` is what the caller is told; the text is for the caller too."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


def fetch(gateway_url: str, collection: str, authorization: str) -> Iterator[dict[str, Any]]:
    """All documents of a collection, by pages. Raises FetchFailed; asks for no page after TOTAL_TIMEOUT."""
    url = f"{gateway_url.rstrip('/')}/documents/{quote(collection, safe='')}/"
    deadline = time.monotonic() + TOTAL_TIMEOUT
    count, cursor = 0, None
    with requests.Session() as session:
        session.trust_env = False  # no proxy and no .netrc: the token goes to the gateway alone
        session.headers["Authorization"] = authorization
        while True:
            if time.monotonic() > deadline:
                raise FetchFailed(504, f"The documents did not all come within {TOTAL_TIMEOUT:.0f} s.")
            page = _page(session, url, {"limit": PAGE} | ({"cursor": cursor} if cursor else {}))
            count += len(page["items"])
            if count > MOST_ROWS:
                raise FetchFailed(
                    422, f"The collection has more than {MOST_ROWS} documents: too many to report."
                )
            yield from page["items"]
            cursor = page["next"]
            if not cursor:
                return


def _page(session: requests.Session, url: str, query: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = session.get(
            url, params=query, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT), allow_redirects=False
        )
        if answer.status_code != 200:
            raise _refused(answer.status_code)
        page = answer.json()
        if not all(isinstance(item, dict) for item in page["items"]):
            raise TypeError
        return {"items": page["items"], "next": page.get("next")}
    except requests.Timeout:
        raise FetchFailed(504, "The documents did not come in time.") from None
    except (KeyError, TypeError, AttributeError, requests.JSONDecodeError):
        raise FetchFailed(502, "The gateway's response is not a list of documents.") from None
    except requests.RequestException as error:
        raise FetchFailed(
            502, f"The gateway's documents cannot be reached ({type(error).__name__})."
        ) from None


def _refused(status: int) -> FetchFailed:
    if status in (401, 403):
        return FetchFailed(403, "The caller's token may not read documents; a report needs that right too.")
    if status in (400, 404):
        return FetchFailed(422, "The report's collection does not exist, or its name is none.")
    if status in (429, 503):
        return FetchFailed(503, "The gateway's documents are busy; try again in a moment.")
    return FetchFailed(502, f"The gateway's documents answered {status}.")
