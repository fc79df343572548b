# SPDX-License-Identifier: Apache-2.0
"""The base class of every error that edge_vlm raises on purpose."""


class EdgeVlmError(Exception):
    """Says what went wrong, where, and what to do about it.

    Drivers (command line, ROS node) print ``str(error)`` and nothing else: no traceback.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}\n  remedy: {self.remedy}" if self.remedy else self.what


class SettingError(EdgeVlmError):
    """An environment variable asks for what there is not. Nothing else takes over: it was asked for by name."""


class OperatorError(EdgeVlmError):
    """The operator library cannot be built, loaded or trusted, or a model misuses an operator."""
