"""``edgerouter dev``: an application on this machine while it is written.

It is ``run --reload`` on listeners of its own, in plain text and by a certificate for development, so a site whose
listeners are for service starts here, too.
"""

from __future__ import annotations

from typing import Annotated

import typer

from edgerouter import logs
from edgerouter.application import FileApplication
from edgerouter.checks import address_problem
from edgerouter.cli.running import Secured, refuse, say, serve_to_the_end
from edgerouter.edge import Edge
from edgerouter.errors import EdgeError
from edgerouter.settings import Settings

__all__ = ["dev"]


class _Local(FileApplication):
    """An application on listeners of this machine, at the start and after each reload."""

    def __init__(self, spec: str, secured: Secured | None) -> None:
        super().__init__(spec)
        self._secured = secured

    def load(self) -> Edge:
        edge = super().load().without_listeners()
        if self._secured is not None:
            self._secured.apply(edge)
        return edge


def dev(
    application: Annotated[
        str,
        typer.Argument(metavar="APP", help="As for run. Its own listeners are left out, as they are for service."),
    ] = "app.py",
    listen: Annotated[str, typer.Option("--listen", metavar="HOST:PORT", help="The address in plain text.")] = (
        "127.0.0.1:8080"
    ),
    tls: Annotated[str, typer.Option("--tls", metavar="HOST:PORT", help="The address for https.")] = "127.0.0.1:8443",
    no_tls: Annotated[bool, typer.Option("--no-tls", help="Serve in plain text only.", show_default=False)] = False,
    admin: Annotated[
        str | None, typer.Option("--admin", metavar="HOST:PORT", help="The address of the admin listener.")
    ] = None,
) -> None:
    """Serve APP on this machine while you write it.

    It reloads when a file of APP changes, shows tracebacks in error pages, prints a line for each request, and serves
    https by a certificate for development (edgerouter cert).
    """
    # They are checked before an authority is made.
    for option, address in (("--listen", listen), ("--tls", tls), ("--admin", admin)):
        if address is not None and (fault := address_problem(address)):
            refuse(EdgeError(f"{option}: {address!r}: {fault}"))
            raise typer.Exit(1)
    logs.keep_standard_descriptors()
    with logs.queued():
        try:
            settings = Settings(listen=listen, admin=admin)
            secured = None if no_tls else Secured([tls])
            if secured is not None:
                say(f"clients verify the certificate by {secured.authority.certificate}")
            serve_to_the_end(_Local(application, secured), settings, watch=True)
        except EdgeError as error:
            refuse(error)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
