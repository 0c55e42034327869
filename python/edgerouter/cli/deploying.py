"""``edgerouter deploy`` and ``edgerouter deploys``: a new version beside the running one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from edgerouter.cli import show
from edgerouter.cli.admin import Admin, Where, Whose
from edgerouter.cli.refusals import refusals
from edgerouter.cli.running import say

__all__ = ["app", "deploy"]

#: Seconds: an import and the handlers of the start may take a while, as long as the listener answers others.
PATIENCE = 90.0

app = typer.Typer(name="deploys", help="List, promote and roll back deploys.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]
Number = Annotated[
    int | None,
    typer.Argument(
        metavar="ID", help="The deploy that must be the one under way.", min=1, show_default="the one under way"
    ),
]


@app.callback()
def _deploys() -> None:
    """List, promote and roll back deploys."""


def deploy(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A path below the --deploy-folder of the edge: app.py or app.py:name.",
            show_default=False,
        ),
    ],
    percent: Annotated[
        float, typer.Option(metavar="P", min=0.01, max=100, help="Percent of the clients.", show_default=False)
    ],
    cookie: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The cookie that tells clients apart.", show_default="their address"),
    ] = None,
    min_responses: Annotated[
        int, typer.Option(metavar="N", min=1, max=1_000_000, help="Responses without which nothing is judged.")
    ] = 50,
    max_errors: Annotated[
        float, typer.Option(metavar="P", min=0, max=100, help="Percent of errors (5xx) past which it is rolled back.")
    ] = 5.0,
    max_latency: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0.000001,
            max=3600,
            help="It is rolled back when more than a tenth of the responses takes longer.",
            show_default="any time",
        ),
    ] = None,
    admin: Where = "127.0.0.1:9090",
    admin_token_env: Whose = None,
    as_json: Json = False,
) -> None:
    """Put a new version of the application beside the running one, for a share of the clients.

    It is rolled back by itself when it makes more errors than it may, and more than the running version.
    Exit codes: 0 done, 1 the edge refused or did not answer, 2 the command line was not understood.
    """
    order = {
        "file": file,
        "percent": percent,
        "cookie": cookie,
        "min_responses": min_responses,
        "max_errors": max_errors,
        "max_latency": max_latency,
    }
    with refusals(as_json=as_json):
        listener = Admin(admin, admin_token_env)
        number = listener.order("/v1/deploys", order, PATIENCE)["id"]
        _print(listener.get("/v1/deploys"), as_json=as_json, only=number)


@app.command("list")
def list_(admin: Where = "127.0.0.1:9090", admin_token_env: Whose = None, as_json: Json = False) -> None:
    """List the deploys of a running edge, the newest first, with the responses of both versions."""
    with refusals(as_json=as_json):
        _print(Admin(admin, admin_token_env).get("/v1/deploys"), as_json=as_json)


@app.command()
def promote(
    number: Number = None, admin: Where = "127.0.0.1:9090", admin_token_env: Whose = None, as_json: Json = False
) -> None:
    """Serve all clients by the new version, and end the old one after its last request."""
    _order("promote", {"id": number}, admin, admin_token_env, as_json)


@app.command()
def rollback(
    number: Number = None, admin: Where = "127.0.0.1:9090", admin_token_env: Whose = None, as_json: Json = False
) -> None:
    """Serve all clients by the old version again; requests under way finish on the new one."""
    _order("rollback", {"id": number}, admin, admin_token_env, as_json)


@app.command()
def percent(
    share: Annotated[
        float, typer.Argument(metavar="P", min=0.01, max=100, help="Percent of the clients.", show_default=False)
    ],
    number: Number = None,
    admin: Where = "127.0.0.1:9090",
    admin_token_env: Whose = None,
    as_json: Json = False,
) -> None:
    """Serve another share of the clients by the new version; a larger one keeps those that it has."""
    _order("percent", {"id": number, "percent": share}, admin, admin_token_env, as_json)


def _order(what: str, body: Mapping[str, object], admin: str, token: str | None, as_json: bool) -> None:
    with refusals(as_json=as_json):
        listener = Admin(admin, token)
        answer = listener.order(f"/v1/deploys/{what}", body, PATIENCE)
        # A change that needs no Python is answered with the list, the newest first.
        after = answer if "deploys" in answer else listener.get("/v1/deploys")
        changed = (deploy["id"] for deploy in after["deploys"] if deploy["state"] != "refused")
        _print(after, as_json=as_json, only=answer.get("id") or next(changed, None))


def _print(answer: Mapping[str, Any], *, as_json: bool, only: object = None) -> None:
    """Prints deploys: all, or the one of an id."""
    if as_json:
        show.as_json(dict(answer))
        return
    found = [deploy for deploy in answer.get("deploys", ()) if only is None or deploy.get("id") == only]
    if not found:
        say("no deploys since the start of this process")
    for deploy in found:
        at = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(deploy["since"]))
        share = f"  {deploy['percent']:g} %" if "percent" in deploy else ""
        about = (deploy["id"], deploy["state"] + share, deploy["file"], deploy["hash"][:12], at, deploy["author"])
        say("  ".join(map(str, about)))
        for line in str(deploy.get("reason") or "").splitlines():
            say(f"    {line}")
        for side in ("candidate", "running"):
            if side in deploy:
                say(f"    {side:<9}  {_counts(deploy[side])}")


def _counts(counts: Mapping[str, Any]) -> str:
    def shown(name: str, unit: str) -> str:
        value = counts.get(name)
        return "-" if value is None else f"{value:.3g} {unit}"

    return (
        f"{counts['responses']:,} responses, {shown('error_percent', '%')} errors, "
        f"mean {shown('mean_ms', 'ms')}, p50 {shown('p50_ms', 'ms')}, p95 {shown('p95_ms', 'ms')}"
    )
