# SPDX-License-Identifier: Apache-2.0
"""The parameter table, without ROS: its checks, and the files that are made from it or refer to it."""

from pathlib import Path

import pytest
import yaml

from edge_vlm.pipeline_config import ROUTES
from edge_vlm.ros.parameters import BY_NAME, PARAMETERS, markdown
from edge_vlm.ros.pipeline_opening import REOPENING, pipeline_config

ROOT = Path(__file__).resolve().parents[2]


def test_documentation_is_current():
    stands = (ROOT / "docs" / "parameters.md").read_text()
    assert stands == markdown(), "python3 -m edge_vlm.ros.parameters > docs/parameters.md"


def test_every_default_is_allowed_and_every_row_says_what_it_is():
    for row in PARAMETERS:
        assert row.problem(row.default) == ""
        assert row.description.endswith(".")
        assert (row.low is None) == (row.high is None)
    assert len(BY_NAME) == len(PARAMETERS)


def test_parameters_file_sets_only_what_there_is():
    for section in yaml.safe_load((ROOT / "config" / "captioner.yaml").read_text()).values():
        for name, value in section["ros__parameters"].items():
            assert BY_NAME[name].problem(value) == ""


@pytest.mark.parametrize(
    "name, value, reason",
    [
        ("threads", 0, "threads must lie in 1 .. 64; got 0"),
        ("threads", 2.0, "threads must be a int, not float"),
        ("stale_after_s", float("nan"), "stale_after_s must lie in"),
        ("route", "reuse!", "route must be one of"),
        ("reuse", 1, "reuse must be a bool, not int"),
    ],
)
def test_wrong_values_are_refused_with_the_reason(name, value, reason):
    assert BY_NAME[name].problem(value).startswith(reason)


def test_a_change_of_what_the_pipeline_is_made_from_makes_it_anew():
    read = set()

    class Values(dict):
        def __getitem__(self, name):
            read.add(name)
            return BY_NAME[name].default

    pipeline_config(Values())
    assert {name for name in read if not BY_NAME[name].at_configure} == REOPENING


def test_routes_are_those_of_the_pipeline():
    assert set(BY_NAME["route"].choices) <= set(ROUTES)
