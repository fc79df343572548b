# SPDX-License-Identifier: Apache-2.0
"""kernel_check.cc: all kernel tables under the address and undefined-behaviour sanitizers, and as an Arm program.
pool_check.cc: the thread pool under the thread sanitizer.
"""

import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from custom_ops import build

CHECK = Path(__file__).with_name("kernel_check.cc")
ARM_COMPILER, ARM_EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"


def build_check(folder, compiler, machine, flags):
    """The program from the kernels' sources (no delegate) and kernel_check.cc; None where it does not link."""
    commands = build.compile_commands([compiler], machine, flags, folder)
    commands = {target: line for target, line in commands.items() if "/kernels/" in line[-3]}
    own = folder / "kernel_check.o"
    commands[own] = [compiler, "-std=c++17", *flags, f"-I{build.SOURCES / 'kernels'}", "-c", str(CHECK), "-o", str(own)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(build.run_compiler, commands.values()))
    program = folder / "kernel_check"
    linked = subprocess.run(
        [compiler, *flags, "-pthread", *map(str, commands), "-o", str(program)], capture_output=True
    )
    return program if linked.returncode == 0 else None


def run_check(*command):
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.skipif("EDGE_VLM_SANITIZERS" not in os.environ, reason="takes a minute or two: make test-sanitizers")
def test_no_kernel_reads_or_writes_beyond_its_arrays(tmp_path):
    flags = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-sanitize=alignment"]
    program = build_check(tmp_path, build.find_compiler()[0], platform.machine(), flags)
    if program is None:
        pytest.skip("the sanitizers' libraries are not installed")
    assert "0 mismatches" in run_check(program)


def test_threads_share_tasks_without_a_race(tmp_path):
    kernels, program = build.SOURCES / "kernels", tmp_path / "pool_check"
    sources = [str(CHECK.with_name("pool_check.cc")), str(kernels / "worker_pool.cc")]
    flags = ["-std=c++17", "-O1", "-g", "-fsanitize=thread", "-pthread", f"-I{kernels}"]
    command = [*build.find_compiler(), *flags, *sources, "-o", str(program)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("the thread sanitizer's library is not installed")
    assert run_check(program) == "0 wrong\n"


ARM_TABLES = {  # what each CPU may run; the others must not be called
    "cortex-a72": "neon,scalar",
    "cortex-a76": "neondot,neon,scalar",
    "max": "i8mm,neondot,neon,scalar",
}


@pytest.mark.skipif(not shutil.which(ARM_COMPILER), reason=f"{ARM_COMPILER} is not installed: make test-arm")
@pytest.mark.skipif(not shutil.which(ARM_EMULATOR), reason=f"{ARM_EMULATOR} is not installed: make test-arm")
def test_arm_kernels_under_emulation(tmp_path):
    program = build_check(tmp_path, ARM_COMPILER, "aarch64", ["-O1", "-static"])
    output = {cpu: run_check(ARM_EMULATOR, "-cpu", cpu, program) for cpu in ARM_TABLES}
    assert output == {cpu: f"tables: {tables}\n0 mismatches\n" for cpu, tables in ARM_TABLES.items()}
