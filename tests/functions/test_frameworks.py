"""Real frameworks behind the edge, each under the validator of ASGI: their documented uses, and what the edge adds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asgiref.sync
import asgiref.wsgi
import django
import django.conf
import django.core.asgi
import django.core.wsgi
import django.http
import django.urls
import fastapi
import litestar
import litestar.response
import pytest
import quart
from litestar.params import FromPath, FromQuery
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.routing import Route

from edgerouter import Edge
from edgerouter.testing import Client, validated

LARGE = bytes(range(256)) * 2_048
EVENTS: list[str] = []

# -- the same application in each framework ----------------------------------------------------------------------------


def hello_django(request: Any, name: str) -> django.http.HttpResponse:
    response = django.http.JsonResponse({"hello": name, "url": request.build_absolute_uri(), "q": request.GET["q"]})
    response.set_cookie("seen", "1")
    return response


async def echo_django(request: Any) -> django.http.HttpResponse:
    return django.http.HttpResponse(request.body, content_type="application/x-echo")


def stream_django(request: Any) -> django.http.StreamingHttpResponse:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(LARGE), 65_536):
            yield LARGE[at : at + 65_536]

    return django.http.StreamingHttpResponse(pieces())


def upload_django(request: Any) -> django.http.HttpResponse:
    return django.http.JsonResponse({"title": request.POST["title"], "size": request.FILES["file"].size})


class Urls:
    """Django's table of URLs, which is a module elsewhere."""

    urlpatterns = [
        django.urls.path("hello/<str:name>", hello_django),
        django.urls.path("echo", echo_django),
        django.urls.path("stream", stream_django),
        django.urls.path("upload", upload_django),
    ]


def django_app() -> Any:
    if not django.conf.settings.configured:
        django.conf.settings.configure(
            ROOT_URLCONF=Urls, ALLOWED_HOSTS=["*"], SECRET_KEY="of this test", DEBUG=False, MIDDLEWARE=[]
        )
        django.setup()
    return django.core.asgi.get_asgi_application()


def quart_app() -> Any:
    app = quart.Quart("test")

    @app.before_serving
    async def begins() -> None:
        EVENTS.append("quart begins")

    @app.after_serving
    async def ends() -> None:
        EVENTS.append("quart ends")

    @app.get("/hello/<name>")
    async def hello(name: str) -> quart.Response:
        shown = {"hello": name, "url": quart.request.url, "q": quart.request.args["q"]}
        response: quart.Response = quart.jsonify(shown)
        response.set_cookie("seen", "1")
        return response

    @app.post("/echo")
    async def echo() -> quart.Response:
        return quart.Response(await quart.request.get_data(), content_type="application/x-echo")

    @app.get("/stream")
    async def stream() -> Any:
        async def pieces() -> AsyncIterator[bytes]:
            for at in range(0, len(LARGE), 65_536):
                yield LARGE[at : at + 65_536]

        return pieces()

    @app.post("/upload")
    async def upload() -> dict[str, Any]:
        form, files = await quart.request.form, await quart.request.files
        return {"title": form["title"], "size": len(files["file"].read())}

    return app


def litestar_app() -> Any:
    @litestar.get("/hello/{name:str}", sync_to_thread=False)
    def hello(
        request: litestar.Request[Any, Any, Any], name: FromPath[str], q: FromQuery[str]
    ) -> litestar.Response[dict[str, str]]:
        response = litestar.Response({"hello": name, "url": str(request.url), "q": q})
        response.set_cookie("seen", "1")
        return response

    @litestar.post("/echo", status_code=200)
    async def echo(request: litestar.Request[Any, Any, Any]) -> litestar.Response[bytes]:
        return litestar.Response(await request.body(), media_type="application/x-echo")

    @litestar.get("/stream")
    async def stream() -> litestar.response.Stream:
        async def pieces() -> AsyncIterator[bytes]:
            for at in range(0, len(LARGE), 65_536):
                yield LARGE[at : at + 65_536]

        return litestar.response.Stream(pieces())

    @litestar.post("/upload", status_code=200)
    async def upload(request: litestar.Request[Any, Any, Any]) -> dict[str, Any]:
        form = await request.form()
        return {"title": form["title"], "size": len(await form["file"].read())}

    def begins() -> None:
        EVENTS.append("litestar begins")

    def ends() -> None:
        EVENTS.append("litestar ends")

    return litestar.Litestar(
        [hello, echo, stream, upload], on_startup=[begins], on_shutdown=[ends], openapi_config=None, logging_config=None
    )


@pytest.mark.parametrize(
    ("make", "life"),
    [
        pytest.param(django_app, [], id="Django"),
        pytest.param(quart_app, ["quart begins", "quart ends"], id="Quart"),
        pytest.param(litestar_app, ["litestar begins", "litestar ends"], id="Litestar"),
    ],
)
def test_a_framework_serves_below_its_path(make: Any, life: list[str]) -> None:
    EVENTS.clear()
    edge = Edge("test")
    edge.mount("/app", validated(make()))
    with Client(edge) as client:
        found = client.get("/app/hello/ada?q=b%20c")
        assert found.json() == {"hello": "ada", "url": "http://edge.test/app/hello/ada?q=b%20c", "q": "b c"}
        assert client.cookies["seen"] == "1"
        assert client.post("/app/echo", content=LARGE).content == LARGE
        assert client.get("/app/stream").content == LARGE
        sent = client.post("/app/upload", data={"title": "a"}, files={"file": ("a.bin", LARGE)})
        assert sent.json() == {"title": "a", "size": len(LARGE)}
        assert client.get("/app/none").status_code == 404
        assert client.get("/hello/ada").status_code == 404
        assert client.get("https://edge.test/app/hello/a?q=").json()["url"].startswith("https://edge.test/app/hello/a")
        assert life[:1] == EVENTS
    assert life == EVENTS


def test_django_serves_by_wsgi_too() -> None:
    django_app()
    edge = Edge("test")
    edge.mount("/app", django.core.wsgi.get_wsgi_application())
    with Client(edge) as client:
        assert client.get("/app/hello/ada?q=").json()["url"] == "http://edge.test/app/hello/ada?q="
        assert client.post("/app/upload", data={"title": "a"}, files={"file": LARGE}).json()["size"] == len(LARGE)


def test_the_documented_uses_of_asgiref_run_mounted() -> None:
    def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["PATH_INFO"].encode() + b" " + environ["wsgi.input"].read()]

    def blocking(text: str) -> str:
        return text.upper() + asgiref.sync.async_to_sync(suffix)()

    async def suffix() -> str:
        await asyncio.sleep(0)
        return "!"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        answer = await asgiref.sync.sync_to_async(blocking)(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": answer.encode()})

    edge = Edge("test")
    bridged = asgiref.wsgi.WsgiToAsgi(wsgi)  # type: ignore[no-untyped-call]  # it has no types
    edge.mount("/wsgi", validated(bridged))
    edge.mount("/sync", validated(app))
    with Client(edge) as client:
        assert client.post("/wsgi/a", content=b"body").text == "/a body"
        assert client.get("/sync/a").text == "/SYNC/A!"


def test_starlette_and_fastapi_keep_to_the_interface_and_so_does_the_edge() -> None:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, int]]:
        yield {"answer": 42}

    async def state(request: StarletteRequest) -> JSONResponse:
        return JSONResponse({"answer": request.state.answer, "root": request.scope["root_path"]})

    api = fastapi.FastAPI()

    @api.get("/items/{id}")
    async def item(id: int) -> dict[str, int]:  # noqa: A002
        return {"id": id}

    edge = Edge("test")
    edge.mount("/star", validated(Starlette(routes=[Route("/state", state)], lifespan=lifespan)))
    edge.mount("/api", validated(api))
    with Client(edge) as client:
        assert client.get("/star/state").json() == {"answer": 42, "root": "/star"}
        assert client.get("/api/items/7").json() == {"id": 7} and client.head("/api/items/7").status_code == 405


def test_an_application_that_breaks_the_interface_is_named_by_the_validator() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await send({"type": "http.response.start", "status": 200, "headers": [("Content-Type", "text/plain")]})

    edge = Edge("test")
    edge.mount("/", validated(app))
    with Client(edge) as client:
        answer = client.get("/")
        assert answer.status_code == 502 and "application: http.response.start" in answer.text
