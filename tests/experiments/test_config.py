"""Settings of experiments from a key-value store: read again and again, and in use without a reload."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import ConfigError, Context, DataLimits, Edge, Experiment, Limits, Request
from edgerouter.testing import Running

from ..data.servers import RedisServer
from ..metrics import metric
from ..origins import Origin, Reply, until_steady, wait_until

Serve = Callable[[Edge], Running]
ClientFor = Callable[[Running], httpx.Client]
#: A store that is frozen costs this time, which a busy machine may take for a reading as well.
IMPATIENT = Limits(data=DataLimits(timeout=0.2))
EACH = "kv:EXPERIMENTS/experiment:{variant}"


class Site:
    """An edge whose experiment reads its settings, and visitors of it."""

    def __init__(
        self, origin: Origin, url: str, config: str = EACH, *, limits: Limits | None = None, **options: Any
    ) -> None:
        origin.default = Reply(200, {"cache-control": "max-age=60"}, "content")
        self.edge = Edge("test", limits=limits or Limits())
        self.edge.kv("EXPERIMENTS", url)
        settings: dict[str, Any] = {"config_interval": 0.02, "payload_header": "X-Settings"} | options
        experiment = Experiment("home", variants={"control": 1, "treatment": 0}, config=config, **settings)
        self.edge.route("/*", to=self.edge.origin("first", origin.url), experiment=experiment)

        @self.edge.function("/shown", experiment=experiment)
        def shown(request: Request, ctx: Context) -> Any:
            first = request.experiment
            assert first is not None and first.name == "home" and list(request.experiments) == ["home"]
            assert first.variant == request.variant == request.experiments["home"].variant
            return {"variant": first.variant, "payload": first.payload}

        @self.edge.function("/settings/{key}", methods=["PUT", "DELETE"])
        def change(request: Request, ctx: Context) -> str:
            if request.method == "DELETE":
                ctx.env.EXPERIMENTS.delete(request.params["key"])
            else:
                ctx.env.EXPERIMENTS.put(request.params["key"], request.body)
            return "done"

    def serve(self, serve: Serve, client_for: ClientFor) -> Site:
        self.running = serve(self.edge)
        self.client = client_for(self.running)
        return self

    def put(self, key: str, value: Any) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        assert self.client.put(f"/settings/{key}", content=content).status_code == 200

    def delete(self, key: str) -> None:
        assert self.client.delete(f"/settings/{key}").status_code == 200

    def get(self, path: str, cookie: str | None = None, **headers: str) -> httpx.Response:
        if cookie:
            headers["cookie"] = f"ab-variant={cookie}"
        self.client.cookies.clear()
        return self.client.get(path, headers=headers)

    def shown(self, cookie: str | None = None) -> dict[str, Any]:
        found: dict[str, Any] = self.get("/shown", cookie).json()
        return found

    def variant(self, cookie: str | None = None) -> Any:
        return self.shown(cookie)["variant"]

    def payload(self, variant: str) -> Any:
        return self.shown(variant)["payload"]

    def readings(self, result: str) -> float:
        return metric(self.running, "edgerouter_experiment_readings_total", f'{{experiment="home",result="{result}"}}')

    def wait_for(self, result: str, times: int = 1) -> None:
        """Waits for readings that began after this call."""
        wanted = self.readings(result) + times
        wait_until(lambda: self.readings(result) >= wanted, what=f"readings that are {result}")


@pytest.fixture
def site(origin: Origin, serve: Serve, client_for: ClientFor) -> Callable[..., Site]:
    return lambda *args, **options: Site(origin, *args, **options).serve(serve, client_for)


def test_weights_switches_and_payloads_change_without_a_reload(site: Callable[..., Site]) -> None:
    shop = site("memory:")
    assert {shop.variant() for _ in range(20)} == {"control"} and shop.payload("control") is None
    shop.put("experiment:control", {"weight": 0})
    shop.put("experiment:treatment", {"weight": 5, "payload": {"color": "green"}})
    wait_until(lambda: shop.shown() == {"variant": "treatment", "payload": {"color": "green"}})
    assert {shop.variant("control") for _ in range(20)} == {"treatment"}, "a variant without a weight is left"
    shop.put("experiment:control", {"weight": 1})
    shop.put("experiment:treatment", {"weight": 5, "enabled": False})
    wait_until(lambda: shop.variant("treatment") == "control")
    shop.delete("experiment:treatment")
    shop.delete("experiment:control")
    shop.wait_for("ok", 2)
    assert {shop.variant() for _ in range(20)} == {"control"}, "as declared"
    assert metric(shop.running, "edgerouter_plan_version") == 1


def test_a_value_that_does_not_fit_changes_nothing_and_is_counted(site: Callable[..., Site]) -> None:
    shop = site("memory:")
    shop.put("experiment:treatment", {"weight": 3, "payload": [1]})
    wait_until(lambda: shop.payload("treatment") == [1])
    wrong: tuple[Any, ...] = (
        {"wieght": 1},
        [],
        b"\xff",
        b"",
        {"weight": "heavy"},
        {"payload": "x" * 3_100},
        b" " * 70_000,
    )
    for value in wrong:
        shop.put("experiment:treatment", value)
        shop.wait_for("invalid", 2)
        assert shop.payload("treatment") == [1], value
    shop.put("experiment:control", {"weight": 0})
    shop.put("experiment:treatment", {"weight": 0})
    shop.wait_for("invalid", 2)
    assert shop.payload("treatment") == [1], "no variant has a weight"
    shop.put("experiment:treatment", {"weight": 3, "payload": [2]})
    wait_until(lambda: shop.payload("treatment") == [2])


def test_the_payload_is_in_the_key_and_reaches_the_origin_as_one_value_of_a_field(
    site: Callable[..., Site], origin: Origin
) -> None:
    shop = site("memory:")
    shop.put("experiment:treatment", {"weight": 1})

    def page(variant: str = "control") -> str:
        forged = {"X-Settings": "forged", "X_Settings": "forged"}
        return "hit" if "; hit" in shop.get("/page", variant, **forged).headers["cache-status"] else "miss"

    wait_until(lambda: shop.variant("treatment") == "treatment")
    assert [page(), page(), page("treatment"), page("treatment")] == ["miss", "hit"] * 2
    assert origin.requests[-1].get("x-settings") is None and origin.requests[-1].get("x_settings") is None
    payload = {"color": "é\r\nSet-Cookie: a=b"}
    shop.put("experiment:control", {"payload": payload})
    wait_until(lambda: shop.payload("control") == payload)
    assert [page(), page(), page("treatment")] == ["miss", "hit", "hit"]
    sent = origin.requests[-1].get("x-settings") or ""
    assert json.loads(base64.urlsafe_b64decode(sent + "=" * (-len(sent) % 4))) == payload
    assert "=" not in sent
    found = httpx.get(
        f"{shop.running.admin_url}/v1/cache/entry",
        params={"url": f"{shop.running.url}/page", "header": "cookie: ab-variant=control"},
    )
    assert found.status_code == 200 and found.text.count("control~") >= 1
    shop.delete("experiment:control")
    wait_until(lambda: shop.payload("control") is None)
    assert page() == "hit", "the response from before the payload"


def test_one_value_has_all_variants_and_switches_the_experiment_off(site: Callable[..., Site]) -> None:
    shop = site("memory:", "kv:EXPERIMENTS/{name}")
    shop.put("home", {"variants": {"control": {"weight": 0}, "treatment": {"weight": 1, "payload": 7}}})
    wait_until(lambda: shop.shown() == {"variant": "treatment", "payload": 7})
    shop.put("home", {"enabled": False, "variants": {"treatment": {"weight": 1}}})
    wait_until(lambda: shop.variant("treatment") == "control")
    shop.put("home", {"variants": {"other": {"weight": 1}}})
    shop.wait_for("invalid", 2)
    assert shop.variant("treatment") == "control"


def test_settings_are_in_use_from_the_first_request_and_over_a_reload(
    origin: Origin, serve: Serve, client_for: ClientFor, tmp_path: Path
) -> None:
    url, rare = f"sqlite:{tmp_path}/kv.db", 86_400
    shop = Site(origin, url, config_interval=rare)
    with shop.edge.bindings() as env:
        env.EXPERIMENTS.put("experiment:control", {"enabled": False})
        env.EXPERIMENTS.put("experiment:treatment", {"weight": 1, "payload": "first"})
    shop.serve(serve, client_for)
    assert shop.shown() == {"variant": "treatment", "payload": "first"}
    shop.put("experiment:treatment", b"broken")
    assert shop.running.reload(Site(origin, url, config_interval=rare).edge) == 2
    assert shop.shown() == {"variant": "treatment", "payload": "first"}, "those before"
    assert shop.running.reload(Site(origin, f"sqlite:{tmp_path}/other.db", config_interval=rare).edge) == 3
    assert shop.shown() == {"variant": "control", "payload": None}, "another store"


def test_the_readings_of_a_plan_end_with_its_time_in_service(
    origin: Origin, serve: Serve, client_for: ClientFor
) -> None:
    shop = Site(origin, "memory:", config_interval=0.001).serve(serve, client_for)
    shop.wait_for("ok", 5)
    later = Edge("test")
    later.kv("EXPERIMENTS", "memory:")
    second = Experiment("second", variants={"a": 1}, config=EACH, config_interval=86_400)
    later.route("/*", to=later.origin("first", origin.url), experiment=second)
    shop.running.reload(later)

    def count(experiment: str) -> float:
        labels = f'{{experiment="{experiment}",result="ok"}}'
        return metric(shop.running, "edgerouter_experiment_readings_total", labels)

    def reads() -> float:
        labels = '{binding="EXPERIMENTS",kind="kv",operation="get",result="ok"}'
        return metric(shop.running, "edgerouter_binding_operations_total", labels)

    wait_until(lambda: count("second") == 2, what="the readings of the new plan to begin")
    # A reading of the old plan that is on its way is counted when it ends.
    before = until_steady(reads, what="the readings of the old plan")
    assert before > 5
    for _ in range(20):
        assert shop.get("/").status_code == 200
    assert (reads(), count("second"), count("home")) == (before, 2, 0)


def test_the_declared_weights_hold_without_the_store_and_the_last_ones_while_it_is_frozen(
    origin: Origin, serve: Serve, client_for: ClientFor, tmp_path: Path
) -> None:
    redis = RedisServer(tmp_path)
    try:
        redis.kill()
        shop = Site(origin, redis.url, limits=IMPATIENT).serve(serve, client_for)
        assert shop.readings("failed") >= 1 and shop.readings("ok") == 0
        assert {shop.variant() for _ in range(10)} == {"control"}
        redis.start()
        redis.command("SET", "experiment:treatment", '{"weight": 9, "payload": "from Redis"}')
        redis.command("SET", "experiment:control", '{"enabled": false}')
        wait_until(lambda: shop.shown() == {"variant": "treatment", "payload": "from Redis"})
        assert shop.get("/page", "treatment").status_code == 200
        redis.freeze()
        shop.wait_for("failed", 2)
        for _ in range(20):
            assert "; hit" in shop.get("/page", "treatment").headers["cache-status"]
        assert shop.running.reload(Site(origin, redis.url, limits=IMPATIENT).edge) == 2
        assert shop.shown() == {"variant": "treatment", "payload": "from Redis"}
        other = Site(origin, redis.url, limits=IMPATIENT).serve(serve, client_for)
        assert other.variant() == "control" and other.readings("failed") >= 1
        redis.go_on()
        redis.command("SET", "experiment:treatment", '{"weight": 9, "payload": "later"}')
        for each in (shop, other):
            wait_until(lambda each=each: each.payload("treatment") == "later")  # type: ignore[misc]
        redis.command("DEL", "experiment:treatment")
        redis.command("RPUSH", "experiment:treatment", "a list")
        shop.wait_for("failed")
        assert shop.payload("treatment") == "later", "a value of another type"
    finally:
        redis.kill()


def test_check_names_the_field_that_is_wrong() -> None:
    edge = Edge("test")
    edge.database("DB", "sqlite:x.db")
    experiment = Experiment("home", variants={"a": 1}, config="kv:DB/x")
    edge.route("/", to=edge.origin("o", "http://127.0.0.1:1"), experiment=experiment)
    with pytest.raises(ConfigError, match=r"config: .*declare it with edge.kv"):
        edge.compile()
    for options, message in (
        ({"config": "EXPERIMENTS"}, "config: .*kv:BINDING/KEY"),
        ({"config": "kv:A/"}, "config: .*kv:BINDING/KEY"),
        ({"payload_header": "X-A"}, "payload_header: .*has no effect without config"),
        ({"config_interval": 1}, "config_interval: .*has no effect without config"),
        ({"config": "kv:A/b", "config_interval": 0}, "config_interval: .*> 0 seconds"),
        ({"config": "kv:A/b", "payload_header": "a b"}, "payload_header: .*without spaces"),
    ):
        with pytest.raises(ConfigError, match=message):
            Experiment("home", variants={"a": 1}, **options)
