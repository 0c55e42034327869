"""The commands of every day, as typer shows and parses them; ``cli.running`` has the work of ``run``.

``cli.commands`` adds all others to the same ``app``. They are kept apart because those import far more.

Exit codes: 0 done, 1 a configuration or an address was refused, 2 the command line was not understood. ``import`` also
ends with 3, when it left something out.
"""

from __future__ import annotations

import gc
import inspect
import ipaddress
from collections.abc import Iterator
from dataclasses import MISSING
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from edgerouter import logs
from edgerouter.application import FileApplication
from edgerouter.cli import certificates, examples
from edgerouter.cli.admin import Admin, Where, Whose
from edgerouter.cli.developing import dev
from edgerouter.cli.grouping import CommandGroup
from edgerouter.cli.refusals import refusals
from edgerouter.cli.running import Options, refuse, say, serve, variable
from edgerouter.errors import ConfigError, EdgeError

__all__ = ["WORDS", "app"]

#: The first words of command lines that need nothing but these commands.
WORDS = frozenset({"--version", "cert", "check", "dev", "explain", "import", "init", "purge", "run", "version", "warm"})


def _show_version(wanted: bool | None) -> None:
    if wanted:
        version()
        raise typer.Exit


app = typer.Typer(
    name="edgerouter",
    cls=CommandGroup,
    help="An edge router and CDN node: Rust serves, Python decides.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(certificates.app, name="cert")


@app.callback()
def main(
    _version: Annotated[
        bool | None,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.", show_default=False),
    ] = None,
) -> None:
    """An edge router and CDN node: Rust serves, Python decides."""


_APP = (
    "app.py, app.py:name, package.module:name, a plan file (site.toml, site.json), a folder of files, or the URL of a "
    "server."
)
App = Annotated[str, typer.Argument(metavar="APP", help=_APP, show_default=False)]
#: An application with the default ``app.py``.
AppHere = Annotated[str, typer.Argument(metavar="APP", help=_APP)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]


@certificates.app.command("list")
def cert_list(application: App, as_json: Json = False) -> None:
    """List the certificates of APP: given ones, and those that it obtains by itself, with the end of their validity."""
    from edgerouter import secrets
    from edgerouter.cli import show

    with refusals(as_json=as_json):
        plan = _application(application).load().to_dict()
        secrets.resolve(plan)
        rows = certificates.held(plan)
    if as_json:
        show.as_json({"certificates": rows})
        return
    for row in rows:
        say(f"{row['name'] or '-'}  {row['state']}  {row['until'] or '-'}  {row['source']}  {row['file'] or '-'}")


def run(application: str, **given: Any) -> None:
    """Serve APP until SIGTERM or Ctrl-C, which let requests under way finish.

    SIGHUP (and --reload) read the configuration again and swap it in without losing a request;
    one that is refused is reported and the old one keeps serving. SIGHUP opens logs again, too, and
    SIGUSR1 does only that.
    """
    options = Options(application, **{name: value for name, value in given.items() if value is not None})
    try:
        settings = options.settings()
        options.sizes()
    except ConfigError as error:
        reasons = (
            f"--{problem.path.partition('.')[2].replace('_', '-')}: {problem.value}: {problem.message}"
            for problem in error.problems
        )
        raise typer.BadParameter("; ".join(reasons)) from None
    logs.keep_standard_descriptors()
    with logs.queued(), refusals():
        serve(options, settings)


def _parameters() -> Iterator[inspect.Parameter]:
    """The parameters of ``run`` as typer reads them."""
    kind = inspect.Parameter.KEYWORD_ONLY
    yield inspect.Parameter("application", kind, default="app.py", annotation=AppHere)
    hints = get_type_hints(Options)
    for flag, field in Options.declared().items():
        option: Any = typer.Option(flag, envvar=variable(field), **field.metadata)
        wanted = hints[field.name] | None if field.default is MISSING else hints[field.name]
        default = None if field.default is MISSING else field.default
        yield inspect.Parameter(field.name, kind, default=default, annotation=Annotated[wanted, option])


run.__signature__ = inspect.Signature(list(_parameters()))  # type: ignore[attr-defined]
app.command()(run)
app.command()(dev)


@app.command()
def check(
    application: AppHere = "app.py",
    as_json: Json = False,
    strict: Annotated[bool, typer.Option("--strict", help="Also exit with 1 if there are warnings.")] = False,
) -> None:
    """Validate APP, print its routes in the order they are matched, and advise.

    All problems are printed, one a line, and the exit code is 1. The table says which routes and phases touch Python.
    """
    from edgerouter import _core, secrets, storage
    from edgerouter.cli import show

    # The process ends soon, and until then the plan of a large site would be walked again and again.
    gc.disable()
    with refusals(as_json=as_json):
        edge = _application(application).load()
        table = edge.compile()
        plan = edge.to_dict()
        if (problem := storage.problem(plan)) is not None:
            raise ConfigError([problem])
        advice = _core.lint(edge.encode())
        # Certificates are looked at, and no other secret is needed.
        secrets.resolve({"listeners": plan.get("listeners", ())})
        advice.extend(certificates.advice(plan))
        if (shortage := storage.shortage(plan)) is not None:
            advice.append(
                {
                    "path": "disk_cache.size",
                    "route": "",
                    "rule": "disk-space",
                    "level": "warning",
                    "message": shortage,
                    "remedy": "lower size, or make room",
                }
            )
    for item in advice:
        if (place := edge.place(item["path"])) is not None:
            item["place"] = place
    if as_json:
        show.as_json(
            {
                "name": table.name,
                "problems": [],
                "routes": table.routes,
                "unreachable": table.unreachable,
                "advice": advice,
            }
        )
    else:
        show.table(table)
        show.advice(advice)
    warned = any(item["level"] == "warning" for item in advice)
    raise typer.Exit(1 if strict and warned else 0)


@app.command()
def explain(
    application: App,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="GET, POST, ...", show_default=False)],
    url: Annotated[
        str, typer.Argument(metavar="URL", help="The URL, or a path on the host localhost.", show_default=False)
    ],
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", metavar="'NAME: VALUE'", help="A request header; may be repeated."),
    ] = None,
    client: Annotated[str, typer.Option(metavar="IP", help="The address that the request comes from.")] = "127.0.0.1",
    response_status: Annotated[
        int | None,
        typer.Option(min=200, max=599, help="The origin's status.", show_default="200 with its headers"),
    ] = None,
    response_header: Annotated[
        list[str] | None,
        typer.Option(metavar="'NAME: VALUE'", help="A header of the origin; may be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what APP would decide about a request, phase by phase, without sending it anywhere.

    With an origin's answer: whether it would be stored, for how long and by which rule, and what comes after that.
    """
    from edgerouter.cli import show

    target = _whole(url)
    headers = _fields(header, "'-H' / '--header'")
    answer = None
    if response_status is not None or response_header:
        answer = (response_status or 200, _fields(response_header, "'--response-header'"))
    try:
        ipaddress.ip_address(client)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'--client'") from None
    with refusals(as_json=as_json):
        edge = _application(application).load()
        steps = edge.explain(method.upper(), target, headers, client=client, response=answer)
    if as_json:
        show.as_json(steps)
    else:
        show.steps(steps)


@app.command()
def warm(
    urls: Annotated[
        list[str] | None, typer.Argument(metavar="URL", help="URLs, or paths of --edge.", show_default=False)
    ] = None,
    edge: Annotated[
        str, typer.Option(metavar="URL", help="The address of the edge; all URLs are requested there.")
    ] = "http://127.0.0.1:8080",
    sitemap: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL|FILE", help="A sitemap or an index of them, compressed or not. A URL is read through the edge."
        ),
    ] = None,
    listed: Annotated[
        list[str] | None, typer.Option("--list", metavar="FILE", help="A URL or path on each line; # begins a comment.")
    ] = None,
    log: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE", help="An access log (common, combined or JSON); its most frequent URLs come first."
        ),
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="Only the first N.", show_default="all")] = None,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", metavar="'NAME: VALUE'", help="A header of the requests; may be repeated."),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Requests at a time.")] = 8,
    rate: Annotated[
        float | None, typer.Option(min=0.01, help="Requests in a second, at most.", show_default="no limit")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for each request.")] = 30.0,
    as_json: Json = False,
) -> None:
    """Request URLs from the edge, so that the next visitor finds them in the cache.

    A response that is fresh already is a hit and costs the origin nothing, so a run that broke off continues when it is
    started again. The exit code is 1 when a URL got no answer, or one of 400 and more.
    """
    from itertools import chain, islice

    from edgerouter.cli import show, warming
    from edgerouter.cli import urls as sources

    with refusals():
        target = warming.Edge(edge, _fields(header, "'-H' / '--header'"), timeout)
        given = chain(
            urls or (),
            *(sources.sitemap(place, target.fetch) for place in sitemap or ()),
            *(sources.from_list(place) for place in listed or ()),
            *(sources.from_log(place, target.url) for place in log or ()),
        )
        found = list(islice(sources.absolute(given, target.url), top))
        if not (urls or sitemap or listed or log):
            raise typer.BadParameter("give URLs, --sitemap, --list or --log")
        tally = warming.warm(found, target, concurrency=concurrency, rate=rate)
    if as_json:
        show.as_json(tally.as_dict())
    else:
        for failure in tally.failures:
            refuse(EdgeError(failure))
        show.tally(tally.as_dict())
    if tally.interrupted:
        raise typer.Exit(130)
    raise typer.Exit(1 if tally.counts["error"] else 0)


@app.command()
def version() -> None:
    """Print the version."""
    from edgerouter import _core

    say(f"edgerouter {_core.__version__}")


@app.command()
def purge(
    urls: Annotated[
        list[str] | None,
        typer.Argument(metavar="URL", help="Whole URLs, as visitors see them.", show_default=False),
    ] = None,
    path: Annotated[
        list[str] | None,
        typer.Option("--path", metavar="[HOST]/PATH", help="A path; * stands for any characters. May be repeated."),
    ] = None,
    host: Annotated[
        list[str] | None, typer.Option("--host", metavar="HOST", help="All responses of a host. May be repeated.")
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="TAG", help="Responses with this tag. May be repeated."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything.")] = False,
    soft: Annotated[bool, typer.Option("--soft", help="Make responses stale instead of removing them.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count, and show a sample.")] = False,
    reference: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Your name for the purge; the same name is the same purge.")
    ] = None,
    admin: Where = "127.0.0.1:9090",
    admin_token_env: Whose = None,
    wait: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for the counts.")] = 60.0,
    as_json: Json = False,
) -> None:
    """Purge what a running edge has stored, and follow it until it is completed.

    It is in effect for every request from the first line on. Exit codes: 0 done (a warning when nothing matched),
    1 the edge refused or did not answer, 2 the command line was not understood.
    """
    from edgerouter.cli import purging

    if not (urls or path or host or tag or everything):
        raise typer.BadParameter("give URLs, --path, --host, --tag or --all")
    order = {
        "urls": urls or [],
        "paths": path or [],
        "hosts": host or [],
        "tags": tag or [],
        "everything": everything,
        "soft": soft,
        "dry_run": dry_run,
        "reference": reference,
    }
    with refusals(as_json=as_json):
        purging.run(Admin(admin, admin_token_env), order, wait=wait, as_json=as_json)


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory to write to.")] = Path(),
) -> None:
    """Write a starter project that runs: an application, a tiny origin, and a README. Overwrites nothing."""
    from edgerouter.cli import starting

    with refusals():
        for line in starting.write(directory):
            say(line)


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A distribution of CloudFront (CloudFormation, Terraform, API), a wrangler file, Page Rules, "
            "an nginx configuration or a Caddyfile.",
            show_default=False,
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="The program to write; - is standard output.")
    ] = "app.py",
    of: Annotated[
        str | None,
        typer.Option("--from", metavar="FORMAT", help="The format of FILE.", show_default="by its name and content"),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option("--origin", metavar="NAME=URL", help="Another URL for an origin; may be repeated."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report there, too; as JSON if it ends in .json.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the configuration of another edge as an app.py, and report every difference.

    Nothing in FILE is executed. Exit codes: 0 done, 1 a file could not be written, 2 FILE was not understood,
    3 done, and something has no counterpart.
    """
    from edgerouter.cli import importing
    from edgerouter.importing import FORMATS

    if of is not None and of not in FORMATS:
        raise typer.BadParameter(f"{of!r} is none of {', '.join(FORMATS)}", param_hint="'--from'")
    origins = {}
    for given in origin or ():
        name, equals, url = given.partition("=")
        if not equals or not name or not url:
            raise typer.BadParameter(f"{given!r} is not NAME=URL", param_hint="'--origin'")
        origins[name] = url
    raise typer.Exit(importing.run(importing.Order(file, output, report, of, origins, as_json)))


def _fields(lines: list[str] | None, option: str) -> list[tuple[str, str]]:
    fields = []
    for line in lines or ():
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise typer.BadParameter(f"{line!r} is not 'NAME: VALUE'", param_hint=option)
        fields.append((name.strip(), value.strip()))
    return fields


def _application(spec: str) -> FileApplication:
    return FileApplication(spec)


def _whole(url: str) -> str:
    if url.startswith("/"):
        return f"http://localhost{url}"
    if not url.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{url!r} is neither a path nor a URL of http or https", param_hint="'URL'")
    return url


examples.add(app)
