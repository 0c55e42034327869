"""The savings that docs/costs.md states, measured on its workload through a real edge."""

from __future__ import annotations

import json
import random
import re
import zlib
from collections.abc import Callable, Iterator

import httpx
import pytest

from edgerouter import Context, Edge, Request, Response, cache
from edgerouter.cli.admin import Admin
from edgerouter.costs.prices import Prices
from edgerouter.costs.report import of_usage
from edgerouter.costs.usage import Usage
from edgerouter.testing import Running

from ..metrics import COSTS
from ..origins import Origin, Reply, Seen

Serve = Callable[[Edge], Running]

REQUESTS = 2_000
WORDS = [f"word{number}" for number in range(2_000)]
SERVERLESS = "Serverless edge vs virtual machines"
CALLS, ROUNDS, CALLS_A_MONTH = 200, 10, 20_000_000
PRICES = 'name = "test"\n[egress]\nper_gb = 1\n[origin]\nper_gb = 1\n'


def workload() -> Iterator[str]:
    """60 % assets of 200, 25 % pages of 100, both by Zipf's law, and 15 % calls of an API that nobody may store."""
    chance = random.Random(2026)
    for _ in range(REQUESTS):
        kind = chance.choices(["asset", "page", "api"], [60, 25, 15])[0]
        count = {"asset": 200, "page": 100, "api": 1_000}[kind]
        rank = chance.choices(range(count), [1 / (place + 1) for place in range(count)])[0]
        yield f"/{kind}/{rank}"


def content(seen: Seen) -> Reply:
    """Assets are 20 kB that no coding makes shorter, pages 30 kB of words, answers of the API 4 kB of JSON."""
    _, kind, _ = seen.path.split("/")
    chance = random.Random(zlib.crc32(seen.path.encode()))
    if kind == "asset":
        return Reply(200, {"cache-control": "max-age=86400", "content-type": "image/webp"}, chance.randbytes(20_000))
    if kind == "page":
        text = " ".join(chance.choices(WORDS, k=5_000))[:30_000]
        return Reply(200, {"cache-control": "public, s-maxage=600", "content-type": "text/html"}, text)
    rows = json.dumps([{"id": number, "name": chance.choice(WORDS)} for number in range(120)])[:4_000]
    return Reply(200, {"cache-control": "no-store", "content-type": "application/json"}, rows)


def stated() -> dict[str, float]:
    """The percentages of the page's table."""
    rows = re.findall(r"^\| ([^|]+) \| [^|]* \| \*\*(\d+) %\*\* ", COSTS.read_text(), re.MULTILINE)
    return {name: float(share) for name, share in rows}


def test_the_savings_are_those_that_the_page_states(origin: Origin, serve: Serve) -> None:
    fetched: list[tuple[str, int]] = []

    def answer(seen: Seen) -> Reply:
        reply = content(seen)
        fetched.append((seen.path, len(reply.body)))
        return reply

    origin.default = answer
    edge = Edge("test")
    edge.route("/*", to=edge.origin("site", origin.url), cache=cache.OPTIMIZED, compress=True)
    served = serve(edge)
    sent: dict[str, int] = {}
    whole = 0
    with httpx.Client(base_url=served.url, headers={"accept-encoding": "br, gzip"}) as client:
        for path in workload():
            with client.stream("GET", path) as response:
                length = sum(len(piece) for piece in response.iter_raw())
            kind = path.split("/")[1]
            sent[kind] = sent.get(kind, 0) + length
            whole += len(content(Seen("GET", path, "", [], b"", b"", [])).body)
    report = of_usage(Prices.read(PRICES, "p"), Usage.of(Admin(served.admin_url).samples()))
    usage = report["usage"]
    assert usage["bytes"] == sum(sent.values()), "the report counts the bytes that the client got"
    spared = whole - usage["bytes"]
    assert 0 < usage["before_compression"] - usage["after_compression"] <= spared
    assets = sum(length for path, length in fetched if path.startswith("/asset"))
    measured = {
        "Cache static assets": 100 * (1 - assets / sent["asset"]),
        "Edge compute vs origin": 100 * (1 - usage["origin_requests"] / usage["requests"]),
        "Reduced data transfer": 100 * spared / whole,
    }
    measured[SERVERLESS] = saved_by_calls(serve)
    assert measured == {name: pytest.approx(share, abs=2) for name, share in stated().items()}


def saved_by_calls(serve: Serve) -> float:
    """The percentage of the costs of machines that is saved by paying for calls, with the measured time of one."""
    edge = Edge("test")

    @edge.function("/rows")
    def rows(request: Request, ctx: Context) -> Response:
        chance = random.Random(7)
        return Response.json([{"id": number, "name": chance.choice(WORDS)} for number in range(120)])

    served = serve(edge)
    # A busy machine makes calls longer, so the quickest of some rounds counts.
    each, usage = float("inf"), Usage()
    with httpx.Client(base_url=served.url) as client:
        for _ in range(ROUNDS):
            before = usage.function_seconds
            assert {len(client.get("/rows").content) for _ in range(CALLS // ROUNDS)} <= set(range(3_000, 5_000))
            usage = Usage.of(Admin(served.admin_url).samples())
            each = min(each, (usage.function_seconds - before) / (CALLS // ROUNDS))
    assert usage.function_calls == usage.answered_by_functions == CALLS and each > 0
    month = Usage(function_calls=CALLS_A_MONTH, function_seconds=CALLS_A_MONTH * each)
    by_calls, by_machines = (Prices.load(name) for name in ("cdn-by-volume", "own-machines"))
    return 100 * (1 - by_calls.total(month, 1.0) / by_machines.total(Usage(), 1.0))
