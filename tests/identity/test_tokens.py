"""JWT verification at the edge (RFC 7519, 7515, 7518, 6750), through the socket with real keys."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from edgerouter import Edge, Jwt, cache
from edgerouter.errors import ConfigError
from edgerouter.testing import Running

from ..metrics import metric
from ..origins import Origin, Reply, Seen, wait_until
from ..raw import connect, read_all, responses
from .tokens import SECRET, b64, bearer, token

Client = Callable[[Running], httpx.Client]


@pytest.fixture
def api(origin: Origin, serve: Callable[[Edge], Running], client_for: Client) -> Callable[..., httpx.Client]:
    origin.default = Reply(200, {}, "private")

    def make(auth: Jwt, **route: Any) -> httpx.Client:
        edge = Edge("test")
        edge.route("/*", to=edge.origin("first", origin.url), auth=auth, cache=cache.DISABLED, **route)
        return client_for(serve(edge))

    return make


def test_a_request_without_a_token_gets_401_with_a_challenge(origin: Origin, api: Callable[..., httpx.Client]) -> None:
    response = api(Jwt.hs256(SECRET)).get("/")
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert origin.requests == []


def test_a_valid_token_passes_and_its_claims_are_forwarded(origin: Origin, api: Callable[..., httpx.Client]) -> None:
    client = api(Jwt.hs256(SECRET))
    forged = {"x-user-id": "evil", "x-user-role": "root"}
    for _ in range(2):
        assert client.get("/", headers=bearer(token()) | forged).status_code == 200
    for seen in origin.requests:
        assert seen.all("x-user-id") == ["u1"]
        assert seen.all("x-user-role") == ["admin"]


def test_user_id_wins_over_sub(origin: Origin, api: Callable[..., httpx.Client]) -> None:
    client = api(Jwt.hs256(SECRET))
    client.get("/", headers=bearer(token({"userId": 42, "sub": "x", "exp": time.time() + 60})))
    assert origin.requests[0].get("x-user-id") == "42"


now = int(time.time())
GOOD = {"sub": "u1", "exp": now + 3600}
REFUSED = {
    "expired": token({"sub": "u1", "exp": now - 10}),
    # A day: the suite may take its time to come here.
    "not yet valid": token(GOOD | {"exp": now + 90_000, "nbf": now + 86_400}),
    "without exp": token({"sub": "u1"}),
    "exp is text": token({"exp": "tomorrow"}),
    "another secret": token(secret="another-secret-another-secret-another-secret"),
    "alg none": f"{b64(json.dumps({'alg': 'none'}).encode())}.{b64(json.dumps(GOOD).encode())}.",
    "alg None, cased": f"{b64(json.dumps({'alg': 'nOnE'}).encode())}.{b64(json.dumps(GOOD).encode())}.",
    "unknown crit": token(GOOD, {"crit": ["x"], "x": 1}),
    "embedded jwk": token(GOOD, {"jwk": {"kty": "oct", "k": b64(SECRET.encode())}}),
    "jku": token(GOOD, {"jku": "https://evil.example/keys"}),
    "another alg": token(GOOD, {"alg": "HS512"}),
    "padding": token(GOOD) + "=",
    "two parts": ".".join(token(GOOD).split(".")[:2]),
    "four parts": token(GOOD) + ".x",
    "no json": f"{b64(b'x')}.{b64(b'y')}.{b64(b'z')}",
    "oversized": token(GOOD | {"x": "y" * 9000}),
    "a changed claim": "{}.{}.{}".format(
        token(GOOD).split(".")[0], b64(json.dumps(GOOD | {"role": "root"}).encode()), token(GOOD).split(".")[2]
    ),
    "empty": "x",
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_a_token_that_may_not_be_believed_gets_403(origin: Origin, api: Callable[..., httpx.Client], name: str) -> None:
    client = api(Jwt.hs256(SECRET))
    assert client.get("/", headers=bearer(REFUSED[name])).status_code == 403, name
    assert origin.requests == []


def test_the_last_character_of_a_signature_cannot_be_varied(origin: Origin, api: Callable[..., httpx.Client]) -> None:
    """Non-canonical base64url: trailing bits that decode to the same bytes."""
    client = api(Jwt.hs256(SECRET))
    good = token(GOOD)
    assert client.get("/", headers=bearer(good)).status_code == 200
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = good[:-1] + alphabet[alphabet.index(good[-1]) ^ 1]
    assert client.get("/", headers=bearer(twin)).status_code == 403


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([("authorization", "Bearer")], 401),
        ([("authorization", "Basic YTpi")], 401),
        ([("authorization", "Bearer a b")], 403),
        ([("authorization", "Bearer {}")], 403),
        ([("authorization", f"Bearer {token(GOOD)}, Bearer x")], 403),
        ([("authorization", f"Bearer {token(GOOD)}"), ("authorization", f"Bearer {token(GOOD)}")], 400),
        ([("authorization", f"bEaReR   {token(GOOD)}")], 200),
    ],
    ids=["nothing", "another scheme", "a space", "braces", "a list", "two fields", "any case and spaces"],
)
def test_only_one_well_formed_bearer_token_is_taken_for_credentials(
    api: Callable[..., httpx.Client], fields: list[tuple[str, str]], status: int
) -> None:
    assert api(Jwt.hs256(SECRET)).get("/", headers=fields).status_code == status


def test_invalid_status_401_carries_the_rfc_6750_error(api: Callable[..., httpx.Client]) -> None:
    response = api(Jwt.hs256(SECRET, invalid_status=401)).get("/", headers=bearer(REFUSED["expired"]))
    assert response.status_code == 401
    assert 'error="invalid_token"' in response.headers["www-authenticate"]


def test_a_token_is_refused_by_issuer_audience_expiry_and_missing_claims(api: Callable[..., httpx.Client]) -> None:
    client = api(Jwt.hs256(SECRET, issuer="me", audience="you", leeway=30, require=["exp", "sub"]))
    good = {"iss": "me", "aud": ["else", "you"], "sub": "u", "exp": int(time.time()) - 5}
    assert client.get("/", headers=bearer(token(good))).status_code == 200
    for change in ({"iss": "else"}, {"aud": "else"}, {"exp": now - 300}, {"iss": None}, {"sub": None}):
        claims = {name: value for name, value in (good | change).items() if value is not None}
        assert client.get("/", headers=bearer(token(claims))).status_code == 403, change


def test_the_token_may_come_from_a_cookie(origin: Origin, api: Callable[..., httpx.Client]) -> None:
    client = api(Jwt.hs256(SECRET, cookie="session"))
    assert client.get("/", headers={"cookie": f"a=b; session={token()}"}).status_code == 200
    assert client.get("/", headers={"cookie": "a=b"}).status_code == 401
    assert origin.requests[0].get("x-user-id") == "u1"


def test_a_remembered_token_expires_all_the_same(api: Callable[..., httpx.Client]) -> None:
    client = api(Jwt.hs256(SECRET))
    short = token({"sub": "u", "exp": int(time.time()) + 4})
    assert client.get("/", headers=bearer(short)).status_code == 200
    wait_until(lambda: client.get("/", headers=bearer(short)).status_code == 403, what="expiry")


PRIVATE: dict[str, Any] = {
    "RS": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def key_for(algorithm: str) -> Any:
    return PRIVATE["RS" if algorithm[:2] in ("RS", "PS") else algorithm]


def pem_of(key: Any) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return str(key.public_key().public_bytes(serialization.Encoding.PEM, form).decode())


ASYMMETRIC = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_a_token_signed_by_the_pem_key_is_believed_and_a_broken_one_is_not(
    origin: Origin, api: Callable[..., httpx.Client], algorithm: Any
) -> None:
    key = key_for(algorithm)
    client = api(Jwt.pem(pem_of(key), algorithm=algorithm))
    good = pyjwt.encode(GOOD, key, algorithm=algorithm)
    assert client.get("/", headers=bearer(good)).status_code == 200
    head, body, signature = good.split(".")
    broken = f"{head}.{body}.{signature[:-4]}{'AAAA' if signature[-4:] != 'AAAA' else 'BBBA'}"
    assert client.get("/", headers=bearer(broken)).status_code == 403
    confused = token(GOOD, {"alg": "HS256"}, secret=pem_of(key))
    assert client.get("/", headers=bearer(confused)).status_code == 403


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_hs384_and_hs512_are_verified_and_hs256_is_not_taken_for_them(
    api: Callable[..., httpx.Client], algorithm: str
) -> None:
    make = {"HS384": Jwt.hs384, "HS512": Jwt.hs512}[algorithm]
    client = api(make(SECRET))
    assert client.get("/", headers=bearer(pyjwt.encode(GOOD, SECRET, algorithm=algorithm))).status_code == 200
    assert client.get("/", headers=bearer(token(GOOD))).status_code == 403


def jwks_of(**keys: Any) -> str:
    made = []
    for kid, key in keys.items():
        algorithm = {"RSAPrivateKey": "RS256"}.get(type(key).__name__.lstrip("_"))
        if isinstance(key, rsa.RSAPrivateKey):
            algorithm = "RS256"
            data = json.loads(pyjwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
        elif isinstance(key, ec.EllipticCurvePrivateKey):
            algorithm = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}[key.curve.name]
            data = json.loads(pyjwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
        else:
            algorithm = "EdDSA"
            data = json.loads(pyjwt.algorithms.OKPAlgorithm.to_jwk(key.public_key()))
        made.append(data | {"kid": kid, "alg": algorithm, "use": "sig"})
    return json.dumps({"keys": made})


def test_keys_from_a_jwks_url_are_fetched_kept_and_refreshed(
    origin: Origin, second: Origin, api: Callable[..., httpx.Client]
) -> None:
    issuer = second
    issuer.on("/keys", lambda seen: Reply(200, {}, jwks_of(one=PRIVATE["RS"])))
    client = api(Jwt.jwks(f"{issuer.url}/keys", cooldown=1, refresh=300))
    one = pyjwt.encode(GOOD, PRIVATE["RS"], algorithm="RS256", headers={"kid": "one"})
    wait_until(lambda: client.get("/", headers=bearer(one)).status_code == 200, what="the first key set")
    two = pyjwt.encode(GOOD, PRIVATE["ES256"], algorithm="ES256", headers={"kid": "two"})
    assert client.get("/", headers=bearer(two)).status_code == 403
    issuer.on("/keys", lambda seen: Reply(200, {}, jwks_of(one=PRIVATE["RS"], two=PRIVATE["ES256"])))
    wait_until(lambda: client.get("/", headers=bearer(two)).status_code == 200, what="the rotated key")
    issuer.kill()
    three = pyjwt.encode(GOOD | {"sub": "again"}, PRIVATE["RS"], algorithm="RS256", headers={"kid": "one"})
    assert client.get("/", headers=bearer(three)).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(None, id="withdrawn"),
        pytest.param({"use": "enc"}, id="for encryption"),
        pytest.param({"key_ops": ["sign"]}, id="for signing"),
        pytest.param({"alg": "RS384"}, id="of another algorithm"),
        pytest.param({"kid": "three"}, id="renamed"),
    ],
)
def test_a_key_that_an_issuer_withdraws_counts_no_longer_for_remembered_tokens_on_an_open_connection(
    second: Origin, api: Callable[..., httpx.Client], change: dict[str, Any] | None
) -> None:
    one, two = json.loads(jwks_of(one=PRIVATE["ES256"], two=PRIVATE["RS"]))["keys"]
    second.on("/keys", Reply(200, {}, json.dumps({"keys": [one, two]})))
    client = api(Jwt.jwks(f"{second.url}/keys", refresh=1, cooldown=1))
    kept, withdrawn = (
        bearer(pyjwt.encode(GOOD, PRIVATE[key], algorithm=algorithm, headers={"kid": kid}))
        for key, algorithm, kid in (("ES256", "ES256", "one"), ("RS", "RS256", "two"))
    )
    for token_of_both in (kept, withdrawn):
        assert [client.get("/", headers=token_of_both).status_code for _ in range(2)] == [200, 200]
    left = [one] if change is None else [one, two | change]
    second.on("/keys", Reply(200, {}, json.dumps({"keys": left})))
    wait_until(lambda: client.get("/", headers=withdrawn).status_code == 403, what="the refusal of the key")
    assert client.get("/", headers=kept).status_code == 200


@pytest.mark.parametrize("reloaded", [False, True])
def test_a_token_waits_for_the_first_keys_of_its_issuer(
    origin: Origin, second: Origin, serve: Callable[[Edge], Running], client_for: Client, reloaded: bool
) -> None:
    sent = threading.Event()

    def slowly(seen: Seen) -> Reply:
        sent.wait(60)
        return Reply(200, {}, jwks_of(one=PRIVATE["RS"]))

    def guarded(auth: Jwt | None) -> Edge:
        edge = Edge("test")
        edge.route("/*", respond="x", auth=auth)
        return edge

    second.on("/keys", slowly)
    by_url = guarded(Jwt.jwks(f"{second.url}/keys"))
    served = serve(guarded(None) if reloaded else by_url)
    if reloaded:
        served.reload(by_url)
    one = pyjwt.encode(GOOD, PRIVATE["RS"], algorithm="RS256", headers={"kid": "one"})
    with connect(served.url) as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {one}\r\nConnection: close\r\n\r\n".encode())
        second.wait_for(1)
        sent.set()
        assert responses(read_all(sock))[0].status == 200


def test_a_reload_amid_the_first_fetch_of_keys_begins_it_anew(
    second: Origin, serve: Callable[[Edge], Running], client_for: Client
) -> None:
    sent = threading.Event()

    def first_never(seen: Seen) -> Reply:
        if len(second.requests) == 1:
            sent.wait(60)
        return Reply(200, {}, jwks_of(one=PRIVATE["RS"]))

    second.on("/keys", first_never)
    edge = Edge("test")
    edge.route("/*", respond="x", auth=Jwt.jwks(f"{second.url}/keys"))
    served = serve(edge)
    second.wait_for(1)
    served.reload(edge)
    one = pyjwt.encode(GOOD, PRIVATE["RS"], algorithm="RS256", headers={"kid": "one"})
    try:
        assert client_for(served).get("/", headers=bearer(one)).status_code == 200
    finally:
        sent.set()


def test_a_token_with_a_new_key_waits_for_the_set_that_has_it(
    second: Origin, serve: Callable[[Edge], Running], client_for: Client
) -> None:
    sent = threading.Event()
    second.on("/keys", Reply(200, {}, jwks_of(one=PRIVATE["RS"])))
    edge = Edge("test")
    edge.route("/*", respond="x", auth=Jwt.jwks(f"{second.url}/keys", cooldown=1))
    served = serve(edge)
    client = client_for(served)
    one = pyjwt.encode(GOOD, PRIVATE["RS"], algorithm="RS256", headers={"kid": "one"})
    assert client.get("/", headers=bearer(one)).status_code == 200

    def rotated(seen: Seen) -> Reply:
        sent.wait(60)
        return Reply(200, {}, jwks_of(two=PRIVATE["ES256"]))

    second.on("/keys", rotated)
    two = pyjwt.encode(GOOD, PRIVATE["ES256"], algorithm="ES256", headers={"kid": "two"})
    got: list[int] = []

    def ask() -> None:
        while not sent.is_set():
            got.append(client.get("/", headers=bearer(two)).status_code)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        # Refused within the cooldown; the one that causes the fetch waits for it.
        try:
            wait_until(lambda: metric(served, "edgerouter_rate_limit_waiting") == 1, what="a token that waits")
            refused = len(got)
        finally:
            sent.set()
        asking.result()
    assert got == [403] * refused + [200]


def test_es512_is_verified_by_a_key_set(second: Origin, api: Callable[..., httpx.Client]) -> None:
    second.on("/keys", lambda seen: Reply(200, {}, jwks_of(big=PRIVATE["ES512"])))
    client = api(Jwt.jwks(f"{second.url}/keys", cooldown=1))
    big = pyjwt.encode(GOOD, PRIVATE["ES512"], algorithm="ES512", headers={"kid": "big"})
    wait_until(lambda: client.get("/", headers=bearer(big)).status_code == 200, what="the key set")
    other = ec.generate_private_key(ec.SECP521R1())
    forged = pyjwt.encode(GOOD, other, algorithm="ES512", headers={"kid": "big"})
    assert client.get("/", headers=bearer(forged)).status_code == 403


def test_without_any_usable_key_the_answer_is_503_and_never_401(
    second: Origin, api: Callable[..., httpx.Client]
) -> None:
    second.kill()
    client = api(Jwt.jwks(f"{second.url}/keys"))
    some = pyjwt.encode(GOOD, PRIVATE["RS"], algorithm="RS256", headers={"kid": "one"})
    response = client.get("/", headers=bearer(some))
    assert response.status_code == 503
    assert "retry-after" in response.headers


def test_tokens_with_unknown_keys_cannot_make_the_edge_ask_the_issuer_often(
    second: Origin, api: Callable[..., httpx.Client]
) -> None:
    second.on("/keys", lambda seen: Reply(200, {}, jwks_of(one=PRIVATE["RS"])))
    client = api(Jwt.jwks(f"{second.url}/keys", cooldown=60, refresh=300))
    one = pyjwt.encode(GOOD, PRIVATE["RS"], algorithm="RS256", headers={"kid": "one"})
    wait_until(lambda: client.get("/", headers=bearer(one)).status_code == 200, what="the first key set")
    asked = second.count("/keys")
    for number in range(50):
        forged = pyjwt.encode(GOOD, PRIVATE["ES256"], algorithm="ES256", headers={"kid": f"k{number}"})
        assert client.get("/", headers=bearer(forged)).status_code == 403
    assert client.get("/", headers=bearer(one)).status_code == 200
    assert second.count("/keys") == asked


def test_the_last_good_keys_stay_when_the_issuer_answers_nonsense(
    second: Origin, api: Callable[..., httpx.Client]
) -> None:
    second.on("/keys", lambda seen: Reply(200, {}, jwks_of(one=PRIVATE["RS"])))
    client = api(Jwt.jwks(f"{second.url}/keys", cooldown=1, refresh=1))
    one = pyjwt.encode(GOOD, PRIVATE["RS"], algorithm="RS256", headers={"kid": "one"})
    wait_until(lambda: client.get("/", headers=bearer(one)).status_code == 200, what="the first key set")
    for answer in (Reply(500, {}, "no"), Reply(200, {}, "{}"), Reply(200, {}, "x" * 300_000)):
        second.on("/keys", answer)
        asked = second.count("/keys")
        wait_until(lambda asked=asked: second.count("/keys") > asked, 60, "the next attempt")  # type: ignore[misc]
        fresh = pyjwt.encode(GOOD | {"n": asked}, PRIVATE["RS"], algorithm="RS256", headers={"kid": "one"})
        assert client.get("/", headers=bearer(fresh)).status_code == 200


def test_keys_are_read_from_a_jwks_file(tmp_path: Any, api: Callable[..., httpx.Client]) -> None:
    path = tmp_path / "keys.json"
    path.write_text(jwks_of(a=PRIVATE["RS"], b=PRIVATE["EdDSA"]))
    client = api(Jwt.jwks(str(path)))
    for kid, key, algorithm in (("a", PRIVATE["RS"], "RS256"), ("b", PRIVATE["EdDSA"], "EdDSA")):
        good = pyjwt.encode(GOOD, key, algorithm=algorithm, headers={"kid": kid})
        assert client.get("/", headers=bearer(good)).status_code == 200
        swapped = pyjwt.encode(GOOD, key, algorithm=algorithm, headers={"kid": "b" if kid == "a" else "a"})
        assert client.get("/", headers=bearer(swapped)).status_code == 403, "the key of another id"


@pytest.mark.parametrize("field", ["refresh", "cooldown", "max_stale"])
def test_the_times_of_a_key_set_by_url_are_refused_for_a_file(tmp_path: Any, field: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(jwks_of(a=PRIVATE["RS"]))
    with pytest.raises(ConfigError, match=f"Jwt.jwks.{field}: 7: is for a key set by URL; this one is read at the"):
        Jwt.jwks(str(path), **{field: 7})  # type: ignore[arg-type]


def test_ed25519_is_a_name_of_eddsa(tmp_path: Any, api: Callable[..., httpx.Client]) -> None:
    key = PRIVATE["EdDSA"]
    path = tmp_path / "keys.json"
    path.write_text(jwks_of(a=key, b=key).replace('"EdDSA"', '"Ed25519"', 1))
    client = api(Jwt.jwks(str(path)))
    head = base64.urlsafe_b64encode(b'{"alg":"Ed25519"}').rstrip(b"=")
    signed = head + b"." + base64.urlsafe_b64encode(json.dumps(GOOD).encode()).rstrip(b"=")
    newer = (signed + b"." + base64.urlsafe_b64encode(key.sign(signed)).rstrip(b"=")).decode()
    for one in (newer, pyjwt.encode(GOOD, key, algorithm="EdDSA", headers={"kid": "a"})):
        assert client.get("/", headers=bearer(one)).status_code == 200
    assert client.get("/", headers=bearer(newer[:-4] + "AAAA")).status_code == 403


def test_the_cache_shares_behind_a_token_only_when_told_so(
    origin: Origin, serve: Callable[[Edge], Running], client_for: Client
) -> None:
    origin.default = Reply(200, {"Cache-Control": "max-age=60"}, "x")
    edge = Edge("test")
    first = edge.origin("first", origin.url)
    edge.route("/own/*", to=first, auth=Jwt.hs256(SECRET))
    edge.route("/shared/*", to=first, auth=Jwt.hs256(SECRET, shared=True))
    client = client_for(serve(edge))
    for path, count in (("/own/a", 2), ("/shared/a", 1)):
        for user in ("u1", "u2"):
            assert client.get(path, headers=bearer(token(GOOD | {"sub": user}))).status_code == 200
        assert origin.count(path) == count
    assert client.get("/shared/a").status_code == 401


def test_no_secret_shows_in_repr_errors_or_the_plan() -> None:
    auth = Jwt.hs256(SECRET)
    edge = Edge("test")
    edge.route("/*", to=edge.origin("o", "http://127.0.0.1:1"), auth=auth)
    for text in (repr(auth), str(auth), repr(edge)):
        assert SECRET not in text
    with pytest.raises(ConfigError) as refused:
        Jwt.jwks("https://user:pass@issuer.example/keys")
    assert "pass" not in str(refused.value).replace("password", "")
