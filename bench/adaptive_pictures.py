# SPDX-License-Identifier: Apache-2.0
"""What bench-adaptive draws: accuracy against tokens, and one clip's tokens, branches and times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.accuracy_curve import GATE, Point
from bench.heldout_clips import STILL, RenderedSequence
from bench.side_by_side import Run
from edge_vlm.anc import BRANCHES
from edge_vlm.files import make_folder, whole_file
from edge_vlm.replay.picture import BRANCH_COLOURS


def draw_curve(points: Sequence[Point], path: Path) -> None:
    """PNG: CIDEr, and agreement with full recomputation, over the part of the tokens. Raises OutputError."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    dense = next(point for point in points if point.tokens == 1.0)
    for axis, (title, value) in zip(axes, (("CIDEr", "cider"), ("captions as recomputed", "same")), strict=True):
        for method in dict.fromkeys(point.method for point in points):
            line = sorted((p for p in points if p.method == method and p.tokens < 1), key=lambda p: p.tokens)
            width = 2.2 if method == GATE else 1.2
            axis.plot([100 * p.tokens for p in line], [getattr(p, value) for p in line], "o-", label=method, lw=width)
        axis.axhline(getattr(dense, value), color="grey", ls=":", label="full recomputation")
        axis.set(xscale="log", xlabel="tokens computed per frame (%)", title=title)
        axis.grid(alpha=0.3, which="both")
    axes[0].legend(fontsize=8)
    _save(figure, path)


def draw_timeline(sequence: RenderedSequence, run: Run, dense: Run, path: Path) -> None:
    """PNG: tokens, branch (as colour) and milliseconds per frame, beside full recomputation. Raises OutputError."""
    pyplot = _pyplot()
    figure, (tokens, times) = pyplot.subplots(2, 1, figsize=(11, 4.6), sharex=True, layout="constrained")
    seconds = np.array([report.stamp_ns for report in run.reports]) * 1e-9
    branches = np.array(run.branches)
    for branch in BRANCHES:
        of_branch = branches == branch
        colour = np.array(BRANCH_COLOURS[branch]) / 255
        height = np.maximum(100 * run.tokens[of_branch], 1.0)
        tokens.bar(seconds[of_branch], height, width=0.09, color=colour, label=branch)
        times.bar(seconds[of_branch], run.ms[of_branch], width=0.09, color=colour)
    times.plot(seconds, dense.ms, color="grey", lw=1, label="full recomputation")
    tokens.set(ylabel="tokens computed (%)")
    times.set(ylabel="ms per frame", xlabel="seconds")
    for begin, name in _stretches(sequence, seconds):
        for axis in (tokens, times):
            axis.axvline(begin, color="black", lw=0.4, alpha=0.5)
        tokens.text(begin, 104, f" {name}", fontsize=7, clip_on=False)
    tokens.legend(fontsize=8, ncols=4, loc="upper right")
    times.legend(fontsize=8, loc="upper right")
    _save(figure, path)


def _stretches(sequence: RenderedSequence, seconds: np.ndarray):
    before = ""
    for name, second in zip(sequence.segments, seconds, strict=True):
        if name != before:
            yield second, "" if name == STILL else name
        before = name


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(figure, path: Path) -> None:
    make_folder(path.parent)
    with whole_file(path) as file:
        figure.savefig(file, format="png", dpi=100)
    _pyplot().close(figure)
