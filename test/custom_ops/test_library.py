# SPDX-License-Identifier: Apache-2.0
"""Finding, building and loading the library; what is said where that fails."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from custom_ops import build, library, litert, self_test_model, spec
from custom_ops.errors import OperatorError, SettingError

ROOT = Path(__file__).resolve().parents[2]


def run_python(*arguments, **environment):
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, *arguments], env=env, cwd=ROOT, capture_output=True, text=True)


def test_attribute_structs_mirror_the_contract(operators):
    described = library.describe_library(operators.info.path)["operators"]
    expected = {name: {"version": op.VERSION, "size": op.LAYOUT.size} for name, op in spec.OPERATORS.items()}
    assert described == expected


def test_attributes_come_back():
    attributes = spec.Attention(3, 196, 6, 2, 64, 1, 10000.0, 0.125)
    assert spec.Attention.from_bytes(attributes.to_bytes()) == attributes
    with pytest.raises(OperatorError, match="expected b'EVO1' version 2"):
        spec.Attention.from_bytes(b"EVO2" + attributes.to_bytes()[4:])


def test_library_info_says_what_runs(operators):
    info = operators.info
    assert info.path.is_file() and info.version == build.source_hash()
    assert "scalar" in info.available_isas and info.isa in info.available_isas
    assert info.runtime == str(litert.load_runtime())


def test_no_compiler_gives_one_line_with_the_package_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(OperatorError, match="no C\\+\\+ compiler found") as caught:
        build.build_library(tmp_path / "ops.so")
    assert "sudo apt install g++" in str(caught.value)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(OperatorError, match="CXX=no-such-compiler"):
        build.find_compiler()


def test_a_failing_compiler_is_reported_with_its_error(monkeypatch, tmp_path):
    compiler = tmp_path / "broken"
    compiler.write_text("#!/bin/sh\necho 'x.cc:1: error: no such flag' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(OperatorError, match="x.cc:1: error: no such flag"):
        build.build_library(tmp_path / "ops.so")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken"]


def test_the_named_library_comes_first(monkeypatch, operators, tmp_path):
    monkeypatch.setenv(library.LIBRARY_VARIABLE, str(operators.info.path))
    assert library.find_library() == operators.info.path
    monkeypatch.setenv(library.LIBRARY_VARIABLE, str(tmp_path / "absent.so"))
    with pytest.raises(OperatorError, match="absent.so: no such file"):
        library.find_library()


def test_a_library_of_other_sources_is_passed_over(monkeypatch, operators, tmp_path):
    monkeypatch.delenv(library.LIBRARY_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    stale = tmp_path / "stale.so"
    stale.write_bytes(operators.info.path.read_bytes().replace(build.source_hash().encode(), b"0" * 16))
    monkeypatch.setattr(library, "PACKAGE_LIBRARY", stale)
    assert library.find_library() is None
    library.cache_library().parent.mkdir(parents=True)
    library.cache_library().write_bytes(operators.info.path.read_bytes())
    assert library.find_library() == library.cache_library()


def test_a_file_that_is_no_library_is_refused(monkeypatch, tmp_path):
    path = tmp_path / "text.so"
    path.write_text("not a library")
    with pytest.raises(OperatorError, match="not an operator library of this system"):
        library.describe_library(path)


def test_the_instruction_set_can_be_forced():
    program = "from custom_ops.library import library_info; print('isa', library_info().isa)"
    assert "isa scalar" in run_python("-c", program, EDGE_VLM_ISA="scalar").stdout
    with pytest.raises(SettingError, match="no instruction set mmx"):
        library.load_operators(1, "mmx")


def test_an_instruction_set_that_this_cpu_lacks_gives_way_to_the_best(operators, caplog):
    lacking = next(name for name in library.INSTRUCTION_SETS if name not in operators.info.available_isas)
    assert library.load_operators(1, lacking).info.isa == operators.info.available_isas[0]
    assert f"does not run {lacking}, using" in caplog.text
    program = "from custom_ops.library import load_operators; o = load_operators(); "
    program += f"o.runtime.load_delegate(str(o.info.path), {{'isa': '{lacking}'}}); print('alive')"
    result = run_python("-c", program)
    assert f"does not run {lacking}, using {operators.info.available_isas[0]}" in result.stderr
    assert result.stdout == "alive\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"isa": "mmx"}, "no instruction set 'mmx'"),
        ({"threads": "0"}, "threads is 0, allowed 1..64"),
        ({"threads": "two"}, "threads is 'two', expected a number"),
        ({"spin_us": "-1"}, "spin_us is -1, allowed 0..10000"),
        ({"cpus": "1,"}, None),
        ({"cpus": "0-3"}, "cpus ends in '-3'"),
        ({"cpus": "0,x"}, "cpus is 'x', expected a number"),
        ({"dense_weights": "maybe"}, "dense_weights is 'maybe', allowed auto, packed, unpacked"),
        ({"speed": "high"}, "unknown option 'speed'"),
    ],
)
def test_options_of_the_delegate(options, message, operators):
    if message is None:
        assert operators.runtime.load_delegate(str(operators.info.path), options) is not None
        return
    with pytest.raises(ValueError, match=f"edge_vlm operators: .*{message}"):
        operators.runtime.load_delegate(str(operators.info.path), options)


def test_the_self_test_names_library_and_runtime(monkeypatch, operators):
    monkeypatch.setattr(library.reference, "linear", lambda x, codes, scale: np.zeros((3, 5), np.float32))
    with pytest.raises(OperatorError, match="self-test of operators .* gave wrong numbers") as caught:
        library.self_test(operators)
    assert operators.info.version in str(caught.value) and str(operators.runtime) in str(caught.value)


def test_an_unknown_runtime_is_refused():
    program = "from custom_ops.litert import load_runtime; load_runtime()"
    result = run_python("-c", program, EDGE_VLM_RUNTIME="caffe")
    assert "EDGE_VLM_RUNTIME=caffe: no such runtime" in result.stderr and "tensorflow, numpy" in result.stderr
    absent = run_python("-c", program, EDGE_VLM_RUNTIME="tflite_runtime").stderr
    assert "EDGE_VLM_RUNTIME=tflite_runtime: cannot be imported" in absent and "unset the variable" in absent


@pytest.mark.parametrize("absent", range(len(litert.INTERPRETERS)))
def test_the_first_runtime_that_can_be_imported_is_taken(absent, tmp_path):
    """Stand-ins in the order of preference, of which the first ones cannot be imported."""
    for index, (module, _) in enumerate(litert.INTERPRETERS.values()):
        path = tmp_path.joinpath(*module.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in path.relative_to(tmp_path).parents:
            (tmp_path / folder / "__init__.py").touch()
        path.write_text("Interpreter = load_delegate = None" if index >= absent else "raise ImportError('absent')")
    program = "from custom_ops.litert import load_runtime; print(load_runtime().name)"
    result = run_python("-c", program, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}", EDGE_VLM_RUNTIME="")
    assert result.stdout.split() == [("ai_edge_litert", "tflite_runtime", "tensorflow")[absent]], result.stderr


def test_a_model_that_is_not_there(operators, tmp_path):
    with pytest.raises(OperatorError, match="absent.tflite"):
        operators.interpreter(tmp_path / "absent.tflite")


def test_the_self_test_model_is_what_the_writer_writes(open_model, tmp_path):
    kept, fresh = tmp_path / "kept.tflite", tmp_path / "fresh.tflite"
    kept.write_bytes(self_test_model.file_bytes())
    self_test_model.write(fresh)
    results = [open_model(path, isa)(x=self_test_model.X)["y"] for path in (kept, fresh) for isa in (None, "numpy")]
    assert all(np.array_equal(result, results[0]) for result in results)
