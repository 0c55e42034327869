"""The end of a process whose callables have left threads behind.

The interpreter waits for every thread that is no daemon, and for those of executors, ``asyncio.to_thread`` among them:
one call that hangs in a library would keep a stopped edge for ever. A thread that is at work gets a bounded time here.
One that is idle ends with the interpreter, as ever.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

from edgerouter import serving

__all__ = ["end_without"]

#: Seconds that threads have after the drain.
GRACE = 5.0


def end_without(warn: Callable[[str], None]) -> None:
    """Lets the process end within ``GRACE`` seconds, whatever goes on in threads. Its requests are over."""
    if _left():
        threading.Thread(target=_end, args=(warn,), name="edge-end", daemon=True).start()


def _left() -> list[threading.Thread]:
    """The threads that the interpreter waits for."""
    # Executors join their threads at the end even where these are daemons.
    joined = getattr(sys.modules.get("concurrent.futures.thread"), "_threads_queues", ())
    others = [it for it in threading.enumerate() if it is not threading.main_thread()]
    return [it for it in others if not it.daemon or it in joined]


def _end(warn: Callable[[str], None]) -> None:
    time.sleep(GRACE)
    # A program that has called the command goes on: the interpreter waits for nothing yet.
    if getattr(threading, "_SHUTTING_DOWN", True) and (left := _left()):
        frames = sys._current_frames()
        places = [f"{it.name} ({_place(frames.get(it.ident or 0))})" for it in left[:5]]
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        warn(f"warning: ended while threads of callables were still at work: {', '.join(places)}{more}")
        serving.leave(0)


def _place(frame: object) -> str:
    code = getattr(frame, "f_code", None)
    return "unknown" if code is None else f"{code.co_filename}:{getattr(frame, 'f_lineno', 0)} in {code.co_name}"
