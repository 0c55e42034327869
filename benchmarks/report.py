"""Figures as Markdown tables for people and as JSON for machines, and the targets judged."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.isolation import Isolation
from benchmarks.works import Work

US = "edgerouter"


@dataclass(frozen=True)
class Sample:
    """One round of one server. Latencies and CPU in µs; ``others``: the share of a core that something else took."""

    per_second: float
    p50: float
    p99: float
    cpu: float
    others: float


@dataclass
class Figures:
    """All rounds of one work, by server, and why a server has none."""

    work: Work
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def cpu(self, server: str) -> float | None:
        samples = self.samples.get(server)
        return statistics.median(sample.cpu for sample in samples) if samples else None

    def ratio(self, left: str, right: str) -> float | None:
        """The CPU of one server over another's: each round against the same round, so that drift cancels out."""
        return paired(self.samples.get(left, []), self.samples.get(right, []))


def paired(left: Sequence[Sample], right: Sequence[Sample]) -> float | None:
    ratios = [a.cpu / b.cpu for a, b in zip(left, right, strict=False) if b.cpu]
    return statistics.median(ratios) if ratios else None


@dataclass(frozen=True)
class TargetResult:
    target: str
    figure: str
    met: bool | None  # None: not measured


def machine_lines(machine: dict[str, str], versions: dict[str, str], plan: str) -> list[str]:
    parts = [machine["cpu"], f"{machine['cores']} cores", machine["memory"], machine["kernel"], machine["system"]]
    return [
        "Machine: " + ", ".join(parts),
        "Servers: " + ", ".join(f"{name} {version}" for name, version in versions.items()),
        plan,
    ]


def work_table(figures: Figures) -> list[str]:
    if not any(figures.samples.values()):
        missing = ", ".join(figures.absent) or "no server that is here"
        return [f"### {figures.work.title}", "", f"Not measured: {missing}.", ""]
    lines = [
        f"### {figures.work.title}",
        "",
        "| server | requests/s | p50 | p99 | CPU µs/request | min–max | its CPU ÷ ours |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for server, samples in figures.samples.items():
        if not samples:
            continue
        cpus = [sample.cpu for sample in samples]
        middle = statistics.median(cpus)
        cells = [
            server,
            f"{statistics.median(s.per_second for s in samples):,.0f}",
            duration(statistics.median(s.p50 for s in samples)),
            duration(statistics.median(s.p99 for s in samples)),
            f"{middle:.2f}",
            f"{min(cpus):.2f}–{max(cpus):.2f}",
            f"{ratio:.2f} ×" if (ratio := figures.ratio(server, US)) else "n/a",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [f"| {server} | not measured | | | | | |" for server in figures.absent if not figures.samples.get(server)]
    if figures.work.note:
        lines += ["", figures.work.note]
    return [*lines, ""]


def isolation_table(found: Sequence[Isolation]) -> list[str]:
    lines = [
        "### cached hit, 1 KiB, at 70 % of the worker's rate, while a Python function spins",
        "",
        "| placement | requests/s | p50 quiet | p50 spinning | p99 quiet | p99 spinning | p99 ratio | lost |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for one in found:
        times = [duration(v) for v in (one.quiet_p50, one.spinning_p50, one.quiet_p99, one.spinning_p99)]
        lines.append(
            f"| {one.placement} | {one.per_second:,.0f} | {' | '.join(times)} | {one.ratio:.2f} × | {one.lost} |"
        )
    notes = [f"{one.placement}: {problem}" for one in found for problem in one.problems]
    return [*lines, "", *notes, ""] if notes else [*lines, ""]


def target_results(all_figures: Sequence[Figures], isolation: Sequence[Isolation]) -> list[TargetResult]:
    """The targets that this harness can judge, as ratios of CPU per request within the run."""
    samples = {
        (figures.work.key, server): rounds for figures in all_figures for server, rounds in figures.samples.items()
    }

    def ratio(left: tuple[str, str], right: tuple[str, str]) -> float | None:
        return paired(samples.get(left, []), samples.get(right, []))

    def at_most(target: str, limit: float, left: tuple[str, str], right: tuple[str, str]) -> TargetResult:
        found = ratio(left, right)
        return (
            TargetResult(target, f"{found:.2f} ×", found <= limit)
            if found
            else TargetResult(target, "not measured", None)
        )

    def at_least(target: str, limit: float, work: str, peer: str) -> TargetResult:
        found = ratio((work, peer), (work, US))
        return (
            TargetResult(target, f"{found:.2f} ×", found >= limit)
            if found
            else TargetResult(target, "not measured", None)
        )

    found = [
        at_most("P1 hit 1 KiB: at most 1.15 × the raw limit", 1.15, ("hit-1k", US), ("hit-1k", "raw limit")),
        at_least("P1 hit 1 KiB: 1.3 × better than HAProxy", 1.3, "hit-1k", "HAProxy"),
        at_least("P1 hit 1 KiB: 2 × better than nginx", 2.0, "hit-1k", "nginx"),
        at_least("P1 hit 1 KiB: 2.5 × better than Varnish", 2.5, "hit-1k", "Varnish"),
        at_most("P2 hit with JWT + A/B: at most 1.12 × P1", 1.12, ("jwt-1k", US), ("hit-1k", US)),
        at_least("P2 hit with JWT + A/B: 2.7 × better than HAProxy", 2.7, "jwt-1k", "HAProxy"),
        *(
            at_least(f"P3 hit 100 KiB: at least as good as {peer}", 1.0, "hit-100k", peer)
            for peer in ("nginx", "Varnish", "HAProxy")
        ),
        *(
            at_least(f"P4 proxied {size}: 1.1 × better than {peer}", 1.1, f"pass-{key}", peer)
            for key, size in (("1k", "1 KiB"), ("100k", "100 KiB"), ("10m", "10 MiB"))
            for peer in ("HAProxy", "nginx")
        ),
        *(at_least(f"P7 miss stored: 1.1 × better than {peer}", 1.1, "miss-1k", peer) for peer in ("nginx", "Varnish")),
        *(
            at_least(f"P5 {name}: {limit} × better than {peer}", limit, work, peer)
            for name, work, limits in (
                ("function, queued", "function", (1.5, 1.8, 3.0)),
                ("function, inline", "function-inline", (2.3, 2.7, 3.0)),
            )
            for peer, limit in zip(("granian RSGI", "uvicorn", "workerd"), limits, strict=True)
        ),
    ]
    for one in isolation:
        if one.placement.startswith("the function"):
            figure = f"{one.ratio:.2f} ×" + (f", {one.lost} lost" if one.lost else "")
            found.append(TargetResult("P6 hit p99 while a function spins: within 1.5 ×", figure, one.within))
    return found


def target_table(found: Sequence[TargetResult]) -> list[str]:
    words = {True: "met", False: "**missed**", None: "not judged"}
    return [
        "### targets",
        "",
        "| target | measured | |",
        "|---|---:|---|",
        *(f"| {one.target} | {one.figure} | {words[one.met]} |" for one in found),
        "",
    ]


def as_json(
    machine: dict[str, str],
    versions: dict[str, str],
    plan: dict[str, object],
    all_figures: Sequence[Figures],
    isolation: Sequence[Isolation],
    problems: Sequence[str],
) -> dict[str, object]:
    return {
        "machine": machine,
        "servers": versions,
        "plan": plan,
        "works": {
            figures.work.key: {
                "title": figures.work.title,
                "absent": figures.absent,
                "rounds": {server: [asdict(s) for s in samples] for server, samples in figures.samples.items()},
                "cpu_median": {server: figures.cpu(server) for server in figures.samples},
            }
            for figures in all_figures
        },
        "isolation": [{**asdict(one), "ratio": one.ratio} for one in isolation],
        "targets": [asdict(one) for one in target_results(all_figures, isolation)],
        "problems": list(problems),
    }


def duration(micros: float) -> str:
    if micros < 1000:
        return f"{micros:.0f} µs"
    return f"{micros / 1000:.2f} ms" if micros < 1e6 else f"{micros / 1e6:.2f} s"


def write_markdown(file: Path, text: str) -> None:
    """A file of its own, or the part of a document between two comments, such as the README's."""
    begin, end = "<!-- benchmark:begin -->\n", "<!-- benchmark:end -->"
    old = file.read_text() if file.exists() else ""
    before, found, rest = old.partition(begin)
    if found and end in rest:
        text = f"{before}{begin}{text.strip()}\n{end}{rest.partition(end)[2]}"
    file.write_text(text)
