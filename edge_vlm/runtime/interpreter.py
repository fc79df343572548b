# SPDX-License-Identifier: Apache-2.0
"""Opens a .tflite of ours: in LiteRT with the operator library, or in NumPy where that cannot load."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from custom_ops.errors import EdgeVlmError
from custom_ops.executor import Executor
from custom_ops.library import open_delegate
from custom_ops.litert import RUNTIME_VARIABLE, load_runtime
from edge_vlm.errors import BundleError
from edge_vlm.runtime.bundle import EXPORT_AGAIN

NUMPY = "numpy"
LOG = logging.getLogger(__name__)


class Graph(Protocol):
    """One open .tflite. Its caches (K,V and tokens) live as long as it does.

    ``engine_name`` says what computes, with versions; ``signatures`` what can be called.
    """

    engine_name: str
    signatures: tuple[str, ...]

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Call a signature with its inputs by name; returns its outputs by name, as copies."""


class LiteRtGraph:
    """A .tflite in LiteRT, our operators computed by the delegate."""

    def __init__(self, path: Path, threads: int | None) -> None:
        runtime = load_runtime()
        self.delegate = open_delegate(runtime, threads)
        try:
            # our operators carry the load and bring their threads; a pool of XNNPACK's would fight with theirs
            self.interpreter = runtime.Interpreter(
                model_path=str(path), num_threads=1, experimental_delegates=[self.delegate]
            )
            names = tuple(self.interpreter.get_signature_list())
            self.runners = {name: self.interpreter.get_signature_runner(name) for name in names}
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"{path}: {runtime} cannot open it ({error})", EXPORT_AGAIN) from error
        self.signatures, self.engine_name, self.path = names, f"{runtime} with edge_vlm operators", path

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            return self.runners[signature](**inputs)
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"{self.path}: {signature} failed ({error})", EXPORT_AGAIN) from error


class NumpyGraph:
    """A .tflite in the NumPy executor: the slow twin, bit-exact where arithmetic is in integers."""

    def __init__(self, path: Path) -> None:
        try:
            self.executor = Executor(path)
        except EdgeVlmError:
            raise
        except Exception as error:  # whatever parsing garbage raises
            raise BundleError(f"{path}: not a .tflite of ours ({error})", EXPORT_AGAIN) from error
        self.signatures, self.engine_name = tuple(self.executor.signatures), "NumPy reference"

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self.executor.run(signature, inputs)


def open_graph(path: Path, threads: int | None = None, engine: str | None = None) -> Graph:
    """Open a .tflite of ours.

    ``threads`` of the operators, None for one per core. ``engine``: None takes the fastest that loads and says so
    once where that is NumPy; ``"numpy"`` insists on NumPy, ``"litert"`` on LiteRT with the library. The variable
    ``EDGE_VLM_RUNTIME`` may name ``numpy`` too, or one TFLite runtime. Raises BundleError for a bad file and
    OperatorError where the engine that was insisted on cannot load.
    """
    wanted = engine or (NUMPY if os.environ.get(RUNTIME_VARIABLE) == NUMPY else "")
    if wanted == NUMPY:
        return NumpyGraph(path)
    reason = "" if wanted == "litert" else why_not_litert()
    if reason:
        warn_once(reason)
        return NumpyGraph(path)
    return LiteRtGraph(path, threads)


def engine_name() -> str:
    """What `open_graph` would compute with, for diagnostics; names the reason where it is NumPy."""
    if os.environ.get(RUNTIME_VARIABLE) == NUMPY:
        return f"NumPy reference ({RUNTIME_VARIABLE}={NUMPY})"
    reason = why_not_litert()
    return f"NumPy reference, slow ({reason})" if reason else f"{load_runtime()} with edge_vlm operators"


@functools.cache
def why_not_litert() -> str:
    """Empty where LiteRT and the operator library load, else the reason in one line."""
    try:
        open_delegate(load_runtime(), 1)
    except EdgeVlmError as error:
        return str(error).replace("\n", ";")
    return ""


@functools.cache
def warn_once(reason: str) -> None:
    LOG.warning("computing in NumPy, which is many times slower: %s", reason)
