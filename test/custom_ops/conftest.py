# SPDX-License-Identifier: Apache-2.0
"""The library of this checkout (built once if stale), and models of a few operators."""

import numpy as np
import pytest

from custom_ops.executor import NumpyInterpreter
from custom_ops.library import load_operators
from custom_ops.tflite_writer import ModelWriter


def pytest_generate_tests(metafunc):
    if "isa" in metafunc.fixturenames:
        metafunc.parametrize("isa", load_operators().info.available_isas)


@pytest.fixture
def operators():
    return load_operators()


@pytest.fixture
def build(tmp_path):
    """build(describe) -> path; describe(graph) returns the signature "run" as (inputs, outputs)."""
    count = 0

    def write(describe):
        nonlocal count
        count += 1
        path = tmp_path / f"model{count}.tflite"
        writer = ModelWriter("test")
        graph = writer.subgraph("run")
        graph.signature("run", *describe(graph))
        writer.save(path)
        return path

    return write


@pytest.fixture
def open_model():
    """open_model(path, isa=None, threads=1) -> function of the signature "run"; isa "numpy" takes the executor."""
    alive = []  # an interpreter owns its delegate: it must outlive its signature runners

    def open_one(path, isa=None, threads=1, key="run"):
        interpreter = NumpyInterpreter(path) if isa == "numpy" else load_operators(threads, isa).interpreter(path)
        alive.append(interpreter)
        return interpreter.get_signature_runner(key)

    return open_one


@pytest.fixture
def rng():
    return np.random.default_rng(1234)
