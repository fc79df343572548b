# SPDX-License-Identifier: Apache-2.0
"""The parameter table as ROS parameters: declared with descriptors, and validated with a reason when they change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node

from edge_vlm.errors import InputError
from edge_vlm.ros.parameters import BY_NAME, PARAMETERS, Parameter


class DeclaredParameters:
    """Declares every row of the table on ``node``; ``values[name]`` then holds what is set.

    ``is_configured()`` tells whether those that are fixed while configured may change now. ``on_change(names)`` is
    called after a change was accepted.

    Raises:
        InputError: an override at start has the wrong type or lies outside of the range.
    """

    def __init__(self, node: Node, is_configured: Callable[[], bool], on_change: Callable[[set[str]], None]) -> None:
        self._is_configured, self._on_change = is_configured, on_change
        self.values: dict[str, Any] = {row.name: _declared(node, row) for row in PARAMETERS}
        node.add_on_set_parameters_callback(self._validate)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def _validate(self, changes: Sequence) -> SetParametersResult:
        """Refuses all of them with the reason, or takes them over."""
        ours = {change.name: change.value for change in changes if change.name in BY_NAME}
        for name, value in ours.items():
            row = BY_NAME[name]
            problem = row.problem(value)
            if not problem and row.at_configure and self._is_configured():
                problem = f"{name} is fixed while the node is configured; deactivate and clean up first"
            if problem:
                return SetParametersResult(successful=False, reason=problem)
        changed = {name for name, value in ours.items() if self.values.get(name) != value}
        self.values.update(ours)
        if changed:
            self._on_change(changed)
        return SetParametersResult(successful=True)


def _declared(node: Node, row: Parameter) -> Any:
    try:
        value = node.declare_parameter(row.name, row.default, _descriptor(row)).value
    except (InvalidParameterTypeException, InvalidParameterValueException) as error:
        raise InputError(f"parameter {row.name}: {error}", f"{row.description} {row.when}") from error
    problem = row.problem(value)
    if problem:
        raise InputError(f"parameter {problem}", "correct the launch argument or the parameters file")
    return value


def _descriptor(row: Parameter) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        description=row.description,
        read_only=row.read_only,
        additional_constraints=f"one of {', '.join(row.choices)}" if row.choices else "",
    )
    if row.low is not None and isinstance(row.default, float):
        descriptor.floating_point_range = [FloatingPointRange(from_value=row.low, to_value=row.high, step=0.0)]
    elif row.low is not None:
        descriptor.integer_range = [IntegerRange(from_value=int(row.low), to_value=int(row.high), step=1)]
    return descriptor
