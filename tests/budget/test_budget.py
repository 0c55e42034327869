"""The budget of instructions: how figures are judged, and the file that keeps it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from benchmarks import budget, instructions
from benchmarks.budget import Budget, Comparison
from benchmarks.processes import BenchError
from benchmarks.servers import Place


@pytest.mark.parametrize(
    ("now", "kept", "tolerance", "exceeds", "improves"),
    [
        pytest.param(1000, 1000, 0.03, False, False, id="the same"),
        pytest.param(1030, 1000, 0.03, False, False, id="as much more as is tolerated"),
        pytest.param(1031, 1000, 0.03, True, False, id="more than is tolerated"),
        pytest.param(970, 1000, 0.03, False, False, id="a little less"),
        pytest.param(969, 1000, 0.03, False, True, id="less by more than is tolerated"),
        pytest.param(1090, 1000, 0.10, False, False, id="more, of a work with threads"),
        pytest.param(1101, 1000, 0.10, True, False, id="too much more, of a work with threads"),
        pytest.param(1000, None, 0.03, True, False, id="no budget"),
    ],
)
def test_a_figure_exceeds_its_budget_by_more_than_is_tolerated(
    now: int, kept: int | None, tolerance: float, exceeds: bool, improves: bool
) -> None:
    found = Comparison("hit-1k", now, kept, tolerance)
    assert (found.exceeds, found.improves) == (exceeds, improves)


@pytest.mark.parametrize(
    ("now", "kept", "text"),
    [
        pytest.param(
            19_500,
            18_500,
            "hit-1k: 19,500 instructions a request, 5.4% above its budget of 18,500 (tolerated: 3%)",
            id="above",
        ),
        pytest.param(
            17_500,
            18_500,
            "hit-1k: 17,500 instructions a request, 5.4% below its budget of 18,500 (tolerated: 3%); "
            "lower the budget by --write",
            id="below",
        ),
        pytest.param(
            17_500, None, "hit-1k: 17,500 instructions a request, and no budget; give it one by --write", id="none"
        ),
    ],
)
def test_the_line_names_work_figure_and_budget(now: int, kept: int | None, text: str) -> None:
    assert str(Comparison("hit-1k", now, kept, 0.03)) == text


def test_works_are_compared_in_the_order_in_which_they_were_counted() -> None:
    found = budget.compare({"hit-1k": 100, "gone": 5}, {"miss-1k": 50, "hit-1k": 104}, {"hit-1k": 0.03, "miss-1k": 0.1})
    assert found == [Comparison("miss-1k", 50, None, 0.1), Comparison("hit-1k", 104, 100, 0.03)]


def test_the_table_has_figure_budget_and_difference() -> None:
    found = [Comparison("a", 1040, 1000, 0.03), Comparison("b", 900, 1000, 0.03), Comparison("c", 7, None, 0.03)]
    assert budget.table(found)[2:] == [
        "| a | 1,040 | 1,000 | +4.0% | **exceeded** |",
        "| b | 900 | 1,000 | -10.0% | improved |",
        "| c | 7 | none | n/a | **exceeded** |",
    ]


def test_threads_that_take_no_part_in_requests_are_left_out() -> None:
    assert budget.of_requests([50_000, 0, 900_000, 26_000_000, 14_000_000]) == 40_000_000
    assert budget.of_requests([]) == 0


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "instructions.toml"
    written = Budget("Python 3.11.7, x86_64 with AVX2, valgrind 3.19.0", {"hit-1k": 18_475, "hook": 900})
    written.write(file)
    assert "\nhit-1k = 18_475\n" in file.read_text()
    assert Budget.read(file) == written


def test_without_a_file_no_work_has_a_budget(tmp_path: Path) -> None:
    assert Budget.read(tmp_path / "instructions.toml").figures == {}


def test_each_work_that_is_counted_has_a_budget_and_no_other() -> None:
    assert set(Budget.read(instructions.FILE).figures) == {one.work.key for one in instructions.counted()}


def test_totals_of_all_threads_are_read(tmp_path: Path) -> None:
    (tmp_path / "callgrind.out").write_text("# callgrind format\n")
    (tmp_path / "callgrind.out-01").write_text("summary: 7\n\ntotals: 7\n")
    (tmp_path / "callgrind.out-02").write_text("totals: 30\n")
    assert instructions.totals(tmp_path) == [7, 30]


def test_without_valgrind_the_command_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match="valgrind is not installed; run scripts/install-packages"):
        instructions.bench(instructions.parse(["--check"]))


def test_an_unknown_work_is_refused_by_name() -> None:
    with pytest.raises(BenchError, match="no such work: hit-2k; there are hit-1k, "):
        instructions.choose("hit-1k,hit-2k")


def test_a_processor_that_the_budget_is_not_for_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "check_machine", lambda _python: None)
    monkeypatch.setattr(instructions, "processor", lambda: "aarch64")
    with pytest.raises(BenchError, match="the budget is for x86_64 with AVX2; what aarch64 counts cannot be compared"):
        instructions.bench(instructions.parse(["--check"]))


def test_nothing_of_the_machine_chooses_the_code_that_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GLIBC_TUNABLES", "PYTHONMALLOC", "MIMALLOC_VERBOSE", "EDGEROUTER_WORKERS"):
        monkeypatch.setenv(name, "glibc.cpu.hwcaps=-AVX2" if name == "GLIBC_TUNABLES" else "1")
    edge = instructions.UnderCallgrind(sys.executable)
    found = edge.child(Place(0, tmp_path, 9, "secret")).environment
    assert set(found) & {"PYTHONMALLOC", "MIMALLOC_VERBOSE", "EDGEROUTER_WORKERS"} == set()
    assert found["GLIBC_TUNABLES"].startswith("glibc.cpu.hwcaps=-AVX512F")
