# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest

from bench.rows import Row, rows_table, write_rows


@pytest.mark.parametrize(
    ("value", "goal", "better", "holds"),
    [
        (2.0, 2.0, "higher", True),
        (1.9, 2.0, "higher", False),
        (6.0, 6.0, "lower", True),
        (6.1, 6.0, "lower", False),
        (3.0, None, "lower", None),
        (None, 1.0, "lower", False),
        (float("nan"), 1.0, "higher", False),
    ],
)
def test_a_goal_is_met_only_by_a_measured_value(value, goal, better, holds):
    assert Row("figure", value, "", goal, better).holds is holds


def test_a_direction_that_is_none_is_refused():
    with pytest.raises(ValueError, match="bigger"):
        Row("figure", 1.0, better="bigger")


def test_figures_that_numpy_computed_are_written_too(tmp_path):
    write_rows(tmp_path / "x.json", [Row("speed", np.float32(1.5), "x", np.float64(1.0), "higher")])
    assert json.loads((tmp_path / "x.json").read_text())[0]["holds"] is True


def test_what_was_not_measured_is_written_as_such(tmp_path):
    rows = [Row("speed", 1.5, "ms", 2.0), Row("energy", None, "J", 1.0, note="no sensor")]
    write_rows(tmp_path / "bench" / "x.json", rows)
    assert json.loads((tmp_path / "bench" / "x.json").read_text()) == [
        {"name": "speed", "value": 1.5, "unit": "ms", "goal": 2.0, "better": "lower", "holds": True},
        {"name": "energy", "value": None, "unit": "J", "goal": 1.0, "better": "lower", "holds": False,
         "note": "no sensor"},
    ]  # fmt: skip
    assert rows_table("t", rows).row_count == 2
