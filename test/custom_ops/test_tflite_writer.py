# SPDX-License-Identifier: Apache-2.0
"""Files from the writer run in the real runtime and in the NumPy executor, with the same results."""

import numpy as np
import pytest

from custom_ops.errors import OperatorError
from custom_ops.executor import NumpyInterpreter
from custom_ops.packing import pack
from custom_ops.spec import Attention, Linear, Norm, NormKind, SwiGlu, WeightFormat
from custom_ops.tflite_writer import LazyConstant, ModelWriter


def write_builtins(path, rng):
    """Two signatures that share a matrix: every builtin operator that the exporter uses."""
    writer = ModelWriter("builtins")
    w, bias = rng.normal(size=(6, 8)).astype(np.float32), rng.normal(size=6).astype(np.float32)
    for key in ("first", "second"):
        graph = writer.subgraph(key)
        x = graph.input("x", (-1, 8))
        y = graph.fully_connected(x, graph.constant("w", w), graph.constant("bias", bias))
        y = graph.sub(graph.add(y, y), graph.mul(y, graph.constant("bias", bias)))
        rows = graph.gather(y, graph.constant("order", np.array([1, 0, 1, 2], np.int32)))
        pairs = graph.reshape(rows, (2, -1))
        graph.signature(key, {"x": x}, {"y": y, "last": graph.last_row(y), "mean": graph.mean_row(y), "pairs": pairs})
    writer.save(path)
    return w, bias


def test_builtin_operators_in_runtime_and_executor(operators, tmp_path, rng):
    path = tmp_path / "m.tflite"
    w, bias = write_builtins(path, rng)
    interpreter, numpy = operators.interpreter(path), NumpyInterpreter(path)
    for key, rows in (("first", 3), ("second", 7), ("first", 4)):
        x = rng.normal(size=(rows, 8)).astype(np.float32)
        got, expected = (which.get_signature_runner(key)(x=x) for which in (interpreter, numpy))
        y = x @ w.T + bias
        y = y + y - y * bias
        np.testing.assert_allclose(expected["y"], y, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(expected["last"], y[-1:], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(expected["mean"], y.mean(axis=0, keepdims=True), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(expected["pairs"], y[[1, 0, 1, 2]].reshape(2, -1), rtol=1e-5, atol=1e-5)
        for name in expected:
            assert got[name].shape == expected[name].shape
            np.testing.assert_allclose(got[name], expected[name], rtol=1e-5, atol=1e-5)


def test_constants_are_aligned_and_shared(tmp_path):
    writer, shared = ModelWriter("m"), np.ones(100_000, np.float32)
    for key in "ab":
        graph = writer.subgraph(key)
        x = graph.input("x", (-1, 1))
        assert graph.constant("big", shared) == graph.constant("big again", shared)
        graph.signature(key, {"x": x}, {"y": graph.mul(x, graph.constant("big", shared))})
    assert shared.nbytes < writer.save(tmp_path / "m.tflite") < shared.nbytes + 4096
    assert all(buffer.offset % 64 == 0 for buffer in writer.model.buffers[1:])


def test_lazy_constants_are_made_while_writing_and_give_the_same_file(tmp_path):
    values, made = np.arange(12, dtype=np.float32).reshape(3, 4), []

    def make():
        made.append(1)
        return values

    for name, constant in (("eager", values), ("lazy", LazyConstant((3, 4), np.float32, make))):
        writer = ModelWriter("m")
        graph = writer.subgraph("a")
        x = graph.input("x", (-1, 4))
        graph.signature("a", {"x": x}, {"y": graph.fully_connected(x, graph.constant("w", constant))})
        assert not made
        writer.save(tmp_path / name)
    assert made and (tmp_path / "lazy").read_bytes() == (tmp_path / "eager").read_bytes()
    writer.constants[0] = LazyConstant((4, 3), np.float32, make)
    with pytest.raises(OperatorError, match=r"a constant is float32 \(3, 4\), announced was"):
        writer.save(tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"old")
    writer = ModelWriter("m")
    monkeypatch.setattr(writer, "write_to", lambda file: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(OSError, match="disk full"):
        writer.save(path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_types_and_constants_that_cannot_be_written():
    writer = ModelWriter("m")
    with pytest.raises(OperatorError, match="float64 cannot be written"):
        writer.subgraph("g").input("x", (1,), np.float64)
    with pytest.raises(OperatorError, match="no elements"):
        writer.buffer(np.zeros(0, np.float32))


def decoder_block(graph, rng, width=24, hidden=32, heads=2):
    """A small Llama block of ternary Linears around attention; returns its signature."""
    x, positions = graph.input("x", (-1, width)), graph.input("positions", (-1,), np.int32)

    def linear(y, out_features, residual=None):
        in_features = graph.shapes[y][1]
        codes = rng.integers(-1, 2, (out_features, in_features)).astype(np.int8)
        attributes = Linear(WeightFormat.TERNARY, in_features, out_features, has_residual=int(residual is not None))
        scale = np.full(out_features, 0.2, np.float32)
        constants = [graph.constant("w", pack(codes, WeightFormat.TERNARY).data), graph.constant("s", scale)]
        tensors = [y, *constants] + ([] if residual is None else [residual])
        return graph.custom(attributes, tensors, "linear", (-1, out_features))

    def norm(y):
        weight = graph.constant("norm", rng.normal(1, 0.1, width).astype(np.float32))
        return graph.custom(Norm(NormKind.RMS, width, 1e-5), [y, weight], "norm", (-1, width))

    dim = width // heads
    attention = Attention(4, 16, heads, 1, dim, 1, 10000.0, dim**-0.5)
    attended = graph.custom(attention, [linear(norm(x), width + 2 * dim), positions], "attention", (-1, width))
    y = linear(attended, width, residual=x)
    gated = graph.custom(SwiGlu(hidden), [linear(norm(y), 2 * hidden)], "swiglu", (-1, hidden))
    return {"x": x, "positions": positions}, {"y": linear(gated, width, residual=y)}


def test_a_decoder_block_in_runtime_and_executor(isa, build, open_model, rng):
    path = build(lambda graph: decoder_block(graph, rng))
    ours, numpy = open_model(path, isa), open_model(path, "numpy")
    for first, rows in ((0, 5), (5, 1), (6, 1), (0, 16)):  # prefill, decode, decode, a new prompt: rows change
        x = rng.normal(size=(rows, 24)).astype(np.float32)
        positions = np.arange(first, first + rows, dtype=np.int32)
        got, expected = (run(x=x, positions=positions)["y"] for run in (ours, numpy))
        # a float difference of 1e-7 can move an activation across a rounding border: one code of 127
        np.testing.assert_allclose(got, expected, atol=0.02 * np.abs(expected).max())


def test_the_executor_names_what_it_cannot_read(tmp_path):
    (tmp_path / "text.tflite").write_text("this is no model")
    with pytest.raises(OperatorError, match="text.tflite: not a .tflite file"):
        NumpyInterpreter(tmp_path / "text.tflite")
    with pytest.raises(OperatorError, match="absent.tflite: cannot be read"):
        NumpyInterpreter(tmp_path / "absent.tflite")
