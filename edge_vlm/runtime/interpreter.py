# SPDX-License-Identifier: Apache-2.0
"""Opens a .tflite of ours: in LiteRT with the operator library, or in NumPy where that cannot load."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from custom_ops.errors import OperatorError
from custom_ops.executor import NumpyInterpreter
from custom_ops.library import load_operators
from custom_ops.litert import RUNTIME_VARIABLE
from edge_vlm.errors import BundleError
from edge_vlm.runtime.bundle import EXPORT_AGAIN

NUMPY, LITERT = "numpy", "litert"
MAX_DEFAULT_THREADS = 4
LOG = logging.getLogger(__name__)


class Graph:
    """One open .tflite. Its caches (K,V and tokens) live as long as it does.

    ``engine_name`` says what computes, with versions; ``signatures`` what can be called.
    """

    def __init__(self, path: Path, interpreter, engine_name: str) -> None:
        self.path, self.engine_name = path, engine_name
        self.interpreter = interpreter
        self.signatures = tuple(interpreter.get_signature_list())
        self.runners = {name: interpreter.get_signature_runner(name) for name in self.signatures}

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Call a signature with its inputs by name; returns copies of its outputs by name. Raises OperatorError."""
        try:
            return self.runners[signature](**inputs)
        except (ValueError, RuntimeError) as error:
            raise OperatorError(f"{self.path}: {signature} failed ({error})", EXPORT_AGAIN) from error


def open_graph(path: Path, threads: int | None = None, engine: str | None = None) -> Graph:
    """Open a .tflite of ours.

    ``threads`` of the operators; None takes one per core, at most 4. ``engine``: None takes LiteRT with the operator
    library where they load, and NumPy with one warning where not; ``"numpy"`` and ``"litert"`` insist. The variable
    ``EDGE_VLM_RUNTIME`` may name ``numpy`` too, or one TFLite runtime. Raises BundleError for a bad file and
    OperatorError where the engine that was insisted on cannot load.
    """
    threads = threads or default_threads()
    if engine == NUMPY or (engine is None and (asked_for_numpy() or warned_of(why_not_litert(threads)))):
        return open_numpy(path)
    operators = load_operators(threads)
    try:
        interpreter = operators.interpreter(path, xnnpack_threads=threads)
        return Graph(path, interpreter, describe(operators.info))
    except (OperatorError, ValueError, RuntimeError) as error:
        raise BundleError(f"{path}: {operators.runtime} cannot open it ({error_line(error)})", EXPORT_AGAIN) from error


def open_numpy(path: Path) -> Graph:
    try:
        return Graph(path, NumpyInterpreter(path), "NumPy reference")
    except OperatorError as error:
        raise BundleError(f"{path}: cannot be opened ({error_line(error)})", EXPORT_AGAIN) from error


def engine_name(threads: int | None = None) -> str:
    """What `open_graph` would compute with, for diagnostics; names the reason where it is NumPy."""
    if asked_for_numpy():
        return f"NumPy reference ({RUNTIME_VARIABLE}={NUMPY})"
    threads = threads or default_threads()
    reason = why_not_litert(threads)
    return f"NumPy reference, many times slower ({reason})" if reason else describe(load_operators(threads).info)


def describe(info) -> str:
    return f"{info.runtime} with edge_vlm operators ({info.isa}, threads: {info.threads})"


@functools.cache
def why_not_litert(threads: int = 1) -> str:
    """Empty where LiteRT and the operator library load, else the reason in one line."""
    if asked_for_numpy():
        return f"{RUNTIME_VARIABLE}={NUMPY}"
    try:
        load_operators(threads)
    except OperatorError as error:
        return error_line(error)
    return ""


@functools.cache
def warned_of(reason: str) -> bool:
    """Whether there is a reason for NumPy; each is logged once."""
    if reason:
        LOG.warning("computing in NumPy, which is many times slower: %s", reason)
    return bool(reason)


def asked_for_numpy() -> bool:
    return os.environ.get(RUNTIME_VARIABLE) == NUMPY


def default_threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_DEFAULT_THREADS)


def error_line(error: Exception) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
