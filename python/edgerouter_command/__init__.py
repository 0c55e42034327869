"""The start of the command ``edgerouter``.

It is apart from ``edgerouter``, whose import takes a tenth of a second or more: Ctrl-C within that time would print a
traceback of the import. Until the command can answer it, the signal ends the process as the system does by itself.
"""

import signal

__all__ = ["main"]


def main() -> None:
    """The entry point of the command."""
    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from edgerouter.cli import prepared

    work = prepared()
    if usual is signal.default_int_handler:
        signal.signal(signal.SIGINT, usual)
    work()
