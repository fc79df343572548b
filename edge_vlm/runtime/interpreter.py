# SPDX-License-Identifier: Apache-2.0
"""Opens a .tflite of ours: in LiteRT with the operator library, or where that cannot load in NumPy, with LiteRT's own
matrix products if it has them."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from custom_ops.builtin_linear import why_not_builtin
from custom_ops.errors import OperatorError
from custom_ops.executor import NumpyInterpreter
from custom_ops.library import load_operators
from custom_ops.litert import NUMPY, RUNTIME_VARIABLE
from edge_vlm.errors import BundleError
from edge_vlm.runtime.bundle import EXPORT_AGAIN

LITERT = "litert"
NUMPY_NAME = "NumPy reference"
BUILTIN_NAME = "NumPy with LiteRT's own int2 and int8 matrices"
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
        except (ValueError, RuntimeError, OperatorError) as error:
            raise OperatorError(f"{self.path}: {signature} failed ({error_line(error)})", EXPORT_AGAIN) from error


def open_graph(path: Path, threads: int | None = None, engine: str | None = None) -> Graph:
    """Open a .tflite of ours.

    ``threads`` of the operators; None takes one per core, at most 4. ``engine``: None takes LiteRT with the operator
    library where they load, and with one warning where not NumPy, whose matrices LiteRT's builtin operators multiply if
    they can; ``"numpy"`` (alone) and ``"litert"`` insist. The variable
    ``EDGE_VLM_RUNTIME`` may name ``numpy`` too, or one TFLite runtime. Raises BundleError for a bad file, OperatorError
    where the engine that was insisted on cannot load, SettingError where the variable names what there is not.
    """
    threads = threads or default_threads()
    if engine == NUMPY or (engine is None and asked_for_numpy()):
        return open_numpy(path)
    if engine is None and warned_of(why_not_litert(threads)):
        return open_numpy(path, builtin_linear=not why_not_builtin())
    operators = load_operators(threads)
    try:
        interpreter = operators.interpreter(path, xnnpack_threads=threads)
        return Graph(path, interpreter, describe(operators.info))
    except (OperatorError, ValueError, RuntimeError) as error:
        raise BundleError(f"{path}: {operators.runtime} cannot open it ({fault(path, error)})", EXPORT_AGAIN) from error


def open_numpy(path: Path, builtin_linear: bool = False) -> Graph:
    try:
        interpreter = NumpyInterpreter(path, builtin_linear=builtin_linear)
        return Graph(path, interpreter, BUILTIN_NAME if builtin_linear else NUMPY_NAME)
    except OperatorError as error:
        raise BundleError(f"{path}: cannot be opened ({fault(path, error)})", EXPORT_AGAIN) from error


def fault(path: Path, error: Exception) -> str:
    """What is wrong with a file, without its name and the remedy, which the caller gives."""
    what = error.what if isinstance(error, OperatorError) else error_line(error)
    return what.removeprefix(f"{path}: ")


def engine_name(threads: int | None = None) -> str:
    """What `open_graph` would compute with, for diagnostics; names the reason where it is NumPy."""
    if asked_for_numpy():
        return f"{NUMPY_NAME} ({RUNTIME_VARIABLE}={NUMPY})"
    threads = threads or default_threads()
    reason = why_not_litert(threads)
    if not reason:
        return describe(load_operators(threads).info)
    without = why_not_builtin()
    return f"{NUMPY_NAME}, many times slower ({reason}; {without})" if without else f"{BUILTIN_NAME}, slower ({reason})"


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
        LOG.warning("computing in %s, which is slower: %s", NUMPY_NAME if why_not_builtin() else BUILTIN_NAME, reason)
    return bool(reason)


def asked_for_numpy() -> bool:
    return os.environ.get(RUNTIME_VARIABLE) == NUMPY


def default_threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_DEFAULT_THREADS)


def error_line(error: Exception) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
