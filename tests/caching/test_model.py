"""Random requests, changes at the origin and clock jumps against a slow and obvious model of RFC 9111.

The model knows every response that the origin gave and keeps those that a cache may keep. For each request it says
whether one of them may be used; then the edge must use it, or else it must fetch. So no response is older or other
than the model allows, and none is fetched needlessly. Lifetimes end in 5 and jumps are multiples of 10 seconds, so the
seconds that the test itself takes decide nothing; where they might, the model takes either.

The origin may be sick and answer so, or be gone, which are two things (RFC 5861 §4, RFC 9111 §4.2.4).

Every dimension of a key is there, absent, empty and doubled: the origin answers each by itself, without ``Vary``.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from hashlib import md5
from itertools import count
from typing import Any

import httpx
import jwt
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from edgerouter import CachePolicy, Edge, Experiment, Health, Jwt
from edgerouter.testing import Running, running

from ..origins import Origin, Reply, Seen

SLACK = 3
DAY = 86_400
PATIENCE = 1_000
"""More failures of an origin than come in a minute here."""
GONE = 0
"""In the place of a status: the connection was closed without an answer."""

RESPONSES = [
    "max-age=15",
    "max-age=45",
    "max-age=105",
    "max-age=0",
    "no-store",
    "private, max-age=45",
    "no-cache",
    "max-age=45, no-cache",
    "max-age=15, must-revalidate",
    "s-maxage=25, max-age=5",
    "max-age=15, stale-if-error=60",
    "max-age=15, immutable",
]
REQUESTS = [
    "",
    "",
    "",
    "no-cache",
    "no-store",
    "max-age=25",
    "min-fresh=25",
    "max-stale",
    "max-stale=30",
    "max-age=5, max-stale=20",
    "only-if-cached",
    "stale-if-error=50",
]


Lines = list[tuple[str, str]]
KEYING = ("cookie", "x-device", "x-plan", "x-variant")
"""Fields that reach the origin and are in the key."""


def bearer(**claims: str) -> tuple[str, str]:
    return "authorization", f"Bearer {jwt.encode(claims, SECRET, algorithm='HS256')}"


SECRET = "k" * 32
ABSENT: list[tuple[Lines, str]] = [([], "")]
DIMENSIONS: list[tuple[Lines, str]] = [
    *ABSENT,
    ([("cookie", "noise=1; =x; y")], ""),
    ([("cookie", "plan=a")], "cookie: plan=a"),
    ([("cookie", "noise=2;plan=a")], "cookie: plan=a"),
    ([("cookie", "plan=")], "cookie: plan="),
    ([("cookie", "plan=a; plan=a")], "cookie: plan=a; plan=a"),
    ([("x-device", "m")], "x-device: m"),
    ([("x-device", "")], "x-device: "),
    ([("x-device", "m"), ("x-device", "m")], "x-device: m, x-device: m"),
    ([bearer(plan="gold")], "x-plan: gold"),
    ([bearer(plan="")], ""),
    ([bearer(sub="u1")], ""),
    ([bearer(plan="gold"), ("x-device", "m"), ("cookie", "plan=a")], "cookie: plan=a, x-device: m, x-plan: gold"),
]
"""What a request sends, and what of it reaches the origin."""
BY_ID = [([*lines, ("x-id", "1")], f"{key}, x-variant: a".removeprefix(", ")) for lines, key in DIMENSIONS]


def key_of(seen: Seen) -> str:
    lines = [(name.lower(), value) for name, value in seen.headers if name.lower() in KEYING]
    return ", ".join(f"{name}: {value}" for name, value in sorted(lines))


def parsed(text: str) -> dict[str, int | None]:
    """The directives of one well-formed line."""
    found: dict[str, int | None] = {}
    for part in filter(None, text.split(", ")):
        name, _, value = part.partition("=")
        found[name] = int(value) if value else None
    return found


@dataclass(frozen=True)
class Resource:
    """The resource at a path of the origin."""

    control: str = "max-age=45"
    tagged: bool = True
    varies: bool = False
    version: int = 1

    def tag(self, who: str, key: str) -> str:
        return f'"{self.version}{who if self.varies else ""}-{md5(key.encode()).hexdigest()}"'

    def body(self, who: str, key: str) -> str:
        return f"version {self.version} for {who if self.varies else 'all'} by {key}"


@dataclass(frozen=True)
class Stored:
    """A response that the cache may have."""

    resource: Resource
    body: str
    who: str
    key: str
    tag: str | None
    at: float

    @property
    def says(self) -> dict[str, int | None]:
        return parsed(self.resource.control)

    @property
    def lifetime(self) -> int:
        return self.says.get("s-maxage") or self.says.get("max-age") or 0

    @property
    def strict(self) -> bool:
        return "must-revalidate" in self.says or "s-maxage" in self.says


def may_store(resource: Resource, asked: dict[str, int | None]) -> bool:
    """RFC 9111 §3, and whether keeping it could ever be of use."""
    says = parsed(resource.control)
    if "no-store" in says or "private" in says or "no-store" in asked:
        return False
    useful = (says.get("s-maxage") or says.get("max-age") or 0) > 0 and "no-cache" not in says
    return useful or resource.tagged or "stale-if-error" in says


def may_use(stored: Stored, asked: dict[str, int | None], age: float) -> bool:
    """RFC 9111 §4.2 and §5.2.1."""
    if "no-cache" in stored.says or "no-cache" in asked:
        return False
    stale = None if stored.strict or "max-stale" not in asked else (asked["max-stale"] or 10**9)
    fresh = age < stored.lifetime
    most = asked.get("max-age")
    too_old = most is not None and age > most and not ("immutable" in stored.says and fresh)
    if too_old and (stale is None or age - (most or 0) > stale):
        return False
    least = asked.get("min-fresh")
    if least is not None and stored.lifetime - age < least:
        return False
    return fresh or (stale is not None and age - stored.lifetime <= stale)


def may_stand_in(stored: Stored, asked: dict[str, int | None], age: float, *, gone: bool = False) -> bool:
    """RFC 5861 §4, RFC 9111 §5.2.1.4; of an origin that is gone and did not say for how long, RFC 9111 §4.2.4."""
    if "no-cache" in stored.says or "no-cache" in asked or stored.strict:
        return False
    window = max(stored.says.get("stale-if-error") or 0, asked.get("stale-if-error") or 0)
    if gone and "stale-if-error" not in stored.says:
        window = max(window, DAY)
    return age < stored.lifetime or (window > 0 and age - stored.lifetime <= window)


@dataclass
class World:
    """The real things, shared by all examples: each has paths of its own."""

    origin: Origin
    edge: Running
    client: httpx.Client
    dimensions: list[tuple[Lines, str]]
    #: Nothing is ever found unhealthy, so that the edge tries an origin that is gone anew each time.
    patient: bool
    names: Iterator[int] = field(default_factory=count)


class Cache(RuleBasedStateMachine):
    world: World

    @initialize()
    def begin(self) -> None:
        example = next(self.world.names)
        self.paths = [f"/{example}/a", f"/{example}/b"]
        self.resources = {path: Resource() for path in self.paths}
        self.kept: dict[tuple[str, str], list[Stored]] = defaultdict(list)
        self.sick = False
        self.gone = False
        self.replies: list[int] = []
        self.shift = 0
        self.world.edge.set_clock(0)
        for path in self.paths:
            self.world.origin.on(path, self.answer)

    def now(self) -> float:
        return time.time() + self.shift

    def answer(self, seen: Seen) -> Reply | None:
        if self.gone:
            self.replies.append(GONE)
            return None
        resource, who, key = self.resources[seen.path], seen.get("x-who") or "", key_of(seen)
        fields = {"Date": formatdate(self.now(), usegmt=True), "Cache-Control": resource.control}
        if resource.varies:
            fields["Vary"] = "X-Who"
        if resource.tagged:
            fields["ETag"] = resource.tag(who, key)
        if seen.method == "POST":
            reply = Reply(500 if self.sick else 200, {"Cache-Control": "no-store"}, "done")
        elif self.sick:
            reply = Reply(503, {"Cache-Control": "no-store"}, "sick")
        elif resource.tagged and seen.get("if-none-match") == resource.tag(who, key):
            reply = Reply(304, fields)
        else:
            reply = Reply(200, fields, resource.body(who, key))
        self.replies.append(reply.status)
        return reply

    @rule(
        at=st.integers(0, 1),
        control=st.sampled_from(RESPONSES),
        tagged=st.booleans(),
        varies=st.booleans(),
        anew=st.booleans(),
    )
    def change(self, at: int, control: str, tagged: bool, varies: bool, anew: bool) -> None:
        path = self.paths[at]
        old = self.resources[path]
        # Without a new version the same bytes get other fields, as a 304 brings them.
        if anew or (tagged, varies) != (old.tagged, old.varies):
            self.resources[path] = Resource(control, tagged, varies, old.version + 1)
        else:
            self.resources[path] = replace(old, control=control)

    @rule(sick=st.booleans())
    def health(self, sick: bool) -> None:
        self.sick = sick

    @rule(gone=st.booleans())
    def disconnect(self, gone: bool) -> None:
        self.gone = gone and self.world.patient

    @rule(seconds=st.sampled_from([10, 10, 20, 30, 50, 100, DAY]))
    def jump(self, seconds: int) -> None:
        self.shift += seconds
        self.world.edge.set_clock(self.shift)

    @rule(at=st.integers(0, 1))
    def post(self, at: int) -> None:
        path = self.paths[at]
        status = self.world.client.post(path).status_code
        assert status == (502 if self.gone else 500 if self.sick else 200)
        if status == 200:
            for (stored_at, _), kept in self.kept.items():
                if stored_at == path:
                    kept.clear()

    @rule(
        at=st.integers(0, 1),
        who=st.sampled_from(["ann", "bob"]),
        control=st.sampled_from(REQUESTS),
        method=st.sampled_from(["GET", "GET", "GET", "HEAD"]),
        knows=st.booleans(),
        dimension=st.integers(0, len(DIMENSIONS) - 1),
    )
    def request(self, at: int, who: str, control: str, method: str, knows: bool, dimension: int) -> None:
        lines, key = self.world.dimensions[dimension % len(self.world.dimensions)]
        place, asked = (self.paths[at], key), parsed(control)
        stored = self.selected(place, who)
        headers = {"x-who": who}
        if control:
            headers["cache-control"] = control
        if knows and stored is not None and stored.tag is not None:
            headers["if-none-match"] = stored.tag
        before = len(self.replies)
        response = self.world.client.request(method, place[0], headers=[*headers.items(), *lines])
        replies = self.replies[before:]
        age = 0.0 if stored is None else self.now() - stored.at
        if stored is not None and not replies and response.status_code != 504:
            assert any(may_use(stored, asked, age + slack) for slack in (-SLACK, 0, SLACK)), (stored, control, age)
            assert abs(int(response.headers["age"]) - age) <= SLACK
            self.check(response, method, stored.body, stored.tag, headers)
            return
        if stored is not None:
            all_say = all(may_use(stored, asked, age + slack) for slack in (-SLACK, 0, SLACK))
            assert not all_say, ("fetched in vain", stored, control, age)
        if "only-if-cached" in asked:
            assert (response.status_code, replies) == (504, [])
            return
        if self.gone:
            # A kept connection that ends without an answer is a reason to try once more.
            assert replies in ([GONE], [GONE, GONE]), replies
            stands = [
                stored is not None and may_stand_in(stored, asked, age + slack, gone=True)
                for slack in (-SLACK, 0, SLACK)
            ]
            if response.status_code == 502:
                assert not all(stands), ("an error although a response is stored", stored, control, age)
            else:
                assert stored is not None and any(stands), (stored, control, age)
                self.check(response, method, stored.body, stored.tag, headers)
            return
        assert len(replies) == 1, replies
        self.brought(place, who, asked, method, response, stored, replies[0], headers, age)

    def brought(
        self,
        place: tuple[str, str],
        who: str,
        asked: dict[str, int | None],
        method: str,
        response: httpx.Response,
        stored: Stored | None,
        status: int,
        headers: dict[str, str],
        age: float,
    ) -> None:
        """The origin got the request and answered with ``status``."""
        resource = self.resources[place[0]]
        if status == 503:
            stands = [stored is not None and may_stand_in(stored, asked, age + slack) for slack in (-SLACK, 0, SLACK)]
            if response.status_code == 503:
                assert not all(stands), (stored, age)
            else:
                assert stored is not None and any(stands), (stored, age)
                self.check(response, method, stored.body, stored.tag, headers)
            return
        now = self.now()
        if status == 304:
            assert stored is not None and stored.tag == resource.tag(who, place[1])
            self.check(response, method, stored.body, stored.tag, headers)
            # To HEAD with the client's own condition the origin's 304 is passed on, and says nothing more.
            if method == "GET":
                self.freshen(place, asked, stored, resource, now)
            return
        tag = resource.tag(who, place[1]) if resource.tagged else None
        self.check(response, method, resource.body(who, place[1]), tag, headers)
        if method == "HEAD":
            self.head(place, asked, stored, resource, tag, now)
        elif may_store(resource, asked):
            new = Stored(resource, resource.body(who, place[1]), who, place[1], tag, now)
            same = [old for old in self.kept[place] if old.resource.varies and resource.varies and old.who != who]
            self.kept[place] = [*same, new]
        elif stored is not None and ("no-store" not in asked or "no-store" in parsed(resource.control)):
            # RFC 9111 §4.3.3: nothing that is stored fits.
            self.kept[place].remove(stored)

    def head(
        self,
        place: tuple[str, str],
        asked: dict[str, int | None],
        stored: Stored | None,
        resource: Resource,
        tag: str | None,
        now: float,
    ) -> None:
        """RFC 9111 §4.3.5."""
        if stored is None:
            return
        if len(stored.body) != len(resource.body(stored.who, stored.key)) or (tag is not None and tag != stored.tag):
            self.kept[place].remove(stored)
        elif tag is not None:
            self.freshen(place, asked, stored, resource, now)

    def freshen(
        self, place: tuple[str, str], asked: dict[str, int | None], stored: Stored, resource: Resource, now: float
    ) -> None:
        """RFC 9111 §4.3.4."""
        if not may_store(resource, {}):
            self.kept[place].remove(stored)
        elif "no-store" not in asked:
            self.kept[place].remove(stored)
            self.kept[place].append(replace(stored, resource=resource, at=now))

    def selected(self, place: tuple[str, str], who: str) -> Stored | None:
        """RFC 9111 §4.1: the most recent one that the request selects."""
        found = [one for one in self.kept[place] if not one.resource.varies or one.who == who]
        return max(found, key=lambda one: one.at, default=None)

    def check(self, response: httpx.Response, method: str, body: str, tag: str | None, headers: dict[str, str]) -> None:
        matches = tag is not None and headers.get("if-none-match") == tag
        if method == "GET" or response.status_code == 304:
            assert response.status_code == (304 if matches else 200)
        assert response.text == ("" if matches or method == "HEAD" else body)
        assert response.headers.get("etag") == tag

    @invariant()
    def never_two_for_one_request(self) -> None:
        for kept in getattr(self, "kept", {}).values():
            assert len({(one.resource.varies, one.who if one.resource.varies else "") for one in kept}) == len(kept)


KEYED: dict[str, Any] = {
    "cache": CachePolicy(cookies=["plan"], headers=["X-Device"], claims=["plan"]),
    "auth": Jwt.hs256(SECRET, require=[], optional=True, forward={"plan": "X-Plan"}),
}
BUCKETED = Experiment("e", variants={"a": 1, "b": 0}, by="header:X-Id", cookie="ab")


@contextmanager
def world(dimensions: list[tuple[Lines, str]], route: dict[str, Any], patient: bool) -> Iterator[World]:
    origin = Origin("first")
    edge = Edge("test")
    health = Health("/well", unhealthy_after=PATIENCE) if patient else None
    edge.route("/*", to=edge.origin("first", origin.url, health=health), **route)
    with running(edge) as served, httpx.Client(base_url=served.url, timeout=20) as client:
        yield World(origin, served, client, dimensions, patient)
    origin.kill()


@pytest.mark.parametrize(
    ("dimensions", "route", "patient"),
    [
        (ABSENT, {"cache": CachePolicy()}, True),
        (ABSENT, {"cache": CachePolicy()}, False),
        (DIMENSIONS, KEYED, True),
        (BY_ID, {**KEYED, "experiment": BUCKETED}, True),
    ],
    ids=["the URL alone", "an origin found sick", "each dimension", "each dimension of an experiment"],
)
def test_no_response_is_older_or_other_than_the_rfc_allows(
    dimensions: list[tuple[Lines, str]], route: dict[str, Any], patient: bool
) -> None:
    with world(dimensions, route, patient) as shared:
        machine = type("Machine", (Cache,), {"world": shared})
        profile = settings(max_examples=30, stateful_step_count=40, deadline=None)
        run_state_machine_as_test(machine, settings=profile)
        assert shared.origin.requests, "the model was tried against a real origin"
