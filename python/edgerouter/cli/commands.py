"""All commands: those of ``cli.everyday``, and here the others, each from the module of its subject."""

from __future__ import annotations

from edgerouter.cli import cached, costs, database, deploying, examples, experiments
from edgerouter.cli.diagnosis import doctor
from edgerouter.cli.everyday import app
from edgerouter.cli.manual import docs
from edgerouter.cli.monitoring import dashboard, rules
from edgerouter.cli.passwords import password
from edgerouter.cli.replaying import replay
from edgerouter.cli.tailing import tail
from edgerouter.cli.watching import origins, top

__all__ = ["app"]

app.add_typer(cached.app, name="cache")
app.add_typer(database.app, name="db")
app.add_typer(costs.app, name="cost")
app.add_typer(deploying.app, name="deploys")
app.add_typer(experiments.app, name="experiments")
app.command()(deploying.deploy)
app.command()(rules)
app.command()(dashboard)
app.command()(origins)
app.command()(top)
app.command()(tail)
app.command()(doctor)
app.command()(replay)
app.command()(docs)
app.command()(password)

examples.add(app)
