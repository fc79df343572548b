# SPDX-License-Identifier: Apache-2.0
"""The command line: help, exit status, one clear message and no traceback."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_vlm import cli
from edge_vlm.commands import captioning, replay, watch
from edge_vlm.errors import BundleError, InputError
from edge_vlm.interrupts import interrupt

ROOT = Path(__file__).resolve().parents[2]
SECOND = 1_000_000_000


@pytest.fixture
def with_pipeline(monkeypatch, fake_pipeline):
    """The commands get a pipeline without a model; returns those that were opened."""
    opened = []

    def use(**settings):
        def open_pipeline(args):
            opened.append(fake_pipeline(**settings))
            return opened[-1]

        monkeypatch.setattr(replay, "open_pipeline", open_pipeline)
        monkeypatch.setattr(watch, "open_pipeline", open_pipeline)
        return opened

    return use


@pytest.fixture
def bag(tmp_path, messages):
    stamps = [SECOND * n for n in range(1, 6)]
    return messages.write(tmp_path / "bag", [("/image", stamp, messages.image(stamp)) for stamp in stamps])


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_every_command_has_help_with_examples(command, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown
    assert f"edge-vlm {command}" in shown


def test_help_and_wrong_arguments(capsys):
    for arguments, status in (
        (["--help"], 0),
        ([], 2),
        (["paint"], 2),
        (["replay"], 2),
        (["replay", "x", "--threads", "0"], 2),
    ):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == status
    assert "replay" in capsys.readouterr().out


def test_replay_prints_a_line_per_frame_and_the_figures(bag, tmp_path, with_pipeline, capsys):
    opened = with_pipeline()
    assert cli.main(["replay", str(bag), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "mean grey" in shown
    assert "28/196" in shown
    assert "unavailable" in shown
    assert "visual tokens reused" in shown
    assert "image topic /image" in shown
    assert opened[0].closed
    assert cli.main(["report", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "timeline.png").stat().st_size > 1000


def test_json_output_is_json_lines(bag, with_pipeline, capsys):
    with_pipeline()
    assert cli.main(["replay", str(bag), "--json", "--max-frames", "2"]) == 0
    captured = capsys.readouterr()
    records = [json.loads(line) for line in captured.out.splitlines()]
    assert [record.get("frame") for record in records] == [0, 1, None]
    assert records[-1]["summary"]["frames"] == 2
    assert "note: image topic" in captured.err


def failing(arguments, capsys) -> str:
    """What a failing command says on stderr; there must be nothing like a traceback anywhere."""
    assert cli.main(arguments) == 1
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    assert captured.err.count("edge-vlm") >= 1
    assert "remedy:" in captured.err
    return captured.err


def test_a_missing_recording(with_pipeline, capsys, tmp_path):
    with_pipeline()
    assert "nothing_here" in failing(["replay", str(tmp_path / "nothing_here")], capsys)


def test_a_missing_bundle(capsys, bag, tmp_path):
    assert "no_bundle" in failing(["replay", str(bag), "--bundle", str(tmp_path / "no_bundle")], capsys)


def test_an_error_of_the_pipeline(bag, with_pipeline, capsys, tmp_path):
    with_pipeline(fail={2: BundleError("vision.tflite: damaged", "copy it again")})
    assert "vision.tflite" in failing(["replay", str(bag), "--out", str(tmp_path / "out")], capsys)
    assert len((tmp_path / "out" / "captions.jsonl").read_text().splitlines()) == 2


def test_dropped_images_make_the_run_fail_at_its_end(tmp_path, messages, with_pipeline, capsys):
    listed = [
        ("/image", SECOND * n, messages.image(SECOND * n, encoding="rgb8" if n % 2 else "cmyk")) for n in range(1, 6)
    ]
    with_pipeline()
    folder = messages.write(tmp_path / "bag", listed)
    error = failing(["replay", str(folder), "--out", str(tmp_path / "out")], capsys)
    assert "2 of 5 images" in error
    assert "unknown image encoding 'cmyk'" in error
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["frames"] == 3


def test_frames_that_the_pipeline_refuses_make_it_fail_too(bag, with_pipeline, capsys):
    with_pipeline(fail={n: InputError("too dark", "light") for n in range(5)})
    assert "not one frame" in failing(["replay", str(bag)], capsys)


def test_an_output_folder_in_the_way(bag, with_pipeline, capsys, tmp_path):
    with_pipeline()
    (tmp_path / "file").write_text("")
    assert "file" in failing(["replay", str(bag), "--out", str(tmp_path / "file")], capsys)


def test_interrupt_gives_130_and_says_where_the_results_are(bag, with_pipeline, capsys, tmp_path):
    opened = with_pipeline(fail={3: KeyboardInterrupt()})
    assert cli.main(["replay", str(bag), "--out", str(tmp_path / "out")]) == 130
    error = capsys.readouterr().err
    assert "interrupted after 3 frames" in error
    assert "out" in error
    assert (tmp_path / "out" / "captions.mcap").exists()
    assert opened[0].closed


def test_watch_a_video(tmp_path, with_pipeline, capsys):
    import cv2
    import numpy as np

    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 48))
    for number in range(5):
        writer.write(np.full((48, 64, 3), 40 * number, np.uint8))
    writer.release()
    with_pipeline()
    assert cli.main(["watch", str(path), "--max-frames", "3"]) == 0
    assert "3 captioned of 3 images" in capsys.readouterr().out
    assert "no video at" in failing(["watch", str(tmp_path / "absent.mp4")], capsys)


def test_report_without_results(tmp_path, capsys):
    assert "no results in" in failing(["report", str(tmp_path)], capsys)


def test_options_reach_the_pipeline(monkeypatch, tmp_path):
    """Through the parser into the pipeline's own configuration."""
    args = cli.parser("replay").parse_args(
        ["replay", "x", "--variant", "none", "--reuse", "off", "--route", "full", "--threads", "2", "--prompt", "What?"]
    )
    made = {}

    class Bundle:
        @classmethod
        def load(cls, path):
            made["path"] = path
            return cls

    monkeypatch.setattr("edge_vlm.runtime.bundle.Bundle", Bundle)
    monkeypatch.setattr("edge_vlm.pipeline.CaptionPipeline", lambda bundle, config: config)
    args.bundle = tmp_path
    config = captioning.open_pipeline(args)
    assert (config.variant, config.reuse, config.route, config.question) == ("none", False, "full", "What?")
    assert made["path"] == tmp_path and config.threads == 2


@pytest.mark.parametrize(
    "words",
    [
        ("--variant", "sttf", "--reuse", "off"),
        ("--variant", "none", "--route", "sparse"),
        ("--reuse", "off", "--route", "reuse"),
    ],
)
def test_options_that_contradict_each_other_are_refused(capsys, bag, words):
    assert cli.main(["replay", str(bag), *words]) == 1
    assert "frames are computed whole, or in part" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["0", "-3", "65", "two"])
def test_threads_are_those_that_the_engine_takes(capsys, value):
    with pytest.raises(SystemExit):
        cli.main(["replay", "x", "--threads", value])
    assert "must be a whole number from 1 to 64" in capsys.readouterr().err


SCRIPT = """
import sys, time
sys.path.insert(0, {tests!r})
import conftest, edge_vlm.commands.replay as replay
class Slow(conftest.FakePipeline):
    def step(self, observation):
        time.sleep(0.05)
        return super().step(observation)
replay.open_pipeline = lambda args: Slow()
from edge_vlm.cli import main
sys.exit(main(sys.argv[1:]))
"""


def start(tmp_path, messages, out, **options) -> subprocess.Popen:
    """A replay of 400 frames in a process of its own."""
    stamps = [SECOND * n for n in range(1, 400)]
    folder = messages.write(tmp_path / "bag", [("/image", s, messages.image(s)) for s in stamps])
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            SCRIPT.format(tests=str(Path(__file__).parent)),
            "replay",
            str(folder),
            "--out",
            str(out),
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_real_interrupt_of_a_real_process(tmp_path, messages, kind):
    out = tmp_path / "out"
    process = start(tmp_path, messages, out)
    lines = out / "captions.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (lines.exists() and lines.read_bytes().count(b"\n") >= 3):
        time.sleep(0.02)
    process.send_signal(kind)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted after" in error
    assert "Traceback" not in error
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    assert 3 <= len(records) < 399
    assert json.loads((out / "summary.json").read_text())["frames"] == len(records)
    assert (out / "captions.mcap").read_bytes().endswith(b"\x89MCAP0\r\n")
    assert sorted(path.name for path in out.iterdir()) == ["captions.jsonl", "captions.mcap", "summary.json"]


@pytest.mark.parametrize("limit_bytes", [100, 5000, 20_000])
def test_a_process_that_may_write_no_more(tmp_path, messages, limit_bytes):
    """As on a full disk: from some byte on the system refuses every write."""
    limit = (limit_bytes, limit_bytes)
    out = tmp_path / "out"
    process = start(tmp_path, messages, out, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "cannot write" in error
    assert "remedy:" in error
    assert "Traceback" not in error
    lines = (out / "captions.jsonl").read_bytes()
    assert all(json.loads(line)["frame"] == number for number, line in enumerate(lines.splitlines()))
    assert not lines or lines.endswith(b"\n")
    assert [path.name for path in out.iterdir()] == ["captions.jsonl"]


def test_a_missing_package_is_named(monkeypatch, capsys):
    def absent(name):
        raise ModuleNotFoundError("No module named 'mcap'", name="mcap")

    monkeypatch.setattr(cli.importlib, "import_module", absent)
    assert "package mcap is missing" in failing(["replay", "x"], capsys)


def test_what_is_suggested_can_be_typed(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/edge-vlm", "replay"])
    assert captioning.program() == "edge-vlm"
    monkeypatch.setattr(sys, "argv", ["/somewhere/edge_vlm/__main__.py", "replay"])
    monkeypatch.setattr(sys, "executable", str(Path.cwd() / ".venv" / "bin" / "python"))
    assert captioning.program() == ".venv/bin/python -m edge_vlm"


def test_sigterm_ends_a_command_that_a_script_put_into_the_background():
    """Such a process ignores SIGINT, to which SIGTERM is otherwise passed on."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupt()
    finally:
        signal.signal(signal.SIGINT, before)
    with pytest.raises(KeyboardInterrupt):
        interrupt()
