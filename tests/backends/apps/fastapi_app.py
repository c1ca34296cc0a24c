"""uvicorn ... tests.backends.apps.fastapi_app:app"""

from typing import Annotated, Any

from fastapi import FastAPI, Request, Security, WebSocket
from starlette.responses import RedirectResponse

from backends.identity import Identity
from backends.identity.fastapi import Caller, GatewayMiddleware, OptionalCaller, caller

app = FastAPI()
app.add_middleware(GatewayMiddleware)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/mine")
async def mine(caller: Caller) -> dict[str, str]:
    return {"tenant": caller.tenant}


@app.post("/things")
async def add(who: Annotated[Identity, Security(caller, scopes=["things:write"])]) -> dict[str, str]:
    return {"added by": who.subject}


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
