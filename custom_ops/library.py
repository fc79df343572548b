# SPDX-License-Identifier: Apache-2.0
"""Finds, builds, loads and tests the operator library.

    operators = load_operators(threads=2)          # builds the library if there is none
    interpreter = operators.interpreter("vision.tflite")

Every interpreter gets a delegate of its own, and with it caches of its own.
"""

from __future__ import annotations

import ctypes
import functools
import json
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from custom_ops import reference, self_test_model, spec
from custom_ops.build import LIBRARY_NAME, PACKAGE_LIBRARY, build_library, built_hash, source_hash
from custom_ops.errors import OperatorError, SettingError
from custom_ops.litert import RUNTIME_VARIABLE, Runtime, load_runtime
from custom_ops.model_check import read_model

LIBRARY_VARIABLE = "EDGE_VLM_OPS_LIBRARY"
ISA_VARIABLE = "EDGE_VLM_ISA"
LOG = logging.getLogger(__name__)
INSTRUCTION_SETS = ("amx", "avx512vnni", "avxvnni", "avx2", "i8mm", "neondot", "neon", "scalar")  # of all CPUs
REBUILD = 'rebuild it with "python -m custom_ops.build"'


@dataclass(frozen=True)
class LibraryInfo:
    """What was loaded: file, hash of its sources, runtime, instruction set in use, those available, threads."""

    path: Path
    version: str
    runtime: str
    isa: str
    available_isas: tuple[str, ...]
    threads: int


@dataclass(frozen=True)
class Operators:
    """The operator library in a runtime, tested; makes interpreters."""

    info: LibraryInfo
    runtime: Runtime

    def delegate(self):
        """A new delegate: new caches. Raises OperatorError."""
        options = {"isa": self.info.isa, "threads": str(self.info.threads)}
        try:
            return self.runtime.load_delegate(str(self.info.path), options)
        except (ValueError, OSError) as error:
            raise OperatorError(f"{self.info.path}: cannot be loaded into {self.runtime} ({error})", REBUILD) from error

    def interpreter(self, model_path: Path | str, xnnpack_threads: int = 1):
        """An interpreter of a .tflite file with its own caches. Raises OperatorError naming the file, which is checked
        first: the runtimes' readers may crash over a damaged one.

        Hold the interpreter as long as its signature runners: it owns the delegate, they do not.
        """
        read_model(model_path)
        try:
            return self.runtime.Interpreter(
                model_path=str(model_path), num_threads=xnnpack_threads, experimental_delegates=[self.delegate()]
            )
        except (ValueError, RuntimeError) as error:
            raise OperatorError(f"{model_path}: cannot be loaded ({error})", spec.REEXPORT) from error


def cache_library() -> Path:
    """Where the library is built when the package's folder is not writable."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "edge_vlm" / (source_hash() or "installed") / LIBRARY_NAME


def find_library() -> Path | None:
    """The library to load: $EDGE_VLM_OPS_LIBRARY, the package's, the user cache's; None if there is none.

    A library built from other sources than the package's is passed over. Raises OperatorError where the variable
    names no file.
    """
    named = os.environ.get(LIBRARY_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise OperatorError(f"{LIBRARY_VARIABLE}={named}: no such file", f"unset {LIBRARY_VARIABLE} or correct it")
        return Path(named)
    wanted = source_hash()
    for path in (PACKAGE_LIBRARY, cache_library()):
        if path.is_file() and (wanted is None or built_hash(path) == wanted):
            return path
    return None


def find_function(name: str, *argument_types):
    """What the library exports beside its operators: a function that returns an int. None without a library, or where
    it was built before it had the function; it is not built for this."""
    try:
        path = find_library()
        return path and _function_of(path, name, argument_types)
    except (OperatorError, OSError, AttributeError):
        return None


@functools.cache
def _function_of(path: Path, name: str, argument_types: tuple):
    function = getattr(ctypes.CDLL(str(path.resolve())), name)
    function.argtypes, function.restype = argument_types, ctypes.c_int
    return function


def ensure_library() -> Path:
    """Like find_library, but builds the library where there is none. Raises OperatorError: what to install."""
    found = find_library()
    if found is not None:
        return found
    writable = os.access(PACKAGE_LIBRARY.parent.parent, os.W_OK)
    return build_library(PACKAGE_LIBRARY if writable else cache_library())


@functools.cache
def load_operators(threads: int = 1, isa: str | None = None) -> Operators:
    """The library, loaded and self-tested. ``isa``: a name of INSTRUCTION_SETS; default $EDGE_VLM_ISA or the best.

    One that this CPU lacks gives way to the best, with a warning. Raises OperatorError where no library can be built or
    loaded, or the self-test fails, SettingError for a name that no CPU knows.
    """
    path, runtime = ensure_library(), load_runtime()
    details = describe_library(path)
    available = tuple(details["isas"].split(","))
    chosen = choose_isa(isa or os.environ.get(ISA_VARIABLE), available)
    info = LibraryInfo(path, details["sources"], str(runtime), chosen, available, threads)
    operators = Operators(info, runtime)
    self_test(operators)
    return operators


def choose_isa(wanted: str | None, available: tuple[str, ...]) -> str:
    """``wanted`` if this CPU runs it, else the best, with a warning. Raises SettingError for a name of no CPU's."""
    if not wanted or wanted in available:
        return wanted or available[0]
    if wanted not in INSTRUCTION_SETS:
        raise SettingError(f"there is no instruction set {wanted}", f"choose from {', '.join(available)}")
    LOG.warning("this CPU does not run %s, using %s", wanted, available[0])
    return available[0]


def library_info(threads: int = 1) -> LibraryInfo:
    """What load_operators would use; loads it. Raises OperatorError."""
    return load_operators(threads).info


def describe_library(path: Path) -> dict:
    """What the library says of itself: sources, isas, operators (attribute version and size by name)."""
    try:
        query = ctypes.CDLL(str(path.resolve())).edge_vlm_ops_info
    except (OSError, AttributeError) as error:
        raise OperatorError(f"{path}: not an operator library of this system ({error})", REBUILD) from error
    query.restype = ctypes.c_char_p
    return json.loads(query())


def self_test(operators: Operators) -> None:
    """One ternary Linear through the runtime against NumPy. Raises OperatorError naming both versions."""
    info, remedy = operators.info, f"{REBUILD}, install another ai-edge-litert, or set {RUNTIME_VARIABLE}"
    where = f"operators {info.version} ({info.path}) in {info.runtime}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "self_test.tflite"
        path.write_bytes(self_test_model.file_bytes())
        try:
            interpreter = operators.interpreter(path)
            y = interpreter.get_signature_runner("run")(x=self_test_model.X)["y"]
        except (RuntimeError, ValueError) as error:
            raise OperatorError(f"self-test of {where} failed: {error}", remedy) from error
    if not np.array_equal(y, reference.linear(self_test_model.X, self_test_model.CODES, self_test_model.SCALE)):
        raise OperatorError(f"self-test of {where} gave wrong numbers", remedy)


__all__ = [
    "LibraryInfo",
    "Operators",
    "ensure_library",
    "find_function",
    "find_library",
    "library_info",
    "load_operators",
    "self_test",
]
