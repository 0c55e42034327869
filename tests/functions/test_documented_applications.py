"""The uses that Starlette and FastAPI document, mounted: what their test clients show holds behind the edge, too."""

# FastAPI reads the annotations of functions that are made within another, so they are no texts here.

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import fastapi
import pydantic
import pytest
from fastapi import BackgroundTasks, Cookie, Depends, FastAPI, File, Form, Header, HTTPException, UploadFile
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, StreamingResponse
from fastapi.security import HTTPBearer
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import FileResponse, PlainTextResponse
from starlette.responses import Response as StarletteResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from edgerouter import Edge
from edgerouter.testing import Client, validated

from ..origins import wait_until

SENT: list[str] = []


class Item(pydantic.BaseModel):
    """The model of the tutorial."""

    name: str
    price: float
    tags: set[str] = set()


def fastapi_application() -> FastAPI:
    models: dict[str, Any] = {}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        models["double"] = lambda x: 2 * x
        yield
        models.clear()

    app = FastAPI(lifespan=lifespan)
    router = fastapi.APIRouter(prefix="/users", tags=["users"])
    bearer = HTTPBearer()

    @app.middleware("http")
    async def adds_a_field(request: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        response = await call_next(request)
        response.headers["x-process"] = "1"
        return response

    @app.exception_handler(ZeroDivisionError)
    async def teapot(request: Any, error: ZeroDivisionError) -> JSONResponse:
        return JSONResponse({"message": "Oops"}, 418)

    async def common(q: str | None = None, skip: int = 0, limit: int = 100) -> dict[str, Any]:
        return {"q": q, "skip": skip, "limit": limit}

    async def resource() -> AsyncIterator[str]:
        SENT.append("opened")
        try:
            yield "resource"
        finally:
            SENT.append("closed")

    @app.get("/items/{item_id}")
    async def read(item_id: int, common: Annotated[dict[str, Any], Depends(common)]) -> dict[str, Any]:
        return {"item_id": item_id, **common}

    @app.put("/items/{item_id}", response_model=Item, status_code=201)
    async def update(item_id: int, item: Item, user: Annotated[str, Depends(resource)]) -> Any:
        return {**item.model_dump(), "secret": "is left out"}

    @app.get("/fields")
    async def fields(
        user_agent: Annotated[str | None, Header()] = None, ads_id: Annotated[str | None, Cookie()] = None
    ) -> dict[str, Any]:
        return {"agent": user_agent, "ads": ads_id}

    @app.post("/files")
    async def files(
        token: Annotated[str, Form()], file: Annotated[bytes, File()], upload: UploadFile
    ) -> dict[str, Any]:
        return {"token": token, "size": len(file), "type": upload.content_type, "name": upload.filename}

    @app.post("/notify")
    async def notify(tasks: BackgroundTasks) -> dict[str, str]:
        tasks.add_task(SENT.append, "a message")
        return {"message": "sent in the background"}

    @app.get("/stream")
    def stream() -> StreamingResponse:
        def pieces() -> Iterator[str]:
            yield from (f"{number}\n" for number in range(1_000))

        return StreamingResponse(pieces(), media_type="text/plain")

    @app.get("/predict")
    def predict(x: float) -> dict[str, float]:
        return {"result": models["double"](x)}

    @app.get("/typer")
    async def redirects() -> RedirectResponse:
        return RedirectResponse("/app/items/1")

    @app.get("/page", response_class=HTMLResponse)
    async def page() -> str:
        return "<h1>hello</h1>"

    @app.get("/fails/{how}")
    def fails(how: str) -> float:
        if how == "http":
            raise HTTPException(404, "Item not found", {"X-Error": "there goes my error"})
        return 1 / 0

    @app.get("/secure")
    def secure(credentials: Annotated[Any, Depends(bearer)]) -> str:
        return str(credentials.credentials)

    @router.get("/me")
    async def me(request: fastapi.Request) -> dict[str, Any]:
        return {"url": str(request.url_for("me")), "root": request.scope["root_path"]}

    app.include_router(router)
    sub = FastAPI()

    @sub.get("/sub")
    def in_sub(request: fastapi.Request) -> dict[str, str]:
        return {"root": request.scope["root_path"]}

    app.mount("/subapi", sub)
    return app


def test_the_tutorial_of_fastapi_holds_behind_the_edge() -> None:
    SENT.clear()
    edge = Edge("test")
    edge.mount("/app", validated(fastapi_application()))
    with Client(edge) as client:
        assert client.get("/app/items/7?q=a&limit=5").json() == {"item_id": 7, "q": "a", "skip": 0, "limit": 5}
        assert client.get("/app/items/x").json()["detail"][0]["loc"] == ["path", "item_id"]
        made = client.put("/app/items/7", json={"name": "Foo", "price": 4.5, "tags": ["a", "a"]})
        assert (made.status_code, made.json()) == (201, {"name": "Foo", "price": 4.5, "tags": ["a"]})
        assert client.put("/app/items/7", json={"name": "Foo"}).status_code == 422 and made.headers["x-process"] == "1"
        wait_until(lambda: SENT[:2] == ["opened", "closed"], what="the end of the resource")
        found = client.get("/app/fields", headers={"user-agent": "mine", "cookie": "ads_id=x"})
        assert found.json() == {"agent": "mine", "ads": "x"}
        sent = [("file", ("a.bin", b"12345", "text/plain")), ("upload", ("b.png", b"\x89", "image/png"))]
        uploaded = client.post("/app/files", data={"token": "t"}, files=sent)
        assert uploaded.json() == {"token": "t", "size": 5, "type": "image/png", "name": "b.png"}
        assert client.post("/app/notify").json() == {"message": "sent in the background"}
        wait_until(lambda: "a message" in SENT, what="the background task")
        assert client.get("/app/stream").text == "".join(f"{number}\n" for number in range(1_000))
        assert client.get("/app/predict?x=2").json() == {"result": 4.0}
        assert client.get("/app/typer").headers["location"] == "/app/items/1"
        assert client.get("/app/page").headers["content-type"].startswith("text/html")
        failed = client.get("/app/fails/http")
        assert (failed.status_code, failed.headers["x-error"]) == (404, "there goes my error")
        assert client.get("/app/fails/else").status_code == 418
        assert client.get("/app/secure").status_code in (401, 403)
        assert client.get("/app/secure", headers={"authorization": "Bearer t"}).json() == "t"
        assert client.get("/app/users/me").json() == {"url": "http://edge.test/app/users/me", "root": "/app"}
        assert client.get("/app/subapi/sub").json() == {"root": "/app/subapi"}
        assert "/app/openapi.json" in client.get("/app/docs").text
        assert "/items/{item_id}" in client.get("/app/openapi.json").json()["paths"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.css").write_text("body{}" * 500)
    return tmp_path


def test_the_documentation_of_starlette_holds_behind_the_edge(folder: Path) -> None:
    async def user(request: StarletteRequest) -> StarletteResponse:
        return PlainTextResponse(str(request.url_for("users:profile", name=request.path_params["name"])))

    async def file(request: StarletteRequest) -> StarletteResponse:
        return FileResponse(folder / "a.css")

    async def not_found(request: StarletteRequest, error: Exception) -> StarletteResponse:
        return PlainTextResponse("nothing here", 404)

    async def echo(request: StarletteRequest) -> StarletteResponse:
        return StarletteResponse(await request.body(), media_type="text/plain")

    app = Starlette(
        routes=[
            Mount("/users", routes=[Route("/{name}", user, name="profile")], name="users"),
            Mount("/static", StaticFiles(directory=folder), name="static"),
            Route("/file", file),
            Route("/echo", echo, methods=["POST"]),
        ],
        middleware=[
            Middleware(CORSMiddleware, allow_origins=["https://a.example"]),
            Middleware(GZipMiddleware, minimum_size=1_000),
        ],
        exception_handlers={404: not_found},
    )
    edge = Edge("test")
    edge.mount("/app", validated(app))
    with Client(edge) as client:
        assert client.get("/app/users/ada").text == "http://edge.test/app/users/ada"
        style = client.get("/app/static/a.css", headers={"origin": "https://a.example"})
        assert style.text == "body{}" * 500 and style.headers["content-encoding"] == "gzip"
        assert style.headers["access-control-allow-origin"] == "https://a.example"
        again = client.get("/app/static/a.css", headers={"if-none-match": style.headers["etag"]})
        assert again.status_code == 304 and not again.content
        part = client.get("/app/file", headers={"range": "bytes=0-3", "accept-encoding": "identity"})
        assert (part.status_code, part.text) == (206, "body")
        assert client.get("/app/none").text == "nothing here"
        chunked = client.post("/app/echo", content=iter([b"in ", b"pieces"]))
        assert chunked.text == "in pieces"
