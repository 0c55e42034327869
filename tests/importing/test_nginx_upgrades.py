"""Servers of nginx that only send browsers to https: the program does so, and its redirects lead to no loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgerouter import Edge
from edgerouter.importing import read
from edgerouter.testing import Client

TLS = "listen 443 ssl; ssl_certificate /c.pem; ssl_certificate_key /k.pem;"
SITE = f"server {{ {TLS} server_name www.test; location / {{ proxy_pass http://127.0.0.1:9000; }} }}"
BARE = f"server {{ {TLS} server_name test; return 301 https://www.test$request_uri; }}"


def program(tmp_path: Path, *servers: str) -> Edge:
    source = tmp_path / "nginx.conf"
    source.write_text(f"http {{ ssl_protocols TLSv1.2 TLSv1.3; {' '.join(servers)} }}\n")
    names: dict[str, Edge] = {}
    text = "\n".join(line for line in read(source).program.splitlines() if "443" not in line)
    exec(compile(text, "app.py", "exec"), names)
    return names["edge"]


def answer(edge: Edge, url: str) -> tuple[int, str | None]:
    """The status, and the target of a redirect."""
    with Client(edge, origins={"app-9000": {"/*": "passed"}}) as http:
        response = http.get(url, follow_redirects=False)
    return response.status_code, response.headers.get("location")


UPGRADES = {
    "a return": "server { listen 80; server_name www.test; return 301 https://$host$request_uri; }",
    "of a location": "server { listen 80; server_name www.test; location / { return 301 https://$host$request_uri; } }",
    "by the name": "server { listen 80; server_name www.test; return 301 https://www.test$request_uri; }",
    "of all hosts": "server { listen 80 default_server; server_name _; return 301 https://www.test$request_uri; }",
    "of more hosts": "server { listen 80; server_name www.test other.test; return 301 https://$host$request_uri; }",
    "with the challenges of ACME": "server { listen 80; server_name www.test; location /.well-known/acme-challenge/"
    " { return 200 proof; } location / { return 301 https://$host$request_uri; } }",
    "of Certbot": "server { if ($host = www.test) { return 301 https://$host$request_uri; }"
    " listen 80; server_name www.test; return 404; }",
}


@pytest.mark.parametrize("plain", UPGRADES)
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_browsers_are_sent_to_https_and_the_server_with_tls_answers_there(
    tmp_path: Path, plain: str, first: bool
) -> None:
    edge = program(tmp_path, *([UPGRADES[plain], SITE] if first else [SITE, UPGRADES[plain]]))
    assert answer(edge, "http://www.test/a?b=c") == (301, "https://www.test/a?b=c")
    assert answer(edge, "https://www.test/a?b=c") == (200, None)


def test_challenges_of_acme_stay_in_plain_text_and_hosts_without_tls_keep_their_redirect(tmp_path: Path) -> None:
    plain = (
        "server { listen 80; server_name www.test old.test; location /.well-known/acme-challenge/ { return 200 proof; }"
        " location / { return 301 https://www.test$request_uri; } }"
    )
    edge = program(tmp_path, plain, SITE)
    assert answer(edge, "http://www.test/.well-known/acme-challenge/a") == (200, None)
    assert answer(edge, "http://old.test/a") == (301, "https://www.test/a")
    assert answer(edge, "https://www.test/a") == (200, None)


def test_the_bare_host_is_sent_to_the_other_by_https_and_in_plain_text(tmp_path: Path) -> None:
    plain = "server { listen 80; server_name test www.test; return 301 https://www.test$request_uri; }"
    edge = program(tmp_path, plain, BARE, SITE)
    assert answer(edge, "http://test/a") == (301, "https://test/a")
    assert answer(edge, "https://test/a") == (301, "https://www.test/a")
    assert answer(edge, "http://www.test/a") == (301, "https://www.test/a")
    assert answer(edge, "https://www.test/a") == (200, None)


def test_a_server_in_plain_text_beside_one_with_tls_gives_way_and_is_reported(tmp_path: Path) -> None:
    plain = "server { listen 80; server_name www.test; location / { return 200 other; } }"
    source = tmp_path / "nginx.conf"
    source.write_text(f"http {{ {plain} {SITE} }}\n")
    left = [item.path for item in read(source).report.notes if "routes answer on all listeners" in item.message]
    assert left == ["server www.test"]
    assert answer(program(tmp_path, plain, SITE), "http://www.test/a") == (200, None)


def test_a_directive_that_nothing_uses_is_reported_as_that(tmp_path: Path) -> None:
    source = tmp_path / "nginx.conf"
    source.write_text(
        "http { upstream spare { server 10.0.0.9; }\n"
        "server { listen 80; root /srv; index a.html; location / { proxy_pass http://127.0.0.1:9000; } } }\n"
    )
    said = {note.path.rpartition(" / ")[2]: note.message for note in read(source).report.notes}
    assert said == {
        "server 10.0.0.9": "no location passes requests to this upstream",
        "root": "no location of this server sends files of the folder",
        "index": "no location of this server sends files",
    }
