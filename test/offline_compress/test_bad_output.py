# SPDX-License-Identifier: Apache-2.0
"""Places that cannot be written, full disks and interrupts, as a user of edge-vlm-compress meets them."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from offline_compress import cli

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def in_the_way(tmp_path: Path) -> Path:
    """A file where a folder is wanted."""
    path = tmp_path / "file"
    path.write_bytes(b"")
    return path


def start(*arguments: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "offline_compress", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_folder_that_cannot_be_made_is_named(in_the_way, capsys):
    assert cli.main(["sample-bag", "--out", str(in_the_way / "a.mcap")]) == 1
    error = capsys.readouterr().err
    assert str(in_the_way) in error and "remedy:" in error


def test_a_training_that_cannot_be_written_says_so_before_it_renders(in_the_way, capsys):
    pytest.importorskip("torch")
    arguments = ["--scenes", "2", "--heldout", "2"]
    assert cli.main(["train-demo", "--out", str(in_the_way), *arguments]) == 1
    error = capsys.readouterr().err
    assert str(in_the_way / "cache") in error and "remedy:" in error


def test_a_bundle_that_cannot_be_written_is_said_before_anything_is_read(capsys):
    pytest.importorskip("torch")
    assert cli.main(["compress", "no_model", "--out", "/proc/x/bundle", "--work", "w"]) == 1
    assert "/proc/x/bundle: cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--seed", "-1"), ("--seed", "x"), ("--jpeg-quality", "500")])
def test_impossible_options_are_named(option, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["sample-bag", "--out", str(tmp_path / "a.mcap"), "=".join(option)])
    assert stopped.value.code == 2
    assert option[0] in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_an_unknown_command_lists_the_known_ones(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["comprss"])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and "comprss" in error and "train-demo" in error


def test_a_recording_on_a_full_disk_leaves_nothing(tmp_path):
    """From some byte on the system refuses every write."""
    out = tmp_path / "a.mcap"
    limit = (50_000, 50_000)
    process = start(
        "sample-bag", "--out", str(out), preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    )
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1
    assert str(out) in error and "remedy:" in error and "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_on_a_full_disk_leaves_the_one_before(tmp_path):
    pytest.importorskip("torch")
    program = """
import signal, torch
from pathlib import Path
from edge_vlm.errors import OutputError
from offline_compress.train.checkpoint import load_checkpoint, save_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path("checkpoint.pt")
save_checkpoint({"step": 1}, path)
try:
    save_checkpoint({"step": 2, "weights": torch.zeros(100_000)}, path)
except OutputError as error:
    print(load_checkpoint(path)["step"], [file.name for file in Path(".").iterdir()], error.what)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)), capture_output=True,
    )  # fmt: skip
    assert result.stdout.startswith("1 ['checkpoint.pt'] checkpoint.pt: cannot be written"), result.stderr


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_recording_leaves_nothing(tmp_path, kind):
    process = start("sample-bag", "--out", str(tmp_path / "a.mcap"))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(tmp_path.iterdir()):
        time.sleep(0.02)
    process.send_signal(kind)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in error and "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_an_interrupt_while_a_dataclass_is_made_ends_with_the_same_status(tmp_path):
    """CPython would end ``python -m`` by a signal where the interrupt passed through the exec of a string."""
    (tmp_path / "interrupted.py").write_text(
        "import sys\n"
        "from offline_compress import cli\n"
        "cli.run_command = lambda *_: exec('raise KeyboardInterrupt')\n"
        "sys.exit(cli.main(['export']))\n"
    )
    paths = os.pathsep.join([str(ROOT), str(tmp_path)])
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 130 and "interrupted" in done.stderr
