# SPDX-License-Identifier: Apache-2.0
"""The wheel for 64-bit Arm, cross-compiled, in LiteRT's own wheel under qemu-user: `make test-arm` brings all that."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from test_kernels_natively import ARM_COMPILER, ARM_EMULATOR, ARM_TABLES

ROOT = Path(__file__).resolve().parents[2]
ARM_PYTHON = ROOT / "build" / "arm"
PYTHON = ARM_PYTHON / "root" / "usr" / "bin" / "python3.11"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A folder with the wheel's contents."""
    for tool in (ARM_COMPILER, ARM_EMULATOR):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed: make test-arm")
    if not (ARM_PYTHON / "complete").is_file():
        pytest.skip("no Python for Arm in build/arm: make test-arm")
    folder = tmp_path_factory.mktemp("wheel")
    command = [ROOT / "tools" / "wheel_arm.sh", sys.executable, folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(folder.glob("*_aarch64.whl"))) as archive:
        archive.extractall(folder / "contents")
    return folder / "contents"


@pytest.mark.parametrize("cpu", sorted(ARM_TABLES))
def test_the_delegate_of_the_wheel_runs_in_litert_for_arm(cpu: str, wheel: Path):
    """On each CPU the tables that it has, down to plain NEON: never an instruction that it lacks."""
    check = Path(__file__).with_name("arm_wheel_check.py")
    command = [ARM_EMULATOR, "-cpu", cpu, "-L", ARM_PYTHON / "root", PYTHON, check, wheel, ARM_PYTHON / "site"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == ARM_TABLES[cpu]
