# SPDX-License-Identifier: Apache-2.0
"""The environment of peers that no part of the project needs, installed from the package index at its first use."""

from __future__ import annotations

import subprocess
import sys

from bench.peers.contender import ROOT, require

PEERS_VENV = ROOT / ".venv-peers"
# xllamacpp: llama.cpp as a wheel, which llama-cpp-python is not.
PEERS = ["xllamacpp", "gguf", "numpy", "onnx", "onnxruntime"]
COMPLETE = PEERS_VENV / "complete"  # holds what was installed


def peers_python() -> str:
    """The interpreter of the peers' own environment, made at its first use. Raises EdgeVlmError."""
    python = PEERS_VENV / "bin" / "python"
    if not COMPLETE.is_file() or COMPLETE.read_text() != " ".join(PEERS):
        for command in (
            [sys.executable, "-m", "venv", str(PEERS_VENV)],
            [str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:", *PEERS],
        ):
            done = subprocess.run(command, capture_output=True, text=True)
            require(done.returncode == 0, f"{' '.join(command)} failed", "connect to the package index")
        own = next(path for path in sys.path if path.endswith("site-packages"))
        site = next(PEERS_VENV.glob("lib/python*/site-packages"))
        (site / "edge_vlm_tests.pth").write_text(own + "\n")  # behind the peers' own packages
        COMPLETE.write_text(" ".join(PEERS))
    return str(python)
