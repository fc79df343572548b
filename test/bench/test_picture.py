# SPDX-License-Identifier: Apache-2.0
"""The picture of a benchmark's figures."""

import pytest

from bench.rows import Row


def test_a_picture_of_ratios_with_goals(tmp_path):
    pytest.importorskip("matplotlib")
    from bench.picture import draw_rows

    rows = [
        Row("held", 0.95, "", 0.9, "higher"),
        Row("missed", 0.5, "", 0.9, "higher"),
        Row("a time", 3.0, "us"),
        Row("not measured", None, "", 0.9, "higher", "no such CPU"),
    ]
    draw_rows(tmp_path / "ops.png", "title", rows)
    assert (tmp_path / "ops.png").read_bytes().startswith(b"\x89PNG")
