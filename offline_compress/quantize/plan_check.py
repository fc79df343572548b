# SPDX-License-Identifier: Apache-2.0
"""Whether a resolved plan fits the operators that the exported graphs are made of."""

from __future__ import annotations

from collections.abc import Sequence

from custom_ops.spec import WeightFormat
from offline_compress.errors import QuantizeError
from offline_compress.export.module_names import EMBED_TOKENS, HEAD
from offline_compress.quantize.budget import operator_names
from offline_compress.quantize.plan import PlannedMatrix

TABLE_FORMATS = (WeightFormat.INT8, WeightFormat.FLOAT32)


def check_operators(table: Sequence[PlannedMatrix], config: dict, tied: bool) -> None:
    """Raises QuantizeError for a table of tokens in a format that cannot be looked up, and where matrices that one
    operator computes together get different ones: before anything is solved, not after it."""
    methods = {line.name: line.method for line in table}
    tokens = HEAD if tied else EMBED_TOKENS
    if methods[tokens].format not in TABLE_FORMATS:
        raise QuantizeError(
            f"{tokens}: tables of tokens are stored as int8 or float32, not {methods[tokens].name}",
            "change its rule in the plan",
        )
    for first, *others in operator_names(config):
        for other in others:
            a, b = methods[first], methods[other]
            if (a.format, a.group) != (b.format, b.group):
                raise QuantizeError(
                    f"{first} and {other} are computed by one operator; the plan says {a.name} and {b.name}",
                    "give them one method",
                )
