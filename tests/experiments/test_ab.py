"""A/B experiments by cookie and by redirect."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import jwt as pyjwt
import pytest

from edgerouter import ConfigError, Edge, Experiment, Jwt
from edgerouter.testing import Running

from ..origins import Origin, Reply, Seen

Site = Callable[..., httpx.Client]


def home(**changes: Any) -> Experiment:
    settings: dict[str, Any] = {"cookie": "ab-variant", "variants": {"control": 50, "treatment": 50}} | changes
    return Experiment("home", **settings)


def echo_variant(seen: Seen) -> Reply:
    return Reply(200, {"Cache-Control": "max-age=60"}, seen.get("x-variant") or "none")


def test_a_new_visitor_gets_a_variant_and_its_cookie_once(origin: Origin, site: Site) -> None:
    origin.default = echo_variant
    client = site(experiment=home())
    first = client.get("/", headers={"cookie": "other=1"})
    variant = first.text
    assert variant in ("control", "treatment")
    assert first.headers["set-cookie"] == f"ab-variant={variant}; Path=/; Max-Age=2592000; SameSite=Lax"
    client.cookies.clear()
    again = client.get("/", headers={"cookie": f"ab-variant={variant}"})
    assert again.text == variant
    assert "set-cookie" not in again.headers


def test_a_cookie_that_browsers_drop_at_once_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Experiment\.max_age: 0: must be > 0 seconds"):
        home(max_age=0)


@pytest.mark.parametrize("header", ["Host", "Content-Length", "cookie"])
def test_a_variant_goes_in_no_field_that_frames_a_message_or_has_credentials(site: Site, header: str) -> None:
    with pytest.raises(ConfigError, match="must not be a header that frames a message or carries credentials"):
        site(experiment=home(header=header))


def test_the_variant_is_part_of_the_key(origin: Origin, site: Site) -> None:
    origin.default = echo_variant
    client = site(experiment=home())
    for variant in ("control", "treatment", "control", "treatment"):
        client.cookies.clear()
        assert client.get("/p", headers={"cookie": f"ab-variant={variant}"}).text == variant
    assert origin.count("/p") == 2


def test_a_forged_variant_is_reassigned_and_never_reaches_the_origin(origin: Origin, site: Site) -> None:
    origin.default = echo_variant
    client = site(experiment=home())
    response = client.get("/", headers={"cookie": "ab-variant=evil", "x-variant": "evil"})
    assert response.text in ("control", "treatment")
    assert f"ab-variant={response.text};" in response.headers["set-cookie"]


def test_weights_hold_and_three_ways_work(origin: Origin, site: Site) -> None:
    origin.default = echo_variant
    client = site(experiment=home(variants={"a": 70, "b": 20, "c": 10}))
    counts: Counter[str] = Counter()
    for _ in range(1000):
        client.cookies.clear()
        counts[client.get("/").text] += 1
    for variant, weight in (("a", 700), ("b", 200), ("c", 100)):
        assert abs(counts[variant] - weight) < 75, counts


def test_a_variant_switched_off_is_reassigned(origin: Origin, site: Site) -> None:
    origin.default = echo_variant
    client = site(experiment=home(variants={"control": 100, "treatment": 0}))
    response = client.get("/", headers={"cookie": "ab-variant=treatment"})
    assert response.text == "control"
    assert "ab-variant=control" in response.headers["set-cookie"]


def test_a_stable_id_always_gets_the_same_variant(origin: Origin, site: Site) -> None:
    origin.default = echo_variant
    client = site(experiment=home(by="header:X-Visitor"))
    given: dict[str, set[str]] = {}
    for _ in range(3):
        for visitor in range(40):
            client.cookies.clear()
            response = client.get("/", headers={"x-visitor": str(visitor)})
            given.setdefault(str(visitor), set()).add(response.text)
    assert all(len(variants) == 1 for variants in given.values())
    assert len({next(iter(v)) for v in given.values()}) == 2


def test_redirect_mode_sends_302_to_the_same_url_with_the_cookie(origin: Origin, site: Site) -> None:
    origin.default = echo_variant
    client = site(experiment=home(mode="redirect", cookie="variant", variants={"a": 50, "b": 50}))
    response = client.get("/page?x=1")
    assert response.status_code == 302
    assert httpx.URL(str(client.base_url)).join(response.headers["location"]) == httpx.URL(
        f"{client.base_url}/page?x=1".replace("//page", "/page")
    )
    cookie = response.headers["set-cookie"].split(";")[0]
    client.cookies.clear()
    followed = client.get("/page?x=1", headers={"cookie": cookie})
    assert followed.status_code == 200
    assert followed.text == cookie.split("=")[1]


def test_switching_off_takes_effect_at_reload(
    origin: Origin, serve: Callable[[Edge], Running], client_for: Callable[[Running], httpx.Client]
) -> None:
    origin.default = echo_variant

    def plan(treatment: int) -> Edge:
        edge = Edge("test")
        edge.route(
            "/*", to=edge.origin("first", origin.url), experiment=home(variants={"control": 50, "treatment": treatment})
        )
        return edge

    running = serve(plan(50))
    client = client_for(running)
    assert client.get("/", headers={"cookie": "ab-variant=treatment"}).text == "treatment"
    running.reload(plan(0))
    client.cookies.clear()
    assert client.get("/", headers={"cookie": "ab-variant=treatment"}).text == "control"


SECRET = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("fields", "settings", "vary"),
    [
        ({}, {}, ["cookie"]),
        ({"Vary": "Accept"}, {}, ["Accept", "cookie"]),
        ({"Vary": "accept, COOKIE"}, {}, ["accept, COOKIE"]),
        ({}, {"by": "header:X-Visitor"}, ["x-visitor"]),
    ],
)
def test_caches_behind_are_told_what_chose_the_variant(
    origin: Origin, site: Site, fields: dict[str, str], settings: dict[str, Any], vary: list[str]
) -> None:
    origin.default = Reply(200, {"Cache-Control": "max-age=60", **fields}, "page")
    client = site(experiment=home(**settings))
    headers = {"cookie": "ab-variant=control", "x-visitor": "1", "accept": "*/*"}
    for _ in range(2):
        assert client.get("/", headers=headers).headers.get_list("vary") == vary
    assert origin.count() == 1, "no stored field selects by it"
    # Another cookie with the same variant is the same stored response.
    client.get("/", headers={**headers, "cookie": "ab-variant=control; other=1"})
    assert origin.count() == (2 if "COOKIE" in str(fields) else 1)


def test_caches_behind_are_told_of_the_cookie_that_decides_without_the_field(origin: Origin, site: Site) -> None:
    origin.default = Reply(200, {"Cache-Control": "max-age=60"}, "page")
    client = site(experiment=home(by="header:X-Visitor"))
    for fields in ({}, {"x-visitor": ""}):
        response = client.get("/", headers={"cookie": "ab-variant=control", **fields})
        assert response.headers.get_list("vary") == ["x-visitor", "cookie"]


def test_what_a_claim_chose_is_private_behind(origin: Origin, site: Site) -> None:
    origin.default = Reply(
        200, {"Cache-Control": "public, max-age=60, s-maxage=90", "CDN-Cache-Control": "max-age=99"}, "page"
    )
    client = site(experiment=home(by="sub"), auth=Jwt.hs256(SECRET, shared=True))
    token = pyjwt.encode({"sub": "u", "exp": int(time.time()) + 60}, SECRET, algorithm="HS256")
    for _ in range(2):
        response = client.get("/", headers={"authorization": f"Bearer {token}"})
        assert response.headers["cache-control"] == "max-age=60, private"
        assert "cdn-cache-control" not in response.headers
    assert origin.count() == 1
