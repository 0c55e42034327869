"""Requests that come back to the edge that sent them (RFC 8586), and fields that name the way of a request."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from edgerouter import ConfigError, Edge, ForwardPolicy, HeaderEdits, HeaderPolicy, cache, only

from ..conftest import Serve
from ..origins import Origin, Reply
from ..processes import free_port

POLICIES: dict[str, dict[str, Any]] = {
    "stored": {},
    "passed": {"cache": cache.DISABLED},
    "optimised": {"cache": cache.OPTIMIZED},
    "without fields": {"forward": ForwardPolicy(headers="none")},
    "with one field": {"forward": ForwardPolicy(headers=only("accept"))},
    "without Via": {"headers": HeaderPolicy(request=HeaderEdits(remove=["via"]))},
}


@pytest.mark.parametrize("host", ["origin", "viewer"])
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_a_request_that_comes_back_again_and_again_is_refused(policy: dict[str, Any], host: str, serve: Serve) -> None:
    address = f"127.0.0.1:{free_port()}"
    edge = Edge("test")
    edge.listen(address)
    # A request that followed its own fetch would wait for this time-out, and get 504.
    edge.route("/*", to=edge.origin("itself", f"http://{address}", host=host, first_byte_timeout=20), **policy)
    found = httpx.get(f"{serve(edge).url}/x", timeout=60)
    assert found.status_code == 508, found.text
    assert len(found.headers.get_list("cache-status")) <= 6


def test_a_chain_of_edges_with_one_name_is_no_loop(origin: Origin, serve: Serve) -> None:
    origin.default = Reply(200, {"Cache-Control": "max-age=60"}, "page")
    url = origin.url
    for name in ("inner", "middle", "outer"):
        edge = Edge(name)
        edge.route("/*", to=edge.origin("next", url))
        url = serve(edge).url
    assert httpx.get(f"{url}/x").text == "page"
    (seen,) = origin.requests
    members = seen.all("cdn-loop")
    assert len(set(members)) == 3, "each process has a member of its own"
    assert all(member.startswith("edgerouter;i=") for member in members)


def test_the_way_of_a_request_is_kept(origin: Origin, serve: Serve) -> None:
    origin.default = Reply(200, {}, "page")
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url), forward=ForwardPolicy(headers="none"))
    httpx.get(f"{serve(edge).url}/x", headers={"via": "1.1 other", "cdn-loop": 'other; v="1, 2"', "x-more": "1"})
    (seen,) = origin.requests
    assert seen.all("via") == ["1.1 other", "1.1 edgerouter"]
    assert seen.all("cdn-loop")[0] == 'other; v="1, 2"'
    assert seen.get("x-more") is None


@pytest.mark.parametrize(
    "edits",
    [HeaderEdits(remove=["CDN-Loop"]), HeaderEdits(set={"cdn-loop": "x"}), HeaderEdits(add={"cdn-loop": "x"})],
    ids=["remove", "set", "add"],
)
def test_no_policy_edits_the_field_that_finds_loops(edits: HeaderEdits) -> None:
    edge = Edge("test")
    first = edge.origin("first", "http://127.0.0.1:9")
    edge.route("/*", to=first, headers=HeaderPolicy(request=edits))
    with pytest.raises(ConfigError, match=r"finds loops between CDNs \(RFC 8586 §2\)"):
        edge.compile()
