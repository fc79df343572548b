# SPDX-License-Identifier: Apache-2.0
"""Linear on shapes and values that hypothesis makes up (the same ones in every run), each instruction set and several
thread counts: bit for bit what the int32 reference gives.
"""

import os
from dataclasses import dataclass
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from custom_ops import reference
from custom_ops.library import load_operators
from custom_ops.packing import LIMITS, Groups, group_count, pack
from custom_ops.spec import GROUPED, Linear, WeightFormat
from custom_ops.tflite_writer import ModelWriter

SETTINGS = (  # threads, and options of the library
    (1, {"EDGE_VLM_DENSE_WEIGHTS": "packed"}),
    (3, {"EDGE_VLM_DENSE_WEIGHTS": "unpacked", "EDGE_VLM_SPIN_US": "50", "EDGE_VLM_CPUS": "0"}),
)


@dataclass(frozen=True)
class Case:
    """One Linear and its activations, by seed."""

    format: WeightFormat
    rows: int
    outputs: int
    inputs: int
    group: int  # 0: none
    has_zero: bool
    values: str  # of activations and codes: "random", "extreme" or "sparse" (whole rows of zeros)
    seed: int


@st.composite
def cases(draw) -> Case:
    weight_format = draw(st.sampled_from(list(LIMITS)))
    long = draw(st.booleans())  # few outputs of many inputs, or the other way round
    return Case(
        weight_format,
        rows=draw(st.integers(1, 6 if long else 60)),
        outputs=draw(st.integers(1, 20 if long else 200)),
        inputs=draw(st.integers(1, 8192 if long else 400)),
        group=draw(st.sampled_from([0, 32, 64, 96, 128, 512])) if weight_format in GROUPED else 0,
        has_zero=draw(st.booleans()),
        values=draw(st.sampled_from(["random", "extreme", "sparse"])),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def codes_of(case: Case, rng) -> np.ndarray:
    low, high = LIMITS[case.format]
    shape = (case.outputs, case.inputs)
    if case.values == "extreme" or case.format == WeightFormat.BINARY:
        return rng.choice(np.array([low, high], np.int8), shape)
    codes = rng.integers(low, high + 1, shape).astype(np.int8)
    if case.values == "sparse":
        codes[rng.integers(0, case.outputs)] = 0
    return codes


def activations_of(case: Case, rng) -> np.ndarray:
    x = rng.normal(size=(case.rows, case.inputs)) * 10.0 ** rng.integers(-6, 6, (case.rows, 1))
    if case.values == "extreme":  # all codes are -127 or 127, and rows of one sign
        x = np.where(rng.random(x.shape) < rng.choice([0, 0.5, 1], (case.rows, 1)), -1.0, 1.0)
    if case.values == "sparse":
        x[rng.integers(0, case.rows)] = 0
    return x.astype(np.float32)


def groups_of(case: Case, rng) -> Groups | None:
    if case.group == 0:
        return None
    low, high = LIMITS[case.format]
    shape = (case.outputs, group_count(case.inputs, case.group))
    zero = rng.integers(low, high + 1, shape).astype(np.int8) if case.has_zero else None
    return Groups(case.group, rng.uniform(0, 1, shape).astype(np.float16), zero)


def write_model(path, case: Case, codes, scale, groups) -> None:
    has_zero = groups is not None and groups.zero is not None
    writer = ModelWriter("one Linear")
    graph = writer.subgraph("run")
    x = graph.input("x", (-1, case.inputs))
    arrays = [pack(codes, case.format).data, scale, *([] if groups is None else groups.packed())]
    attributes = Linear(case.format, case.inputs, case.outputs, group_size=case.group, has_zero=int(has_zero))
    constants = [graph.constant(f"c{i}", array) for i, array in enumerate(arrays)]
    y = graph.custom(attributes, [x, *constants], "y", (-1, case.outputs))
    graph.signature("run", {"x": x}, {"y": y})
    writer.save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("properties")


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(case=cases())
def test_every_instruction_set_and_thread_count_equals_the_reference(case, folder):
    rng = np.random.default_rng(case.seed)
    codes, x, groups = codes_of(case, rng), activations_of(case, rng), groups_of(case, rng)
    scale = rng.normal(size=case.outputs).astype(np.float32)
    expected = reference.linear(x, codes, scale, groups=groups)
    path = folder / "m.tflite"
    write_model(path, case, codes, scale, groups)
    for isa in load_operators().info.available_isas:
        for threads, environment in SETTINGS:
            with mock.patch.dict(os.environ, environment):
                interpreter = load_operators(threads, isa).interpreter(path)
            assert np.array_equal(interpreter.get_signature_runner("run")(x=x)["y"], expected), (isa, threads)
