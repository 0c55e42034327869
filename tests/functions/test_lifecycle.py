"""An application opens at its start and closes at its stop, over reloads; its scheduled jobs run at their times."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from edgerouter import AsyncContext, ConfigError, Context, Edge, EdgeError, Request
from edgerouter.functions import lifecycle
from edgerouter.jobs import Job, job
from edgerouter.testing import running

from ..origins import wait_until

PATIENCE = 60.0


def versioned(name: str, events: list[str], *, fails: bool = False) -> Edge:
    edge = Edge("test")

    @edge.on("start")
    async def opens() -> None:
        edge.state.loop = asyncio.get_running_loop()
        events.append(f"{name} opens")

    @edge.on("start")
    def opens_plain() -> None:
        if fails:
            raise ValueError("no database")
        edge.state.thread = threading.current_thread()

    @edge.on("stop")
    async def closes() -> None:
        assert asyncio.get_running_loop() is edge.state.loop
        events.append(f"{name} closes")

    @edge.on("stop")
    def closes_plain() -> None:
        raise ValueError("one that fails skips no other")

    @edge.on("stop")
    def closes_last() -> None:
        events.append(f"{name} closed")

    @edge.function("/")
    async def function(request: Request, ctx: AsyncContext) -> str:
        assert asyncio.get_running_loop() is edge.state.loop
        return name

    @edge.function("/slow")
    async def slow(request: Request, ctx: AsyncContext) -> str:
        events.append(f"{name} slow")
        while "release" not in events:
            await asyncio.sleep(0.01)
        events.append(f"{name} ends")
        return name

    return edge


def test_handlers_run_before_the_first_call_and_after_the_last_of_each_version() -> None:
    events: list[str] = []
    with running(versioned("one", events)) as served:
        assert events == ["one opens"]
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(httpx.get(f"{served}/slow", timeout=PATIENCE).text))
        asking.start()
        wait_until(lambda: "one slow" in events, PATIENCE, "the slow call")
        served.server.reload(versioned("two", events))
        assert httpx.get(served, timeout=PATIENCE).text == "two"
        assert events == ["one opens", "one slow", "two opens"]
        events.append("release")
        wait_until(lambda: "one closed" in events, PATIENCE, "the end of the first version")
        asking.join(PATIENCE)
        assert answers == ["one"]
        assert events[3:] == ["release", "one ends", "one closes", "one closed"]
    assert events[7:] == ["two closes", "two closed"]


def test_a_start_that_fails_keeps_the_version_from_serving() -> None:
    events: list[str] = []
    with (
        pytest.raises(EdgeError, match=r"opens_plain raised ValueError: no database"),
        running(versioned("bad", events, fails=True)),
    ):
        pass
    assert events == ["bad opens", "bad closes", "bad closed"]
    events.clear()
    with running(versioned("good", events)) as served:
        with pytest.raises(EdgeError, match="no database"):
            served.server.reload(versioned("bad", events, fails=True))
        assert httpx.get(served, timeout=PATIENCE).text == "good"
        assert events == ["good opens", "bad opens", "bad closes", "bad closed"]


def test_a_version_without_functions_has_a_life_as_well() -> None:
    events: list[str] = []
    edge = Edge("test")
    edge.route("/", respond="fixed")
    edge.on("start", timeout=5)(lambda: events.append("opens"))
    edge.on("stop")(lambda: events.append("closes"))
    plain = Edge("test")
    plain.route("/", respond="plain")
    with running(edge) as served:
        assert httpx.get(served, timeout=PATIENCE).text == "fixed" and events == ["opens"]
        served.server.reload(plain)
        wait_until(lambda: events == ["opens", "closes"], PATIENCE, "the end of the first version")


def test_a_start_that_takes_too_long_is_refused() -> None:
    edge = Edge("test")
    edge.route("/", respond="fixed")

    @edge.on("start", timeout=0.1)
    async def hangs() -> None:
        await asyncio.sleep(3_600)

    with pytest.raises(EdgeError, match=r"hangs did not end within 0\.1 s"), running(edge):
        pass


def test_what_has_no_effect_for_a_handler_is_refused() -> None:
    for options in ({"pattern": "/a"}, {"host": "a"}, {"fail": "open"}, {"varies": ["x"]}, {"inline": True}):
        with pytest.raises(ConfigError, match=f"on.{next(iter(options))}.*no effect"):
            Edge("test").on("start", **options)
    with pytest.raises(ConfigError, match="must take"):
        Edge("test").on("start")(lambda request: None)  # type: ignore[type-var]


def test_a_job_runs_at_its_times_and_its_failures_are_logged(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    ran: list[float] = []
    edge = Edge("test")
    edge.route("/", respond="fixed")

    @edge.schedule("* * * * * *")
    async def counts() -> None:
        ran.append(time.time())
        raise ValueError("each time")

    with running(edge):
        wait_until(lambda: len(ran) >= 2, PATIENCE, "two runs")
    runs = len(ran)
    assert len({int(at) for at in ran}) == runs
    records = [record for record in caplog.records if "scheduled job" in record.getMessage()]
    assert len(records) == runs and records[0].exc_info is not None


def test_a_time_that_comes_while_a_job_runs_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    class Late(Job):
        def times(self, after: datetime.datetime) -> Iterator[datetime.datetime]:
            def due(at: float) -> datetime.datetime:
                return datetime.datetime.fromtimestamp(at, datetime.UTC)

            yield due(time.time())
            # The run before is over: this time was a moment after it began.
            yield due(seen[0] + 0.001)
            yield due(time.time() + 0.01)

    async def runs() -> None:
        seen.append(time.time())
        await asyncio.sleep(0.05)

    monkeypatch.setattr(lifecycle, "alone", lambda *_: contextlib.nullcontext(True))
    asyncio.run(lifecycle.Life("a", (), (), ()).repeat(Late("job", runs, "", datetime.UTC, 10)))
    assert len(seen) == 2


def with_job(name: str, events: list[str], released: threading.Event) -> Edge:
    """A version with a job each second, whose runs last until the event is set."""
    edge = Edge("test")
    edge.route("/", respond="fixed")

    @edge.schedule("* * * * * *")
    async def job() -> None:
        events.append(f"{name} runs")
        try:
            while not released.is_set():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            events.append(f"{name} is cancelled")
            raise
        events.append(f"{name} has run")

    return edge


def test_a_run_goes_on_over_a_reload_and_the_stop_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    events: list[str] = []
    released = threading.Event()

    def version(name: str) -> Edge:
        edge = with_job(name, events, released)

        @edge.on("stop")
        def closes() -> None:
            events.append(f"{name} closes")

        return edge

    with running(version("one")) as served:
        wait_until(lambda: events == ["one runs"], PATIENCE, "the first run")
        served.reload(version("two"))
        released.set()
        wait_until(lambda: "two has run" in events, PATIENCE, "a run of the next version")
        wait_until(lambda: "one closes" in events, PATIENCE, "the end of the first version")
        # The process stops in the middle of a run.
        released.clear()
        wait_until(lambda: events[-1] == "two runs", PATIENCE, "another run")
    assert "one is cancelled" not in events and events[:2] == ["one runs", "one has run"]
    assert events[-2:] == ["two is cancelled", "two closes"]


def test_a_stop_of_the_process_waits_for_the_end_of_the_version_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    events: list[str] = []

    def version(name: str) -> Edge:
        edge = with_job(name, events, threading.Event())

        @edge.on("stop")
        async def closes() -> None:
            # Long enough for the stop to come to its end without it.
            await asyncio.sleep(0.2)
            events.append(f"{name} closed")

        return edge

    with running(version("one")) as served:
        wait_until(lambda: events == ["one runs"], PATIENCE, "the first run")
        served.reload(version("two"))
    assert [event for event in events if event.startswith("one")] == ["one runs", "one is cancelled", "one closed"]
    assert events[-1] in ("one closed", "two closed") and "two closed" in events


def test_a_time_that_has_come_belongs_to_the_version_that_waited_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    class Late(Job):
        def times(self, after: datetime.datetime) -> Iterator[datetime.datetime]:
            yield after
            yield after + datetime.timedelta(hours=1)

    async def runs() -> None:
        seen.append(time.time())

    monkeypatch.setattr(lifecycle, "alone", lambda *_: contextlib.nullcontext(True))
    life = lifecycle.Life("a", (), (), ())
    life.retired.set()
    asyncio.run(life.repeat(Late("job", runs, "", datetime.UTC, 10)))
    assert len(seen) == 1


def test_of_several_processes_one_runs_a_job_at_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    counted = job("counts", lambda: None, "* * * * *", "UTC", 1)
    due = datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC)

    def first(name: str, of: Job, at: datetime.datetime) -> bool:
        with lifecycle.alone(name, of, at) as is_first:
            return is_first

    with lifecycle.alone("a", counted, due) as holds:
        assert holds and not first("a", counted, due)
    assert not first("a", counted, due)
    assert first("a", counted, due + datetime.timedelta(minutes=1))
    assert not first("a", counted, due)
    assert first("b", counted, due)


def test_a_time_that_a_wrong_clock_has_written_keeps_no_job_from_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    counted = job("counts", lambda: None, "* * * * *", "UTC", 1)
    due = datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC)
    for at in (due + datetime.timedelta(days=400), due):
        with lifecycle.alone("a", counted, at) as first:
            assert first


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock of the jobs, which ``set`` sets by so many seconds, as an operator or a time server does."""
    shift = [0.0]
    read, steady = time.time, time.monotonic
    clock = SimpleNamespace(time=lambda: read() + shift[0], monotonic=steady, set=lambda by: shift.insert(0, by))
    monkeypatch.setattr(lifecycle, "time", clock)
    monkeypatch.setattr(lifecycle, "LOOK", 0.05)
    return clock


@pytest.mark.parametrize(
    ("first", "then"),
    [(0.0, -3 * 3_600.0), (3_600.0 * 24 * 365 * 10, 0.0), (-3_600.0 * 24 * 365 * 50, 0.0)],
    ids=["three hours back", "back from a wrong year", "a machine that began in another century"],
)
def test_a_clock_that_is_set_neither_stops_a_job_nor_holds_the_functions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace, first: float, then: float
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    ran: list[float] = []
    edge = Edge("test")

    @edge.schedule("* * * * * *")
    async def counts() -> None:
        ran.append(clock.time())

    @edge.function("/")
    async def function(request: Request, ctx: AsyncContext) -> str:
        return "here"

    clock.set(first)
    with running(edge) as served:
        wait_until(lambda: bool(ran), PATIENCE, "a run")
        clock.set(then)
        set_at = clock.time()
        wait_until(lambda: any(abs(at - set_at) < PATIENCE for at in ran), PATIENCE, "a run by the clock as it is now")
        assert httpx.get(served, timeout=PATIENCE).text == "here"
    assert all(at <= clock.time() or first > then for at in ran)


def test_a_job_of_a_time_that_the_clock_passes_again_runs_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    ran: list[str] = []
    noon = datetime.datetime(2026, 11, 29, 12, tzinfo=datetime.UTC).timestamp()
    daily = job("daily", lambda: ran.append("daily"), "0 12 * * *", "UTC", 10)
    steady = job("steady", lambda: ran.append("steady"), "* * * * * *", "UTC", 10)

    async def passes_twice() -> None:
        life = lifecycle.Life("a", (), (), ())
        clock.set(noon - 1 - time.time())
        both = asyncio.gather(life.repeat(daily), life.repeat(steady))
        while not {"daily", "steady"} <= set(ran):
            await asyncio.sleep(0.01)
        clock.set(noon - 3_600 - time.time())
        ran.append("set")
        while "steady" not in ran[ran.index("set") :]:
            await asyncio.sleep(0.01)
        clock.set(noon - 1 - time.time())
        ran.append("again")
        while clock.time() < noon + 2 or "steady" not in ran[ran.index("again") :]:
            await asyncio.sleep(0.01)
        life.retired.set()
        await both

    asyncio.run(asyncio.wait_for(passes_twice(), PATIENCE))
    assert ran.count("daily") == 1


@pytest.mark.parametrize("folder", ["gone", "file/below", "file"])
def test_jobs_run_where_no_file_can_say_which_process_runs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, folder: str
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / folder))
    ran: list[float] = []
    edge = Edge("test")
    edge.route("/", respond="fixed")
    edge.schedule("* * * * * *")(lambda: ran.append(time.time()))
    with running(edge):
        wait_until(lambda: len(ran) >= 2, PATIENCE, "two runs")
    [said] = [record.getMessage() for record in caplog.records if "scheduled jobs" in record.getMessage()]
    assert "set XDG_RUNTIME_DIR to a folder that this user may write in" in said and str(tmp_path / folder) in said


def test_jobs_of_one_name_and_times_run_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    ran: set[str] = set()
    edge = Edge("test")
    edge.route("/", respond="fixed")
    for site in ("a", "b"):

        @edge.schedule("* * * * * *")
        def refresh(site: str = site) -> None:
            ran.add(site)

    with running(edge):
        wait_until(lambda: ran == {"a", "b"}, PATIENCE, "a run of both")
    assert len(ran) == 2


ENDS: list[Any] = [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()]


@pytest.mark.parametrize(
    ("error", "awaits"),
    [(ENDS[0], True), (ENDS[0], False), (ENDS[1], True), (ENDS[2], True)],
    ids=["an exit", "an exit of a plain one", "an interrupt", "a cancellation"],
)
def test_a_job_that_raises_an_exit_runs_again_and_costs_no_call(
    error: BaseException,
    awaits: bool,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    class Often(Job):
        def times(self, after: datetime.datetime) -> Iterator[datetime.datetime]:
            for _ in range(2):
                yield datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=0.05)

    ran: list[str] = []

    def ends() -> None:
        ran.append("a run")
        raise error

    async def ends_async() -> None:
        ends()

    monkeypatch.setattr(lifecycle, "alone", lambda *_: contextlib.nullcontext(True))
    edge = Edge("test")
    edge.schedule("* * * * *")(ends_async if awaits else ends)
    edge._declared.jobs[0] = Often(*edge._declared.jobs[0])

    @edge.function("/")
    async def function(request: Request, ctx: AsyncContext) -> str:
        return "goes on"

    with running(edge) as served:
        wait_until(lambda: len(ran) == 2, PATIENCE, "another run")
        assert httpx.get(served, timeout=PATIENCE).text == "goes on"
    raised = [record.exc_info for record in caplog.records if "the scheduled job" in record.getMessage()]
    assert [info[0] for info in raised if info] == [type(error)] * 2


@pytest.mark.parametrize("error", ENDS, ids=lambda error: type(error).__name__)
def test_a_start_that_raises_an_exit_is_refused_with_its_name(error: BaseException) -> None:
    edge = Edge("test")
    edge.route("/", respond="fixed")

    @edge.on("start")
    async def exits() -> None:
        raise error

    with pytest.raises(EdgeError, match=f"exits raised {type(error).__name__}"), running(edge):
        pass


def test_a_stop_handler_that_holds_the_event_loop_keeps_the_others_for_a_short_time_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    released = threading.Event()
    edge = Edge("test")
    edge.route("/", respond="fixed")

    @edge.on("stop", timeout=0.1)
    async def holds() -> None:
        released.wait(PATIENCE)

    # With the default of 30 seconds.
    edge.on("stop")(lambda: None)
    try:
        with running(edge):
            pass
    finally:
        released.set()
    said = [record.getMessage() for record in caplog.records]
    assert any("holds did not end within 0.1 s" in line for line in said)
    assert sum("was not called: another one holds the event loop" in line for line in said) == 1


@pytest.mark.parametrize(
    ("expression", "options", "message"),
    [
        ("* * * *", {}, "six begin with the second"),
        ("* * * * * * *", {}, "no cron expression"),
        ("61 * * * *", {}, "no cron expression"),
        ("", {}, "no cron expression"),
        ("0 0 30 2 *", {}, "never comes true|no cron expression"),
        ("* * * * *", {"timezone": "Mars/Phobos"}, "IANA"),
        ("* * * * *", {"timezone": "../../etc/passwd"}, "IANA"),
        ("* * * * *", {"timeout": 0}, "timeout"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(expression: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Edge("test").schedule(expression, **options)(lambda: None)


def test_a_plain_function_shares_what_the_start_opened() -> None:
    edge = Edge("test")

    @edge.on("start")
    def opens() -> None:
        edge.state.greeting = "hello"

    @edge.function("/")
    def greets(request: Request, ctx: Context) -> str:
        return str(edge.state.greeting)

    with running(edge) as served:
        assert httpx.get(served, timeout=PATIENCE).text == "hello"
