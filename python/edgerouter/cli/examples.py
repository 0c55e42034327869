"""Examples of each command, which its help ends with."""

from __future__ import annotations

import inspect

import typer
from rich.markup import escape

__all__ = ["EXAMPLES", "add"]

#: By the words that lead to the command.
EXAMPLES: dict[str, tuple[str, ...]] = {
    "cache get": ("cache get https://www.example.com/ -H 'Accept-Encoding: br'",),
    "cache ls": ("cache ls --host www.example.com --prefix /blog/ --limit 20",),
    "cache stats": ("cache stats", "cache stats --admin 127.0.0.1:9090 --json"),
    "cert": ("cert", "cert --name shop.test --name '*.shop.test' --dir certs"),
    "cert list": ("cert list app.py",),
    "check": ("check app.py", "check app.py --strict --json"),
    "cost prices": ("cost prices cdn-by-volume > prices.toml",),
    "cost report": ("cost report --prices prices.toml --state costs.json",),
    "cost watch": ("cost watch --prices prices.toml --state costs.json --interval 300",),
    "dashboard": ("dashboard --grafana > edgerouter.json",),
    "db migrate": ("db migrate app.py",),
    "db new": ("db new app.py add_users",),
    "db rollback": ("db rollback app.py --binding DB",),
    "db settle": ("db settle app.py applied",),
    "db status": ("db status app.py --json",),
    "deploy": ("deploy releases/7/app.py --percent 5 --cookie session",),
    "deploys list": ("deploys list",),
    "deploys percent": ("deploys percent 50",),
    "deploys promote": ("deploys promote",),
    "deploys rollback": ("deploys rollback",),
    "dev": ("dev app.py", "dev app.py --no-tls --admin 127.0.0.1:9090"),
    "docs": ("docs", "docs rate limits"),
    "doctor": ("doctor app.py", "doctor --listen 0.0.0.0:443 --strict"),
    "experiments report": (
        "experiments report --experiment home",
        "experiments report access.log --experiment home --conversion 'POST /checkout*'",
    ),
    "explain": (
        "explain app.py GET '/product/7?utm_source=x' -H 'Cookie: ab-variant=control'",
        "explain app.py GET /news --response-header 'Cache-Control: max-age=60'",
    ),
    "import": ("import nginx.conf --output app.py", "import main.tf --from terraform --output - --json"),
    "init": ("init shop",),
    "origins": ("origins --json",),
    "password": ("password ann >> staff.htpasswd",),
    "purge": (
        "purge https://www.example.com/news /about",
        "purge --tag product-7 --soft",
        "purge --path '/static/*' --wait 10",
    ),
    "replay": ("replay access.log.gz --app app.py --memory 4GiB",),
    "rules": ("rules > edgerouter.yml",),
    "run": (
        "run app.py --reload --admin 127.0.0.1:9090",
        "run shop.edge:edge --listen 0.0.0.0:8080 --workers 4",
        "run public/ --listen 127.0.0.1:8000",
        "run http://127.0.0.1:9000",
    ),
    "tail": ("tail --status 5xx --slow 0.5", "tail access.log --no-follow --last 100"),
    "top": ("top --interval 5", "top --once --json"),
    "version": ("version",),
    "warm": ("warm --sitemap /sitemap.xml --rate 50", "warm / /news /about"),
}


def add(app: typer.Typer, path: str = "") -> None:
    """Gives each command of ``app`` and of its groups its examples, and a help text that fits any width."""
    for command in app.registered_commands:
        if command.callback is None:
            continue
        name = command.name or command.callback.__name__.replace("_", "-")
        command.help = flowing(command.help or inspect.getdoc(command.callback) or "")
        command.epilog = _epilog(EXAMPLES.get(f"{path}{name}", ()))
    for group in app.registered_groups:
        if group.typer_instance is not None:
            callback = group.typer_instance.registered_callback
            if callback is not None and callback.callback is not None:
                # A group that does something without a command.
                callback.help = flowing(callback.help or inspect.getdoc(callback.callback) or "")
                callback.epilog = _epilog(EXAMPLES.get(group.name or "", ()))
            add(group.typer_instance, f"{path}{group.name} ")


def _epilog(examples: tuple[str, ...]) -> str | None:
    return "\n\n".join(["Examples:", *(escape(f"edgerouter {line}") for line in examples)]) if examples else None


def flowing(text: str) -> str:
    """Paragraphs as single lines, which a terminal wraps at its own width."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
