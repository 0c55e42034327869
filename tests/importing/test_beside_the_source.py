"""nginx and Caddy with a configuration, and the edge with its import, answer the same requests in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from edgerouter import Edge
from edgerouter.application import FileApplication
from edgerouter.importing import read
from edgerouter.testing import Running

from ..origins import Origin, Reply, Seen
from ..webservers import nginx_with, web_server

NGINX = nginx_with(
    """
        server_name _;
        root {folder}/site;
        location = /exact {{ return 200 "exact\\n"; }}
        location ^~ /firm/ {{ proxy_pass {origin}; }}
        location ~ \\.(png|jpe?g)$ {{ proxy_pass {origin}; }}
        location ~ ^/(de|fr)/ {{ proxy_pass {origin}; proxy_set_header X-Language yes; }}
        location /api/ {{ proxy_pass {origin}/; proxy_set_header Host $host; }}
        location /base/ {{ proxy_pass {origin}/other/; }}
        location /v1/ {{ rewrite ^/v1/(.*)$ /v2/$1 break; proxy_pass {origin}; }}
        location /moved {{ return 302 /elsewhere; }}
        location /blog/ {{ return 301 https://blog.example.com$request_uri; }}
        location /closed/ {{ deny all; }}
        location /files/ {{ add_header X-Files yes; }}
        location / {{ try_files $uri $uri/ =404; }}
"""
)

CADDY = """
{{
	admin off
	auto_https off
	storage file_system {folder}/caddy
}}
http://127.0.0.1:{port} {{
	root * {folder}/site
	redir /moved /elsewhere
	redir /blog/* https://blog.example.com{{uri}} 301
	respond /exact "exact\\n" 200
	respond /closed/* 403
	header /files/* X-Files yes
	handle_path /api/* {{
		reverse_proxy {address}
	}}
	handle /firm/* {{
		reverse_proxy {address} {{
			header_up X-Language yes
		}}
	}}
	@images path *.png *.jpg
	handle @images {{
		reverse_proxy {address}
	}}
	handle {{
		file_server
	}}
}}
"""

TEXTS = {"nginx": NGINX, "caddy": CADDY}

PATHS = [
    "/exact",
    "/exactly",
    "/firm/x.png",
    "/firm/",
    "/a.png",
    "/x/b.jpg",
    "/c.jpg?size=2",
    "/api/users?page=2",
    "/api/",
    "/api/a/b.txt",
    "/moved",
    "/blog/post?x=1",
    "/closed/x",
    "/files/a.txt",
    "/",
    "/page.html",
    "/sub/",
    "/missing",
    "/missing/",
    "/a%20b.txt",
]
ONLY = {"nginx": ["/d.jpeg", "/de/x", "/fr/y?z=1", "/en/x", "/base/x", "/base/", "/v1/x", "/v1/a/b?q=1"], "caddy": []}


@pytest.fixture
def beside(
    tmp_path: Path, origin: Origin, serve: Callable[[Edge], Running]
) -> Iterator[Callable[[str], tuple[httpx.Client, httpx.Client]]]:
    """``beside(kind)`` gives a client of the source's own server, and one of the edge."""
    site = tmp_path / "site"
    for name, text in (
        ("index.html", "start\n"),
        ("page.html", "page\n"),
        ("sub/index.html", "below\n"),
        ("files/a.txt", "a\n"),
        ("a b.txt", "space\n"),
    ):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    with ExitStack() as stack:

        def make(kind: str) -> tuple[httpx.Client, httpx.Client]:
            address = origin.url.removeprefix("http://")
            server = web_server(kind, TEXTS[kind], tmp_path, origin=origin.url, address=address)
            source = stack.enter_context(server)
            app = tmp_path / "app" / "app.py"
            app.parent.mkdir()
            # The edge listens on a port of its own.
            lines = read(source.file).program.split("\n")
            app.write_text("\n".join(line for line in lines if not line.startswith("edge.listen(")))
            edge = serve(FileApplication(str(app)).load())
            urls = (source.url, edge.url)
            first, second = (stack.enter_context(httpx.Client(base_url=url, timeout=10.0)) for url in urls)
            return first, second

        yield make


@pytest.mark.parametrize("kind", TEXTS)
def test_the_edge_answers_as_the_server_that_it_takes_over_from(
    kind: str, beside: Callable[[str], tuple[httpx.Client, httpx.Client]], origin: Origin
) -> None:
    def echo(seen: Seen) -> Reply:
        return Reply(200, {"content-type": "text/plain"}, f"{seen.target} {seen.get('x-language')}\n")

    origin.default = echo
    differences = {}
    clients = beside(kind)
    for path in [*PATHS, *ONLY[kind]]:
        answers = []
        for client in clients:
            response = client.get(path)
            location = response.headers.get("location", "").removeprefix(str(client.base_url).rstrip("/"))
            body = response.text if response.status_code == 200 else ""
            answers.append((response.status_code, location, response.headers.get("x-files"), body))
        if answers[0] != answers[1]:
            differences[path] = answers
    assert differences == {}
