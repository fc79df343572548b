# SPDX-License-Identifier: Apache-2.0
"""What became of each matrix: the table that is printed before a run and the rows of report.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from rich.table import Table

from custom_ops.packing import packed_bytes
from custom_ops.spec import WeightFormat
from offline_compress.export.module_names import VISION
from offline_compress.export.weights import LinearWeights, ModelWeights
from offline_compress.quantize.formats import stored_bytes
from offline_compress.quantize.plan import PlannedMatrix
from offline_compress.quantize.rows import QuantisedRows


@dataclass(frozen=True)
class MatrixReport:
    """``relative_error`` is |W - Q|^2 / |W|^2 of the initial codes against the trained float weights;
    ``final_error`` the same after training the codes (None before), which may grow: QAT moves away from W.

    Of matrices solved against calibration pairs also ``output_error``, the same of what they give, tokens weighted by
    their saliency, and ``saliency_share``, what the most salient tenth of the tokens holds of it (.1: all alike);
    of an automatic plan ``expected_loss``, the divergence expected of the matrix alone, in nats a caption. Solved by
    AWQ, W is the weight that it has scaled."""

    name: str
    method: str
    bits: int
    out_features: int
    in_features: int
    relative_error: float | None
    bytes: int
    float_bytes: int
    zero_fraction: float | None
    why: str
    final_error: float | None = None
    output_error: float | None = None
    saliency_share: float | None = None
    expected_loss: float | None = None


def stored_rows(rows: Iterable[MatrixReport], dense_ternary: bool) -> list[MatrixReport]:
    """The same matrices; where ``dense_ternary``, ternary ones stored at 1.6 bits a weight."""
    if not dense_ternary:
        return list(rows)
    return [
        replace(row, bytes=row.bytes + dense_bytes(row)) if row.method.startswith("ternary") else row for row in rows
    ]


def dense_bytes(row: MatrixReport) -> int:
    """What 1.6 bits take more than 2: less, but for the narrowest matrices."""
    shape = (row.out_features, row.in_features)
    return packed_bytes(WeightFormat.TERNARY_DENSE, *shape) - packed_bytes(WeightFormat.TERNARY, *shape)


def quantise_weights(
    weights: ModelWeights, table: Sequence[PlannedMatrix]
) -> tuple[dict[str, LinearWeights], list[MatrixReport]]:
    """Round-to-nearest of every planned matrix, without training, and its report.

    Raises QuantizeError naming the matrix that holds NaN, infinity or only zeros.
    """
    quantised, rows = {}, []
    for line in table:
        source = weights.linears[line.name]
        result = quantise_matrix(source.codes, line)
        quantised[line.name] = (
            source
            if result is None
            else LinearWeights(line.method.format, result.codes, result.scale, source.bias, result.groups)
        )
        rows.append(matrix_report(line, source, quantised[line.name], 0.0 if result is None else result.relative_error))
    return quantised, rows


def planned_rows(weights: ModelWeights, table: Sequence[PlannedMatrix]) -> list[MatrixReport]:
    """What the plan will cost in bytes, before anything is quantised."""
    rows = []
    for line in table:
        source = weights.linears[line.name]
        shape = (source.out_features, source.in_features, source.bias is not None)
        size = stored_bytes(line.method.format, *shape, line.method.group, not line.method.symmetric)
        float_size = stored_bytes(WeightFormat.FLOAT32, *shape)
        method = line.method
        rows.append(
            MatrixReport(line.name, method.name, method.bits, *shape[:2], None, size, float_size, None, line.why)
        )
    return rows


def quantise_matrix(weight: np.ndarray, line: PlannedMatrix) -> QuantisedRows | None:
    return None if line.method.quantise is None else line.method.quantise(weight, line.name)


def matrix_report(line: PlannedMatrix, source: LinearWeights, result: LinearWeights, error: float) -> MatrixReport:
    shape = (source.out_features, source.in_features, source.bias is not None)
    return MatrixReport(
        name=line.name,
        method=line.method.name,
        bits=line.method.bits,
        out_features=source.out_features,
        in_features=source.in_features,
        relative_error=round(error, 6),
        bytes=stored_bytes(line.method.format, *shape, line.method.group, not line.method.symmetric),
        float_bytes=stored_bytes(WeightFormat.FLOAT32, *shape),
        zero_fraction=round(float(np.mean(result.codes == 0)), 4),
        why=line.why,
    )


def with_final_errors(
    rows: Iterable[MatrixReport], original: ModelWeights, trained: Mapping[str, LinearWeights]
) -> list[MatrixReport]:
    """The same rows after training: error and zeros of the codes that are exported."""
    result = []
    for row in rows:
        codes, weight = trained[row.name], original.linears[row.name].codes
        power = float(np.sum(np.square(weight)))
        error = float(np.sum(np.square(weight - codes.dequantised()))) / power if power else 0.0
        zeros = round(float(np.mean(codes.codes == 0)), 4)
        result.append(MatrixReport(**{**asdict(row), "final_error": round(error, 6), "zero_fraction": zeros}))
    return result


def plan_table(rows: Sequence[MatrixReport], title: str) -> Table:
    """A rich table with one line per group of equal neighbours, totals at the foot."""
    total, float_total = sum(row.bytes for row in rows), sum(row.float_bytes for row in rows)
    table = Table(title=title, show_footer=True)
    for header, foot, align in (
        ("matrices", f"{len(rows)} matrices", "left"),
        ("method", "", "left"),
        ("bits", f"{8 * total / max(1, sum(r.out_features * r.in_features for r in rows)):.2f}", "right"),
        ("rel. error", "", "right"),
        ("kB", f"{total / 1000:.1f}", "right"),
        ("float kB", f"{float_total / 1000:.1f}", "right"),
        ("why", "", "left"),
    ):
        table.add_column(header, foot, justify=align)
    for name, group in grouped(rows):
        span = span_text([row.relative_error if row.final_error is None else row.final_error for row in group])
        size, float_size = sum(row.bytes for row in group) / 1000, sum(row.float_bytes for row in group) / 1000
        first = group[0]
        table.add_row(name, first.method, str(first.bits), span, f"{size:.1f}", f"{float_size:.1f}", first.why)
    return table


def span_text(errors: Sequence[float | None]) -> str:
    known = [error for error in errors if error is not None]
    if not known:
        return ""
    low, high = min(known), max(known)
    return f"{low:.4f}" if low == high else f"{low:.4f} - {high:.4f}"


def grouped(rows: Sequence[MatrixReport]) -> list[tuple[str, list[MatrixReport]]]:
    """Neighbours of one half, method and reason under one name, such as ``text blocks 1-4 (28)``."""
    groups: list[tuple[tuple, list[MatrixReport]]] = []
    for row in rows:
        key = (half_of(row.name), row.method, row.why)
        if groups and groups[-1][0] == key:
            groups[-1][1].append(row)
        else:
            groups.append((key, [row]))
    return [(group_name(key[0], group), group) for key, group in groups]


def group_name(half: str, group: Sequence[MatrixReport]) -> str:
    layers = [int(row.name.split(".layers.")[1].split(".")[0]) for row in group if ".layers." in row.name]
    if not layers:
        return half
    span = f"block {layers[0]}" if layers[0] == layers[-1] else f"blocks {layers[0]}-{layers[-1]}"
    return f"{half} {span} ({len(group)})"


def half_of(name: str) -> str:
    """vision or text for the matrices of blocks, else the module's name."""
    if ".layers." not in name:
        return name.removeprefix("model.").removeprefix("vision_model.embeddings.").removeprefix("text_model.")
    return "vision" if name.startswith(VISION) else "text"


def report_json(rows: Sequence[MatrixReport]) -> list[dict]:
    return [asdict(row) for row in rows]
