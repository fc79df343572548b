# SPDX-License-Identifier: Apache-2.0
"""`make demo` on a machine that lacks something says in one line what to install."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "tools" / "venv.sh"
TOOLS = ("bash", "env", "dirname", "uname")


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A PATH with a shell and little else: no compiler."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool))
    return folder


def prepare(python: str, path: Path, folder: Path) -> subprocess.CompletedProcess:
    command = [shutil.which("bash"), str(SCRIPT), python, "lock.txt"]
    return subprocess.run(command, cwd=folder, env={"PATH": str(path)}, capture_output=True, text=True)


def test_a_missing_compiler_is_named_with_its_package(bare_path, tmp_path):
    (bare_path / "python3").symlink_to(sys.executable)
    done = prepare("python3", bare_path, tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == ["edge_vlm: no C++ compiler found; install: sudo apt install g++"]
    assert not (tmp_path / ".venv").exists()


def test_a_missing_python_is_named(bare_path, tmp_path):
    done = prepare("python3.12", bare_path, tmp_path)
    assert done.returncode == 1
    assert "no python3.12 found" in done.stderr and "apt install python3" in done.stderr


def test_a_dependency_without_a_wheel_is_named(bare_path, tmp_path):
    (bare_path / "g++").symlink_to(shutil.which("true"))
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    pip = tmp_path / ".venv" / "bin" / "python"
    pip.write_text("#!/bin/sh\necho 'no matching distribution' >&2\nexit 1\n")
    pip.chmod(0o755)
    (bare_path / "python3").symlink_to(sys.executable)
    done = prepare("python3", bare_path, tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("edge_vlm: a dependency of lock.txt has no wheel for Python 3")
