# SPDX-License-Identifier: Apache-2.0
"""The Python environment of the runtimes that we compare with, apart from our own packages."""

from __future__ import annotations

import subprocess
import sys

from bench.peers.contender import ROOT, require

PEERS_VENV = ROOT / ".venv-peers"
PEERS = ("xllamacpp", "gguf", "numpy", "onnx", "onnxruntime", "cmake", "ninja")  # xllamacpp: llama.cpp


def peers_python() -> str:
    """The interpreter of the peers' own environment, made at its first use. Raises EdgeVlmError."""
    python, complete = PEERS_VENV / "bin" / "python", PEERS_VENV / "complete"
    wanted = " ".join(PEERS)
    if not complete.is_file() or complete.read_text() != wanted:
        for command in (
            [sys.executable, "-m", "venv", str(PEERS_VENV)],
            [str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:", *PEERS],
        ):
            done = subprocess.run(command, capture_output=True, text=True)
            require(done.returncode == 0, f"{' '.join(command)} failed", "connect to the package index")
        own = next(path for path in sys.path if path.endswith("site-packages"))
        site = next(PEERS_VENV.glob("lib/python*/site-packages"))
        (site / "edge_vlm_tests.pth").write_text(own + "\n")  # behind the peers' own packages
        complete.write_text(wanted)
    return str(python)
