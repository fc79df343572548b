# SPDX-License-Identifier: Apache-2.0
"""Which TFLite runtime this process uses, chosen once: ai_edge_litert, then tflite_runtime, then tensorflow.lite."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import os
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from custom_ops.errors import OperatorError, SettingError

RUNTIME_VARIABLE, NUMPY = "EDGE_VLM_RUNTIME", "numpy"  # NumPy needs no runtime
INTERPRETERS = {  # name of the runtime: (module of its interpreter, distribution that holds it)
    "ai_edge_litert": ("ai_edge_litert.interpreter", "ai-edge-litert"),
    "tflite_runtime": ("tflite_runtime.interpreter", "tflite-runtime"),
    "tensorflow": ("tensorflow.lite.python.interpreter", "tensorflow"),
}
SCHEMAS = ("ai_edge_litert.schema_py_generated", "tensorflow.lite.python.schema_py_generated")
INSTALL = 'install it with "pip install ai-edge-litert"'


@dataclass(frozen=True)
class Runtime:
    """A TFLite runtime: its name, its version, and the two entry points that we use."""

    name: str
    version: str
    Interpreter: type
    load_delegate: Callable

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@functools.cache
def load_runtime() -> Runtime:
    """The runtime of this process; ``EDGE_VLM_RUNTIME`` names one to insist on. Raises OperatorError if none loads,
    SettingError if that one does not."""
    wanted = os.environ.get(RUNTIME_VARIABLE, "")
    if wanted == NUMPY:
        raise OperatorError(f"{RUNTIME_VARIABLE}={NUMPY} asks for no runtime", "unset it")
    if wanted and wanted not in INTERPRETERS:
        names = ", ".join((*INTERPRETERS, NUMPY))
        raise SettingError(f"{RUNTIME_VARIABLE}={wanted}: no such runtime", f"name one of {names}, or unset it")
    if wanted:
        try:
            return import_runtime(wanted)
        except ImportError as error:
            raise SettingError(
                f"{RUNTIME_VARIABLE}={wanted}: cannot be imported ({error})", "install it, or unset the variable"
            ) from error
    failures = []
    for name in INTERPRETERS:
        try:
            return import_runtime(name)
        except ImportError as error:  # noqa: PERF203
            failures.append(f"{name}: {error}")
    raise OperatorError(f"no TFLite runtime could be imported ({'; '.join(failures)})", INSTALL)


def import_runtime(name: str) -> Runtime:
    module_name, distribution = INTERPRETERS[name]
    module = importlib.import_module(module_name)
    try:
        version = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:  # for instance tensorflow-cpu
        version = getattr(importlib.import_module(name), "__version__", "unknown")
    return Runtime(name, version, module.Interpreter, module.load_delegate)


@functools.cache
def load_schema() -> ModuleType:
    """The generated flatbuffer classes of .tflite files. Raises OperatorError where no package has them."""
    for name in SCHEMAS:
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    raise OperatorError("no package with the .tflite schema could be imported", INSTALL)
