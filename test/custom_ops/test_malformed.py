# SPDX-License-Identifier: Apache-2.0
"""Damaged models are refused with a message that names the node; the process survives."""

import os
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from every_format import write_every_format
from tiny_event_model import write_event_model

from custom_ops.errors import OperatorError
from custom_ops.spec import (
    HEADER,
    MAGIC,
    OPERATORS,
    Attention,
    Embedding,
    Linear,
    Norm,
    SwiGlu,
    TokenGather,
    TokenScatter,
    WeightFormat,
)
from edge_vlm.events.model import GRAPH_FILE

ROOT = Path(__file__).resolve().parents[2]

GOOD = Linear(WeightFormat.TERNARY, 32, 20)


def group_tensors(scale_shape, zero_shape, zero_type=np.int8):
    def describe(graph):
        x = graph.input("x", (-1, 64))
        arrays = [np.zeros(4 * 2 * 64, np.uint8), np.ones(20, np.float32), np.ones(scale_shape, np.float16)]
        tensors = [graph.constant(f"c{i}", a) for i, a in enumerate([*arrays, np.zeros(zero_shape, zero_type)])]
        attributes = Linear(WeightFormat.INT2, 64, 20, group_size=32, has_zero=1)
        return {"x": x}, {"y": graph.custom(attributes, [x, *tensors], "fc1", (-1, 20))}

    return describe


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 3, 16), (2, 2, 16)), "input 3 (group_scale) is float16 (2, 3, 16), expected float16 (2, 2, 16)"),
        (((2, 2, 16), (2, 2, 15)), "input 4 (zero) is int8 (2, 2, 15), expected int8 (2, 2, 16)"),
        (((2, 2, 16), (2, 2, 16), np.uint8), "input 4 (zero) is uint8"),
    ],
)
def test_group_tensors_that_do_not_fit(shapes, message, build, open_model):
    assert message in refusal(build, open_model, group_tensors(*shapes), x=np.zeros((1, 64), np.float32))


@dataclass(frozen=True)
class RawAttributes:
    """Stands for an operator whose attribute bytes are not what to_bytes() would write."""

    OP: str
    raw: bytes

    def to_bytes(self):
        return self.raw


def refusal(build, open_model, describe, isa=None, **inputs) -> str:
    """The message with which the model is refused, at load or at the first call."""
    with pytest.raises(OperatorError if isa == "numpy" else (OperatorError, RuntimeError, ValueError)) as caught:
        open_model(build(describe), isa)(**inputs)
    return str(caught.value)


def linear(attributes, weight_bytes=256, scale=20, x_width=32, weights_type=np.uint8):
    def describe(graph):
        x = graph.input("x", (-1, x_width))
        weights = graph.constant("weights", np.zeros(weight_bytes, weights_type))
        y = graph.custom(attributes, [x, weights, graph.constant("scale", np.ones(scale, np.float32))], "fc1", (-1, 20))
        return {"x": x}, {"y": y}

    return describe


X = np.zeros((2, 32), np.float32)


def test_attributes_of_version_1_have_no_groups(build, open_model):
    raw = RawAttributes("EdgeVlmLinear", HEADER.pack(MAGIC, 1, 24) + GOOD.to_bytes()[8:32])
    for isa in (None, "numpy"):
        assert open_model(build(linear(raw)), isa)(x=X)["y"].shape == (2, 20)


def test_the_model_that_the_others_damage_runs(build, open_model):
    assert open_model(build(linear(GOOD)))(x=X)["y"].shape == (2, 20)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "0 bytes of attributes, expected 48"),
        (GOOD.to_bytes()[:-1], "47 bytes of attributes, expected 48"),
        (GOOD.to_bytes() + b"\0", "49 bytes of attributes, expected 48"),
        (b"EVOX" + GOOD.to_bytes()[4:], "do not start with EVO1"),
        (HEADER.pack(MAGIC, 9, 40) + GOOD.to_bytes()[8:], "attributes of version 9, this library reads 3"),
        (HEADER.pack(MAGIC, 1, 40) + GOOD.to_bytes()[8:], "attributes of version 1, this library reads 3"),
        (HEADER.pack(MAGIC, 2, 24) + GOOD.to_bytes()[8:32], "attributes of version 2, this library reads 3"),
    ],
)
def test_attributes_that_are_not_ours(raw, message, build, open_model):
    text = refusal(build, open_model, linear(RawAttributes("EdgeVlmLinear", raw)), x=X)
    assert message in text and "EdgeVlmLinear (output 'fc1')" in text


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (Linear(4, 32, 20), "weight_format is 4"),
        (Linear(9, 32, 20), "weight_format is 9"),
        (Linear(1, 32, 20, group_size=32), "weight_format 1 has no groups"),
        (Linear(5, 32, 20, group_size=48), "group_size is 48, no multiple of 32"),
        (Linear(5, 32, 20, group_size=-32), "group_size is -32"),
        (Linear(5, 32, 20, has_zero=1), "has_zero is 1, allowed 0..0"),
        (Linear(5, 32, 20, group_size=32), "3 inputs and 1 outputs, expected 4 and 1"),
        (Linear(1, 0, 20), "in_features is 0, allowed 1..65536"),
        (Linear(1, -5, 20), "in_features is -5"),
        (Linear(1, 2**31 - 1, 20), "in_features is 2147483647"),
        (Linear(1, 32, 2**31 - 1), "out_features is 2147483647"),
        (Linear(1, 32, 20, 7), "activation is 7"),
        (Linear(1, 32, 20, 0, 1), "3 inputs and 1 outputs, expected 4 and 1"),
        (Linear(1, 32, 20, norm_kind=3), "norm_kind is 3, allowed 0..2"),
        (Linear(1, 32, 20, norm_kind=2, norm_epsilon=-1.0), "norm_epsilon is -1"),
        (Linear(1, 32, 20, norm_kind=2, norm_epsilon=1e-6), "3 inputs and 1 outputs, expected 4 and 1"),
        (Linear(1, 32, 20, norm_kind=1, norm_epsilon=1e-6), "3 inputs and 1 outputs, expected 5 and 1"),
        (Linear(1, 33, 20), "input 0 (x) is float32 (2, 32), expected float32 (any, 33)"),
        (Linear(1, 32, 40), "input 1 (weights) holds 256 bytes, expected 384"),
        (Linear(3, 32, 20), "input 1 (weights) holds 256 bytes, expected 1024"),
    ],
)
def test_linear_attributes_that_do_not_fit(attributes, message, build, open_model):
    text = refusal(build, open_model, linear(attributes), x=X)
    assert message in text and "'fc1'" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_bytes": 255}, "input 1 (weights) holds 255 bytes, expected 256"),
        ({"weight_bytes": 64, "weights_type": np.float32}, "input 1 (weights) is float32, expected uint8"),
        ({"scale": 19}, "input 2 (scale) is float32 (19), expected float32 (20)"),
    ],
)
def test_linear_constants_that_do_not_fit(change, message, build, open_model):
    assert message in refusal(build, open_model, linear(GOOD, **change), x=X)


def unary(attributes, widths, types=(np.float32, np.int32)):
    """A node whose inputs are all dynamic: rank 2 where a width is given, else rank 1."""

    def describe(graph):
        shapes = [(-1,) if width is None else (-1, width) for width in widths]
        tensors = [graph.input(f"i{i}", shape, types[i]) for i, shape in enumerate(shapes)]
        return {f"i{i}": t for i, t in enumerate(tensors)}, {"y": graph.custom(attributes, tensors, "out", (-1, 4))}

    return describe


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (Attention(1, 2**30, 3, 3, 64, 0, 0.0, 1.0), "capacity is 1073741824"),
        (Attention(1, 10, 2, 2, 4, 0, 0.0, 1.0, 3), "cache_format is 3, allowed 0..2"),
        (Attention(1, 2**17, 2, 2, 4, 0, 0.0, 1.0, 2), "capacity is 131072, allowed 1..65536"),
        (Attention(1, 10, 3, 2, 4, 0, 0.0, 1.0), "3 query heads are not a multiple of 2 kv heads"),
        (Attention(1, 10, 2, 2, 3, 1, 1e4, 1.0), "needs an even head_dim"),
        (Attention(1, 10, 2, 2, 3, 1, float("nan"), 1.0), "rope_theta"),
        (Attention(1, 10, 2, 2, 4, 0, 0.0, 1.0), "input 0 (qkv) is float32 (1, 4), expected float32 (any, 24)"),
        (TokenScatter(1, 0, 4), "capacity is 0"),
        (TokenGather(1, 3, -1), "width is -1"),
        (TokenGather(1, 3, 4), "2 inputs and 1 outputs, expected 1 and 1"),
    ],
)
def test_caches_that_cannot_be(attributes, message, build, open_model):
    inputs = {"i0": np.zeros((1, 4), np.float32), "i1": np.zeros(1, np.int32)}
    assert message in refusal(build, open_model, unary(attributes, (4, None)), **inputs)


@pytest.mark.parametrize(
    ("attributes", "width"),
    [(Attention(1, 2**24, 2, 2, 64, 0, 0.0, 1.0), 384), (TokenScatter(1, 2**24, 2**12), 2**12)],
)
def test_caches_that_no_robot_has_memory_for(attributes, width, build, open_model):
    inputs = {"i0": np.zeros((1, width), np.float32), "i1": np.zeros(1, np.int32)}
    for isa in (None, "numpy"):
        assert "larger than 1 GiB" in refusal(build, open_model, unary(attributes, (width, None)), isa, **inputs)


def test_two_nodes_must_agree_on_a_shared_cache(build, open_model):
    def describe(graph):
        x, at = graph.input("x", (-1, 4)), graph.input("at", (-1,), np.int32)
        first = graph.custom(TokenScatter(1, 3, 4), [x, at], "first", (3, 4))
        return {"x": x, "at": at}, {"a": first, "b": graph.custom(TokenGather(1, 5, 4), [at], "second", (-1, 4))}

    text = refusal(build, open_model, describe, x=np.zeros((1, 4), np.float32), at=np.zeros(1, np.int32))
    assert "token cache 1 is (5, 4) here and (3, 4) at another node" in text and "'second'" in text


@pytest.mark.parametrize(
    ("attributes", "width", "message"),
    [
        (SwiGlu(3), 4, "input 0 (x) is float32 (1, 4), expected float32 (any, 6)"),
        (SwiGlu(2**30), 4, "width is 1073741824"),
        (Norm(3, 4, 1e-5), 4, "kind is 3"),
        (Norm(2, 4, float("nan")), 4, "epsilon"),
        (Embedding(1, 5, 4, 0, 0), 4, "weight_format is 1"),
    ],
)
def test_other_operators(attributes, width, message, build, open_model):
    describe = unary(attributes, (width,))
    assert message in refusal(build, open_model, describe, i0=np.zeros((1, width), np.float32))


def test_random_attribute_bytes_never_crash(build, open_model, rng):
    for op in ("EdgeVlmLinear", "EdgeVlmAttention", "EdgeVlmNorm", "EdgeVlmTokenScatter"):
        size = OPERATORS[op].LAYOUT.size
        for _ in range(15):
            body = rng.choice(np.array([0, 1, 2, 3, 4, 127, 255], np.uint8), size).tobytes()
            attributes = RawAttributes(op, struct.pack("<4sHH", MAGIC, OPERATORS[op].VERSION, size) + body)
            inputs = {"i0": np.zeros((1, 4), np.float32), "i1": np.zeros(1, np.int32)}
            assert op in refusal(build, open_model, unary(attributes, (4, None)), **inputs)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Every kind of graph: the demo bundle's (encode, shallow, prefill, score, decode), an event model, all formats."""
    folder = tmp_path_factory.mktemp("models")
    write_every_format(folder / "every_format.tflite")
    events = write_event_model(folder / "events") / GRAPH_FILE
    demo = {name: ROOT / "bundles" / "demo" / f"{name}.tflite" for name in ("vision", "text")}
    return {**demo, "events": events, "every_format": folder / "every_format.tflite"}


@pytest.mark.parametrize(
    ("name", "engine"),
    [(name, "") for name in ("vision", "text", "events", "every_format")] + [("every_format", "numpy")],
)
def test_a_damaged_model_is_run_or_refused_but_never_ends_the_process(name, engine, models, tmp_path):
    """Bytes, words or constants of the file changed, an operator's attributes, a constant's length, or the end cut off;
    all signatures are called, with many rows and with few. More by hand: see damaged_models.py."""
    script = Path(__file__).with_name("damaged_models.py")
    command = [sys.executable, script, tmp_path, models[name], "210"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "EDGE_VLM_RUNTIME": engine}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=240)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    ran, refused = (int(part.split()[0]) for part in done.stdout.decode().splitlines()[-1].split(", "))
    assert ran >= 42 and refused >= 70  # constants may hold anything, files that were cut never open


def test_a_constant_behind_the_end_of_the_file(build, open_model):
    path = build(linear(GOOD))
    path.write_bytes(path.read_bytes()[:-256])
    with pytest.raises((OperatorError, RuntimeError, ValueError)):
        open_model(path)(x=X)
    with pytest.raises(OperatorError, match="behind the end of the file"):
        open_model(path, "numpy")
