"""Large objects are purged with every slice of them."""

from __future__ import annotations

import httpx
import pytest

from edgerouter import CacheLimits, Edge, Limits
from edgerouter.testing import running

from ..origins import Origin, Reply, Seen
from ..purges import completed

SLICE = 4096


@pytest.mark.parametrize("what", [{"paths": ["/film"]}, {"tags": ["films"]}, {"hosts": ["127.0.0.1"]}], ids=str)
@pytest.mark.parametrize("is_completed", [False, True], ids=["under way", "completed"])
def test_no_slice_outlives_a_purge_not_even_under_the_same_validator(
    origin: Origin, what: dict[str, list[str]], is_completed: bool
) -> None:
    content = b"a" * (10 * SLICE)

    def film(seen: Seen) -> Reply:
        fields = {"ETag": '"same"', "Cache-Control": "max-age=600", "Cache-Tag": "films"}
        wanted = seen.get("range")
        if wanted is None:
            return Reply(200, fields, content)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last), len(content) - 1)
        fields["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
        return Reply(206, fields, content[start : end + 1])

    origin.on("/film", film)
    edge = Edge(
        "test", limits=Limits(cache=CacheLimits(slice_bytes=SLICE, read_ahead_bytes=1 << 16, memory_bytes=4 << 20))
    )
    edge.route("/*", to=edge.origin("first", origin.url))
    with running(edge) as served, httpx.Client(base_url=served.url) as client:
        assert client.get("/film").content == content
        asked = origin.count("/film")
        assert client.get("/film").content == content
        assert origin.count("/film") == asked, "all of it is stored"
        old, content = content, b"b" * len(content)
        purge = served.server.purge(**what)  # type: ignore[call-overload]
        if is_completed:
            matched = completed(served, purge).matched
            assert matched.objects == 1 and matched.bytes > len(old)
        part = client.get("/film", headers={"range": f"bytes={5 * SLICE}-{6 * SLICE}"})
        assert set(part.content) == set(b"b")
        assert client.get("/film").content == content
