"""The demo: two origins and the edge in front of them, by https on both sides, until Ctrl-C.

    make demo

``DEMO_TLS_PORT`` (8443), ``DEMO_PORT`` (8080), ``DEMO_ADMIN_PORT`` (9090), ``DEMO_PRIMARY_PORT`` (9001) and
``DEMO_BACKUP_PORT`` (9002) choose the ports; ``DEMO_SECONDS`` ends it by itself. Ctrl-C and SIGTERM end the children
first. Certificates are those of ``edgerouter cert``, by an authority of this user that nothing trusts by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

HERE = Path(__file__).resolve().parent
SECRET = "storefront-demo-secret-of-32-bytes!"


class StopAsked(Exception):  # noqa: N818  # not an error
    """A signal ended the demo."""


def port(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdigit() or not 0 < int(text) < 65_536:
        sys.exit(f"error: {name}={text}: must be a port")
    return int(text)


def seconds() -> float | None:
    text = os.environ.get("DEMO_SECONDS", "")
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = 0
    # Not a number is no more than any other.
    if not 0 < number <= 1e9:
        sys.exit(f"error: DEMO_SECONDS={text}: must be a number of seconds above 0")
    return number


def start(*command: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """A child in a group of its own, so that Ctrl-C reaches it through this program and in order."""
    return subprocess.Popen([sys.executable, *command], env=environment, start_new_session=True)


def certificate(folder: str) -> dict[str, str]:
    """The files of a certificate for this machine, and of the authority that verifies it."""
    command = [sys.executable, "-m", "edgerouter", "cert", "--dir", folder, "--json"]
    made = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if made.returncode:
        sys.exit("error: no certificate could be made; see the lines above")
    files: dict[str, str] = json.loads(made.stdout)
    return files


def wait_for(number: int, child: subprocess.Popen[bytes], what: str) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if child.poll() is not None:
            sys.exit(f"error: {what} ended with code {child.returncode}; see the lines above")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", number), timeout=1):
            return
        time.sleep(0.05)
    sys.exit(f"error: {what} did not answer on port {number} within 20 s")


def free(name: str, number: int) -> None:
    """Says which port is taken before anything starts."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", number))
        except OSError:
            sys.exit(f"error: 127.0.0.1:{number} is already in use; stop the other program or set {name}")


@contextlib.contextmanager
def ended(children: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Ends the children, the last one first, however the block ends."""
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        for child in reversed(children):
            if child.poll() is None:
                child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise StopAsked


def advice(base: str, plain: str, admin: str, authority: str, primary: subprocess.Popen[bytes]) -> str:
    app = os.path.relpath(HERE / "app.py")
    return f"""
storefront   {base}/
dashboard    {admin}/dashboard
metrics      {admin}/metrics

Try in another terminal. This first, so that curl verifies the edge by the authority of this user:

   export CURL_CA_BUNDLE={authority}

0. without https a page is redirected and an API call gets 403; and a file that is compressed
   for path in / /api/me; do curl -si {plain}$path | grep -iE '^(HTTP|location)'; done
   curl -si --compressed {base}/static/app.css | grep -iE '^(HTTP|content-encoding|vary)'

1. a miss, then a hit with its Age (for a visitor of one variant: each variant has its own copy)
   for i in 1 2; do curl -si {base}/product/7 -b ab-variant=control | grep -iE '^(HTTP|cache-status|age|x-origin)'; done

2. no token: 401; a bad one: 403
   for token in '' 'Bearer x.y.z'; do curl -si {base}/api/me -H "Authorization: $token" | head -1; done

3. log in: 200, and the origin gets the user's id and role
   curl -s {base}/api/me -H "Authorization: Bearer $(curl -s {base}/login -d 'email=ada@example.com' | cut -d'"' -f4)"

4. A/B: a cookie with the page, or a redirect that sets it
   for path in / /offer; do curl -si {base}$path | grep -iE '^(HTTP|location|set-cookie)'; done

5. failover: end the first origin, the second one answers
   kill {primary.pid}; curl -si {base}/product/8 | grep -iE '^(HTTP|x-origin)'

Edit {app} while this runs: a valid change is in effect at once;
a mistake is refused with its place, and the old configuration keeps serving.

Ctrl-C ends the demo.
"""


def main() -> None:
    edge_port, tls_port, admin_port = (
        port("DEMO_PORT", 8080),
        port("DEMO_TLS_PORT", 8443),
        port("DEMO_ADMIN_PORT", 9090),
    )
    origins = {"primary": port("DEMO_PRIMARY_PORT", 9001), "backup": port("DEMO_BACKUP_PORT", 9002)}
    bound = seconds()
    for name, number in (("DEMO_PORT", edge_port), ("DEMO_TLS_PORT", tls_port), ("DEMO_ADMIN_PORT", admin_port)):
        free(name, number)
    for name, number in origins.items():
        free(f"DEMO_{name.upper()}_PORT", number)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    environment.setdefault("JWT_SECRET", SECRET)
    environment["STOREFRONT_ORIGINS"] = " ".join(f"https://localhost:{number}" for number in origins.values())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    children: list[subprocess.Popen[bytes]] = []
    with (
        contextlib.suppress(StopAsked),
        tempfile.TemporaryDirectory(prefix="edgerouter-demo-") as folder,
        ended(children),
    ):
        files = certificate(folder)
        environment["STOREFRONT_CA"] = files["authority"]
        shown = ("--certificate", files["chain"], "--key", files["key"])
        for name, number in origins.items():
            origin = (str(HERE / "origin.py"), "--port", str(number), "--name", name)
            children.append(start(*origin, *shown, environment=environment))
        for (name, number), child in zip(origins.items(), children, strict=True):
            wait_for(number, child, f"origin {name}")
        listen, tls, admin = (f"127.0.0.1:{number}" for number in (edge_port, tls_port, admin_port))
        addresses = ("--listen", listen, "--tls", tls, "--admin", admin)
        edge = start("-m", "edgerouter", "dev", str(HERE / "app.py"), *addresses, environment=environment)
        children.append(edge)
        wait_for(tls_port, edge, "the edge")
        base, plain = f"https://localhost:{tls_port}", f"http://localhost:{edge_port}"
        print(advice(base, plain, f"http://{admin}", files["authority"], children[0]), flush=True)
        try:
            edge.wait(bound)
        except subprocess.TimeoutExpired:
            print(f"{bound:g} seconds are over", flush=True)
        else:
            sys.exit(f"error: the edge ended with code {edge.returncode}; see the lines above")


if __name__ == "__main__":
    main()
