"""HTTP/2 for clients: one Request and one Response value, whatever the protocol."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from edgerouter import Context, Edge, HttpLimits, Limits, Request, Response, Tls, cache
from edgerouter.server import Server
from edgerouter.settings import Settings

from ..certificates import Authority, Issued
from ..origins import Origin, Reply, Seen
from ..raw import exchange, responses
from ..tls.clients import connected, sample, until
from ..tls.conftest import Start
from .clients import head, http2

PLAIN = ("h2", "http/1.1")


@pytest.fixture
def www(authority: Authority) -> Issued:
    return authority.issue("www.example.com", "localhost", "127.0.0.1")


def echo(edge: Edge) -> None:
    @edge.function("/echo")
    def answer(request: Request, ctx: Context) -> Response:
        seen = {
            "method": request.method,
            "path": request.path,
            "query": request.query_string,
            "scheme": request.scheme,
            "host": request.headers["host"],
            "cookie": request.headers.get("cookie"),
            "body": request.body.decode(),
        }
        return Response.json(seen)


def site(www: Issued, origin: Origin | None = None, **more: object) -> Edge:
    edge = Edge("test", **more)  # type: ignore[arg-type]
    edge.listen("127.0.0.1:0", tls=Tls(www.certificate))
    edge.listen("127.0.0.1:0", http=PLAIN)
    echo(edge)
    if origin is None:
        edge.route("/*", respond="hello")
    else:
        edge.route("/cached/*", to=edge.origin("cached", origin.url), cache=cache.STANDARD)
        edge.route("/*", to=edge.origin("site", origin.url), cache=cache.DISABLED)
    return edge


def test_alpn_selects_http_2_first_and_http_1_1_for_those_that_know_no_other(
    authority: Authority, www: Issued, start: Start
) -> None:
    server = start(site(www))
    for offered, want in ((["h2", "http/1.1"], "h2"), (["http/1.1", "h2"], "h2"), (["http/1.1"], "http/1.1")):
        context = authority.trusted()
        context.set_alpn_protocols(offered)
        with connected(server.urls[0], context) as sock:
            assert sock.selected_alpn_protocol() == want


@pytest.mark.parametrize("secured", [True, False])
def test_a_function_sees_the_same_request_in_both_protocols(
    authority: Authority, www: Issued, start: Start, secured: bool
) -> None:
    server = start(site(www))
    url = server.urls[0 if secured else 1]
    seen = []
    for http_2 in (True, False):
        verify = authority.trusted() if secured else True
        with httpx.Client(http1=not http_2, http2=http_2, verify=verify) as client:
            address = url.replace("127.0.0.1", "localhost") if secured else url
            response = client.post(f"{address}/echo?a=1", content=b"content", cookies={"a": "1", "b": "2"})
            assert response.http_version == ("HTTP/2" if http_2 else "HTTP/1.1")
            seen.append(response.json())
    assert seen[0] == seen[1]
    assert (seen[0]["method"], seen[0]["query"], seen[0]["body"]) == ("POST", "a=1", "content")
    assert seen[0]["scheme"] == ("https" if secured else "http")
    assert seen[0]["cookie"] == "a=1; b=2"


def test_both_protocols_share_the_cache_and_the_origin_hears_one_request(
    authority: Authority, www: Issued, start: Start, origin: Origin
) -> None:
    origin.default = Reply(headers={"cache-control": "max-age=60"}, body="stored")
    server = start(site(www, origin))
    with http2(server.urls[0], authority) as client:
        miss, hit = client.get("/cached/a"), client.get("/cached/a")
    with httpx.Client(verify=authority.trusted()) as old:
        other = old.get(
            server.urls[0] + "/cached/a",
            headers={"host": "www.example.com"},
            extensions={"sni_hostname": "www.example.com"},
        )
    assert [miss.body, hit.body, other.content] == [b"stored"] * 3
    assert other.http_version == "HTTP/1.1"
    # A second may begin between the response and the hit.
    assert int(hit.get("age") or -1) in range(60)
    assert "hit" in (hit.get("cache-status") or "")
    assert origin.count("/cached/a") == 1
    assert str(origin.requests[0].get("via")).startswith("2 ")


def test_crumbs_of_a_cookie_reach_the_origin_as_one_field(
    authority: Authority, www: Issued, start: Start, origin: Origin
) -> None:
    origin.default = Reply(body="x")
    server = start(site(www, origin))
    with http2(server.urls[0], authority) as client:
        client.get("/", "www.example.com", ("cookie", "a=1"), ("x-other", "1"), ("cookie", "b=2"))
    assert origin.requests[0].all("cookie") == ["a=1; b=2"]


def test_head_and_responses_without_content_end_with_their_fields(
    authority: Authority, www: Issued, start: Start, origin: Origin
) -> None:
    def answer(seen: Seen) -> Reply:
        status = int(seen.path.rpartition("/")[2])
        return Reply(status, {"etag": '"a"'}, b"" if status in (204, 304) else b"content")

    origin.default = answer
    server = start(site(www, origin))
    with http2(server.urls[0], authority) as client:
        for method, status, length in (("HEAD", 200, "7"), ("GET", 204, None), ("GET", 304, None)):
            received = client.response(client.request(head(f"/{status}", method)))
            assert (received.status, received.body, received.ended) == (status, b"", True)
            assert received.get("content-length") == length, method
        plain = client.get("/200")
        assert (plain.body, plain.get("content-length"), plain.get("connection")) == (b"content", "7", None)
        assert plain.get("date")


def test_content_goes_both_ways_within_the_windows(
    authority: Authority, www: Issued, start: Start, origin: Origin
) -> None:
    content = bytes(range(256)) * 4_096  # 1 MiB: sixteen windows of a stream
    origin.default = lambda seen: Reply(body=seen.body)
    server = start(site(www, origin))
    with httpx.Client(http1=False, http2=True, verify=authority.trusted()) as client:
        url = server.urls[0].replace("127.0.0.1", "localhost")
        response = client.post(url + "/upload", content=content)
        assert (response.status_code, len(response.content)) == (200, len(content))
        assert response.content == content
        chunks = (content[at : at + 10_000] for at in range(0, len(content), 10_000))
        assert client.post(url + "/upload", content=chunks).content == content, "of a length that nobody declares"


def test_trailers_go_to_the_origin_and_come_from_it(
    authority: Authority, www: Issued, start: Start, origin: Origin
) -> None:
    origin.default = Reply(
        raw=b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n"
        b"3\r\nabc\r\n0\r\nx-sum: 7\r\nx-other: 1\r\n\r\n"
    )
    server = start(site(www, origin))
    with http2(server.urls[0], authority) as client:
        stream = client.request(
            head("/a", "POST", "www.example.com", ("te", "trailers"), ("trailer", "x-mine")), end=False
        )
        client.http.send_data(stream, b"mine")
        client.http.send_headers(stream, [("x-mine", "1")], end_stream=True)
        client.flush()
        received = client.response(stream)
        assert (received.body, received.trailers) == (b"abc", [("x-sum", "7")])
        assert origin.requests[0].body == b"mine"
        assert ("x-mine", "1") in [(name.lower(), value) for name, value in origin.requests[0].trailers]
        without = client.get("/b")
        assert (without.body, without.trailers) == (b"abc", []), "a client that accepts none"


def test_interim_responses_come_before_the_final_one(
    authority: Authority, www: Issued, start: Start, origin: Origin
) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"
    origin.default = Reply(raw=hints + b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    server = start(site(www, origin))
    with http2(server.urls[0], authority) as client:
        received = client.get("/")
        statuses = [dict(fields) for fields in received.interims]
        for fields in statuses:
            fields.pop("via")
        assert (received.status, received.body) == (200, b"ok")
        assert statuses == [{":status": "103", "link": "</a.css>; rel=preload"}]


def test_a_client_that_expects_a_100_gets_it_when_its_content_is_wanted(
    authority: Authority, www: Issued, start: Start
) -> None:
    server = start(site(www))
    with http2(server.urls[0], authority) as client:
        expects = head("/echo", "POST", "www.example.com", ("expect", "100-continue"))
        stream = client.request(expects, end=False)
        while not client.responses[stream].interims:
            assert client.step()
        assert client.responses[stream].interims == [[(":status", "100")]]
        client.http.send_data(stream, b"content", end_stream=True)
        client.flush()
        assert json.loads(client.response(stream).body)["body"] == "content"


def test_a_request_without_its_content_gets_the_response_and_no_error(
    authority: Authority, www: Issued, start: Start
) -> None:
    server = start(site(www))
    with http2(server.urls[0], authority) as client:
        stream = client.request(head("/", "POST"), end=False)
        received = client.responses[stream]
        while not received.ended:
            assert client.step()
        assert received.status == 200
        assert received.reset in (None, 0), "RFC 9113 §8.1"
        assert client.get("/").body == b"hello", "the connection goes on"


def test_a_client_that_sends_all_of_its_content_first_gets_the_early_response(
    authority: Authority, www: Issued, start: Start
) -> None:
    server = start(site(www))
    url = server.urls[0].replace("127.0.0.1", "localhost")
    with httpx.Client(http1=False, http2=True, verify=authority.trusted(), timeout=20) as client:
        for _ in range(2):
            # More than the windows of the stream and of the connection.
            response = client.post(url + "/", content=bytes(5 << 20))
            assert (response.status_code, response.text) == (200, "hello")


def test_requests_of_one_connection_are_served_beside_each_other(
    authority: Authority, www: Issued, start: Start, origin: Origin
) -> None:
    release = threading.Event()

    def answer(seen: Seen) -> Reply:
        if seen.path == "/slow":
            assert release.wait(60)
        return Reply(body=seen.path)

    origin.default = answer
    server = start(site(www, origin))
    with http2(server.urls[0], authority) as client:
        slow = client.request(head("/slow"))
        origin.wait_for(1, "/slow")
        assert [client.get(f"/{at}").body for at in range(5)] == [f"/{at}".encode() for at in range(5)]
        assert not client.responses[slow].headers
        release.set()
        assert client.response(slow).body == b"/slow"


def test_a_stream_that_the_client_resets_ends_the_request_to_the_origin(
    authority: Authority, www: Issued, start: Start, origin: Origin
) -> None:
    gone = threading.Event()

    def answer(seen: Seen) -> Reply:
        def pieces() -> Iterator[bytes]:
            try:
                while True:
                    yield b"x" * 10_000
            finally:
                gone.set()

        return Reply(chunks=pieces())

    origin.default = answer
    server = start(site(www, origin))
    with http2(server.urls[0], authority) as client:
        stream = client.request(head("/endless"))
        while not client.responses[stream].body:
            assert client.step()
        client.http.reset_stream(stream, 8)
        client.flush()
        assert gone.wait(60)
        origin.default = Reply(body="next")
        assert client.get("/").body == b"next"


def test_a_host_of_another_tls_policy_is_misdirected(authority: Authority, www: Issued, start: Start) -> None:
    admin = authority.issue("admin.example.com")
    edge = Edge("test")
    edge.listen("127.0.0.1:0", tls=[Tls(www.certificate), Tls(admin.certificate, policy="TLSv1.3_2025")])
    edge.route("/*", respond="hello")
    server = start(edge)
    with http2(server.urls[0], authority) as client:
        refused = client.get("/", "admin.example.com")
        assert (refused.status, refused.get("cache-control")) == (421, "no-store")
        beside = head("/", "GET", "www.example.com", ("host", "admin.example.com"))
        assert client.response(client.request(beside)).status == 400, "two hosts"
        assert client.get("/").status == 200, "the connection goes on for its own hosts"
    assert sample(server, 'edgerouter_refused_total{reason="misdirected"}') == 1


def test_the_access_log_names_the_protocol(authority: Authority, www: Issued, start: Start, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with Server.start(site(www), Settings(access_log=str(log), workers=1), test_clock=True) as server:
        with http2(server.urls[0], authority) as client:
            client.get("/of-http-2")
        until(lambda: log.exists() and "/of-http-2" in log.read_text())
    assert '/of-http-2 HTTP/2.0"' in log.read_text()


def test_prior_knowledge_serves_both_protocols_and_a_listener_of_one_only_that(
    authority: Authority, www: Issued, start: Start
) -> None:
    edge = Edge("test")
    for http in (PLAIN, ("h2",), ("http/1.1",)):
        edge.listen("127.0.0.1:0", http=http)
    edge.route("/*", respond="hello")
    both, new, old = start(edge).urls
    for url in (both, new):
        with http2(url, None) as client:
            assert [client.get().body, client.get().body] == [b"hello"] * 2
    for url in (both, old):
        assert httpx.get(url).content == b"hello"
    with http2(old, None) as client:
        data = client.sock.recv(65_536)
        assert data.startswith(b"HTTP/1.1 505 "), data
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(new)


def test_the_preface_behind_a_request_is_not_another_protocol(start: Start) -> None:
    edge = Edge("test")
    edge.listen("127.0.0.1:0", http=PLAIN)
    edge.route("/*", respond="hello")
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
    data = exchange(start(edge).urls[0], b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n" + preface)
    assert [response.status for response in responses(data)] == [200, 505]


def test_curl_speaks_http_2_with_the_edge(authority: Authority, www: Issued, start: Start) -> None:
    server = start(site(www))
    port = server.urls[0].rpartition(":")[2]
    resolve = f"www.example.com:{port}:127.0.0.1"
    url = f"https://www.example.com:{port}/"
    shown = ["-sS", "-o", "/dev/null", "-w", "%{http_version} %{http_code} %{size_download}"]
    secured = ["curl", "--http2", "--cacert", str(authority.file), "--resolve", resolve, *shown, url]
    plain = ["curl", "--http2-prior-knowledge", *shown, server.urls[1]]
    for command in (secured, plain):
        assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout == "2 200 5"


def test_nghttp_and_h2load_speak_http_2_with_the_edge(www: Issued, start: Start) -> None:
    secured, plain = start(site(www)).urls[:2]
    for url in (secured, plain):
        viewed = subprocess.run(["nghttp", "-nv", url, f"{url}/other"], capture_output=True, text=True, timeout=20)
        assert viewed.returncode == 0 and viewed.stdout.count(":status: 200") == 2, viewed.stdout + viewed.stderr
        loaded = subprocess.run(["h2load", "-n200", "-c4", "-m10", url], capture_output=True, text=True, timeout=20)
        assert "200 succeeded, 0 failed, 0 errored, 0 timeout" in loaded.stdout, loaded.stdout + loaded.stderr
        assert "Application protocol: h2" in loaded.stdout


def test_the_bound_on_requests_of_a_connection_ends_it_after_the_last_response(
    authority: Authority, www: Issued, start: Start
) -> None:
    server = start(site(www, limits=Limits(http=HttpLimits(connection_requests=3))))
    with http2(server.urls[0], authority) as client:
        assert [client.get().status for _ in range(3)] == [200, 200, 200]
        assert client.until_closed() == 0


def test_a_reload_changes_what_an_open_connection_gets(authority: Authority, www: Issued, start: Start) -> None:
    server = start(site(www))
    with http2(server.urls[0], authority) as client:
        assert client.get().body == b"hello"
        edge = Edge("test")
        edge.listen("127.0.0.1:0", tls=Tls(www.certificate))
        edge.listen("127.0.0.1:0", http=PLAIN)
        edge.route("/*", respond="changed")
        server.reload(edge)
        until(lambda: client.get().body == b"changed")
        assert client.goaway is None
