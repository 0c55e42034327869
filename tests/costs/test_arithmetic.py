"""Prices, usage, ledger and projection as arithmetic on values."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerouter import ConfigError
from edgerouter.costs import ledger, prices
from edgerouter.costs.budget import due, projected
from edgerouter.costs.ledger import HOUR, Ledger, Month
from edgerouter.costs.prices import Prices
from edgerouter.costs.projection import project, student
from edgerouter.costs.report import of_ledger
from edgerouter.costs.terms import Schedule
from edgerouter.costs.usage import Usage

DAY = 24 * HOUR
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC).timestamp()

SIMPLE = """
name = "simple"
[requests]
per_million = 2
[egress]
per_gb = [{up_to = 10, price = 0.1}, {up_to = 20, price = 0.05}, {price = 0.01}]
[origin]
requests_per_million = 10
per_gb = 0.5
[machines]
per_month = 30
[budget]
per_month = 100
alarm_at = [0.5, 1.0]
"""


def simple() -> Prices:
    return Prices.read(SIMPLE, "prices.toml")


@pytest.mark.parametrize(("amount", "cost"), [(0, 0), (5, 0.5), (10, 1.0), (15, 1.25), (20, 1.5), (120, 2.5)], ids=str)
def test_each_step_of_a_price_counts_for_its_own_amount(amount: float, cost: float) -> None:
    schedule = Schedule(((10, 0.1), (20, 0.05), (float("inf"), 0.01)))
    assert schedule.cost(amount) == pytest.approx(cost)
    assert schedule.more(5, 10) == pytest.approx(schedule.cost(15) - schedule.cost(5))
    assert Schedule().cost(amount) == 0


def test_a_bill_and_its_savings_are_counters_times_prices() -> None:
    usage = Usage(
        requests=3_000_000,
        answered_by_cache=2_000_000,
        looked_up=2_500_000,
        bytes=12e9,
        before_compression=8e9,
        after_compression=3e9,
        origin_requests=1_000_000,
        origin_bytes=4e9,
    )
    bill = {line.item: line.cost for line in simple().bill(usage, share_of_month=0.5)}
    assert bill == pytest.approx(
        {
            "requests": 6.0,
            "to viewers, all regions": 1.1,
            "requests to origins": 10.0,
            "from origins": 2.0,
            "machines": 15.0,
        }
    )
    saved = {line.item: line.cost for line in simple().savings(usage)}
    assert saved == pytest.approx(
        {
            "cache: requests to origins": 20.0,
            "cache: bytes from origins (estimated)": 4.0,
            "compression: bytes to viewers (at least)": 0.25,
        }
    )


def test_regions_share_the_bytes() -> None:
    text = 'name = "a"\n' + "".join(
        f'[[egress.regions]]\nname = "{name}"\nshare = {share}\nper_gb = {price}\n'
        for name, share, price in (("near", 0.75, 0.1), ("far", 0.25, 0.4))
    )
    found = Prices.read(text, "p").bill(Usage(requests=1, bytes=8e9))
    assert [(line.item, line.amount, round(line.cost, 9)) for line in found] == [
        ("to viewers, near", 6.0, 0.6),
        ("to viewers, far", 2.0, 0.8),
    ]


@pytest.mark.parametrize("name", prices.examples())
def test_the_examples_are_valid_and_say_that_they_are_examples(name: str) -> None:
    assert "example" in Prices.load(name).name
    assert "Example" in prices.example(name)


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("x = ", "p", "is not TOML"),
        (f"x = {'1' * 5_000}", "p", "is not TOML"),
        ("x = " + "[" * 5_000, "p", "is not TOML"),
        ("", "p: name", "printable text"),
        ('name = "a"\nnmae = "b"', "p: nmae", "is not a field; there are"),
        ('name = "a"\n[egress]\nper_tb = 1', "p: egress.per_tb", "is not a field; there are per_gb, regions"),
        ('name = "a"\n[requests]\nper_million = -1', "p: requests.per_million", "from 0"),
        ('name = "a"\n[requests]\nper_million = true', "p: requests.per_million", "from 0"),
        ('name = "a"\n[requests]\nper_million = nan', "p: requests.per_million", "from 0"),
        ('name = "a"\n[requests]\nper_million = []', "p: requests.per_million", "steps"),
        ('name = "a"\nrequests = 5', "p: requests", "must be a table"),
        (
            'name = "a"\n[egress]\nper_gb = [{up_to = 5, price = 1}, {up_to = 4, price = 1}, {price = 0}]',
            "p: egress.per_gb[1].up_to",
            "more than that of the step before",
        ),
        ('name = "a"\n[egress]\nper_gb = [{up_to = 5, price = 1}]', "p: egress.per_gb[0]", "the last one"),
        (
            'name = "a"\n[[egress.regions]]\nname = "x"\nshare = 0.5\nper_gb = 1',
            "p: egress.regions",
            "must add up to 1",
        ),
        ('name = "a"\n[budget]\nalarm_at = [1]', "p: budget.alarm_at", "does nothing without per_month"),
        ('name = "a"\n[budget]\nper_month = 1\nalarm_at = []', "p: budget.alarm_at", "1 to 8 numbers"),
    ],
    ids=lambda value: value.replace("\n", " ")[:50],
)
def test_a_mistake_in_prices_is_named_by_its_path_with_the_remedy(text: str, path: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Prices.read(text, "p")
    assert any(problem.path == path and message in problem.message for problem in refused.value.problems)


def test_growth_of_counters_is_usage_and_counters_that_fell_count_whole() -> None:
    book = Ledger()
    for at, requests in ((0, 1_000), (60, 1_500), (120, 200), (180, 250)):
        book.observe("a", Usage(requests=requests, bytes=requests), NOVEMBER + at)
    assert book.month(NOVEMBER + 200).requests == pytest.approx(500 + 200 + 50)
    book.observe("b", Usage(requests=7_000, bytes=7_000), NOVEMBER + 200)
    assert book.month(NOVEMBER + 200).requests == pytest.approx(750), "the first look at an edge is a beginning"


def test_growth_over_several_hours_and_two_months_is_spread_evenly() -> None:
    book = Ledger()
    begin = NOVEMBER - 2 * HOUR
    book.observe("a", Usage(), begin)
    book.observe("a", Usage(requests=600, bytes=6), NOVEMBER + 4 * HOUR)
    assert book.months["2026-10"].requests == pytest.approx(200)
    assert book.month(NOVEMBER).requests == pytest.approx(400)
    assert [round(usage.requests) for usage in book.hours.values()] == [100] * 6


@given(
    st.lists(
        st.tuples(st.floats(0, 40 * DAY), st.integers(0, 10**9)),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=25)
def test_no_growth_is_lost_or_counted_twice_and_the_ledger_stays_bounded(steps: list[tuple[float, int]]) -> None:
    book, now, counter = Ledger(), NOVEMBER, 0
    book.observe("a", Usage(), now)
    for pause, growth in steps:
        now, counter = now + pause, counter + growth
        book.observe("a", Usage(requests=counter, bytes=counter), now)
    assert sum(usage.requests for usage in book.months.values()) == pytest.approx(counter)
    assert len(book.hours) <= ledger.HOURS and len(book.days) <= ledger.DAYS and len(book.months) <= ledger.MONTHS
    assert Ledger.from_dict(json.loads(json.dumps(book.as_dict()))) == book


def test_a_clock_that_was_set_back_loses_nothing() -> None:
    book = Ledger()
    book.observe("a", Usage(), NOVEMBER + 10 * DAY)
    book.observe("a", Usage(requests=5, bytes=5), NOVEMBER + 5 * DAY)
    book.observe("a", Usage(requests=8, bytes=8), NOVEMBER + 6 * DAY)
    assert book.month(NOVEMBER).requests == pytest.approx(8)


def test_a_ledger_survives_its_file_and_a_strange_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "costs.json"
    with ledger.opened(file) as book:
        book.observe("a", Usage(requests=1, bytes=2), NOVEMBER)
        book.raise_alarm({"id": "x"})
    with ledger.opened(file) as again:
        assert again == book
        assert not again.raise_alarm({"id": "x"})
    with pytest.raises(ZeroDivisionError), ledger.opened(file) as failed:
        failed.observe("b", Usage(), NOVEMBER // 0)
    with ledger.opened(file) as unchanged:
        assert list(unchanged.edges) == ["a"]
    for strange in (b"", b"[]", b'{"version": 2}', b"\xff", b"null", b'{"version": 1, "edges": 5}', b"[" * 100_000):
        file.write_bytes(strange)
        with pytest.raises(ConfigError, match="not a ledger of costs"), ledger.opened(file):
            pass
        assert file.read_bytes() == strange
    with pytest.raises(ConfigError, match="a folder that this user can write"), ledger.opened(tmp_path / "no" / "x"):
        pass
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 6.314), (2, 2.920), (3, 2.353), (5, 2.015), (10, 1.812), (30, 1.697)],
    ids=lambda value: str(value),
)
def test_quantiles_of_student_are_those_of_the_tables(freedom: int, quantile: float) -> None:
    assert student(0.95, freedom) == pytest.approx(quantile, rel=0.01)


@pytest.mark.parametrize("known", [3, 7, 20], ids=lambda days: f"after {days} days")
def test_the_interval_holds_nine_of_ten_months(known: int) -> None:
    chance = random.Random(known)
    held = 0
    for _ in range(1_000):
        days = [Usage(requests=max(chance.gauss(1_000, 200), 0)) for _ in range(30)]
        so_far = Usage(requests=sum(day.requests for day in days[:known]))
        found = project(so_far, days[:known], 30 - known)
        assert found is not None
        whole = sum(day.requests for day in days)
        held += found.low.requests <= whole <= found.high.requests
    assert 0.87 <= held / 1_000 <= 0.93


def test_there_is_no_projection_before_three_complete_hours() -> None:
    book = Ledger()
    for hour in range(4):
        book.observe("a", Usage(requests=hour * 1e6, bytes=1), NOVEMBER + 1 + hour * HOUR)
        assert projected(simple(), book, NOVEMBER + 1 + hour * HOUR) is None
    book.observe("a", Usage(requests=4e6, bytes=1), NOVEMBER + 1 + 4 * HOUR)
    found = projected(simple(), book, NOVEMBER + 1 + 4 * HOUR)
    assert found is not None and found["from"] == "3 hours"
    # A million requests an hour cost two each, and the machines thirty.
    assert found["expected"] == pytest.approx(720 * 2 + 30, rel=0.01)
    assert found["low"] <= found["expected"] <= found["high"]


def test_an_alarm_is_due_above_a_share_of_the_budget_and_once_in_a_month() -> None:
    book = Ledger()
    end = Month.of(NOVEMBER).end
    book.observe("a", Usage(), NOVEMBER)
    book.observe("a", Usage(requests=10e6, bytes=1), NOVEMBER + 60)
    assert list(due(simple(), book, NOVEMBER + 60)) == []
    book.observe("a", Usage(requests=30e6, bytes=1), NOVEMBER + 120)
    (event,) = due(simple(), book, NOVEMBER + 120)
    assert (event["id"], event["share"], event["budget"]) == ("2026-11-spent-0.5", 0.5, 100)
    assert event["spent"] == pytest.approx(60, rel=0.001)
    assert book.raise_alarm(event) and not book.raise_alarm(event)
    book.observe("a", Usage(requests=60e6, bytes=1), NOVEMBER + 180)
    assert [one["id"] for one in due(simple(), book, NOVEMBER + 180)] == ["2026-11-spent-0.5", "2026-11-spent-1"]
    book.observe("a", Usage(requests=60e6, bytes=1), end + 60)
    assert list(due(simple(), book, end + 60)) == [], "a new month begins with nothing spent"


def test_time_storage_images_and_functions_have_prices_and_savings() -> None:
    text = SIMPLE + "[functions]\ncalls_per_million = 1\nper_million_seconds = 20\n[storage]\nper_gb_month = 0.5\n"
    model = Prices.read(text, "prices.toml")
    book = Ledger()
    book.observe("edge", Usage(), NOVEMBER)
    later = Usage(
        requests=1_000_000,
        origin_requests=200_000,
        function_calls=500_000,
        function_seconds=100_000,
        answered_by_functions=400_000,
        before_images=3e9,
        after_images=1e9,
    )
    book.observe("edge", later, NOVEMBER + 3 * DAY, stored=4e9)
    usage = book.month(NOVEMBER + 3 * DAY)
    bill = {line.item: line.cost for line in model.bill(usage)}
    assert bill["calls of functions"] == pytest.approx(0.5)
    assert bill["time of functions"] == pytest.approx(2.0)
    assert bill["storage"] == pytest.approx(4 * 0.5 / 10), "three days of thirty"
    saved = {line.item: line.cost for line in model.savings(usage)}
    assert saved == pytest.approx({"images: bytes to viewers (at least)": 0.2, "functions: requests to origins": 4.0})
    # The days of a report are the whole of it.
    report = of_ledger(model, book, NOVEMBER + 3 * DAY)
    assert sum(day["cost"] for day in report["days"]) == pytest.approx(report["total"])
    assert sum(day["saved"] for day in report["days"]) == pytest.approx(report["saved"])
