# SPDX-License-Identifier: Apache-2.0
"""The committed recording through the committed bundle: what a newcomer sees first."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge_vlm import cli

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 70  # still, a person walks through, still again


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[list[dict]]:
    records = []
    for name in ("one", "two"):
        out = tmp_path_factory.mktemp(name)
        arguments = ["replay", str(ROOT / "bags" / "sample.mcap"), "--bundle", str(ROOT / "bundles" / "demo")]
        assert cli.main([*arguments, "--out", str(out), "--max-frames", str(FRAMES)]) == 0
        records.append([json.loads(line) for line in (out / "captions.jsonl").read_text().splitlines()])
    return records


def test_two_replays_are_the_same(runs):
    one, two = ([{**record, "measured": None} for record in run] for run in runs)
    assert one == two and len(one) == FRAMES


def test_what_stands_still_is_reused(runs):
    still = [record for record in runs[0] if record["frame"] < 20]
    assert 1 - np.mean([record["tokens_computed"] / record["tokens_total"] for record in still]) >= 0.8


def test_captions_follow_who_comes_and_goes(runs):
    captions = [record["caption"] for record in runs[0]]
    assert "white car" in captions[0] and "person" not in captions[0]
    assert "person" in captions[40] and "person" not in captions[-1]
    assert all("mushrooms" in caption for caption in captions)
