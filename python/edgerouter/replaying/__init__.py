"""Predictions for the traffic of an access log.

``order`` holds the wishes and assumptions of the user, ``prediction`` the result with hit ratios and costs; the command
that prints it is ``cli.replaying``. Lines are read and decided in Rust (``rust/replay``); nothing here has a rule of
caching.
"""
