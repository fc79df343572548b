# SPDX-License-Identifier: Apache-2.0
"""Recipes: the defaults are valid, mistakes are named, stages run alone and are not done twice."""

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from edge_vlm.errors import EdgeVlmError, InputError
from offline_compress.recipe.schema import DEFAULTS, read_recipe, recipe_of
from offline_compress.recipe.steps import steps_of

pytest.importorskip("rich")
from offline_compress.commands import run as run_command  # noqa: E402

WHOLE = {
    "model": "hf", "out": "b", "data": {"images": "photos"},
    "stages": {
        "eliminate": {"clips": 5},
        "compress": {"method": "auto", "bits": 4, "pairs": 16},
        "specialise": {"bags": ["a.mcap"], "every": 10, "pairs": 8},
    },
}  # fmt: skip


def changed(**stages):
    return {**WHOLE, "stages": {**WHOLE["stages"], **stages}}


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_need_a_model_an_output_and_data_alone(name):
    recipe = read_recipe(name)
    assert list(recipe.stages) == ["compress", "eliminate"]
    with pytest.raises(InputError, match="no model or no out"):
        steps_of(recipe)


def test_a_recipe_is_commands_that_run_alone():
    gather_after = [step.words for step in steps_of(recipe_of(WHOLE, "r.yaml"))]
    assert [words[0] for words in gather_after] == ["compress", "gather", "compress", "train-router"]
    first, gather, again, router = gather_after
    assert first[:3] == ("compress", "hf", "--out") and first[first.index("--bits") + 1] == "4.0"
    assert gather[:3] == ("gather", "hf", "a.mcap") and gather[gather.index("--every") + 1] == "10"
    assert again[again.index("--images") + 1] == gather[gather.index("--out") + 1]
    assert again[again.index("--work") + 1] != first[first.index("--work") + 1]
    assert router[:2] == ("train-router", "b")


def test_many_gpus_run_under_torchrun():
    value = {**WHOLE, "stages": {"compress": {"method": "ternary", "steps": 10, "processes": 8}}}
    command = steps_of(recipe_of(value, "r.yaml"))[0].command
    assert "torch.distributed.run" in command and "--nproc-per-node=8" in command


@pytest.mark.parametrize(
    "value, message",
    [
        ([], "no table of entries"),
        ({**WHOLE, "stage": {}}, "no entry is called 'stage'"),
        ({**WHOLE, "stages": {}}, "no stages"),
        ({**WHOLE, "seed": -1}, "seed is -1"),
        ({**WHOLE, "stages": {"compress": {"processes": 0}}}, "processes is 0"),
        ({**WHOLE, "stages": {"eliminate": {"clips": 0}}}, "clips is 0"),
        ({**WHOLE, "data": {"images": "a", "scenes": "b"}}, "images and scenes"),
        (changed(compress={"method": "auto"}), "method auto goes with bits or budget_mb"),
        (changed(compress={"method": "ternary", "bits": 3}), "method auto goes with"),
        (changed(compress={"method": "auto", "bits": 3, "steps": 9}), "auto is without training"),
        (changed(compress={"method": "ternary", "pairs": "many"}), "compress: pairs is 'many'"),
        (changed(compress={"metod": "ternary"}), "compress: no entry is called 'metod'"),
        (changed(specialise={"images": "a", "bags": ["b"]}), "images or bags"),
        (changed(specialise={"bags": "a"}), "specialise: bags is 'a'"),
        ({**WHOLE, "stages": {"specialise": {"images": "a"}}}, "no stage compress to follow"),
    ],
)
def test_mistakes_are_named(value, message):
    with pytest.raises(InputError, match=message) as caught:
        recipe_of(value, "r.yaml")
    assert "r.yaml" in str(caught.value) and caught.value.remedy


def test_a_missing_or_damaged_file_is_named(tmp_path):
    with pytest.raises(InputError, match="nothing.yaml: cannot be read") as caught:
        read_recipe(tmp_path / "nothing.yaml")
    assert "no-training" in caught.value.remedy
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(InputError, match="bad.yaml: not valid YAML"):
        read_recipe(tmp_path / "bad.yaml")


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """Steps that were started; each writes its bundle unless it is told to fail. What WHOLE names is there."""
    started, failing = [], []
    monkeypatch.chdir(tmp_path)
    for name in ("hf", "photos", "a.mcap"):
        (tmp_path / name).mkdir()

    def start(command):
        words = command[command.index("offline_compress") + 1 :]
        started.append(words[0])
        if words[0] in failing:
            return 1
        if "--out" in words:
            Path(words[words.index("--out") + 1]).mkdir(parents=True, exist_ok=True)
        return 0

    monkeypatch.setattr(run_command, "ended", start)
    return started, failing


def run(path, *words):
    parser = argparse.ArgumentParser()
    run_command.add_arguments(parser)
    return run_command.run(parser.parse_args([str(path), *map(str, words)]))


def test_what_was_finished_is_not_done_again(tmp_path, commands, capsys):
    started, failing = commands
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({**WHOLE, "out": str(tmp_path / "b")}))
    failing.append("gather")
    with pytest.raises(EdgeVlmError, match="stage specialise ended with status 1"):
        run(path)
    failing.clear()
    assert run(path) == 0 and run(path) == 0
    assert started == ["compress", "gather", "gather", "compress", "train-router"]
    assert run(path, "--stage", "eliminate") == 0 and started[5:] == ["train-router"]
    assert run(path, "--resume", "never", "--dry-run") == 0 and len(started) == 6
    assert "compress (to do): edge-vlm-compress compress hf" in capsys.readouterr().out


def test_another_plan_under_the_same_name_is_carried_out(tmp_path, commands):
    started, _ = commands
    path, plan = tmp_path / "r.yaml", tmp_path / "plan.yaml"
    plan.write_text("default: int8\nrules: []")
    stages = {"compress": {"plan": str(plan), "method": "ternary"}}
    path.write_text(yaml.safe_dump({**WHOLE, "out": str(tmp_path / "b"), "stages": stages}))
    assert run(path) == 0 and run(path) == 0 and started == ["compress"]
    plan.write_text("default: ternary\nrules: []")
    assert run(path) == 0 and started == ["compress"] * 2


def test_an_interrupted_recipe_ends_its_step_before_itself(tmp_path, monkeypatch):
    child = (
        "import pathlib, signal, sys, time\n"
        "def end(*_): pathlib.Path('ended').touch(); sys.exit(130)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "pathlib.Path('ready').touch()\n"
        "time.sleep(60)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_command, "INTERRUPTED_TOO_S", 0.05)

    def interrupt():
        while not Path("ready").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_command.ended([sys.executable, "-c", child])
    thread.join()
    assert Path("ended").exists()


@pytest.mark.parametrize("entry, lost", [("model", "hf"), ("data: images", "photos"), ("specialise: bags", "a.mcap")])
def test_what_a_recipe_names_and_is_not_there_is_said_before_anything_runs(tmp_path, commands, entry, lost):
    (tmp_path / lost).rmdir()
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(WHOLE))
    with pytest.raises(InputError, match=f"r.yaml: {entry}: there is no {lost}"):
        run(tmp_path / "r.yaml")
    assert not commands[0]


@pytest.mark.parametrize("entry, value", [("method", "int5"), ("solver", "magic")])
def test_methods_and_solvers_of_a_recipe_are_those_of_the_command(entry, value):
    wrong = changed(compress={"method": "int4", entry: value})
    with pytest.raises(InputError, match=f"compress: {entry} is '{value}'") as caught:
        recipe_of(wrong, "r.yaml")
    assert "int4" in caught.value.remedy or "gptq" in caught.value.remedy


def test_a_stage_that_a_recipe_lacks_is_named(tmp_path, commands):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({**WHOLE, "out": str(tmp_path / "b"), "stages": {"compress": {"method": "int4"}}}))
    with pytest.raises(EdgeVlmError, match="no stage eliminate"):
        run(path, "--stage", "eliminate")


def test_a_stage_that_was_done_alone_leaves_the_later_ones_to_be_done_again(tmp_path, commands, capsys):
    started, _ = commands
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({**WHOLE, "out": str(tmp_path / "b")}))
    assert run(path) == 0
    assert run(path, "--stage", "specialise") == 0 and started[4:] == ["gather", "compress"]
    assert "then to be done again: eliminate" in capsys.readouterr().out
    assert run(path) == 0 and started[6:] == ["train-router"]


def test_another_model_in_the_same_folder_is_compressed_anew(tmp_path, commands):
    started, _ = commands
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({**WHOLE, "model": str(tmp_path / "hf"), "out": str(tmp_path / "b")}))
    assert run(path) == 0 and len(started) == 4
    (tmp_path / "hf" / "config.json").write_text("{}")
    assert run(path) == 0 and len(started) == 8
