"""gunicorn ... tests.backends.apps.flask_app:app"""

from typing import Any

from flask import Flask, Response, redirect, request, stream_with_context, url_for

from backends.identity.flask import identity, init_app, optional_identity

app = Flask(__name__)
init_app(app)


@app.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/mine")
def mine() -> dict[str, str]:
    return {"tenant": identity().tenant}


@app.get("/open")
def open_to_all() -> dict[str, Any]:
    who = optional_identity()
    return {
        "tenant": who.tenant if who else None,
        "client": request.remote_addr,
        "url": url_for("open_to_all", _external=True),
        "port": request.environ["SERVER_PORT"],
    }


@app.post("/upper")
def upper() -> Response:
    """A stream of what comes, as it comes."""
    pieces = iter(lambda: request.stream.read(1000), b"")
    return Response(stream_with_context(piece.upper() for piece in pieces))


@app.post("/ignore")
def ignore() -> tuple[str, int]:
    return "", 204


@app.get("/go")
def go() -> Any:
    return redirect(url_for("open_to_all"))
