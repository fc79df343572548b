# SPDX-License-Identifier: Apache-2.0
"""Numbers on the command line are refused by name where no command could use them."""

import argparse

import pytest

from edge_vlm.commands.numbers import count, not_negative, positive


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [(count, "1", 1), (not_negative, "0", 0), (positive, "0.5", 0.5), (positive, "1e-3", 1e-3)],
)
def test_what_can_be_used_is_taken(kind, text, value):
    assert kind(text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [(count, "0"), (count, "-3"), (count, "2.5"), (count, ""), (not_negative, "-1"), (not_negative, "x")]
    + [(positive, text) for text in ("0", "-1", "nan", "inf", "x", "")],
)
def test_what_cannot_is_refused_with_what_it_may_be(kind, text):
    with pytest.raises(argparse.ArgumentTypeError, match="must be a"):
        kind(text)
