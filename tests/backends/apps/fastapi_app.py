"""uvicorn ... tests.backends.apps.fastapi_app:app"""

from typing import Any

from fastapi import FastAPI, Request, WebSocket
from starlette.responses import RedirectResponse

from backends.identity.fastapi import Caller, GatewayMiddleware, OptionalCaller

app = FastAPI()
app.add_middleware(GatewayMiddleware)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/mine")
async def mine(caller: Caller) -> dict[str, str]:
    return {"tenant": caller.tenant}


@app.get("/open")
async def open_to_all(request: Request, caller: OptionalCaller) -> dict[str, Any]:
    return {
        "tenant": caller.tenant if caller else None,
        "client": request.client.host if request.client else None,
        "url": str(request.url_for("open_to_all")),
        "port": str(request.scope["server"][1]),
    }


@app.get("/go")
async def go(request: Request) -> RedirectResponse:
    return RedirectResponse(request.url_for("open_to_all").path, 302)


@app.websocket("/socket")
async def socket(websocket: WebSocket, caller: Caller) -> None:
    await websocket.accept()
    await websocket.send_text(caller.tenant)
    await websocket.close()
