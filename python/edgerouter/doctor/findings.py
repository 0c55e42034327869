"""The decisions of ``edgerouter doctor``: from facts to findings, each with a remedy. Nothing here reads anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, TypeAlias

from edgerouter.doctor.machine import Machine, PortState

__all__ = ["Finding", "Level", "certificate", "clock", "disk", "limits", "network", "port"]

Level: TypeAlias = Literal["ok", "note", "warning", "problem"]

#: Descriptors that the default of 50,000 connections and as many to origins would take.
ENOUGH_FILES = 100_000
FEW_FILES = 4_096
BACKLOG = 1_024
PORTS = 10_000
MEMORY = 512 << 20
DISK = 1 << 30
SOON = timedelta(days=14)


class Finding(NamedTuple):
    """The result of one check. The remedy is empty if nothing needs to be done."""

    level: Level
    subject: str
    found: str
    remedy: str = ""


def limits(machine: Machine) -> Iterator[Finding]:
    """Open files, processor, memory."""
    files = machine.open_files
    if files is None or files >= ENOUGH_FILES:
        yield Finding("ok", "open files", "no limit" if files is None else f"the hard limit is {files:,}")
    else:
        level: Level = "problem" if files < FEW_FILES else "note" if files >= ENOUGH_FILES // 5 else "warning"
        room = f"each client and each connection to an origin takes one; the hard limit is {files:,}"
        yield Finding(level, "open files", room, "LimitNOFILE=1048576 in the unit, or ulimit -Hn")
    quota = machine.cpu_quota
    if quota is not None and quota < machine.cores:
        workers = max(1, int(quota))
        yield Finding(
            "warning",
            "processor",
            f"the control group may use {quota:g} of {machine.cores} cores; there would be a worker for each core",
            f"--workers {workers}",
        )
    else:
        yield Finding("ok", "processor", f"{machine.cores} cores")
    if machine.memory is None:
        return
    shown = f"{machine.memory / (1 << 30):.1f} GiB, of which the cache takes a quarter unless it is set"
    if machine.memory < MEMORY:
        yield Finding("warning", "memory", shown, "set --memory-cache-size and limits.http.request_memory_bytes")
    else:
        yield Finding("ok", "memory", shown)


def disk(machine: Machine) -> Iterator[Finding]:
    """Room for logs, counts and the data of functions. A disk cache has a check of its own."""
    if machine.disk is None or machine.disk_free is None:
        return
    found = f"{machine.disk_free / (1 << 30):.1f} of {machine.disk / (1 << 30):.1f} GiB are free in the current folder"
    if machine.disk_free < min(DISK, machine.disk // 10):
        remedy = "make room, rotate access logs, or give them another disk"
        yield Finding("warning", "disk", f"{found}: logs and counts that find no room are lost", remedy)
    else:
        yield Finding("ok", "disk", found)


def clock(machine: Machine) -> Iterator[Finding]:
    """Lifetimes, tokens and certificates depend on the clock."""
    if machine.clock_synchronised is None:
        yield Finding("note", "clock", "the kernel does not say whether it is synchronised", "run chrony or timesyncd")
    elif machine.clock_synchronised:
        yield Finding("ok", "clock", "synchronised")
    else:
        found = "not synchronised: tokens, certificates and the ages of responses are judged by it"
        yield Finding("warning", "clock", found, "run chrony or timesyncd")


def network(machine: Machine) -> Iterator[Finding]:
    """Settings of the kernel for many connections."""
    for subject, value, remedy in (
        ("accept queue", machine.backlog, "sysctl net.core.somaxconn=4096"),
        ("half-open connections", machine.half_open, "sysctl net.ipv4.tcp_max_syn_backlog=4096"),
    ):
        if value is None:
            continue
        if value < BACKLOG:
            yield Finding("warning", subject, f"{value:,}: bursts of new connections are dropped", remedy)
        else:
            yield Finding("ok", subject, f"{value:,}")
    if machine.first_port is not None and machine.last_port is not None:
        ports = machine.last_port - machine.first_port + 1
        if ports < PORTS:
            found = f"{ports:,}: connections to one origin address at a time"
            yield Finding("warning", "local ports", found, "sysctl net.ipv4.ip_local_port_range='10000 65000'")
        else:
            yield Finding("ok", "local ports", f"{ports:,}")
    if machine.tracked is not None and machine.tracked_most:
        share = machine.tracked / machine.tracked_most
        found = f"{machine.tracked:,} of {machine.tracked_most:,}"
        if share > 0.8:
            remedy = "sysctl net.netfilter.nf_conntrack_max, or do not track the ports of the edge"
            yield Finding("warning", "tracked connections", f"{found}: beyond it packets are dropped", remedy)
        else:
            yield Finding("ok", "tracked connections", found)
    if machine.slow_start_after_idle:
        yield Finding(
            "note",
            "idle connections",
            "connections send slowly again after a pause",
            "sysctl net.ipv4.tcp_slow_start_after_idle=0",
        )
    if machine.overcommit == 2:
        yield Finding("note", "overcommit", "strict: a large cache needs as much swap or a higher ratio", "")


#: For each state of a port, apart from those that an edge already uses.
_PORTS: Mapping[PortState, tuple[Level, str, str]] = {
    "free": ("ok", "free", ""),
    "in use": ("problem", "another program uses it", "stop it, or choose another with --listen or edge.listen"),
    "not permitted": (
        "problem",
        "this user may not listen on it",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, or a port above 1023",
    ),
    "no such name": ("problem", "its name has no address", "write the address, or enter the name in DNS"),
    "no such address": ("problem", "no interface has this address", "choose one that `ip address` prints"),
}


def port(address: str, state: PortState | None, *, served: bool) -> Finding:
    """The finding for an address. ``served``: an edge answers on the admin listener, so that it may use the address."""
    subject = f"address {address}"
    if state is None:
        return Finding("ok", subject, "not tried")
    if state == "in use" and served:
        return Finding("ok", subject, "in use, and an edge runs")
    return Finding(_PORTS[state][0], subject, _PORTS[state][1], _PORTS[state][2])


def certificate(file: str, until: datetime | None, now: datetime) -> Finding:
    """The finding for a file with a certificate."""
    subject = f"certificate {file}"
    if until is None:
        return Finding("problem", subject, "it cannot be read", "give a chain in PEM that this user can read")
    left = until - now
    found = f"valid until {until:%Y-%m-%d %H:%M} UTC"
    if left <= timedelta(0):
        return Finding("problem", subject, f"{found}: it has expired", "renew it, then reload the edge")
    if left < SOON:
        return Finding("warning", subject, f"{found}: {left.days} days are left", "renew it, then reload the edge")
    return Finding("ok", subject, found)
