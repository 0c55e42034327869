"""The names of modules that belong to one version."""

from __future__ import annotations

__all__ = ["PREFIX", "plain_name"]

PREFIX = "_edgerouter_deploy_"


def plain_name(module: str) -> str:
    """The name of a module without the part that tells versions apart."""
    first, dot, rest = module.partition(".")
    return rest if dot and first.startswith(PREFIX) else module
