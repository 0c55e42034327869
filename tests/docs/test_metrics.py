"""The page on metrics names every family that a scrape has, with its type, labels and help text, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from edgerouter import DiskCache, Edge, Experiment
from edgerouter.testing import running

from ..geo.files import CITIES, write
from ..metrics import documented
from ..origins import Origin, Reply


def test_the_page_and_a_scrape_agree_on_families_types_labels_and_help_texts(origin: Origin, tmp_path: Path) -> None:
    edge = Edge("test", disk_cache=DiskCache(str(tmp_path / "cache"), size=64 << 20))
    edge.geo([write(tmp_path / "cities.mmdb", CITIES)])
    edge.kv("EXPERIMENTS", "memory:")
    read = Experiment("home", variants={"control": 1}, config="kv:EXPERIMENTS/{name}")
    edge.route("/*", to=edge.origin("site", origin.url), experiment=read)

    @edge.function("/made")
    def made(request: object, ctx: object) -> str:
        return "made"

    origin.default = Reply(200, {"cache-control": "max-age=60"}, "x")
    with running(edge) as served:
        for path in ("/a", "/a", "/made"):
            assert httpx.get(served.url + path).status_code == 200
        scrape = httpx.get(f"{served.admin_url}/metrics").text
    types = dict(re.findall(r"^# TYPE (edgerouter_\w+) (\w+)$", scrape, re.MULTILINE))
    page = documented()
    assert {name: kind for name, (kind, _, _) in page.items()} == types
    helps = dict(re.findall(r"^# HELP (edgerouter_\w+) (.*)$", scrape, re.MULTILINE))
    assert {name: text for name, (_, text, _) in page.items()} == helps
    for name, labels in re.findall(r"^(edgerouter_\w+)\{(.*?)\} ", scrape, re.MULTILINE):
        family = name if name in types else re.sub(r"_(bucket|sum|count)$", "", name)
        seen = set(re.findall(r'(\w+)="', labels)) - {"le"}
        assert seen <= page[family][2], (family, seen)
