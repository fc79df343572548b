# SPDX-License-Identifier: Apache-2.0
"""The builtin operators that our graphs may have: numbers, options and inputs.

Numbers and slots are those of TFLite's schema (tests compare them with the schema that a runtime brings), written down
here because not every runtime brings one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from custom_ops.flatbuffer import I8, I32, U8, Kind

CUSTOM = 32  # builtin code of custom operators
NO_FUSED_ACTIVATION = (0,)


@dataclass(frozen=True)
class Option:
    """A scalar of an options table; ``allowed``: the only values that our graphs have, None for any."""

    name: str
    dtype: np.dtype
    allowed: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Builtin:
    """``options_type`` is the tag of the options table, ``options`` its fields by slot (None: must be absent).

    ``inputs``: type of each; "constant int32" where the runtime reads values before it runs; a last one in brackets
    may be missing.
    """

    name: str
    code: int
    options_type: int
    options: tuple[Option | None, ...]
    inputs: tuple[str, ...]
    vectors: tuple[str, ...] = ()  # fields that are vectors of int32, in the slots after the options

    @property
    def kind(self) -> Kind:
        scalars = tuple("" if option is None else option.name for option in self.options)
        return Kind(f"options of {self.name}", (*scalars, *self.vectors))


FUSED = Option("fused_activation", I8, NO_FUSED_ACTIVATION)
FLOATS, CONSTANT = "float32", "constant int32"

BUILTINS = {
    builtin.code: builtin
    for builtin in (
        Builtin("ADD", 0, 11, (FUSED,), (FLOATS, FLOATS)),
        Builtin(
            "FULLY_CONNECTED",
            9,
            8,
            (FUSED, Option("weights_format", I8, (0,)), Option("keep_num_dims", U8, (0, 1))),
            (FLOATS, FLOATS, "[float32]"),
        ),
        Builtin("MUL", 18, 21, (FUSED,), (FLOATS, FLOATS)),
        Builtin("RESHAPE", 22, 17, (), (FLOATS, CONSTANT), ("new_shape",)),
        Builtin("GATHER", 36, 23, (Option("axis", I32, (0,)), Option("batch_dims", I32, (0,))), (FLOATS, "int32")),
        Builtin("MEAN", 40, 27, (Option("keep_dims", U8, (0, 1)),), (FLOATS, CONSTANT)),
        Builtin("SUB", 41, 28, (FUSED,), (FLOATS, FLOATS)),
        Builtin(
            "STRIDED_SLICE",
            45,
            32,
            (Option("begin_mask", I32), Option("end_mask", I32), None, None, None),
            (FLOATS, CONSTANT, CONSTANT, CONSTANT),
        ),
        Builtin("SLICE", 65, 48, (), (FLOATS, CONSTANT, CONSTANT)),
        Builtin("GELU", 150, 116, (Option("approximate", U8, (1,)),), (FLOATS,)),
    )
}
