# SPDX-License-Identifier: Apache-2.0
"""Rows and a picture of what `training_free` measured, beside the goals of compression without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import mean, stdev

from bench.rows import Row, seeds_note
from bench.training_free import ABLATION, INTEGERS, SALIENCY_LABELS, Measured, Variant

TERNARY_GOAL, INT4_GOAL = 1.08, 0.99
BEST = Variant("ternary", "descent", "answers")


def training_free_rows(subject: str, found: Mapping[str, Sequence[Measured]]) -> list[Row]:
    """``found`` by variant name, an entry per calibration seed; "float" must be among them."""
    if "float" not in found:
        return [Row(f"{subject}: compression without training", None, note="the float model was not measured")]
    base = found["float"][0]
    rows = [
        Row(f"{subject}: float perplexity", base.perplexity),
        Row(f"{subject}: float CIDEr", base.cider, "", None, "higher"),
    ]
    for name, tries in found.items():
        if name == "float":
            continue
        ratios, ciders = [t.perplexity / base.perplexity for t in tries], [t.cider / base.cider for t in tries]
        goal = TERNARY_GOAL if name == BEST.name else None
        rows.append(Row(f"{subject}: {name}: perplexity / float", mean(ratios), "", goal, note=seeds_note(ratios)))
        goal = INT4_GOAL if name == Variant("int4-g128", "gptq", "answers").name else None
        rows.append(Row(f"{subject}: {name}: CIDEr / float", mean(ciders), "", goal, "higher", seeds_note(ciders)))
    rows += [
        Row(f"{subject}: {variant.name}: perplexity / float", None, note="not measured")
        for variant in (*ABLATION, *INTEGERS)
        if variant.name not in found
    ]
    return rows + saliency_rows(subject, found)


def saliency_rows(subject: str, found: Mapping[str, Sequence[Measured]]) -> list[Row]:
    """What saliency gains over plain GPTQ, in units of the spread over seeds: that by answers should gain more than 1,
    that within blocks (paper Q) stands beside it."""
    rows = []
    for method, kind in product(("ternary", "int2-g128", "int3-g128"), ("answers", "block")):
        plain, weighted = (found.get(Variant(method, "gptq", saliency).name, ()) for saliency in ("none", kind))
        goal = 1.0 if kind == "answers" else None
        for what, sign in (("perplexity", -1), ("cider", 1)):
            name = f"{subject}: {method}: gain of{SALIENCY_LABELS[kind][2:]} in {what} / spread over seeds"
            if min(len(plain), len(weighted)) < 2:
                rows.append(Row(name, None, "", goal, "higher", "one seed only"))
                continue
            before, after = ([getattr(t, what) for t in tries] for tries in (plain, weighted))
            spread = max(stdev(before), stdev(after), 1e-9)
            gain = sign * (mean(after) - mean(before))
            rows.append(Row(name, gain / spread, "", goal, "higher", f"{mean(before):.3f} to {mean(after):.3f}"))
    return rows


def draw_ablation(subject: str, found: Mapping[str, Sequence[Measured]], path: Path) -> None:
    """PNG: perplexity of every variant relative to float. Raises OutputError."""
    import matplotlib

    from edge_vlm.files import whole_file

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import ScalarFormatter

    base = found["float"][0]
    names = [name for name in found if name != "float"]
    figure, axes = pyplot.subplots(1, 2, figsize=(12, 0.32 * len(names) + 1.2), layout="constrained", sharey=True)
    for axis, what in zip(axes, ("perplexity", "cider"), strict=True):
        values = [[getattr(t, what) / getattr(base, what) for t in found[name]] for name in names]
        axis.barh(
            names, [mean(v) for v in values], xerr=[stdev(v) if len(v) > 1 else 0 for v in values], color="#5b8db8"
        )
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set(title=f"{subject}: {'CIDEr' if what == 'cider' else what} / float")
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_xscale("log")
    axes[0].xaxis.set_major_formatter(ScalarFormatter())
    axes[0].xaxis.set_minor_formatter(ScalarFormatter())
    axes[0].invert_yaxis()
    with whole_file(path) as file:
        figure.savefig(file, format="png", dpi=90)
    pyplot.close(figure)
