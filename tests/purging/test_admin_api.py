"""``/v1/purges`` on the admin listener, and the same from Python."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from edgerouter import CacheError, Edge
from edgerouter.server import Server
from edgerouter.settings import Settings

from ..responses import is_hit
from .conftest import Shop


def test_a_purge_is_ordered_followed_and_listed(shop: Shop) -> None:
    shop.fill("/a", "/b")
    ordered = httpx.post(f"{shop.admin}/v1/purges", json={"paths": ["/a"], "reference": "deploy-7"})
    assert ordered.status_code == 201
    assert not is_hit(shop.get("/a")) and is_hit(shop.get("/b"))
    purge = ordered.json()
    assert purge["status"] in ("InProgress", "Completed") and purge["new"] is True
    shop.completed(shop.served.server.purges()[0])
    followed = httpx.get(f"{shop.admin}/v1/purges/{purge['id']}").json()
    assert followed["status"] == "Completed"
    assert followed["matched"]["objects"] == 1 and followed["warning"] is None
    assert followed["scopes"] == [{"kind": "url", "value": "/a"}]
    listed = httpx.get(f"{shop.admin}/v1/purges").json()["purges"]
    assert [item["id"] for item in listed] == [purge["id"]]
    assert httpx.get(f"{shop.admin}/v1/purges/I0").status_code == 404


def test_a_list_has_the_newest_up_to_its_limit(shop: Shop) -> None:
    url = f"{shop.admin}/v1/purges"
    newest = [httpx.post(url, json={"tags": [tag]}).json()["id"] for tag in "abc"][::-1]
    assert [purge["id"] for purge in httpx.get(f"{url}?limit=2").json()["purges"]] == newest[:2]
    assert [purge["id"] for purge in httpx.get(f"{url}?limit=9").json()["purges"]] == newest
    for limit in ("abc", "", "0", "-1", "1.0", "99999999999999999999"):
        refused = httpx.get(url, params={"limit": limit})
        assert refused.status_code == 400
        assert refused.json()["error"] == {
            "field": "limit",
            "message": f'"{limit}" must be a whole number from 1 to 1000000',
        }


def test_the_same_reference_is_the_same_purge(shop: Shop) -> None:
    url = f"{shop.admin}/v1/purges"
    first = httpx.post(url, json={"paths": ["/a"], "reference": "r"}).json()
    shop.fill("/a")
    again = httpx.post(url, json={"paths": ["/a"], "reference": "r"})
    assert (again.status_code, again.json()["id"], again.json()["new"]) == (200, first["id"], False)
    assert is_hit(shop.get("/a")), "it is not done twice"
    for other in ({"paths": ["/b"]}, {"paths": ["/a"], "soft": True}):
        refused = httpx.post(url, json={**other, "reference": "r"})
        assert refused.status_code == 409
        assert refused.json()["error"]["field"] == "reference"
    assert httpx.post(url, json={"paths": ["/a"]}).json()["id"] != first["id"]


@pytest.mark.parametrize(
    ("order", "field"),
    [
        ("{", "body"),
        ("[]", "body"),
        ("{}", "urls"),
        ('{"urls": ["/a"]}', "urls[0]"),
        ('{"paths": ["/a", "b"]}', "paths[1]"),
        ('{"paths": ["/%zz"]}', "paths[0]"),
        ('{"hosts": ["*"]}', "hosts[0]"),
        ('{"tags": ["a b"]}', "tags[0]"),
        ('{"everything": "yes"}', "everything"),
        ('{"everything": true, "hard": true}', "hard"),
        ('{"everything": true, "reference": ""}', "reference"),
        ('{"paths": ["/a"], "paths": ["/b"]}', "body"),
    ],
)
def test_a_wrong_order_is_refused_with_its_field_and_purges_nothing(shop: Shop, order: str, field: str) -> None:
    shop.fill("/a")
    refused = httpx.post(f"{shop.admin}/v1/purges", content=order, headers={"content-type": "application/json"})
    assert refused.status_code == 400
    assert refused.json()["error"]["field"] == field
    assert refused.json()["error"]["message"]
    assert is_hit(shop.get("/a")) and shop.served.server.purges() == []


@pytest.mark.parametrize("order", ['{"paths": ["/a"], "paths": ["/b"]}', '{"tags": ["t"], "ta\\u0067s": null}'])
def test_a_key_that_stands_twice_is_named(shop: Shop, order: str) -> None:
    refused = httpx.post(f"{shop.admin}/v1/purges", content=order, headers={"content-type": "application/json"})
    name = "paths" if "paths" in order else "tags"
    assert refused.status_code == 400
    assert f'the key "{name}" stands twice' in refused.json()["error"]["message"]


def test_a_form_of_a_web_page_cannot_purge(shop: Shop) -> None:
    shop.fill("/a")
    url, order = f"{shop.admin}/v1/purges", '{"everything": true}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None):
        headers = {"content-type": kind} if kind else {}
        assert httpx.post(url, content=order, headers=headers).status_code == 415
    json = {"content-type": "application/json"}
    assert httpx.post(url, content=order, headers={**json, "origin": "http://evil.example"}).status_code == 403
    assert httpx.post(url, content=order, headers={**json, "host": "evil.example"}).status_code == 421
    assert is_hit(shop.get("/a"))
    assert httpx.post(url, content=order, headers={**json, "origin": shop.admin}).status_code == 201
    assert not is_hit(shop.get("/a"))


def test_where_a_token_is_set_purging_needs_it() -> None:
    edge = Edge("test")
    edge.route("/*", respond="x")
    settings = Settings(listen="127.0.0.1:0", admin="127.0.0.1:0", admin_token="sesame", workers=1)
    with Server.start(edge, settings) as server:
        url, order = f"{server.admin_url}/v1/purges", {"everything": True}
        assert httpx.post(url, json=order).status_code == 401
        assert httpx.post(url, json=order, headers={"authorization": "Bearer nope"}).status_code == 401
        assert httpx.get(url).status_code == 401
        assert httpx.post(url, json=order, headers={"authorization": "Bearer sesame"}).status_code == 201


def test_a_body_beyond_the_bound_is_refused(shop: Shop) -> None:
    huge = {"paths": ["/" + "x" * 2_000_000]}
    assert httpx.post(f"{shop.admin}/v1/purges", json=huge).status_code == 413
    many: dict[str, Any] = {"tags": [f"t{n}" for n in range(3001)]}
    refused = httpx.post(f"{shop.admin}/v1/purges", json=many)
    assert refused.status_code == 429 and "3000" in refused.json()["error"]["message"]


def test_python_says_what_is_wrong_with_an_order(shop: Shop) -> None:
    server = shop.served.server
    for wrong, message in (
        ({"paths": "/a"}, "paths: '/a': must be a list"),
        ({"paths": ["a"]}, "paths[0]"),
        ({"urls": [1]}, "urls[0]: must be a text"),
        ({}, "give urls"),
        ({"tags": ["a"], "reference": "x" * 129}, "reference"),
    ):
        with pytest.raises(CacheError) as refused:
            server.purge(**wrong)
        assert message in str(refused.value)
    assert server.find_purge("I0") is None
    edge = shop.served.edge if hasattr(shop.served, "edge") else None
    if edge is not None:
        assert edge.purge(everything=True).new
