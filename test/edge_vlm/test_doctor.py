# SPDX-License-Identifier: Apache-2.0
"""doctor: every line a finding, every failing one with its remedy, and no way to bring it down."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from custom_ops.litert import INTERPRETERS
from edge_vlm import cli
from edge_vlm.commands import doctor
from edge_vlm.doctor import packages, permissions
from edge_vlm.doctor.apart import apart
from edge_vlm.doctor.check import FAIL, OK, WARN, Check, guarded
from edge_vlm.errors import BundleError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def numpy_engine(monkeypatch):
    """The slow engine, which runs wherever the tests do."""
    monkeypatch.setenv("EDGE_VLM_RUNTIME", "numpy")


def examine(bundle) -> dict:
    return {check.name: check for check in doctor.examine(bundle)}


def test_a_whole_bundle_is_loaded_and_captions_a_picture(tiny_bundle):
    found = examine(tiny_bundle)
    assert found["bundle"].status == OK
    assert "checksums right" in found["bundle"].detail
    assert found["caption"].status in (OK, WARN)
    assert "ms with NumPy reference" in found["caption"].detail
    for name in ("python", "processor", "numpy", "rosbags", "mcap", "energy", "ros", "operators"):
        assert name in found
    assert all(check.remedy for check in found.values() if check.status != OK)


def test_a_damaged_bundle_is_named_and_nothing_is_run_on_it(tiny_bundle, tmp_path, capsys):
    copy = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, copy)
    data = bytearray((copy / "vision.tflite").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "vision.tflite").write_bytes(data)
    assert cli.main(["doctor", "--bundle", str(copy)]) == 1
    shown = capsys.readouterr().out
    (line,) = [line for line in shown.splitlines() if line.startswith(FAIL)]
    assert "vision.tflite" in line
    assert "sha256" in line
    assert "not ready" in shown
    assert "caption " not in shown


def test_the_last_line_counts_limitations():
    good, limited, bad = (Check("x", status, "") for status in (OK, WARN, FAIL))
    assert doctor.verdict([good]) == "everything is in place"
    assert doctor.verdict([good, limited]) == "ready, with 1 limitation: see the WARN line"
    assert doctor.verdict([limited, bad, limited]) == "not ready: see the FAIL lines"


def test_a_home_that_cannot_be_entered_is_a_limitation(monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.is_dir", refused)
    (check,) = permissions.checks()
    assert check.status == WARN and "XDG_CACHE_HOME" in check.remedy


@pytest.mark.parametrize("name", ["captioner", "replayer"])
def test_an_executable_of_ros_says_that_there_is_none(name, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    monkeypatch.setattr("edge_vlm.ros.captioner._on_signals", lambda handler: None)  # they would outlive the test
    executable = importlib.import_module(f"edge_vlm.ros.{name}")
    assert executable.main([name, "--help"]) == 1
    assert "rclpy cannot be imported" in (said := capsys.readouterr().err) and "edge-vlm replay" in said


def test_json_output(tiny_bundle, capsys):
    status = cli.main(["doctor", "--bundle", str(tiny_bundle), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["healthy"] == (status == 0)
    assert {"name", "status", "detail", "remedy"} == set(document["checks"][0])


def test_no_bundle_at_all(tmp_path, capsys):
    assert cli.main(["doctor", "--bundle", str(tmp_path / "absent")]) == 1
    assert "absent" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["SEGV", "ILL"])
def test_native_code_that_crashes_is_a_finding(monkeypatch, tmp_path, name):
    crashing = tmp_path / "python"
    crashing.write_text(f"#!/bin/sh\nkill -{name} $$\n")
    crashing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crashing))
    (check,) = apart("operators")
    assert check.status == FAIL
    assert f"SIG{name}" in check.detail
    assert "EDGE_VLM_ISA=scalar" in check.remedy


def test_a_process_that_says_nothing_sensible_is_a_finding(monkeypatch, tmp_path):
    silent = tmp_path / "python"
    silent.write_text("#!/bin/sh\necho something broke >&2\nexit 3\n")
    silent.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(silent))
    (check,) = apart("operators")
    assert (check.status, "something broke" in check.detail) == (FAIL, True)


def test_whatever_a_check_raises_is_a_finding():
    def broken(error):
        def subject():
            raise error

        return subject

    (check,) = guarded("bundle", broken(BundleError("no such bundle", "copy it")))
    assert (check.status, check.detail, check.remedy) == (FAIL, "no such bundle", "copy it")
    (check,) = guarded("bundle", broken(ModuleNotFoundError("no", name="mcap")))
    assert "mcap" in check.detail
    (check,) = guarded("bundle", broken(ZeroDivisionError("oops")))
    assert "oops" in check.detail


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    real = packages.importlib.import_module

    def without_mcap(name):
        if name == "mcap":
            raise ImportError("No module named 'mcap'")
        return real(name)

    monkeypatch.setattr(packages.importlib, "import_module", without_mcap)
    (check,) = [check for check in packages.checks() if check.name == "mcap"]
    assert check.status == FAIL
    assert "pip install mcap" in check.remedy
    assert sys.executable in check.remedy


STAND_IN = "def load_delegate(*_): raise OSError('no library here')\nInterpreter = None\n"


@pytest.mark.parametrize("runtime", ["tflite_runtime", None])
def test_without_litert_numpy_captions_and_the_remedy_names_it(runtime, tmp_path):
    """tflite-runtime has neither the schema nor matrices of 2 bits; nothing at all is no hindrance either."""
    for module, _ in INTERPRETERS.values():
        path = tmp_path.joinpath(*module.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in path.relative_to(tmp_path).parents:
            absent = folder.name and runtime != module.split(".")[0]
            (tmp_path / folder / "__init__.py").write_text("raise ImportError('absent')" if absent else "")
        path.write_text(STAND_IN)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "EDGE_VLM_RUNTIME": ""}
    done = subprocess.run([sys.executable, "-m", "edge_vlm", "doctor", "--json"], env=environment, capture_output=True)
    found = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert [found[name]["status"] for name in ("litert", "operators", "caption")] == [WARN] * 3
    assert "pip install ai-edge-litert" in found["litert"]["remedy"]
    assert "NumPy will compute, many times slower" in found["operators"]["detail"]
    assert ("has no matrices of 2 bits" if runtime else "no TFLite runtime") in found["operators"]["detail"]
    assert "ai-edge-litert" in found["operators"]["remedy"]
    assert "schema" not in str(found)
    assert "captioned in" in found["caption"]["detail"] and "NumPy reference" in found["caption"]["detail"]
