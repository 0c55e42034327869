"""``edgerouter doctor``: whether this machine is ready for an edge, and the remedy for each thing that is not.

``machine`` reads facts from the kernel, ``certificates`` the end of certificates from files; ``findings`` decides from
these values, without reading anything. Data flows from the first two to the third, and from there to the command.
"""

from __future__ import annotations
