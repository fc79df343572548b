# SPDX-License-Identifier: Apache-2.0
"""The arithmetic behind the figures of bench-adaptive."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pycocoevalcap")

from bench import adaptive, fewer_tokens, heldout_clips, rendered_rows, video_rows  # noqa: E402
from bench.accuracy_curve import Point, curve_rows  # noqa: E402
from bench.adaptive_pictures import draw_curve, draw_timeline  # noqa: E402
from bench.frame_skipping import shown_frames, skipping_agreement, skipping_cosine  # noqa: E402
from bench.side_by_side import Run, agreement, joined, mean_cosine  # noqa: E402
from edge_vlm.errors import SourceError  # noqa: E402


def report(**values):
    defaults = {"branch": "reuse", "tokens_computed": 0, "tokens_total": 196, "encoder_macs": 0, "total_ms": 1.0}
    caption = SimpleNamespace(text=values.pop("text", "a box"))
    values = {**defaults, "stage_ms": {"change": 0.1, "route": 0.1, "encode": 4.0}, "stamp_ns": 0, **values}
    return SimpleNamespace(caption=caption, caption_refreshed=values.pop("refreshed", False), **values)


def run_of(reports, features=()):
    return Run(tuple(reports), tuple(features))


def turning(frames=6):
    features = [np.array([[np.cos(angle), np.sin(angle)]]) for angle in np.linspace(0, 1, frames)]
    return run_of([report(text=str(index)) for index in range(frames)], features)


def test_cosine_is_one_for_a_scaled_copy_and_zero_for_a_token_of_zeros():
    features = np.array([[3.0, 4.0], [1.0, 0.0]])
    assert mean_cosine(2 * features, features) == pytest.approx(1.0)
    assert mean_cosine(np.zeros((2, 2)), features) == 0.0


def test_frame_skipping_spends_the_part_it_is_given():
    assert shown_frames(6, 1.0).tolist() == [0, 1, 2, 3, 4, 5]
    assert shown_frames(6, 0.5).tolist() == [0, 0, 2, 2, 4, 4]
    assert shown_frames(6, 0.0).tolist() == [0] * 6
    dense = turning()
    assert skipping_cosine(dense, 1.0).tolist() == pytest.approx([1.0] * 6)
    assert skipping_cosine(dense, 0.0)[-1] == pytest.approx(np.cos(1.0))
    assert skipping_agreement(dense, 0.5) == 0.5


def test_runs_are_joined_and_compared():
    both = joined([turning(3), turning(2)])
    assert both.captions == ["0", "1", "2", "0", "1"] and len(both.features) == 5
    assert agreement(both.captions, ["0", "1", "2", "x", "x"]) == 0.6
    assert both.stage_ms("change", "route").tolist() == pytest.approx([0.2] * 5)


def test_merging_joins_what_is_alike_and_dropping_is_even():
    patches = np.repeat(np.eye(4), 49, axis=0) + 0.001 * np.arange(196)[:, None] / 196
    groups = fewer_tokens.merge_alike(patches, 8)
    assert 4 <= len(np.unique(groups)) <= 8
    assert all(group // 49 == index // 49 for index, group in enumerate(groups)), "only equal patches are merged"
    for tokens in (16, 49, 98, 196):
        kept = np.unique(fewer_tokens.nearest_of_even(14, tokens))
        assert abs(len(kept) - tokens) <= 2
    assert fewer_tokens.nearest_of_even(14, 196).tolist() == list(range(196))


def test_held_out_clips_are_repeatable_and_know_their_captions():
    first, second = (heldout_clips.mixed_clip(3) for _ in range(2))
    assert first == second and first.segments[0].name == heldout_clips.STILL
    clip = heldout_clips.low_motion_clip(1)
    sequence = heldout_clips.render(type(clip)(clip.scene, clip.segments[:1]))
    assert len(sequence) == 40 and set(sequence.segments) == {heldout_clips.STILL}
    assert all(len(texts) == 5 for texts in sequence.references)


def clip_of(segments, branches, **values):
    sequence = SimpleNamespace(segments=tuple(segments), references=(("a box",),) * len(segments))
    return sequence, run_of([report(branch=branch, **values) for branch in branches])


def test_switches_count_where_the_scene_rests():
    still = heldout_clips.STILL
    sequence, run = clip_of([still] * 5 + ["pan"] + [still] * 5, ["reuse"] * 5 + ["full", "sparse"] + ["reuse"] * 4)
    measured = rendered_rows.RenderedRuns((sequence,), {"both": (run,)})
    assert rendered_rows.switches_per_s(measured, "both") == pytest.approx(1 / 0.8)


def test_overhead_is_change_and_route_against_a_dense_encode():
    _, run = clip_of(["still"], ["reuse"])
    assert rendered_rows.overhead(run, run, "change", "route") == pytest.approx(0.05)
    assert rendered_rows.overhead(run, run, "route") == pytest.approx(0.025)


def test_a_budget_is_held_against_the_frames_that_use_it_up():
    budget = video_rows.BUDGET_TOKENS
    frames = [report()] + [report(tokens_computed=budget, refreshed=True, total_ms=4.0)] * 10
    figures = video_rows.VideoFigures({video_rows.BUDGET: run_of(frames)})
    assert video_rows.p95_row("static", [figures]).value == pytest.approx(1.0)
    idle = video_rows.VideoFigures({video_rows.BUDGET: run_of([report()] * 3)})
    assert video_rows.p95_row("static", [idle]).value is None


def test_missing_videos_are_said_and_not_fatal(tmp_path):
    with pytest.raises(SourceError, match="no static videos under .*") as caught:
        video_rows.find_videos(tmp_path)
    assert "--videos" in str(caught.value)
    rows = adaptive.real_rows(None, tmp_path, 10, None)
    assert all(row.value is None and "no static videos" in row.note and row.holds is False for row in rows)


def test_pictures_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    points = [Point("token gate", 0.0, 1.0, 5.0, 1.0), Point("token gate", 6.0, 0.1, 4.9, 0.9)]
    assert len(curve_rows(points)) == 4
    draw_curve(points, tmp_path / "curve.png")
    sequence, _ = clip_of(["still", "still", "pan"], ["full", "reuse", "sparse"])
    branches = ("full", "reuse", "sparse")
    run = run_of([report(branch=branch, stamp_ns=index * 10**8) for index, branch in enumerate(branches)])
    draw_timeline(sequence, run, run, tmp_path / "timeline.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000 and (tmp_path / "timeline.png").stat().st_size > 1000
