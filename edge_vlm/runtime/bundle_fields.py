# SPDX-License-Identifier: Apache-2.0
"""Turns a JSON object into a dataclass, checking every field's presence and type."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from edge_vlm.errors import BundleError

T = TypeVar("T")
REMEDY = "copy the bundle again, or export it again with edge-vlm-compress export"


def read_fields(kind: type[T], value: Any, path: Path, prefix: str = "") -> T:
    """``value`` as an instance of the dataclass ``kind``.

    Unknown keys are ignored: later versions may add some. A field with a default may be missing: earlier versions did
    not write it.

    Raises BundleError naming the file and the field.
    """
    if not isinstance(value, dict):
        raise BundleError(f"{path}: {prefix.rstrip('.') or 'content'} is no JSON object", REMEDY)
    hints = typing.get_type_hints(kind)
    arguments = {}
    for field in fields(kind):  # type: ignore[arg-type]
        name = prefix + field.name
        if field.name not in value and field.default is not MISSING:
            continue
        if field.name not in value:
            raise BundleError(f"{path}: {name} is missing", REMEDY)
        arguments[field.name] = read_value(hints[field.name], value[field.name], path, name)
    return kind(**arguments)


def read_value(hint: Any, value: Any, path: Path, name: str) -> Any:
    origin = typing.get_origin(hint)
    if is_dataclass(hint):
        return read_fields(hint, value, path, f"{name}.")
    if origin is tuple:
        parts = typing.get_args(hint)
        if isinstance(value, list) and len(value) == len(parts):
            items = enumerate(zip(parts, value, strict=True))
            return tuple(read_value(part, item, path, f"{name}[{i}]") for i, (part, item) in items)
    elif origin in (types.UnionType, typing.Union):  # dict | None
        if value is None or isinstance(value, dict):
            return value
    elif origin is Mapping or getattr(origin, "__name__", "") == "Mapping":
        return value  # the file table, read before
    elif hint is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    elif isinstance(value, hint) and not isinstance(value, bool):
        return value
    raise BundleError(f"{path}: {name} is {value!r}, which is no {getattr(hint, '__name__', hint)}", REMEDY)
