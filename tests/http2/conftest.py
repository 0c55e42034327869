from __future__ import annotations

from ..tls.conftest import authority, start

__all__ = ["authority", "start"]
