"""``scripts/rustc-with-profile``: what a compiler is run with, by a compiler that says so."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROFILES = sorted((ROOT / "rust").glob("llvm-*.profdata"))
RELEASE = ["--crate-name", "some", "-C", "opt-level=3", "-C", "lto=fat"]


@pytest.fixture
def compiler(tmp_path: Path) -> Path:
    """A compiler that prints what it is given, and names an LLVM by a variable."""
    written = tmp_path / "rustc"
    written.write_text(
        '#!/bin/sh\nif [ "$1" = -vV ]; then echo "LLVM version: $LLVM.1.2"; else printf "%s\\n" "$@"; fi\n'
    )
    written.chmod(0o755)
    return written


def added(compiler: Path, arguments: list[str], **environment: str) -> list[str]:
    """Arguments that the script adds."""
    kept = {name: value for name, value in os.environ.items() if name != "EDGEROUTER_PROFILE"}
    command: list[str | Path] = [ROOT / "scripts/rustc-with-profile", compiler, *arguments]
    ran = subprocess.run(command, env={**kept, **environment}, capture_output=True, text=True, check=True, timeout=30)
    given = ran.stdout.splitlines()
    assert given[: len(arguments)] == arguments
    return given[len(arguments) :]


def llvm(profile: Path) -> str:
    return profile.stem.removeprefix("llvm-")


def test_a_release_build_is_given_the_profile_of_its_llvm(compiler: Path) -> None:
    assert PROFILES
    for profile in PROFILES:
        flag, _ = added(compiler, RELEASE, LLVM=llvm(profile))
        name, _, path = flag.partition("=")
        assert (name, Path(path).resolve()) == ("-Cprofile-use", profile)


def test_a_build_by_an_llvm_without_a_profile_is_as_without_the_wrapper(compiler: Path) -> None:
    assert added(compiler, RELEASE, LLVM="7") == []


@pytest.mark.parametrize("arguments", [["-vV"], ["--crate-name", "a b", "-C", "opt-level=1"]], ids=["version", "dev"])
def test_other_builds_are_left_alone(compiler: Path, arguments: list[str]) -> None:
    plain = subprocess.run([compiler, *arguments], env={**os.environ, "LLVM": "22"}, capture_output=True, text=True)
    command: list[str | Path] = [ROOT / "scripts/rustc-with-profile", compiler, *arguments]
    ran = subprocess.run(command, env={**os.environ, "LLVM": "22"}, capture_output=True, text=True, check=True)
    assert ran.stdout == plain.stdout != ""


def test_the_profile_can_be_left_out_or_made(compiler: Path, tmp_path: Path) -> None:
    number = llvm(PROFILES[0])
    assert added(compiler, RELEASE, LLVM=number, EDGEROUTER_PROFILE="off") == []
    counting = added(compiler, RELEASE, LLVM=number, EDGEROUTER_PROFILE=str(tmp_path))
    assert counting == [f"-Cprofile-generate={tmp_path}"]


def test_hot_functions_of_the_library_stand_beside_each_other(compiler: Path) -> None:
    arguments = ["--crate-name", "some", "--crate-type", "cdylib"]
    assert added(compiler, arguments, LLVM="7") == ["-Clink-arg=-Wl,-z,keep-text-section-prefix"]
    assert added(compiler, [*arguments, "-C", "linker=/some/zigcc-x86_64.sh"], LLVM="7") == []
