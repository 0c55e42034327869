"""Certificates for development: an authority of this user, and what it issues for local names.

The authority is kept in the user's data folder and is for this machine. No trust store is changed.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import shutil
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

from edgerouter.errors import ConfigError, Problem

__all__ = ["LOCAL_NAMES", "Authority"]

#: The names of this machine to itself.
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
_AUTHORITY_DAYS = 3_650
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


class Authority:
    """The development authority in a folder: ``ca.pem``, and ``ca.key``, which only the user may read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of_user(cls) -> Authority:
        """The one in the user's data folder, made if there is none."""
        home = os.environ.get("XDG_DATA_HOME")
        data = Path(home) if home else Path("~/.local/share").expanduser()
        made = cls(data / "edgerouter" / "development-ca")
        made.ensure()
        return made

    @property
    def certificate(self) -> Path:
        """The file to trust."""
        return self.folder / "ca.pem"

    def ensure(self) -> bool:
        """Makes the authority if there is none; true if it was made."""
        from edgerouter import _core

        if self.certificate.exists():
            return False
        if (self.folder / "ca.key").exists():
            raise self._incomplete("ca.pem")
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            # Both files appear at once, or neither.
            beside = Path(tempfile.mkdtemp(prefix=".development-ca-", dir=self.folder.parent))
            try:
                certificate, key = _core.development_authority(int(time.time()), _AUTHORITY_DAYS)
                write(beside / "ca.key", key, private=True)
                write(beside / "ca.pem", certificate)
                with contextlib.suppress(FileExistsError):
                    beside.rename(self.folder)
            except OSError:
                # Another process was faster, or the folder is in the way.
                if not self.certificate.exists():
                    raise
            finally:
                shutil.rmtree(beside, ignore_errors=True)
        except OSError as error:
            raise _refused(self.folder, error) from None
        return True

    def issue(self, names: Collection[str], days: int) -> tuple[str, str]:
        """A certificate for host names and addresses, as the PEM of its chain and of its key."""
        from edgerouter import _core

        if wrong := [name for name in names if not _certifiable(name)]:
            message = "cannot be certified: give a host name such as shop.test or *.shop.test, or an address"
            raise ConfigError(Problem("--name", f'"{name}"', message) for name in wrong)
        try:
            key = (self.folder / "ca.key").read_text()
        except FileNotFoundError:
            raise self._incomplete("ca.key") from None
        except (OSError, UnicodeDecodeError) as error:
            raise _refused(self.folder / "ca.key", error) from None
        try:
            return _core.issue_certificate(key, list(names), int(time.time()), days)
        except ValueError as error:
            message = f"cannot be issued by the authority in {self.folder}: {error}; remove that folder for a new one"
            raise ConfigError([Problem("cert", ", ".join(names), message)]) from None

    def _incomplete(self, absent: str) -> ConfigError:
        """A half of the authority is of no use, and no reason to replace the other without a word."""
        message = f"has no {absent}; put it back, or remove the folder for a new authority"
        return ConfigError([Problem("cert", str(self.folder), message)])


def _certifiable(name: str) -> bool:
    """True if a client compares a host with it: a host name, perhaps one for all below it, or an address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        # A name that ends in digits is an address to clients (WHATWG URL §3.5).
        labels = name.removeprefix("*.").split(".")
        return len(name) <= 253 and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()
    return "%" not in name


def write(file: Path, text: str, *, private: bool = False) -> None:
    """Puts a file in its place as a whole. ``private``: only the user may read it, at no time anybody else."""
    descriptor, beside = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    try:
        with os.fdopen(descriptor, "w") as open_file:
            os.fchmod(descriptor, 0o600 if private else 0o644)
            open_file.write(text)
        Path(beside).replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(beside).unlink()
        raise


def _refused(place: Path, error: Exception) -> ConfigError:
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ConfigError(
        [Problem("cert", str(place), f"{why}; name another folder in XDG_DATA_HOME, or make it writable")]
    )
