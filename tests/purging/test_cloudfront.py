"""CloudFront's invalidation calls, spoken by an unmodified boto3."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import boto3
import botocore.auth
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from edgerouter import CachePolicy, Edge
from edgerouter.server import Server
from edgerouter.settings import Settings

from ..responses import is_hit
from .conftest import MakeShop, Shop


def client(url: str, key: str = "AKIDANY", secret: str = "whatever") -> Any:
    return boto3.client(
        "cloudfront",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(retries={"max_attempts": 1}, proxies={}),
    )


def batch(*paths: str, reference: str = "r", quantity: int | None = None) -> dict[str, Any]:
    number = len(paths) if quantity is None else quantity
    return {"Paths": {"Quantity": number, "Items": list(paths)}, "CallerReference": reference}


def code_of(call: Callable[[], object]) -> tuple[str, int]:
    with pytest.raises(ClientError) as refused:
        call()
    response = refused.value.response
    assert response["Error"]["Message"]
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.fixture
def keyed() -> Iterator[Server]:
    edge = Edge("shop")
    edge.route("/*", respond="x")
    keys = {"AKIDONE": "first secret", "AKIDTWO": "second secret"}
    with Server.start(edge, Settings(listen="127.0.0.1:0", admin="127.0.0.1:0", admin_keys=keys, workers=1)) as server:
        yield server


def test_an_invalidation_is_created_and_followed(shop: Shop) -> None:
    shop.fill("/a", "/images/1.png", "/b")
    cloudfront = client(shop.admin)
    asked = batch("/a", "/images/*", reference="deploy & 1")
    created = cloudfront.create_invalidation(DistributionId="shop", InvalidationBatch=asked)
    assert created["ResponseMetadata"]["HTTPStatusCode"] == 201
    invalidation = created["Invalidation"]
    assert created["Location"].endswith(f"/distribution/shop/invalidation/{invalidation['Id']}")
    assert invalidation["InvalidationBatch"] == asked
    assert [is_hit(shop.get(path)) for path in ("/a", "/images/1.png", "/b")] == [False, False, True]
    age = datetime.datetime.now(datetime.UTC) - invalidation["CreateTime"]
    assert abs(age.total_seconds()) < 60
    waiter = cloudfront.get_waiter("invalidation_completed")
    waiter.wait(DistributionId="shop", Id=invalidation["Id"], WaiterConfig={"Delay": 0, "MaxAttempts": 1000})
    found = cloudfront.get_invalidation(DistributionId="shop", Id=invalidation["Id"])["Invalidation"]
    assert found["Status"] == "Completed"
    assert found["InvalidationBatch"] == asked
    assert shop.served.server.purges()[0].matched.objects == 2


def test_everything_goes_with_a_slash_and_a_star_on_every_host(shop: Shop) -> None:
    shop.fill("/a")
    shop.fill("/a", host="other.example")
    client(shop.admin).create_invalidation(DistributionId="shop", InvalidationBatch=batch("/*"))
    assert not is_hit(shop.get("/a")) and not is_hit(shop.get("/a", host="other.example"))


def test_the_same_reference_gives_the_same_invalidation(shop: Shop) -> None:
    cloudfront = client(shop.admin)

    def create(*paths: str) -> Any:
        return cloudfront.create_invalidation(DistributionId="shop", InvalidationBatch=batch(*paths))

    first = create("/a", "/b")["Invalidation"]
    assert create("/a", "/b")["Invalidation"]["Id"] == first["Id"]
    assert code_of(lambda: create("/a")) == ("InvalidArgument", 400)


def test_invalidations_are_listed_in_pages(shop: Shop) -> None:
    cloudfront = client(shop.admin)
    empty = cloudfront.list_invalidations(DistributionId="shop")["InvalidationList"]
    assert (empty["Quantity"], empty["IsTruncated"]) == (0, False)
    made = [
        cloudfront.create_invalidation(DistributionId="shop", InvalidationBatch=batch("/a", reference=str(n)))
        for n in range(5)
    ]
    ids = [answer["Invalidation"]["Id"] for answer in reversed(made)]
    page = cloudfront.list_invalidations(DistributionId="shop", MaxItems="2")["InvalidationList"]
    assert [item["Id"] for item in page["Items"]] == ids[:2]
    assert (page["MaxItems"], page["Quantity"], page["IsTruncated"]) == (2, 2, True)
    assert page["NextMarker"] == ids[1], "it is the last id of the page"
    following = cloudfront.list_invalidations(DistributionId="shop", MaxItems="2", Marker=page["NextMarker"])
    assert [item["Id"] for item in following["InvalidationList"]["Items"]] == ids[2:4]
    pages = cloudfront.get_paginator("list_invalidations").paginate(
        DistributionId="shop", PaginationConfig={"PageSize": 2}
    )
    assert [item["Id"] for one in pages for item in one["InvalidationList"]["Items"]] == ids
    for wrong in ({"MaxItems": "0"}, {"MaxItems": "x"}, {"Marker": "nothing"}):
        assert code_of(lambda wrong=wrong: cloudfront.list_invalidations(DistributionId="shop", **wrong)) == (  # type: ignore[misc]
            "InvalidArgument",
            400,
        )


def test_a_page_goes_on_where_it_left_off_although_the_marker_is_forgotten(shop: Shop) -> None:
    cloudfront = client(shop.admin)

    def create(reference: str) -> str:
        asked = batch("/a", reference=reference)
        made = cloudfront.create_invalidation(DistributionId="shop", InvalidationBatch=asked)["Invalidation"]
        return str(made["Id"])

    ids = [create(str(number)) for number in range(4)]
    page = cloudfront.list_invalidations(DistributionId="shop", MaxItems="2")["InvalidationList"]
    # One more meanwhile moves nothing.
    create("new")
    rest = cloudfront.list_invalidations(DistributionId="shop", Marker=page["NextMarker"])["InvalidationList"]
    assert [item["Id"] for item in rest["Items"]] == [ids[1], ids[0]]
    assert (rest["Marker"], rest["IsTruncated"], "NextMarker" in rest) == (page["NextMarker"], False, False)
    older = "I" + "0" * 13
    assert cloudfront.list_invalidations(DistributionId="shop", Marker=older)["InvalidationList"]["Quantity"] == 0


@pytest.mark.parametrize(
    ("path", "gone"),
    [
        ("/*", {"/images/1.png", "/images/a/2.png", "/a", "/a?x=1", "/a?x=2", "/b c", "/é"}),
        ("/images/*", {"/images/1.png", "/images/a/2.png"}),
        ("/images*", {"/images/1.png", "/images/a/2.png"}),
        ("/a*", {"/a", "/a?x=1", "/a?x=2"}),
        ("/a", {"/a"}),
        ("/a?x=1", {"/a?x=1"}),
        ("/a?x=*", {"/a?x=1", "/a?x=2"}),
        ("/a?*", {"/a?x=1", "/a?x=2"}),
        ("/%61", {"/a"}),
        ("/b%20c", {"/b c"}),
        ("/b c", {"/b c"}),
        ("/%C3%A9", {"/é"}),
        ("/%c3%a9", {"/é"}),
        ("/é", {"/é"}),
        ("/A", set()),
        ("/images/", set()),
    ],
)
def test_a_path_means_what_cloudfront_takes_it_to_mean(make_shop: MakeShop, path: str, gone: set[str]) -> None:
    shop = make_shop(lambda edge, first: edge.route("/*", to=first, cache=CachePolicy(query="all")))
    everything = ["/images/1.png", "/images/a/2.png", "/a", "/a?x=1", "/a?x=2", "/b c", "/é"]
    shop.fill(*everything)
    asked = batch(path)
    cloudfront = client(shop.admin)
    made = cloudfront.create_invalidation(DistributionId="shop", InvalidationBatch=asked)["Invalidation"]
    assert made["InvalidationBatch"] == asked, "the path comes back as it was spelled"
    assert {name for name in everything if not is_hit(shop.get(name))} == gone


def test_a_reference_may_be_used_again_for_the_same_paths_only(shop: Shop) -> None:
    cloudfront = client(shop.admin)

    def create(*paths: str) -> Any:
        asked = batch(*paths, reference="deploy")
        return cloudfront.create_invalidation(DistributionId="shop", InvalidationBatch=asked)["Invalidation"]

    first = create("/a", "/b")
    shop.fill("/a")
    again = create("/a", "/b")
    assert (again["Id"], again["CreateTime"]) == (first["Id"], first["CreateTime"])
    assert is_hit(shop.get("/a")), "it is not done twice"
    for other in (("/a",), ("/a", "/c"), ("/a", "/b", "/c")):
        assert code_of(lambda other=other: create(*other)) == ("InvalidArgument", 400)  # type: ignore[misc]
    assert len(shop.served.server.purges()) == 1


def test_mistakes_have_cloudfronts_names(shop: Shop) -> None:
    cloudfront = client(shop.admin)
    shop.fill("/a")

    def create(body: dict[str, Any], distribution: str = "shop") -> Callable[[], object]:
        return lambda: cloudfront.create_invalidation(DistributionId=distribution, InvalidationBatch=body)

    assert code_of(create(batch("a"))) == ("InvalidArgument", 400)
    assert code_of(create(batch("/%zz"))) == ("InvalidArgument", 400)
    assert code_of(create(batch("/a", reference=""))) == ("InvalidArgument", 400)
    assert code_of(create(batch())) == ("InvalidArgument", 400)
    assert code_of(create(batch("/a", quantity=2))) == ("InconsistentQuantities", 400)
    assert code_of(create(batch("/a"), "other")) == ("NoSuchDistribution", 404)
    many = batch(*(f"/{n}" for n in range(3001)))
    assert code_of(create(many)) == ("TooManyInvalidationsInProgress", 400)
    huge = batch(*(f"/{n}/{'x' * 3000}" for n in range(400)))
    assert code_of(create(huge)) == ("BatchTooLarge", 413)
    get = lambda: cloudfront.get_invalidation(DistributionId="shop", Id="INONE")  # noqa: E731
    assert code_of(get) == ("NoSuchInvalidation", 404)
    with pytest.raises(cloudfront.exceptions.NoSuchDistribution):
        cloudfront.list_invalidations(DistributionId="other")
    assert is_hit(shop.get("/a")) and shop.served.server.purges() == []


def test_a_body_that_is_missing_or_no_xml_is_refused(shop: Shop) -> None:
    url = f"{shop.admin}/2020-05-31/distribution/shop/invalidation"
    authorization = "AWS4-HMAC-SHA256 Credential=a/20260101/r/cloudfront/aws4_request, SignedHeaders=host, Signature=0"
    for body, code in (("", "MissingBody"), ("<a", "MalformedXML"), ("<!DOCTYPE a><a/>", "MalformedXML")):
        refused = httpx.post(url, content=body, headers={"authorization": authorization})
        assert refused.status_code == 400
        assert f"<Code>{code}</Code>" in refused.text and refused.headers["content-type"] == "text/xml"
    unsigned = httpx.post(url, content="<InvalidationBatch/>")
    assert unsigned.status_code == 403 and "<Code>AccessDenied</Code>" in unsigned.text


def test_configured_keys_open_and_others_do_not(keyed: Server) -> None:
    url = keyed.admin_url or ""
    for key, secret in (("AKIDONE", "first secret"), ("AKIDTWO", "second secret")):
        cloudfront = client(url, key, secret)
        made = cloudfront.create_invalidation(DistributionId="shop", InvalidationBatch=batch("/a b", reference=key))
        cloudfront.get_invalidation(DistributionId="shop", Id=made["Invalidation"]["Id"])
        cloudfront.list_invalidations(DistributionId="shop", MaxItems="1", Marker=made["Invalidation"]["Id"])
    for key, secret in (("AKIDONE", "second secret"), ("AKIDNONE", "first secret"), ("AKIDNONE", "x")):
        denied = client(url, key, secret)
        for call in (
            lambda d=denied: d.create_invalidation(DistributionId="shop", InvalidationBatch=batch("/*")),
            lambda d=denied: d.list_invalidations(DistributionId="shop"),
            lambda d=denied: d.list_invalidations(DistributionId="a stranger learns no names"),
        ):
            assert code_of(call) == ("AccessDenied", 403)
    assert "secret" not in repr(keyed) and len(keyed.purges()) == 2


@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_signature_from_another_time_is_refused(keyed: Server, minutes: int) -> None:
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=minutes)
    with mock.patch.object(botocore.auth, "get_current_datetime", return_value=now.replace(tzinfo=None)):
        refused = client(keyed.admin_url or "", "AKIDONE", "first secret")
        assert code_of(lambda: refused.list_invalidations(DistributionId="shop")) == ("AccessDenied", 403)


def test_a_changed_body_or_query_breaks_the_signature(keyed: Server) -> None:
    sent: list[Any] = []
    cloudfront = client(keyed.admin_url or "", "AKIDONE", "first secret")
    cloudfront.meta.events.register("before-send.cloudfront.*", lambda request, **_: sent.append(request))
    cloudfront.create_invalidation(DistributionId="shop", InvalidationBatch=batch("/a"))
    request = sent[0]
    headers = {name: value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()}
    headers.pop("Content-Length", None)
    body = request.body if isinstance(request.body, bytes) else request.body.encode()
    assert httpx.post(request.url, content=body, headers=headers).status_code == 201
    for url, content in ((request.url, body.replace(b"/a", b"/*")), (f"{request.url}?x=1", body)):
        refused = httpx.post(url, content=content, headers=headers)
        assert refused.status_code == 403 and "AccessDenied" in refused.text
    assert len(keyed.purges()) == 1


def test_where_a_token_guards_the_listener_calls_need_a_key() -> None:
    edge = Edge("shop")
    edge.route("/*", respond="x")
    settings = Settings(listen="127.0.0.1:0", admin="127.0.0.1:0", admin_token="sesame", workers=1)
    with Server.start(edge, settings) as server:
        refused = client(server.admin_url or "")
        assert code_of(lambda: refused.list_invalidations(DistributionId="shop")) == ("AccessDenied", 403)
