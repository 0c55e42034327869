"""Scripts of Workers are looked at and never run."""

from __future__ import annotations

import pytest

from edgerouter.importing.worker_scripts import only_caches

from .samples import FIXTURES

MODULE = """
export default {
  async fetch(request, env, ctx) {
    const cache = caches.default; // the zone's
    const found = await cache.match(request);
    if (found) { return found; }
    const made = await fetch(request);
    ctx.waitUntil(cache.put(request, made.clone()));
    return made;
  },
};
"""

OTHERS = {
    "another address": MODULE.replace("await fetch(request)", "await fetch('https://other.example/')"),
    "a field": MODULE.replace("return made", "made.headers.set('x', 'y'); return made"),
    "a token": MODULE.replace("if (found)", "if (request.headers.get('Authorization'))"),
    "another response": MODULE.replace("return made", "return new Response(null)"),
    "no cache": "addEventListener('fetch', event => event.respondWith(fetch(event.request)))",
    "code in a text": MODULE.replace("return made", "eval(`x`); return made"),
    "a name by brackets": MODULE.replace("made.clone()", "made['clone']()"),
    "another method": MODULE.replace("cache.match(request)", "cache.delete(request)"),
    "an operator": MODULE.replace("if (found)", "if (found || true)"),
    "very long": MODULE + "const a = request;\n" * 2000,
}


def test_a_script_that_stores_what_it_fetches_is_recognised() -> None:
    article = (FIXTURES / "article-cloudflare.yaml").read_text().partition("script: |")[2]
    assert only_caches(MODULE)
    assert only_caches(article)


@pytest.mark.parametrize("name", OTHERS)
def test_a_script_that_does_anything_else_is_not(name: str) -> None:
    assert not only_caches(OTHERS[name])
