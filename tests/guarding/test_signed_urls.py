"""Signed URLs and cookies in CloudFront's form, made by botocore's signer and by the package's own."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from botocore.signers import CloudFrontSigner
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from edgerouter import ConfigError, Edge, Jwt, SignedUrls, cache
from edgerouter.testing import Running

from ..conftest import Serve
from ..metrics import metric
from ..origins import Origin, Reply
from ..responses import is_hit

SITE = "http://www.example.com"
FUTURE = datetime(2100, 1, 1, tzinfo=UTC)
PAST = datetime(2001, 1, 1, tzinfo=UTC)
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
SECRET = "a-secret-of-more-than-thirty-two-bytes"


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    public = key.public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return public.public_bytes(serialization.Encoding.PEM, form).decode()


def rsa_sha1(message: bytes) -> bytes:
    return RSA.sign(message, padding.PKCS1v15(), hashes.SHA1())


def rsa_sha256(message: bytes) -> bytes:
    return RSA.sign(message, padding.PKCS1v15(), hashes.SHA256())


def ec_sha1(message: bytes) -> bytes:
    return EC.sign(message, ec.ECDSA(hashes.SHA1()))


def ec_sha256(message: bytes) -> bytes:
    return EC.sign(message, ec.ECDSA(hashes.SHA256()))


POLICY = SignedUrls(keys={"KRSA": pem(RSA), "KEC": pem(EC)}, secrets={"own": SECRET})
SIGNERS = [
    pytest.param("KRSA", rsa_sha1, "", id="RSA with SHA-1"),
    pytest.param("KRSA", rsa_sha256, "&Hash-Algorithm=SHA256", id="RSA with SHA-256"),
    pytest.param("KEC", ec_sha1, "", id="ECDSA with SHA-1"),
    pytest.param("KEC", ec_sha256, "&Hash-Algorithm=SHA256", id="ECDSA with SHA-256"),
]
Sign = Callable[[bytes], bytes]
Get = Callable[..., httpx.Response]


@pytest.fixture
def get(origin: Origin, serve: Serve, client_for: Callable[[Running], httpx.Client]) -> Get:
    """Gets a URL of the site, which is served behind a proxy that says who the client is."""
    origin.default = Reply(200, {"cache-control": "max-age=60"}, "content")
    edge = Edge("test", trusted_proxies=["127.0.0.1"])
    edge.route("/*", to=edge.origin("first", origin.url), signed=POLICY)
    client = client_for(serve(edge))

    def get(url: str, **headers: str) -> httpx.Response:
        parts = urlsplit(url)
        given = {"host": parts.netloc, "x-forwarded-proto": parts.scheme} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        path = url.removeprefix(f"{parts.scheme}://{parts.netloc}")
        # As it stands: the client would remove dot segments.
        return client.get(path, headers=given, extensions={"target": path.encode()})

    return get


@pytest.mark.parametrize(("key", "sign", "suffix"), SIGNERS)
def test_a_url_that_botocore_signed_with_a_canned_policy_is_opened(
    origin: Origin, get: Get, key: str, sign: Sign, suffix: str
) -> None:
    signer = CloudFrontSigner(key, sign)
    for url in (f"{SITE}/a.jpg", f"{SITE}/a.jpg?size=1&name=x%20y", "https://www.example.com:8443/b/"):
        signed = signer.generate_presigned_url(url, date_less_than=FUTURE) + suffix
        assert get(signed).status_code == 200, url
        changed = signed.replace("a.jpg", "c.jpg").replace("/b/", "/c/")
        assert get(changed).status_code == 403
        assert get(f"{signed}&more=1").status_code == 403
        assert get(signer.generate_presigned_url(url, date_less_than=PAST) + suffix).status_code == 403
    # A signature over the other hash is none.
    other = "" if suffix else "&Hash-Algorithm=SHA256"
    assert get(signer.generate_presigned_url(f"{SITE}/a.jpg", date_less_than=FUTURE) + other).status_code == 403


@pytest.mark.parametrize(("key", "sign", "suffix"), SIGNERS)
def test_a_url_that_botocore_signed_with_a_custom_policy_is_opened_as_far_as_the_policy_goes(
    get: Get, key: str, sign: Sign, suffix: str
) -> None:
    signer = CloudFrontSigner(key, sign)

    def signed(url: str, **conditions: Any) -> str:
        policy = signer.build_policy(f"{SITE}/videos/*.mp4*", FUTURE, **conditions)
        return f"{signer.generate_presigned_url(url, policy=policy)}{suffix}"

    assert get(signed(f"{SITE}/videos/a/b.mp4?part=1")).status_code == 200
    assert get(signed(f"{SITE}/videos/a.txt")).status_code == 403
    assert get(signed(f"{SITE}/videos/../a.mp4")).status_code == 403
    assert get(signed(f"{SITE}/videos/a.mp4", date_greater_than=PAST)).status_code == 200
    later = datetime(2099, 1, 1, tzinfo=UTC)
    assert get(signed(f"{SITE}/videos/a.mp4", date_greater_than=later)).status_code == 403
    office = signed(f"{SITE}/videos/a.mp4", ip_address="192.0.2.0/24")
    assert get(office, x_forwarded_for="192.0.2.7").status_code == 200
    assert get(office, x_forwarded_for="198.51.100.7").status_code == 403


def test_signed_cookies_open_urls_and_do_not_reach_the_origin(origin: Origin, get: Get) -> None:
    signer = CloudFrontSigner("KRSA", rsa_sha1)
    policy = signer.build_policy(f"{SITE}/members/*", FUTURE)

    def encoded(data: bytes) -> str:
        return base64.b64encode(data).decode().translate(str.maketrans("+=/", "-_~"))

    cookies = (
        f"theme=dark; CloudFront-Policy={encoded(policy.encode())}; "
        f"CloudFront-Signature={encoded(rsa_sha1(policy.encode()))}; CloudFront-Key-Pair-Id=KRSA"
    )
    assert get(f"{SITE}/members/a", cookie=cookies).status_code == 200
    assert get(f"{SITE}/other/a", cookie=cookies).status_code == 403
    assert get(f"{SITE}/members/a").status_code == 403
    (seen,) = origin.requests
    assert seen.get("cookie") == "theme=dark"


def test_a_stored_response_needs_a_signature_too_and_all_signatures_share_it(
    origin: Origin, serve: Serve, client_for: Callable[[Running], httpx.Client]
) -> None:
    origin.default = Reply(200, {"cache-control": "max-age=60"}, "content")
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url), signed=POLICY)
    running = serve(edge)
    client = client_for(running)
    host = {"host": "www.example.com"}
    paths = [POLICY.sign(f"{SITE}/a?b=1", expires=timedelta(hours=hours)).removeprefix(SITE) for hours in (1, 2)]
    first, second = (client.get(path, headers=host) for path in paths)
    assert (first.status_code, is_hit(first)) == (200, False)
    assert (second.status_code, is_hit(second)) == (200, True)
    refused = client.get("/a?b=1", headers=host)
    assert (refused.status_code, "hit" in refused.headers["cache-status"]) == (403, False)
    assert "detail=signature" in refused.headers["cache-status"]
    (seen,) = origin.requests
    assert seen.target == "/a?b=1"
    assert metric(running, "edgerouter_signed_urls_total", '{result="verified"}') == 2
    assert metric(running, "edgerouter_signed_urls_total", '{result="missing"}') == 1
    # The clock of the edge decides.
    running.set_clock(5_400)
    assert [client.get(path, headers=host).status_code for path in paths] == [403, 200]


def test_a_shared_secret_signs_patterns_networks_and_times(get: Get) -> None:
    now = datetime.now(UTC).timestamp()
    url = f"{SITE}/a"
    for signed, client, status in (
        (POLICY.sign(url, expires=now + 60), "192.0.2.1", 200),
        (POLICY.sign(url, expires=now - 60), "192.0.2.1", 403),
        (POLICY.sign(url, expires=now + 60, starts=now + 30), "192.0.2.1", 403),
        (POLICY.sign(url, expires=now + 60, starts=now - 30), "192.0.2.1", 200),
        (POLICY.sign(url, expires=now + 60, network="192.0.2.0/24"), "192.0.2.1", 200),
        (POLICY.sign(url, expires=now + 60, network="192.0.2.0/24"), "192.0.3.1", 403),
        (POLICY.sign(url, expires=now + 60, resource=f"{SITE}/*"), "192.0.2.1", 200),
        (POLICY.sign(url, expires=now + 60, resource=f"{SITE}/b/*"), "192.0.2.1", 403),
        (SignedUrls(secrets={"own": SECRET[::-1]}).sign(url, expires=now + 60), "192.0.2.1", 403),
    ):
        assert get(signed, x_forwarded_for=client).status_code == status, signed


def test_a_url_is_signed_as_browsers_request_it(get: Get) -> None:
    for url in (
        f"{SITE}/b\u00fccher/a b?q=\u00e4&r=%20+",
        "HTTP://WWW.Example.com:80/a",
        f"{SITE}",
        f"{SITE}?a=1",
        f"{SITE}/a%2fb/%7Ec?q=%2f%7E",
    ):
        signed = POLICY.sign(url, expires=timedelta(hours=1))
        assert signed.isascii() and get(signed).status_code == 200, signed


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("/a", "begin with https://"),
        ("www.example.com/a", "begin with https://"),
        ("", "begin with https://"),
        ("ftp://www.example.com/a", "begin with https://"),
        ("https://user@www.example.com/a", "begin with https://"),
        ("https://www.example.com:port/a", "must be a URL"),
        (7, "must be a URL"),
        (f"{SITE}/a#part", "fragment"),
        (f"{SITE}/a/../b", "segments"),
        (f"{SITE}/a/%2e%2E/b", "segments"),
        (f"{SITE}/100%", "another path: a % that is not followed by two"),
        (f"{SITE}/a%00", "another path: an encoded NUL"),
        (f"{SITE}/a?x=1&Signature=abc", "parameter Signature"),
        ("https://b\u00fccher.example/a", "ASCII"),
    ],
)
def test_a_url_that_no_signature_opens_is_refused(url: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        POLICY.sign(url, expires=timedelta(hours=1))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"resource": "/videos/*"}, "resource must be a pattern of whole URLs"),
        ({"resource": ""}, "resource must be a pattern"),
        ({"network": "300.1.2.3"}, "network must be an address or a network"),
        ({"network": "::ffff:192.0.2.1"}, "IPv4 written as IPv4"),
        ({"expires": -1}, "expires must be a Unix time"),
        ({"expires": math.inf}, "expires must be a Unix time"),
        ({"expires": math.nan}, "expires must be a Unix time"),
        ({"expires": True}, "expires must be a Unix time"),
        ({"starts": math.inf}, "starts must be a Unix time"),
        ({"starts": -1}, "starts must be a Unix time"),
        ({"starts": 10**400}, "starts must be a Unix time"),
        ({"starts": 2_000_000_000, "expires": 2_000_000_000}, "starts must be before expires, which is 2000000000"),
        ({"starts": 2_000_000_001, "expires": 2_000_000_000.5}, "starts must be before expires"),
    ],
)
def test_a_condition_that_nobody_meets_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        POLICY.sign(f"{SITE}/a", **{"expires": timedelta(hours=1), **fields})


def test_a_pattern_has_the_escapes_of_its_urls(get: Get) -> None:
    url = f"{SITE}/b\u00fccher/a b"
    assert get(POLICY.sign(url, expires=timedelta(hours=1), resource=f"{SITE}/b\u00fccher/*")).status_code == 200


@pytest.mark.parametrize(("key", "sign", "suffix"), SIGNERS)
def test_a_url_with_needless_escapes_is_opened_as_it_was_signed(
    origin: Origin, get: Get, key: str, sign: Sign, suffix: str
) -> None:
    signer = CloudFrontSigner(key, sign)
    for path, spelled_otherwise in (
        ("/a%2db%2fc.jpg", "/a%2Db%2fc.jpg"),
        ("/%7euser/%41%2e.txt", "/%7Euser/%41%2E.txt"),
    ):
        signed = signer.generate_presigned_url(f"{SITE}{path}?x=%2d", date_less_than=FUTURE) + suffix
        assert get(signed).status_code == 200, path
        # A signature is for the spelling that it covers.
        assert get(signed.replace(path, spelled_otherwise)).status_code == 403
        assert get(signed.replace("x=%2d", "x=-")).status_code == 403
    assert [seen.target for seen in origin.requests] == ["/a-b%2Fc.jpg?x=%2d", "/~user/A..txt?x=%2d"]


@pytest.mark.parametrize("dots", ["/public/../secret", "/public/%2e%2e/secret", "/public/./%2e/../secret"])
def test_a_signed_path_with_dot_segments_opens_no_other_path(get: Get, dots: str) -> None:
    signer = CloudFrontSigner("KRSA", rsa_sha1)
    assert get(signer.generate_presigned_url(f"{SITE}{dots}", date_less_than=FUTURE)).status_code == 403
    policy = signer.build_policy(f"{SITE}/public/*", FUTURE)
    assert get(signer.generate_presigned_url(f"{SITE}{dots}", policy=policy)).status_code == 403


@pytest.mark.parametrize(
    "dots", ["..%2Fpaid/a", "x%2F..%2F..%2Fpaid%2Fa", "..;/paid/a", "..%5Cpaid/a", "%252e%252e%2Fpaid"]
)
def test_a_pattern_opens_no_path_that_the_origin_finds_behind_escapes(origin: Origin, get: Get, dots: str) -> None:
    signer = CloudFrontSigner("KRSA", rsa_sha1)

    def status(pattern: str, path: str) -> int:
        policy = signer.build_policy(f"{SITE}{pattern}", FUTURE)
        return get(signer.generate_presigned_url(f"{SITE}{path}", policy=policy)).status_code

    assert status("/videos/free/*", f"/videos/free/{dots}") == 403
    assert status("/videos/*", f"/videos/free/{dots}") == 200
    assert status("/videos/free/*", "/videos/free/a%2F..%2Fb") == 200
    assert len(origin.requests) == 2


def test_a_pattern_with_needless_escapes_matches_urls_of_any_spelling_and_no_others(get: Get) -> None:
    signer = CloudFrontSigner("KRSA", rsa_sha1)
    for pattern, path, status in (
        ("/a%2db/*", "/a%2db/c", 200),
        ("/a%2db/*", "/a-b/c", 200),
        ("/a-b/*", "/a%2Db/c", 200),
        ("/a%2db/*", "/a%2fb/c", 403),
        # A wildcard stands for no part of an escape: `%61` is `a`.
        ("/???.jpg", "/%61.jpg", 403),
        ("/?.jpg", "/%61.jpg", 200),
        ("/%2a", "/secret", 403),
        ("/%6*", "/%61", 403),
    ):
        policy = signer.build_policy(f"{SITE}{pattern}", FUTURE)
        signed = signer.generate_presigned_url(f"{SITE}{path}", policy=policy)
        assert get(signed).status_code == status, (pattern, path)


def opened_by(get: Get, policy: str) -> int:
    signer = CloudFrontSigner("KRSA", rsa_sha1)
    return get(signer.generate_presigned_url(f"{SITE}/a", policy=policy)).status_code


def test_a_policy_that_cannot_be_enforced_opens_nothing(get: Get) -> None:
    def opened(statements: list[dict[str, Any]]) -> int:
        return opened_by(get, json.dumps({"Statement": statements}))

    good: dict[str, Any] = {"Resource": "*", "Condition": {"DateLessThan": {"AWS:EpochTime": 4_000_000_000}}}
    assert opened([good]) == 200
    assert opened([good, good]) == 403
    assert opened([{**good, "Condition": {**good["Condition"], "StringEquals": {"aws:UserAgent": "x"}}}]) == 403
    assert opened([{**good, "padding": "x" * 4_096}]) == 403


@pytest.mark.parametrize("again", ['"Statement":[],', '"Resource":"https://other/*",', '"AWS:EpochTime":1,'])
def test_a_policy_that_could_be_read_in_two_ways_opens_nothing(get: Get, again: str) -> None:
    text = '{"Statement":[{"Resource":"*","Condition":{"DateLessThan":{"AWS:EpochTime":4000000000}}}]}'
    name = again.partition(":[" if "[" in again else '":')[0]
    assert text.count(name) == 1
    assert opened_by(get, text) == 200
    # The last of two members would open it.
    assert opened_by(get, text.replace(name, again + name)) == 403


def test_sha1_can_be_refused(origin: Origin, serve: Serve, client_for: Callable[[Running], httpx.Client]) -> None:
    origin.default = Reply(200, {}, "content")
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url), signed=SignedUrls(keys={"KRSA": pem(RSA)}, sha1=False))
    client = client_for(serve(edge))
    for sign, suffix, status in ((rsa_sha1, "", 403), (rsa_sha256, "&Hash-Algorithm=SHA256", 200)):
        signed = CloudFrontSigner("KRSA", sign).generate_presigned_url(f"{SITE}/a", date_less_than=FUTURE) + suffix
        assert client.get(signed.removeprefix(SITE), headers={"host": "www.example.com"}).status_code == status


def test_a_redirect_to_https_keeps_the_signature_and_a_token_is_demanded_after_it(
    origin: Origin, serve: Serve, client_for: Callable[[Running], httpx.Client]
) -> None:
    edge = Edge("test", trusted_proxies=["127.0.0.1"])
    edge.route(
        "/*",
        to=edge.origin("first", origin.url),
        signed=POLICY,
        auth=Jwt.hs256(SECRET),
        cache=cache.DISABLED,
        viewer="redirect-to-https",
    )
    client = client_for(serve(edge))
    signed = POLICY.sign("https://www.example.com/a", expires=timedelta(hours=1))
    botocore = CloudFrontSigner("KRSA", rsa_sha1)
    escaped = botocore.generate_presigned_url("https://www.example.com/%61%2fb", date_less_than=FUTURE)
    moved = client.get(escaped.removeprefix("https://www.example.com"), headers={"host": "www.example.com"})
    assert (moved.status_code, moved.headers["location"]) == (301, escaped)
    path = signed.removeprefix("https://www.example.com")
    redirect = client.get(path, headers={"host": "www.example.com"})
    assert (redirect.status_code, redirect.headers["location"]) == (301, signed)
    secure = {"host": "www.example.com", "x-forwarded-proto": "https"}
    assert client.get(path, headers=secure).status_code == 401
    assert client.get("/a", headers=secure).status_code == 403


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "at least one key"),
        ({"keys": {"a&b": "x"}}, "letters, digits"),
        ({"keys": {"k": "-----BEGIN x"}, "secrets": {"k": SECRET}}, "once"),
        ({"secrets": {"k": 7}}, "must be a secret or a text"),
        ({"secrets": [SECRET]}, "mapping of key names"),
    ],
    ids=["no key", "name", "twice", "number", "list"],
)
def test_a_mapping_of_keys_that_cannot_work_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        SignedUrls(**fields)
    assert SECRET not in str(refused.value)


def test_a_key_that_cannot_sign_urls_is_refused_without_being_shown() -> None:
    other = ec.generate_private_key(ec.SECP384R1())
    for policy, message in (
        (SignedUrls(keys={"k": pem(other)}), "an RSA key or an EC key on P-256"),
        (SignedUrls(secrets={"k": "too-short"}), "at least 32"),
    ):
        edge = Edge("test")
        edge.route("/*", respond="x", signed=policy)
        with pytest.raises(ConfigError, match=message) as refused:
            edge.compile()
        assert "too-short" not in str(refused.value)
        assert "too-short" not in repr(policy)
