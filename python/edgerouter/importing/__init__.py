"""Moving in: a configuration of another edge becomes an ``app.py`` and a report of the differences.

A reader for each format (``cloudformation``, ``terraform``, ``wrangler``, ``page_rules``, ``nginx``, ``caddy``) makes a
``Site`` of values of edgerouter; ``writing`` prints it as a program. Nothing that is read is executed. Every value of a
source that no reader uses is in the report, and so is each choice. The command line is in ``cli.importing``.
"""

from __future__ import annotations

from edgerouter.importing.reading import FORMATS, Imported, read

__all__ = ["FORMATS", "Imported", "read"]
