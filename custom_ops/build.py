# SPDX-License-Identifier: Apache-2.0
"""Builds the operator library from custom_ops/src with the system's C++ compiler: ``python -m custom_ops.build``.

One library per CPU architecture: the kernels of every instruction set are compiled in, each file with its own flags,
and the CPU is asked at run time. Never ``-march=native``.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from custom_ops.errors import EdgeVlmError, OperatorError

SOURCES = Path(__file__).resolve().parent / "src"
LIBRARY_NAME = "libedge_vlm_ops.so"
PACKAGE_LIBRARY = Path(__file__).resolve().parent / "lib" / LIBRARY_NAME
MARKER = b'{"sources": "'  # in the library, in front of the hash of the sources that it was built from
HASH_DIGITS = 16

MACHINE_VARIABLE = "EDGE_VLM_BUILD_MACHINE"  # aarch64 with CXX=aarch64-linux-gnu-g++ builds for Arm elsewhere
COMPILING = "operators: compiling for this machine, once; about a minute"
COMPILERS = ("c++", "g++", "clang++")
INSTALL_COMPILER = "install one, for instance: sudo apt install g++"
FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-pthread", "-Wall", "-Wextra"]
# No fused multiply-add but where the source says so: the instruction sets' results must agree bit for bit.
FLOAT_FLAGS = ["-ffp-contract=off", "-fno-math-errno"]
QUIET = ["-Wno-psabi", "-Wno-unknown-pragmas"]
X86_FLAGS = ["-DEDGE_VLM_X86_KERNELS", "-msse4.2", "-mpopcnt"]
X86_FILES = {  # flags of the files that hold one instruction set; other architectures leave them out
    "kernels_avx2.cc": ["-mavx2", "-mfma", "-mf16c"],
    "kernels_avxvnni.cc": ["-mavx2", "-mfma", "-mf16c"],  # names its one further instruction itself
    "kernels_avx512vnni.cc": ["-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vnni"],
    "kernels_amx.cc": [
        "-mavx2",
        "-mfma",
        "-mf16c",
        "-mavx512f",
        "-mavx512bw",
        "-mavx512vl",
        "-mavx512vnni",
    ],  # the same
}
ARM_FLAGS = ["-DEDGE_VLM_ARM_KERNELS"]
ARM_FILES = {
    "kernels_neon.cc": ["-march=armv8-a"],
    "kernels_neondot.cc": ["-march=armv8.2-a+dotprod"],
    "kernels_i8mm.cc": ["-march=armv8.2-a+dotprod+i8mm"],
}


def architecture_flags(machine: str) -> tuple[list[str], dict[str, list[str]]]:
    """Flags of every file, and the files of instruction sets with their own, for a name of platform.machine()."""
    if machine.lower() in ("x86_64", "amd64"):
        return X86_FLAGS, X86_FILES
    if machine.lower() in ("aarch64", "arm64"):
        return ARM_FLAGS, ARM_FILES
    return [], {}


def compile_commands(compiler: list[str], machine: str, defines: list[str], folder: Path) -> dict[Path, list[str]]:
    """The command for each object file in ``folder``."""
    flags, own_flags = architecture_flags(machine)
    common = [*compiler, *FLAGS, *FLOAT_FLAGS, *QUIET, *flags, *defines, f"-I{SOURCES / 'kernels'}"]
    foreign = (X86_FILES.keys() | ARM_FILES.keys()) - own_flags.keys()
    commands = {}
    for path in sorted(SOURCES.glob("*/*.cc")):
        if path.name not in foreign:
            target = folder / f"{path.stem}.o"
            commands[target] = [*common, *own_flags.get(path.name, []), "-c", str(path), "-o", str(target)]
    return commands


def source_hash() -> str | None:
    """Identifies the sources and flags; None where the package was installed without sources."""
    files = sorted(SOURCES.glob("*/*"))
    if not files:
        return None
    digest = hashlib.sha256(repr((FLAGS, FLOAT_FLAGS, X86_FLAGS, X86_FILES, ARM_FLAGS, ARM_FILES)).encode())
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:HASH_DIGITS]


def built_hash(library: Path) -> str | None:
    """The hash that a library was built from; None for a file that is not our library. Raises OSError."""
    _, found, rest = library.read_bytes().partition(MARKER)
    return rest[:HASH_DIGITS].decode(errors="replace") if found else None


def find_compiler() -> list[str]:
    """The command of a C++ compiler: $CXX, or the first of c++, g++, clang++. Raises OperatorError."""
    wanted = shlex.split(os.environ.get("CXX", ""))
    if wanted:
        if shutil.which(wanted[0]) is None:
            raise OperatorError(f"CXX={wanted[0]}: no such compiler", f"unset CXX, or {INSTALL_COMPILER}")
        return wanted
    for name in COMPILERS:
        if shutil.which(name):
            return [name]
    raise OperatorError("no C++ compiler found to build the operators", INSTALL_COMPILER)


def build_library(library: Path = PACKAGE_LIBRARY) -> Path:
    """Build into ``library``, atomically. Raises OperatorError with the compiler's first error, or what to install."""
    compiler, sources = find_compiler(), source_hash()
    if sources is None:
        raise OperatorError(f"{SOURCES}: no sources to build", "install the package again")
    print(COMPILING, file=sys.stderr, flush=True)
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=library.parent) as folder:
            built = compile_and_link(compiler, sources, Path(folder))
            os.replace(built, library)
    except OSError as error:
        raise OperatorError(f"{library}: cannot be written ({error.strerror})", "make the folder writable") from error
    return library


def target_machine() -> str:
    """The CPU architecture to build for, as platform.machine() names it."""
    return os.environ.get(MACHINE_VARIABLE) or platform.machine()


def compile_and_link(compiler: list[str], sources: str, folder: Path) -> Path:
    defines = [f'-DEDGE_VLM_SOURCES="{sources}"']
    commands = compile_commands(compiler, target_machine(), defines, folder)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(run_compiler, commands.values()))
    library = folder / LIBRARY_NAME
    run_compiler([*compiler, "-shared", "-pthread", *map(str, commands), "-o", str(library)])
    return library


def run_compiler(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        errors = [line for line in result.stderr.splitlines() if "error" in line] or result.stderr.splitlines()[-1:]
        raise OperatorError(
            f"the C++ compiler failed: {errors[0] if errors else command[0]}",
            "g++ 10 or newer is needed; the full command: " + shlex.join(command),
        )


def main() -> int:
    try:
        if PACKAGE_LIBRARY.is_file() and built_hash(PACKAGE_LIBRARY) == source_hash():
            print(f"operators: up to date ({PACKAGE_LIBRARY})")
        else:
            print(f"operators: built {build_library()}")
    except EdgeVlmError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
